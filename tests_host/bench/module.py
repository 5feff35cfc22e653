"""The virtual module as a whole: start, stalls of the loop, memory.

The stalls and the live memory are seen from inside: a copy of the source tree gets one more
command, PROBE?, whose task wakes every millisecond and notes how late it was.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests_host.bench.rows import budget
from tests_host.bench.sizes import RESIDENT_LIMIT, mpy_size
from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule

ROOT = Path(__file__).resolve().parents[2]
_STARTS = 7
_MESSAGES = 100

_PROBE = '''"""How late the loop was at worst, how much of the heap lived at most."""

import asyncio
import gc
import sys
import time

_task = None
_late = 0
_live = 0


async def _watch():
    global _late, _live
    turns = 0
    while True:
        started = time.ticks_us()
        await asyncio.sleep_ms(1)
        _late = max(_late, time.ticks_diff(time.ticks_us(), started) - 1000)
        turns += 1
        if turns % 20 == 0 and command_mode == b"heap":
            gc.collect()
            _live = max(_live, gc.mem_alloc())


command_mode = b"late"


def _modules():
    """What is in memory: the names of our modules."""
    return ",".join(name for name in sys.modules if name[:3] in ("fir", "lib")).encode()


def probe_query(module, command):
    """PROBE? [heap|modules]: worst lateness in us and live bytes since the last time."""
    global _task, _late, _live, command_mode
    if command.text() == b"modules":
        return _modules()
    command_mode = command.text() or b"late"
    if _task is None:
        _task = asyncio.create_task(_watch())
    shown = b"%d %d" % (_late, _live)
    _late = _live = 0
    return shown
'''


def _tree(folder: Path) -> Path:
    """A copy of the source tree with the command PROBE?."""
    shutil.copytree(ROOT / "firmware", folder / "firmware")
    shutil.copytree(ROOT / "lib", folder / "lib")
    for name in ("boot.py", "main.py"):
        shutil.copy(ROOT / name, folder / name)
    commands = folder / "firmware" / "commands"
    (commands / "probe.py").write_text(_PROBE)
    with open(commands / "table.py", "a") as table:
        table.write('COMMANDS[b"PROBE?"] = ("probe", "probe_query", False, True)\n')
    return folder


def _ask(module, line: bytes, timeout: float = 120) -> bytes:
    reply = module.command(line, timeout=timeout)
    assert reply.startswith(b"OK"), (line, reply)
    return reply[3:]


def _online(module) -> None:
    _ask(module, b"AT+CONF SSID=sim-ap")
    _ask(module, b"AT+CONF Passphrase=sim-passphrase")
    _ask(module, b"AT+CONNECT")


def _probe(module, mode: bytes = b"") -> tuple[int, int]:
    late, live = _ask(module, b"AT+PROBE? " + mode).split()
    return int(late), int(live)


def _exchange(module, cloud) -> None:
    """100 messages of 100 bytes from the cloud, read one by one, and 100 to it."""
    thing = _ask(module, b"AT+CONF? ThingName").decode()
    _ask(module, b"AT+CONF Topic1=bench")
    _ask(module, b"AT+SUBSCRIBE1")
    for number in range(_MESSAGES):
        cloud.control.publish(f"{thing}/bench", b"%3d" % number + b"x" * 97, qos=1)
        if number % 20 == 19:
            time.sleep(0.05)
    time.sleep(0.3)
    while module.command(b"AT+EVENT?") != b"OK":
        module.command(b"AT+GET1")
    for number in range(_MESSAGES):
        _ask(module, b"AT+SEND a %d" % number)


def _start_times(cloud, folder: Path, *options: str) -> float:
    """Median of the seconds from power on to STARTUP."""
    with VirtualModule(folder, cloud.state, *options) as module:
        times = []
        for _ in range(_STARTS):
            module.power_cut()
            started = time.perf_counter()
            module.power_on()
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _steady(cloud, folder: Path, *options: str) -> int:
    """1 when a module with these options connects, exchanges messages, and goes on."""
    with VirtualModule(folder, cloud.state, *options) as module:
        _online(module)
        _exchange(module, cloud)
        _ask(module, b"AT+CONNECT?")
        return 1 if "MemoryError" not in module.console() else 0


def rows() -> list[dict]:
    """Start, stalls, memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = _tree(folder / "tree")
        result = []
        with CloudProcess(folder / "cloud") as cloud:
            plain = _start_times(cloud, folder / "a")
            result.append(budget("power on to STARTUP, source tree", plain * 1e3, "ms", None))
            stock = _start_times(cloud, folder / "b", "--stock")
            result.append(budget("power on to STARTUP, .mpy on flash", stock * 1e3, "ms", None))
            with VirtualModule(folder / "c", cloud.state, "--source", tree) as module:
                _probe(module)
                _probe(module)
                _online(module)
                late, _ = _probe(module)
                result.append(budget("longest stall, first connect", late / 1e3, "ms", None))
                _ask(module, b"AT+DISCONNECT")
                _probe(module)
                _ask(module, b"AT+CONNECT")
                late, _ = _probe(module)
                result.append(budget("longest stall, next connect", late / 1e3, "ms", None))
                _exchange(module, cloud)
                late, _ = _probe(module)
                result.append(budget("longest stall, 200 messages", late / 1e3, "ms", 50))
                modules = _ask(module, b"AT+PROBE? modules").decode().split(",")
                kept = sum(mpy_size(name) for name in modules if not name.endswith("probe"))
                result.append(
                    budget(".mpy resident after 200 messages", kept, "B", RESIDENT_LIMIT)
                )
            with VirtualModule(
                folder / "d", cloud.state, "--source", tree, "--heap", "160"
            ) as module:
                _probe(module, b"heap")
                _online(module)
                _exchange(module, cloud)
                time.sleep(0.1)
                _, live = _probe(module, b"heap")
                result.append(
                    budget("peak of live heap (64-bit words, with ballast)", live, "B", None)
                )
            for options in (("--heap", "96"), ("--stock", "--heap", "108")):
                works = _steady(cloud, folder / "".join(options), *options)
                row = budget(f"works with {' '.join(options)}", works, "yes=1", None)
                result.append({**row, "goal": "1", "met": works == 1})
        return result
