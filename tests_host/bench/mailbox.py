"""A host's image read with `OTA READ 1024`: what the module adds to the time on the wire.

The module's own time is that of a round trip through a terminal that is not paced: it includes
the PC's side, so it is an upper bound. It must not be over a quarter of the time that the reply
takes at 115200 baud. A module that runs from files on its flash loads the command's code each
time. Then a paced terminal, beside what the line could carry if the module took no time.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

from tests_host.bench.rows import against, budget
from tests_host.updates import host_image, thing_of, wait_state
from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule

_BAUD = 115200
_BITS = 10  # of a byte on the wire, start and stop bit included
_CHUNK = 1024
_READS = 100
_PACED = 20
_ROUNDS = 3

# Bytes on the wire in each direction.
_COMMAND = b"AT+OTA READ 1024\n"
_REPLY = len("OK 400 ") + 2 * _CHUNK + len(" 0000\n")

_LARGEST_PART = 0.25


def _wire_ms(count: int) -> float:
    return count * _BITS * 1000 / _BAUD


def _read(module, count: int) -> float:
    """Milliseconds of one READ, the mean of `count`; each reply is checked afterwards."""
    assert module.command(b"AT+OTA SEEK").startswith(b"OK")
    replies = []
    started = time.perf_counter()
    for _ in range(count):
        module.write(_COMMAND)
        replies.append(module.read_line())
    took = (time.perf_counter() - started) * 1000 / count
    for reply in replies:
        _, size, data, check = reply.split()
        data = bytes.fromhex(data.decode())
        assert (int(size, 16), len(data)) == (_CHUNK, _CHUNK), reply
        assert int(check, 16) == sum(data) & 0xFFFF, reply
    return took


def _filled(module, cloud) -> None:
    """Have an image delivered that is large enough for all reads."""
    for line in (b"SSID=sim-ap", b"Passphrase=sim-passphrase"):
        assert module.command(b"AT+CONF " + line) == b"OK"
    assert module.command(b"AT+CONNECT", 120).startswith(b"OK 1")
    data = random.Random(1).randbytes(_READS * _CHUNK)
    host_image(cloud, thing_of(module), data)
    wait_state(module, 2)
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    wait_state(module, 5)


def rows() -> list[dict]:
    """The module's time for a partition and for a file, and the share of the line's rate."""
    result = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with CloudProcess(folder / "cloud") as cloud:
            for title, options in (
                ("partition", ()),
                ("file, .mpy on flash", ("--partitions", "plain", "--stock")),
            ):
                with VirtualModule(folder / title[:4], cloud.state, *options) as module:
                    _filled(module, cloud)
                    took = statistics.median(_read(module, _READS) for _ in range(_ROUNDS))
                    limit = _LARGEST_PART * _wire_ms(_REPLY)
                    row = budget(f"module's time of READ 1024, {title}", took, "ms", limit)
                    result.append(row)
            with VirtualModule(
                folder / "paced", cloud.state, "--baud", str(_BAUD), "--heap", "96"
            ) as module:
                _filled(module, cloud)
                rate = _CHUNK * 1000 / _read(module, _PACED)
            line = _CHUNK * 1000 / _wire_ms(len(_COMMAND) + _REPLY)
            result.append(
                against("READ 1024 at 115200 baud", rate, "B/s", "the line alone", line, 0.8)
            )
    return result
