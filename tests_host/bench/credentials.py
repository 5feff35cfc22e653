"""Provisioning by claim and CONFMODE on the virtual module: time, stalls, memory, size.

Seen from inside as in module.py: PROBE? tells how late the loop was and how much of the heap
lived. The clients that beset the page are threads of this process.
"""

from __future__ import annotations

import http.client
import runpy
import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests_host.bench.module import ROOT, _ask, _probe, _tree
from tests_host.bench.rows import budget
from tests_host.bench.sizes import mpy_size
from tests_host.portal import Portal, open_portal
from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule

_PAGE_LIMIT = 8192
_STALL_MS = 50
_CLAIMS = 3
_CLIENTS = 4
_BESIEGED_S = 2.0
_REPLY_MS = 250  # what a host that sends AT may be left waiting

# Answered with an error each, but for the first two.
_REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: 192.168.4.1\r\n\r\n",
    b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"POST /api/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n",
    b"GET " + b"/" * 3000 + b" HTTP/1.1\r\n\r\n",
)


def _wifi(module) -> None:
    _ask(module, b"AT+CONF SSID=sim-ap")
    _ask(module, b"AT+CONF Passphrase=sim-passphrase")


def _claim(cloud, folder: Path, tree: Path, *options: str) -> tuple[float, int, int]:
    """(seconds of the first CONNECT, worst lateness in us, live bytes of heap at most)."""
    arguments = ("--identity", "claim", "--source", tree, *options)
    with VirtualModule(folder, cloud.state, *arguments) as module:
        _wifi(module)
        mode = b"heap" if "--heap" in options else b""
        _probe(module, mode)
        _probe(module, mode)
        started = time.perf_counter()
        _ask(module, b"AT+CONNECT")
        took = time.perf_counter() - started
        late, live = _probe(module, mode)
        assert _ask(module, b"AT+DIAG INFO identity") == b"ready"
    return took, late, live


def _enter(module) -> Portal:
    return open_portal(module, b"AT+CONFMODE bench,12345678")


def _beset(address: str, until: float) -> None:
    host, port = address.rsplit("/", 1)[1].split(":")
    number = 0
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.connect()
            connection.sock.sendall(_REQUESTS[number % len(_REQUESTS)])
            while connection.sock.recv(4096):
                pass
        except OSError:
            # Refused or reset: there are more of us than it serves.
            time.sleep(0.001)
        finally:
            connection.close()
        number += 1


def _besieged(module, address: str) -> float:
    """The longest an AT had to wait for its reply, in seconds."""
    until = time.monotonic() + _BESIEGED_S
    clients = [
        threading.Thread(target=_beset, args=(address, until), daemon=True)
        for _ in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    longest = 0.0
    while time.monotonic() < until:
        started = time.perf_counter()
        assert module.command(b"AT") == b"OK"
        longest = max(longest, time.perf_counter() - started)
    for client in clients:
        client.join()
    return longest


def _join(module, page: Portal) -> None:
    page.networks()
    assert page.join(ssid="sim-ap", passphrase="sim-passphrase")["state"] == "joined"
    page.done()
    end = time.monotonic() + 10
    while not module.event():
        assert time.monotonic() < end, "no event"
        time.sleep(0.01)
    while module.command(b"AT+EVENT?") != b"OK 7 0 CONFMODE":
        assert time.monotonic() < end, "no CONFMODE event"
        time.sleep(0.01)


def _confmode(cloud, folder: Path, tree: Path) -> list[dict]:
    with VirtualModule(folder / "stall", cloud.state, "--source", tree) as module:
        _probe(module)
        _probe(module)
        started = time.perf_counter()
        page = _enter(module)
        entered = time.perf_counter() - started
        page.state()
        _probe(module)
        longest = _besieged(module, page.address)
        late, _ = _probe(module)
        modules = _ask(module, b"AT+PROBE? modules").decode().split(",")
        loaded = sum(mpy_size(name) for name in modules if not name.endswith("probe"))
        _join(module, page)
    with VirtualModule(folder / "heap", cloud.state, "--source", tree, "--heap", "160") as module:
        _probe(module, b"heap")
        page = _enter(module)
        _join(module, page)
        _, live = _probe(module, b"heap")
    limited = folder / "limited"
    with VirtualModule(limited, cloud.state, "--source", tree, "--heap", "96") as module:
        _join(module, _enter(module))
        _ask(module, b"AT+CONNECT")
        works = "MemoryError" not in module.console()
    besieged = f"{_CLIENTS} clients beset the page"
    return [
        budget("CONFMODE, its reply", entered * 1e3, "ms", None),
        budget(f"longest stall, {besieged}", late / 1e3, "ms", _STALL_MS),
        budget(f"longest wait for AT, {besieged}", longest * 1e3, "ms", _REPLY_MS),
        budget(".mpy in memory in CONFMODE", loaded, "B", None),
        budget("peak of live heap in CONFMODE (64-bit, with ballast)", live, "B", None),
        {
            **budget("CONFMODE, then CONNECT, with --heap 96", int(works), "yes=1", None),
            "goal": "1",
            "met": works,
        },
    ]


def rows() -> list[dict]:
    """Provisioning, CONFMODE, the page."""
    page = runpy.run_path(str(ROOT / "firmware" / "confmode" / "page.py"))["PAGE"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = _tree(folder / "tree")
        with CloudProcess(folder / "cloud") as cloud:
            claims = [_claim(cloud, folder / f"claim{n}", tree) for n in range(_CLAIMS)]
            _, _, live = _claim(cloud, folder / "claim-heap", tree, "--heap", "160")
            slow, _, _ = _claim(cloud, folder / "claim-slow", tree, "--timing", "esp32")
            took = statistics.median(claim[0] for claim in claims)
            late = max(claim[1] for claim in claims)
            result = [
                budget("first CONNECT with a claim", took * 1e3, "ms", None),
                budget("the same with --timing esp32", slow * 1e3, "ms", None),
                budget("longest stall in it (PC)", late / 1e3, "ms", _STALL_MS),
                budget("peak of live heap in it (64-bit, with ballast)", live, "B", None),
            ]
            result += _confmode(cloud, folder, tree)
    result.append(budget("the page, gzip", len(page), "B", _PAGE_LIMIT))
    return result
