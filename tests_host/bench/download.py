"""A download of 1 MB over TLS by lib.http_client, beside plain reads of the same bytes.

The peers are a blocking socket, which does nothing else meanwhile, and a stream of asyncio. All
begin when the handshake is done, read as much at a time, take turns, and have the same server; the
median counts.
"""

from __future__ import annotations

import random
import ssl
import statistics
import tempfile
from pathlib import Path

from tests_host.bench.rows import against
from tests_host.vm import runner
from tests_host.vm.http_peer import HttpPeer
from tests_host.vm.mosquitto import Authority

_SCRIPT = Path(__file__).with_name("download_vm.py")
_RUNS = 5
_SIZE = 1 << 20
# What is asked for at a time: a device asks for all that it lacks.
_RANGE = 256 << 10
# A sector of flash.
_PIECE = 4096
_HEAP = 96


def _run(what: str, serve, context, ca: Path) -> float:
    """Bytes a second."""
    with HttpPeer(serve, context=context) as peer:
        arguments = (what, peer.port, ca, "localhost", _SIZE, _RANGE, _PIECE)
        output = runner.run([_SCRIPT, *arguments], heap=_HEAP, timeout=60)
        peer.check()
    return _SIZE * 1e6 / int(output)


def measure(runs: int = _RUNS) -> dict[str, float]:
    """Medians of bytes a second: ours, plain (blocking) and stream (of asyncio)."""
    data = random.Random(1).randbytes(_SIZE)

    def ranges(peer):
        peer.serve(data, 1 + _SIZE // _RANGE)
        peer.expect_close()

    def plain(peer):
        peer.sock.recv(1)
        peer.send(b"1")
        peer.sock.recv(1)
        peer.send(data)
        peer.expect_close()

    servers = {"ours": ranges, "plain": plain, "stream": plain}
    figures: dict[str, list[float]] = {what: [] for what in servers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Authority(folder, "ca").issue("server", "localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        for _ in range(runs):
            for what, serve in servers.items():
                figures[what].append(_run(what, serve, context, folder / "ca.der"))
    return {what: statistics.median(values) for what, values in figures.items()}


def rows() -> list[dict]:
    """The rows of `make bench`."""
    best = measure()
    name = "download 1 MB by HTTPS, ranges of 256 KB"
    peers = (("plain", "blocking read over TLS", 0.8), ("stream", "asyncio read over TLS", None))
    return [
        against(name, best["ours"] / 1e6, "MB/s", label, best[peer] / 1e6, goal)
        for peer, label, goal in peers
    ]
