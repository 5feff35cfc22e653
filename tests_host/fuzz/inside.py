"""Drives the real Engine with the real parts inside the VM: the UART's host is a file.

A copy of the source tree gets a main.py that puts `device/fuzz_uart.py` in machine.UART's place;
everything else is the firmware as it is, on the virtual module's stand-ins, with as little heap as
a board may have.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests_host.fuzz import oracle
from tests_host.fuzz.tree import tree
from tools.sim.module import VirtualModule

# Goes in front of the real main.py.
_MAIN = """import machine
import fuzz_uart

machine.UART = fuzz_uart.FileUart
"""


class Inside:
    """A virtual module that is handed streams of bytes and hands back what it answered.

    folder: an empty one; options: further options of `python -m tools.sim`.
    """

    def __init__(self, folder: Path, cloud: Path | None, *options: str):
        source = tree(folder / "tree", "fuzz_uart", _MAIN)
        self._module = VirtualModule(folder / "module", cloud, "--source", source, *options)
        self._module.start()
        self.heap = 0  # bytes in use at the end of the last run
        self.seconds = 0.0
        self._seen = 0

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_) -> None:
        self._module.stop()

    def _file(self, name: str) -> Path:
        return self._module.state / name

    def run(self, stream: bytes, quiet: float = 15) -> oracle.Replies:
        """Power on, feed `stream`, wait until all of it has been answered; the replies.

        Raises TimeoutError when there is no further reply for `quiet` seconds."""
        module = self._module
        module.power_cut()
        self._seen = len(module.console())
        done, output = self._file("fuzz.done"), self._file("fuzz.out")
        done.unlink(missing_ok=True)
        self._file("fuzz.in").write_bytes(stream)
        module.power_on()
        started = heard = time.monotonic()
        size = 0
        while not done.exists() or not done.read_bytes():
            now = time.monotonic()
            if output.stat().st_size != size:
                size, heard = output.stat().st_size, now
            if now - heard > quiet:
                raise TimeoutError(f"silent after {size} bytes\n{self.trace()}")
            time.sleep(0.02)
        self.seconds = time.monotonic() - started
        self.heap = int(self._file("fuzz.done").read_text())
        replies = oracle.Replies()
        replies.add(self._file("fuzz.out").read_bytes())
        return replies

    def trace(self) -> str:
        """The first exception on the console since the last run began, or ""."""
        console = self._module.console()[self._seen :]
        at = console.find("Traceback")
        return console[max(0, at - 300) : at + 1500] if at >= 0 else ""
