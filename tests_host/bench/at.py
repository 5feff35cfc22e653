"""Round trip of a command through the terminal, beside a bare echo on the same VM.

The peer is the least a MicroPython program can do with a terminal: an asyncio loop that reads a
line and writes one, the VM holding the terminal itself. Ours goes through the virtual module's
UART, framing, grammar, dispatch and reply.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import tempfile
import time
import tty
from pathlib import Path

from tests_host.bench.rows import against
from tests_host.vm import runner
from tools.sim.module import VirtualModule

_TRIPS = 1000
_ROUNDS = 5
_GOAL = 3.0

_ECHO = """
import asyncio, sys, termios
file = open(sys.argv[1], "r+b")
fd = file.fileno()
termios.setraw(fd)
settings = termios.tcgetattr(fd)
settings[6][5] = settings[6][6] = 0
termios.tcsetattr(fd, termios.TCSANOW, settings)
async def main():
    stream = asyncio.StreamReader(file)
    while True:
        line = await stream.readline()
        stream.write(b"OK\\n")
        await stream.drain()
asyncio.run(main())
"""


def _trips(fd: int, line: bytes, count: int = _TRIPS) -> float:
    """Microseconds of one round trip, the mean of `count`."""
    started = time.perf_counter()
    for _ in range(count):
        os.write(fd, line)
        reply = b""
        while not reply.endswith(b"\n"):
            reply += os.read(fd, 4096)
        assert reply.startswith(b"OK"), reply
    return (time.perf_counter() - started) / count * 1e6


def rows() -> list[dict]:
    """`AT` and `AT+CONF? About`, each beside the echo."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "echo.py"
        script.write_text(_ECHO)
        master, slave = pty.openpty()
        tty.setraw(slave)
        echo = subprocess.Popen(runner.command([script, os.ttyname(slave)]))
        try:
            with VirtualModule(Path(folder) / "module", None, "--identity", "none") as module:
                ours = os.open(module.link, os.O_RDWR | os.O_NOCTTY)
                lines = (b"AT\n", b"AT+CONF? About\n")
                figures: dict[bytes, list[float]] = {line: [] for line in (b"echo\n", *lines)}
                time.sleep(0.3)
                _trips(master, b"echo\n", 100)
                _trips(ours, b"AT+CONF? About\n", 100)
                for _ in range(_ROUNDS):
                    figures[b"echo\n"].append(_trips(master, b"echo\n"))
                    for line in lines:
                        figures[line].append(_trips(ours, line))
                os.close(ours)
        finally:
            echo.kill()
            echo.wait()
            os.close(master)
            os.close(slave)
    peer = statistics.median(figures[b"echo\n"])
    return [
        against(
            f"round trip of {line.decode().strip()}",
            statistics.median(figures[line]),
            "us",
            "bare echo",
            peer,
            _GOAL,
            larger_is_better=False,
        )
        for line in lines
    ]
