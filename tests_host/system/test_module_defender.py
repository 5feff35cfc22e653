"""Device Defender end to end (guide 8.1, Table 6, decision D32): what the module reports, what it
keeps when a report fails, and that the host notices nothing of it."""

import json
import time

import pytest

from tests_host.system.conftest import connect, give_wifi, next_event, reset
from tools.cloud.identity import give_policy
from tools.cloud.policy import DEFAULT

METRICS = [
    "BytesOut",
    "MessagesSent",
    "MessagesReceived",
    "HardResetEvent",
    "ReconnectEvents",
    "FlashMemoryWrites",
]


class Watch:
    """The reports of one module as the cloud has them."""

    def __init__(self, cloud, thing):
        self.thing = thing
        self._cloud = cloud
        self._seen = 0

    def all(self):
        """Every report so far."""
        return self._cloud.control.defender(self.thing)

    def skip(self):
        """Pass over the reports that are there."""
        self._seen = len(self.all())

    def next(self, status="ACCEPTED", seconds=10):
        """Wait for the next report; its metrics. Reports come in order, none is passed over."""
        until = time.monotonic() + seconds
        while len(self.all()) <= self._seen:
            assert time.monotonic() < until, f"no report in {seconds} s: {self.all()}"
            time.sleep(0.02)
        entry = self.all()[self._seen]
        self._seen += 1
        assert entry["status"] == status, entry
        metrics = entry["report"]["custom_metrics"]
        assert list(metrics) == METRICS
        return {name: held[0]["number"] for name, held in metrics.items()}


def status(module):
    """What DIAG INFO says of the reports."""
    reply = module.command(b"AT+DIAG INFO defender")
    assert reply.startswith(b"OK")
    return reply[3:]


def wait_status(module, wanted, seconds=10):
    until = time.monotonic() + seconds
    while status(module) != wanted:
        assert time.monotonic() < until, status(module)
        time.sleep(0.05)


def every(module, seconds):
    """Set the key."""
    assert module.command(b"AT+CONF Defender=%d" % seconds) == b"OK"


def quiet(module):
    """Neither an event nor a message has come to the host."""
    assert module.command(b"AT+EVENT?") == b"OK"
    assert module.command(b"AT+GET") == b"OK"
    assert module.command(b"AT+GET0") == b"OK"


@pytest.fixture
def online(module, cloud):
    """(connected module, its reports), without events."""
    connect(module)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    return module, Watch(cloud, module.command(b"AT+CONF? ThingName")[3:].decode())


def test_off_by_default(online, cloud):
    module, watch = online
    assert module.command(b"AT+CONF? Defender") == b"OK 0"
    assert status(module) == b"off"
    time.sleep(2.5)
    assert watch.all() == []
    (client,) = [c for c in cloud.control.clients() if c["client"] == watch.thing]
    assert not [topic for topic in client["subscriptions"] if "/defender/" in topic]


def test_reports_say_what_happened_since_the_last_accepted_one(online, operator):
    module, watch = online
    every(module, 1)
    first = watch.next()
    # SSID, Passphrase, the time, the key itself; and nothing was sent or received.
    assert first["HardResetEvent"] == 1 and first["ReconnectEvents"] == 0
    assert first["FlashMemoryWrites"] >= 3
    assert (first["MessagesSent"], first["MessagesReceived"]) == (0, 0)
    wait_status(module, b"accepted")
    second = watch.next()
    assert second["HardResetEvent"] == 0 and second["FlashMemoryWrites"] == 0
    assert (second["MessagesSent"], second["MessagesReceived"]) == (0, 0)
    # The report before, and little else: a keep-alive, an acknowledgement.
    assert 200 < second["BytesOut"] < 600
    assert module.command(b"AT+CONF Topic1=in") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    for _ in range(3):
        assert module.command(b"AT+SEND out " + b"x" * 1000) == b"OK"
    operator.publish(f"{watch.thing}/in", b"hello")
    assert next_event(module) == b"OK 1 1 MSG"
    assert module.command(b"AT+GET1") == b"OK hello"
    total = dict.fromkeys(METRICS, 0)
    while total["MessagesReceived"] < 1 or total["MessagesSent"] < 3:
        for name, number in watch.next().items():
            total[name] += number
    assert (total["MessagesSent"], total["MessagesReceived"]) == (3, 1)
    assert total["BytesOut"] > 3000
    assert total["HardResetEvent"] == total["ReconnectEvents"] == 0
    quiet(module)
    numbers = [entry["report"]["header"]["report_id"] for entry in watch.all()]
    assert numbers == sorted(set(numbers)) and abs(numbers[0] - time.time()) < 60


def test_a_rejected_report_is_said_again(online, cloud):
    module, watch = online
    cloud.control.fault("refuse", at="defender", client=watch.thing, error="Nonsense", count=2)
    assert module.command(b"AT+SEND out 1") == b"OK"
    every(module, 1)
    first = watch.next("REJECTED")
    assert (first["MessagesSent"], first["HardResetEvent"]) == (1, 1)
    wait_status(module, b"rejected Nonsense")
    assert module.command(b"AT+SEND out 2") == b"OK"
    watch.next("REJECTED")
    third = watch.next()
    assert (third["MessagesSent"], third["HardResetEvent"]) == (2, 1)
    assert third["BytesOut"] > first["BytesOut"]
    assert third["FlashMemoryWrites"] == first["FlashMemoryWrites"]
    fourth = watch.next()
    assert (fourth["MessagesSent"], fourth["HardResetEvent"]) == (0, 0)
    # One line names the cause.
    assert module.console().count("defender: report failed:") == 2
    assert "rejected Nonsense" in module.console()
    quiet(module)


def test_a_lost_report_is_said_again(online, cloud):
    module, watch = online
    cloud.control.fault("silent", at="defender", client=watch.thing, count=1)
    assert module.command(b"AT+SEND out 1") == b"OK"
    every(module, 2)
    assert watch.next("UNANSWERED")["MessagesSent"] == 1
    # The port goes on meanwhile, and so do the host's messages.
    assert module.command(b"AT+SEND out 2") == b"OK"
    again = watch.next(seconds=40)
    assert (again["MessagesSent"], again["HardResetEvent"]) == (2, 1)
    assert "report failed: b'no answer'" in module.console()
    wait_status(module, b"accepted")
    assert watch.next()["MessagesSent"] == 0
    quiet(module)


def test_throttled(online, cloud):
    module, watch = online
    cloud.control.set(defender_minimum=2.5)
    try:
        every(module, 1)
        watch.next()
        first = watch.next("REJECTED")
        assert watch.all()[1]["code"] == "Throttled"
        wait_status(module, b"rejected Throttled")
        # With a longer interval it is let through, with all that was not said before.
        every(module, 3)
        assert watch.next()["BytesOut"] > first["BytesOut"] + 250
    finally:
        cloud.control.set(defender_minimum=0)


def test_the_interval_is_kept_over_a_reset_and_the_counts_are_not(online):
    module, watch = online
    every(module, 1)
    watch.next()
    assert watch.next()["HardResetEvent"] == 0
    assert module.command(b"AT+SEND out 1") == b"OK"
    reset(module)
    assert module.command(b"AT+CONF? Defender") == b"OK 1"
    assert status(module) == b"waiting"
    watch.skip()
    connect(module)
    report = watch.next()
    assert (report["HardResetEvent"], report["MessagesSent"]) == (1, 0)
    assert report["ReconnectEvents"] == 0
    assert watch.next()["HardResetEvent"] == 0


def test_a_connection_after_the_first_one_is_a_reconnect(online):
    module, watch = online
    every(module, 1)
    assert watch.next()["ReconnectEvents"] == 0
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    watch.skip()
    connect(module)
    assert watch.next()["ReconnectEvents"] == 1
    assert watch.next()["ReconnectEvents"] == 0


def test_what_came_due_without_a_connection_is_sent_once(module, cloud):
    thing = module.command(b"AT+CONF? ThingName")[3:].decode()
    watch = Watch(cloud, thing)
    every(module, 2)
    time.sleep(5)
    assert status(module) == b"waiting" and watch.all() == []
    connect(module)
    watch.next(seconds=2)
    time.sleep(1)
    assert len(watch.all()) == 1
    watch.next(seconds=3)
    first, second = [entry["time"] for entry in watch.all()]
    # The two may have travelled at different speeds.
    assert second - first > 1950


def test_the_key_takes_effect_at_once(online):
    module, watch = online
    every(module, 3600)
    wait_status(module, b"waiting", 3)
    time.sleep(1.5)
    assert watch.all() == []
    every(module, 1)
    watch.next(seconds=4)
    every(module, 0)
    wait_status(module, b"off", 3)
    count = len(watch.all())
    time.sleep(2.5)
    assert len(watch.all()) == count
    for bad in (b"-1", b"1.5", b"x", b"31536001"):
        assert module.command(b"AT+CONF Defender=" + bad) == b"ERR4 PARAMETER ERROR"


@pytest.mark.parametrize("action", ["iot:Subscribe", "iot:Publish"])
def test_a_policy_that_forbids_it_costs_one_connection_and_no_more(online, cloud, action):
    module, watch = online
    policy = json.loads(DEFAULT)
    policy["Statement"].append(
        {
            "Effect": "Deny",
            "Action": action,
            "Resource": "arn:aws:iot:*:*:*/$aws/things/*/defender/*",
        }
    )
    give_policy(cloud.state, watch.thing, json.dumps(policy))
    every(module, 1)
    # AWS IoT Core closes; there is no other way for it to say no.
    assert next_event(module) == b"OK 3 0 CONLOST"
    wait_status(module, b"given up, closed by the endpoint")
    assert watch.all() == []
    connect(module)
    time.sleep(3)
    assert module.command(b"AT+SEND out 1") == b"OK"
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    quiet(module)
    assert module.console().count("does the policy allow") == 1
    # The policy is put right, and the key is set anew.
    give_policy(cloud.state, watch.thing, DEFAULT)
    every(module, 2)
    watch.next()


def test_a_subscription_that_is_refused_leaves_the_connection_alone(online, cloud):
    module, watch = online
    where = f"$aws/things/{watch.thing}/defender/metrics/json/rejected"
    cloud.control.fault("suback", filter=where, client=watch.thing)
    every(module, 1)
    wait_status(module, b"subscription refused")
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert watch.all() == []
    cloud.control.clear()
    watch.next()
    quiet(module)


def test_answers_too_long_for_the_module_do_not_reach_the_host(online, cloud):
    module, watch = online
    every(module, 1)
    watch.next()
    topic = f"$aws/things/{watch.thing}/defender/metrics/json/"
    for ending in ("accepted", "rejected"):
        cloud.control.request({"deliver": {"client": watch.thing, "topic": topic + ending}})
        body = {"client": watch.thing, "topic": topic + ending, "size": 20000}
        cloud.control.request({"deliver": body})
    watch.next()
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    quiet(module)


def test_with_the_memory_of_a_board(make_module, cloud):
    module = make_module("--heap", "96")
    give_wifi(module)
    connect(module)
    watch = Watch(cloud, module.command(b"AT+CONF? ThingName")[3:].decode())
    every(module, 1)
    for _ in range(3):
        watch.next()
        assert module.command(b"AT+SEND out " + b"x" * 4000) == b"OK"
    assert status(module) == b"accepted"
