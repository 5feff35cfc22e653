"""Publish throughput of lib.mqtt and its peers: plain TCP to Mosquitto on the loopback.

Every client runs in a VM process of its own with the same heap, runs take turns, the median
counts. A subscriber with a persistent session, away during the run, then collects and counts
what the broker has received, so that a message that was not delivered is noticed.
"""

from __future__ import annotations

import statistics
import sysconfig
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as paho

from tests_host.bench.rows import against
from tests_host.vm import runner
from tests_host.vm.mosquitto import Mosquitto

_HERE = Path(__file__).parent
_RUNS = 5
_COUNT = 1000
# aiomqttc looks for a PUBACK every 100 ms, so that a thousand would take two minutes.
_SLOW_COUNT = 10
_WINDOW = 8
_HEAP = 512
_SETTINGS = (
    "allow_anonymous true",
    "persistence false",
    "max_queued_messages 0",
    "max_inflight_messages 0",
    "queue_qos0_messages true",
)


class Counter:
    """A subscriber whose session outlives its connection."""

    def __init__(self, port: int):
        self._port = port
        self.count = 0
        self._collect(0, 0)

    def _collect(self, wanted: int, seconds: float) -> int:
        """Connect, take what the broker has kept, leave; return how much came."""
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id="counter", clean_session=False
        )
        ready = []
        self.count = 0

        def message(*_):
            self.count += 1

        client.on_message = message
        client.on_subscribe = lambda *_: ready.append(True)
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        client.subscribe("bench/#", 1)
        end = time.monotonic() + 5
        while not ready and time.monotonic() < end:
            time.sleep(0.001)
        end = time.monotonic() + seconds
        while self.count < wanted and time.monotonic() < end:
            time.sleep(0.001)
        client.disconnect()
        client.loop_stop()
        return self.count

    def expect(self, wanted: int, who: str):
        """AssertionError unless exactly `wanted` messages have come."""
        count = self._collect(wanted, 10)
        assert count == wanted, f"{who}: {count} of {wanted} messages were delivered"


def _run(client: str, port: int, qos: int, count: int, window: int) -> float:
    """Messages a second."""
    site = sysconfig.get_path("purelib")
    output = runner.run(
        [_HERE / f"mqtt_{client}.py", port, qos, count, window],
        heap=_HEAP,
        env={"MICROPYPATH": f"{runner.ROOT}:.frozen:{site}"},
        timeout=120,
    )
    return count * 1e6 / int(output.splitlines()[-1])


# (client, QoS, messages, window). chumicro-mqtt is run with the window of ours and with one
# message at a time and 20; its best figure is the peer's.
_CASES = [
    *[("ours", qos, _COUNT, _WINDOW) for qos in (0, 1)],
    *[("loop", qos, _COUNT, _WINDOW) for qos in (0, 1)],
    *[("chumicro", qos, _COUNT, window) for qos in (0, 1) for window in (1, _WINDOW, 20)],
    ("aiomqttc", 0, _COUNT, 1),
    ("aiomqttc", 1, _SLOW_COUNT, 1),
]


def measure(runs: int = _RUNS) -> dict:
    """{(client, QoS): messages a second}: medians, a client's best case."""
    figures = {case: [] for case in _CASES}
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder), *_SETTINGS)
        try:
            counter = Counter(broker.port)
            for _ in range(runs):
                for case in _CASES:
                    client, qos, count, window = case
                    figures[case].append(_run(client, broker.port, qos, count, window))
                    counter.expect(count, client)
        finally:
            broker.stop()
    best: dict = {}
    for (client, qos, _, _), values in figures.items():
        key = (client, qos)
        best[key] = max(best.get(key, 0), statistics.median(values))
    return best


def rows() -> list[dict]:
    """The rows of `make bench`."""
    best = measure()
    result = []
    for qos, what in ((0, "QoS 0"), (1, f"QoS 1, window {_WINDOW}")):
        ours = best["ours", qos]
        name = f"publish 1000 x 100 bytes, {what}"
        for peer, label, goal in (
            ("chumicro", "chumicro-mqtt 0.30", 1.0),
            ("aiomqttc", "aiomqttc 1.0", None),
            ("loop", "bare asyncio loop", None),
        ):
            result.append(against(name, ours, "msg/s", label, best[peer, qos], goal))
    return result
