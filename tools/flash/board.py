"""A board on a serial port, at its MicroPython prompt (mpremote does the talking)."""

from __future__ import annotations

import time

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport
from serial.tools import list_ports

# The oldest MicroPython that has all that the application uses.
OLDEST = (1, 25)

# What one piece of a file is, on its way to the board.
_PIECE = 1024

# The room that our own application takes counts as free: it is written over.
_ASK = """
import os, sys, gc
u = os.uname()
gc.collect()
s = os.statvfs("/")
def w(p):
    n = 0
    for i in os.ilistdir(p):
        n += w(p + "/" + i[0]) if i[1] & 0x4000 else -(-i[3] // s[0]) * s[0]
    return n
try:
    m = w("/app")
except OSError:
    m = 0
# Of a nearly full LittleFS the count of free blocks may have wrapped below 0.
m += s[0] * s[3] if s[3] <= s[2] else 0
print((u.sysname, u.machine, tuple(sys.implementation[1][:3]), m, gc.mem_free()))
"""

_WALK = """
import os
def walk(path):
    for name, kind, *_ in os.ilistdir(path):
        full = path + "/" + name
        if kind & 0x4000:
            walk(full)
            print(repr(full + "/"))
        else:
            print(repr(full))
try:
    walk(%r)
except OSError as error:
    if error.errno != 2:
        raise
"""


class FlashError(Exception):
    """Flashing cannot go on; the text says why and what to do."""


def ports() -> list[str]:
    """The serial ports of this machine, with what is known of them."""
    return [f"{port.device}  {port.description}" for port in list_ports.comports()]


class Board:
    """A connection to a board's prompt. port: path of the serial port.

    Raises FlashError when nothing answers there."""

    def __init__(self, port: str):
        self.port = port
        # What the port said when it went away in a reset.
        self.lost = ""
        self._transport = None
        self._open()

    def _open(self) -> None:
        try:
            self._transport = SerialTransport(self.port)
        except (TransportError, serial.SerialException, OSError) as error:
            known = "\n  ".join(ports()) or "none"
            raise FlashError(
                f"cannot open {self.port}: {error}\nSerial ports of this machine:\n  {known}"
            ) from None
        try:
            self._transport.enter_raw_repl(soft_reset=False)
        except (TransportError, serial.SerialException, OSError) as error:
            self.close()
            raise FlashError(
                f"no MicroPython prompt on {self.port} ({error}). Is this the port of the board's"
                " REPL, and does the board run MicroPython?"
            ) from None

    def close(self) -> None:
        """Let the port go."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def run(self, code: str) -> str:
        """Run `code` on the board; what it printed. Raises FlashError with its traceback."""
        assert self._transport is not None
        try:
            return self._transport.exec(code).decode()
        except TransportExecError as error:
            last = error.error_output.strip().splitlines()[-1:]
            raise FlashError(f"the board says: {' '.join(last)}") from None
        except (TransportError, serial.SerialException, OSError) as error:
            raise FlashError(f"the board went silent: {error}") from None

    def describe(self) -> tuple[str, str, tuple[int, ...], int, int]:
        """(system, machine, MicroPython version, room on the filesystem, heap free). The room is
        in bytes, with what the application that is there takes."""
        import ast

        return ast.literal_eval(self.run(_ASK))

    def files(self, folder: str) -> list[str]:
        """Every path below `folder`, a folder's own with a slash at the end, contents first."""
        import ast

        return [ast.literal_eval(line) for line in self.run(_WALK % folder).splitlines()]

    def make_folders(self, folders) -> None:
        """Make each folder that is not there; parents have to come first."""
        self.run(
            f"import os\nfor p in {list(folders)!r}:\n try:\n  os.mkdir(p)\n"
            " except OSError as e:\n  if e.errno != 17:\n   raise"
        )

    def remove(self, paths) -> None:
        """Remove files, and folders that are named with a slash at the end."""
        for path in paths:
            call = "rmdir" if path.endswith("/") else "remove"
            self.run(f"import os\nos.{call}({path.rstrip('/')!r})")

    def write(self, path: str, data: bytes, progress=None) -> None:
        """Write a file. progress: called with the number of bytes of each piece."""
        self.run(f"f = open({path!r}, 'wb')\nw = f.write")
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self.run(f"w({piece!r})")
            if progress:
                progress(len(piece))
        self.run("f.close()")

    def digests(self, paths) -> dict[str, str]:
        """{path: SHA-256 in hexadecimal, empty when there is no such file}."""
        import ast

        code = (
            "import hashlib, binascii\n"
            "def d(p):\n"
            " h = hashlib.sha256()\n"
            " try:\n"
            "  f = open(p, 'rb')\n"
            " except OSError:\n"
            "  return ''\n"
            " while 1:\n"
            "  b = f.read(1024)\n"
            "  if not b:\n"
            "   break\n"
            "  h.update(b)\n"
            " f.close()\n"
            " return binascii.hexlify(h.digest()).decode()\n"
            f"for p in {list(paths)!r}:\n print(repr((p, d(p))))"
        )
        return dict(ast.literal_eval(line) for line in self.run(code).splitlines())

    def restart(self) -> None:
        """Reset the chip and come back to the prompt."""
        self._reset()
        self.close()
        # USB serial ports of the chip itself vanish for a moment.
        for attempt in range(10):
            time.sleep(0.5)
            try:
                self._open()
                return
            except FlashError:
                if attempt == 9:
                    raise

    def restart_and_listen(self, marks, seconds: float) -> str:
        """Reset the chip and read the console until one of `marks` is in it or time is up.

        Through a bridge chip nothing is missed; a chip with USB of its own drops the port at the
        reset, and what it said before the port was open again is lost."""
        assert self._transport is not None
        port = self._transport.serial
        self._reset()
        heard = b""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not any(mark.encode() in heard for mark in marks):
            try:
                if port is None:
                    port = serial.serial_for_url(self.port, 115200)
                waiting = port.in_waiting
                heard += port.read(waiting) if waiting else b""
            except (serial.SerialException, OSError):
                port = None
            time.sleep(0.05)
        if port is not None and port is not self._transport.serial:
            port.close()
        self.close()
        return heard.decode(errors="replace")

    def _reset(self) -> None:
        assert self._transport is not None
        try:
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
        except (TransportError, serial.SerialException, OSError) as error:
            # The port may vanish before it has acknowledged: that is the reset.
            self.lost = str(error)
