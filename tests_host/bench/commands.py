"""How long each command runs, measured inside the module (guide 3.5.2 asks for the maximum).

A copy of the source tree notes how long the engine worked on the last line, reply included, and
tells it to one more command, LAST?. The virtual module runs with `--timing esp32` (flash erases of
40 ms, scans of 2.2 s, joins of 1.8 s), each command several times; then what a cloud, a clock or
an access point that is silent makes of the commands that wait for it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests_host.bench.module import ROOT
from tests_host.bench.rows import budget
from tests_host.conformance.certificates import Certificates
from tests_host.updates import host_image, image, module_image, wait_state
from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule

# No command may take longer (3.5.2).
LIMIT_S = 120

_TIMER = '''

_last = 0
_real_answer = Engine._answer


async def _timed(self, kind):
    global _last
    started = time.ticks_us()
    await _real_answer(self, kind)
    if not self._command.word.startswith(b"LAST"):
        _last = time.ticks_diff(time.ticks_us(), started)


def last_query(module, command):
    """LAST?: microseconds of the last line."""
    return b"%d" % _last


Engine._answer = _timed
'''

# The most that a failed CONNECT makes the next one wait, at once.
_IMPATIENT = """

_real_failed = Backoff.failed


def _failed(self):
    self.failures = 9
    self._random = lambda n: n - 1
    _real_failed(self)


Backoff.failed = _failed
"""


def _tree(folder: Path) -> Path:
    """A copy of the source tree that knows how long it takes."""
    shutil.copytree(ROOT / "firmware", folder / "firmware")
    shutil.copytree(ROOT / "lib", folder / "lib")
    for name in ("boot.py", "main.py"):
        shutil.copy(ROOT / name, folder / name)
    for name, text in (
        ("at/engine.py", _TIMER),
        ("cloud/backoff.py", _IMPATIENT),
        ("commands/last.py", "from firmware.at.engine import last_query  # noqa: F401\n"),
        ("commands/table.py", 'COMMANDS[b"LAST?"] = ("last", "last_query", False, False)\n'),
    ):
        with open(folder / "firmware" / name, "a") as file:
            file.write(text)
    return folder


class Bench:
    """One module, and the longest time that each kind of line took on it."""

    def __init__(self, folder: Path, cloud, tree: Path, *options: str):
        self.module = VirtualModule(
            folder, cloud.state, "--source", tree, "--timing", "esp32", *options
        )
        self.cloud = cloud
        self.longest: dict[str, float] = {}

    def __enter__(self):
        self.module.start()
        self.thing = self.run(b"AT+CONF? ThingName", None)[3:].decode()
        return self

    def __exit__(self, *_):
        self.module.stop()

    def run(self, line: bytes, name: str | None, expected: bytes = b"OK") -> bytes:
        """Send a line, check how its reply begins, note its time in ms under `name`."""
        self.module.write(line + b"\n")
        reply = self.module.read_line(LIMIT_S + 20)
        assert reply.startswith(expected), (line[:60], reply[:200])
        if name:
            took = int(self.module.command(b"AT+LAST?")[3:]) / 1000
            self.longest[name] = max(self.longest.get(name, 0.0), took)
        return reply

    def reply(self, line: bytes, name: str | None, expected: bytes = b"OK") -> None:
        """As `run`, for a command that leaves nobody to ask: timed at the terminal."""
        started = time.perf_counter()
        reply = self.module.command(line, LIMIT_S)
        took = (time.perf_counter() - started) * 1000
        assert reply.startswith(expected), (line, reply)
        if name:
            self.longest[name] = max(self.longest.get(name, 0.0), took)

    def online(self):
        """Access point and connection, not measured."""
        self.run(b"AT+CONF SSID=sim-ap", None)
        self.run(b"AT+CONF Passphrase=sim-passphrase", None)
        self.run(b"AT+CONNECT", None)


def _offline(bench: Bench, certificates: Certificates) -> None:
    for number in range(20):
        bench.run(b"AT", "AT")
        bench.run(b"AT+EVENT?", "EVENT?")
        bench.run(b"AT+CONF SSID=network-%d" % number, "CONF, short value")
        bench.run(b"AT+CONF Topic1=" + b"t" * 200 + b"%d" % number, "CONF Topic#")
        bench.run(b"AT+CONF? SSID", "CONF?")
        bench.run(b"AT+STAT? Overflow", "STAT?")
        bench.run(b"AT+WHERE?", "WHERE?", b"ERR16")
        bench.run(b"AT+TIME?", "TIME?", b"ERR15")
        bench.run(b"AT+CONNECT?", "CONNECT?")
        bench.run(b"AT+DIAG LOG", "DIAG LOG")
        bench.run(b"AT+DIAG HEAP", "DIAG HEAP")
        bench.run(b"AT+DIAG INFO", "DIAG INFO")
    for _ in range(3):
        bench.run(b"AT+DIAG SCAN", "DIAG SCAN")
    for name, label in (
        ("host-first", None),
        ("host-rsa", "CONF HOTAcertificate, signed with P-256"),
        ("host-last", "CONF HOTAcertificate, signed with RSA"),
        ("host-last", "CONF HOTAcertificate, the same again"),
    ):
        pem = certificates.pem(name).replace(b"\n", b"\\A")
        bench.run(b"AT+CONF HOTAcertificate=" + pem, label)
        bench.run(b"AT+CONF? HOTAcertificate", "CONF? certificate")
    bundle = certificates.pem("five").replace(b"\n", b"\\A")
    bench.run(b"AT+CONF RootCA=" + bundle, "CONF RootCA, 5 certificates")
    bench.run(b"AT+CONF? RootCA", "CONF? RootCA, 5 certificates")
    for _ in range(3):
        bench.run(b"AT+CONFMODE", "CONFMODE")
        bench.reply(b"AT+RESET", None)
        bench.module.wait_ready()
    bench.reply(b"AT+SLEEP 1", "SLEEP, its reply")
    for line, name in ((b"AT+SLEEP2 1", "SLEEP2"), (b"AT+RESET", "RESET")):
        bench.reply(line, f"{name}, its reply")
        bench.module.wait_ready()
    bench.reply(b"AT+FACTORY_RESET", "FACTORY_RESET, its reply")
    bench.module.wait_ready()


def _online(bench: Bench) -> None:
    bench.run(b"AT+CONF SSID=sim-ap", None)
    bench.run(b"AT+CONF Passphrase=sim-passphrase", None)
    for _ in range(3):
        bench.run(b"AT+CONNECT", "CONNECT")
        bench.run(b"AT+DIAG PING 127.0.0.1 1", "DIAG PING, 1")
        bench.run(b"AT+DISCONNECT", "DISCONNECT")
    bench.run(b"AT+CONNECT", "CONNECT")
    bench.run(b"AT+CONF Topic1=bench", None)
    for _ in range(5):
        bench.run(b"AT+SUBSCRIBE1", "SUBSCRIBE#")
        bench.run(b"AT+SEND1 hello", "SEND#, 5 bytes")
        bench.run(b"AT+SEND1 " + b"\\\\" * 2500, "SEND#, 2,500 escapes")
        bench.run(b"AT+SEND bench " + b"x" * 4900, "SEND, 4,900 bytes")
        time.sleep(0.1)
        for _ in range(3):
            bench.run(b"AT+GET1", "GET#")
        bench.run(b"AT+GET", "GET")
        bench.run(b"AT+UNSUBSCRIBE1", "UNSUBSCRIBE#")
    bench.run(b"AT+DISCONNECT", "DISCONNECT")


def _updates(bench: Bench) -> None:
    """A host's image read, one flushed, and a version of the module applied."""
    bench.online()
    bench.run(b"AT+OTA?", "OTA?")
    for word in (b"CLOSE", b"FLUSH"):
        host_image(bench.cloud, bench.thing, bytes(range(256)) * 200)
        wait_state(bench.module, 2)
        bench.run(b"AT+OTA ACCEPT", "OTA ACCEPT")
        wait_state(bench.module, 5)
        for place in range(20):
            bench.run(b"AT+OTA?", "OTA?")
            bench.run(b"AT+OTA SEEK %d" % (place * 1024), "OTA SEEK")
            bench.run(b"AT+OTA READ 1024", "OTA READ")
        bench.run(b"AT+OTA " + word, "OTA CLOSE, FLUSH")
    module_image(bench.cloud, bench.thing, image("slot", "9.9.9"))
    wait_state(bench.module, 1)
    bench.run(b"AT+OTA ACCEPT", "OTA ACCEPT")
    wait_state(bench.module, 4)
    bench.reply(b"AT+OTA APPLY", "OTA APPLY, its reply")
    bench.module.wait_ready()


def _silent(bench: Bench) -> None:
    """What the commands wait for when the cloud has fallen silent."""
    bench.online()
    bench.run(b"AT+CONF Topic1=bench", None)
    lines = {
        "SEND, silent cloud": (b"AT+SEND bench x", b"ERR6"),
        "SUBSCRIBE#, silent cloud": (b"AT+SUBSCRIBE1", b"ERR6"),
        "UNSUBSCRIBE#, silent cloud": (b"AT+UNSUBSCRIBE1", b"ERR6"),
        "DISCONNECT, silent cloud": (b"AT+DISCONNECT", b"OK"),
    }
    for name, (line, expected) in lines.items():
        if bench.run(b"AT+CONNECT?", None) != b"OK 1":
            bench.run(b"AT+CONNECT", None)
        fault = bench.cloud.control.fault("silent", at="live", client=bench.thing)
        bench.run(line, name, expected)
        bench.cloud.control.clear(fault)


def _late(bench: Bench) -> None:
    """CONNECT with the longest back-off, no SNTP, and a cloud that takes the TCP connection."""
    bench.online()
    bench.run(b"AT+DISCONNECT", None)
    # Without power the clock is lost: the last good time, from flash, has to do.
    bench.module.power_cut()
    bench.module.power_on()
    bench.cloud.control.sntp(mode="silent")
    bench.cloud.control.fault("silent", at="tls")
    bench.run(b"AT+CONF EndPoint=localhost:1", None)
    bench.run(b"AT+CONNECT", None, b"ERR14")
    bench.run(b"AT+CONF EndPoint=localhost:%d" % bench.cloud.mqtt, None)
    bench.run(b"AT+CONNECT", "CONNECT, longest back-off, all silent", b"ERR14")


def rows() -> list[dict]:
    """One row a command, in ms; none over 120 s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = _tree(folder / "tree")
        figures: dict[str, float] = {}
        with CloudProcess(folder / "cloud") as cloud, CloudProcess(folder / "late") as late:
            with Bench(folder / "a", cloud, tree) as bench:
                _offline(bench, Certificates(cloud.state))
                figures.update(bench.longest)
            with Bench(folder / "d", cloud, tree) as bench:
                _online(bench)
                figures.update(bench.longest)
            with Bench(folder / "e", cloud, tree) as bench:
                _updates(bench)
                figures.update(bench.longest)
            with Bench(folder / "b", cloud, tree) as silent, Bench(
                folder / "c", late, tree
            ) as slow:
                with ThreadPoolExecutor() as pool:
                    jobs = [pool.submit(_silent, silent), pool.submit(_late, slow)]
                    for job in jobs:
                        job.result()
                figures.update(silent.longest, **slow.longest)
        return [budget(f"run time of {k}", v, "ms", LIMIT_S * 1000) for k, v in figures.items()]
