"""A download of 1 MB, by an MQTT stream and by HTTPS, beside plain reads of the same bytes.

Ours is the firmware's: over TLS, into the virtual board's flash, read back and hashed in the same
pass. The peers read and drop: a stream of asyncio, which the goal is about, and a socket that
blocks, which does nothing else meanwhile. They take turns, all servers are as fast as they can,
and the median counts.

On the VM a stream of asyncio waits a millisecond each time it asks whether there is something to
be read, because TLS is no file descriptor; ours reads first and asks when there is nothing. That,
and not less work, is why they are faster than the peer: the socket that blocks shows what the
work costs.
"""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import statistics
import tempfile
from pathlib import Path

from tests_host.bench import download_peers as peers
from tests_host.bench.rows import against
from tests_host.vm import runner
from tests_host.vm.http_peer import HttpPeer
from tests_host.vm.mosquitto import Authority

_SCRIPT = Path(__file__).with_name("download_vm.py")
_RUNS = 7
_SIZE = 1 << 20
_HEAP = 96


def _prepare(folder: Path) -> ssl.SSLContext:
    """Certificates, the flash and the settings of the VM's side."""
    authority = Authority(folder, "ca")
    authority.issue("server", "localhost")
    authority.issue("device")
    (folder / "flash.bin").write_bytes(bytes(_SIZE))
    settings = {"host": "localhost", "thing": "bench", "size": _SIZE, "folder": str(folder)}
    settings |= {"ca": str(folder / "ca.der"), "cert": str(folder / "device.der")}
    settings |= {"key": str(folder / "device.key.der")}
    (folder / "settings.json").write_text(json.dumps(settings))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


def _run(what: str, serve, context, folder: Path, digest: str) -> float:
    """Bytes a second."""
    with HttpPeer(serve, context=context) as peer:
        arguments = (folder / "settings.json", what, peer.port)
        output = runner.run([_SCRIPT, *arguments], heap=_HEAP, timeout=60).splitlines()
        peer.check()
    if what in ("stream", "web"):
        assert output[-2] == digest, output
    return _SIZE * 1e6 / int(output[-1])


def measure(runs: int = _RUNS) -> dict[str, float]:
    """Medians of bytes a second: stream, web, asyncio, blocking."""
    data = random.Random(1).randbytes(_SIZE)
    digest = hashlib.sha256(data).hexdigest()
    servers = {"stream": peers.stream(data), "web": peers.web(data)}
    servers |= {"asyncio": peers.plain(data), "blocking": peers.plain(data)}
    figures: dict[str, list[float]] = {what: [] for what in servers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = _prepare(folder)
        for _ in range(runs):
            for what, serve in servers.items():
                figures[what].append(_run(what, serve, context, folder, digest))
            assert (folder / "flash.bin").read_bytes() == data
    return {what: statistics.median(values) for what, values in figures.items()}


def rows() -> list[dict]:
    """The rows of `make bench`."""
    best = measure()
    labels = {"asyncio": "asyncio read over TLS", "blocking": "blocking read over TLS"}
    result = []
    for what, how, goal in (("stream", "MQTT stream", 0.6), ("web", "HTTPS", 0.8)):
        name = f"download 1 MB by {how} into flash, hashed"
        for peer, label in labels.items():
            wanted = goal if peer == "asyncio" else None
            rate = best[peer] / 1e6
            result.append(against(name, best[what] / 1e6, "MB/s", label, rate, wanted))
    return result
