"""The reports' bookkeeping on the VM: a clock, a session and counters of the test's own."""

import asyncio
import json
from errno import ECONNRESET

from firmware.cloud import defender
from firmware.cloud.session import Refused, SessionError
from lib.mqtt_codec import BY_CLIENT, BY_SERVER, MQTTException

TOPIC = b"$aws/things/t1/defender/metrics/json"
REJECTION = (
    b'{"thingName": "t1", "status": "REJECTED", "statusDetails": '
    b'{"ErrorCode": "Throttled", "ErrorMessage": "slow down"}, "timestamp": 1}'
)


class Ticks:
    """In place of the module `time`: milliseconds that the test lets pass."""

    now = 0

    @classmethod
    def ticks_ms(cls):
        return cls.now

    @staticmethod
    def ticks_diff(a, b):
        return a - b


class Session:
    def __init__(self):
        self.routes = {}
        self.up = True
        self.connections = 1
        self.messages_sent = 0
        self.lost = None
        self.subscriptions = []
        self.posts = []
        self.times = []
        # What subscribe() and post() raise.
        self.refusal = self.failure = None
        self.slow = 0  # milliseconds that a subscription takes
        self.client = self
        self.bytes_out = 0

    def connected(self):
        return self.up

    def route(self, topic, handler):
        self.routes[topic] = handler

    async def subscribe(self, pattern, qos):
        await asyncio.sleep_ms(0)
        Ticks.now += self.slow
        if self.refusal:
            raise self.refusal
        self.subscriptions.append((pattern, qos))

    async def post(self, topic, payload, qos):
        if self.failure:
            raise self.failure
        self.posts.append((topic, payload, qos))
        self.times.append(Ticks.now)

    def answer(self, which, payload=b"{}"):
        self.routes[TOPIC + b"/" + which](memoryview(payload))


class Config:
    value = b"0"

    def get(self, name):
        assert name == b"Defender"
        return self.value


class Bench:
    """A Defender and all that it needs; it plays the application too."""

    def __init__(self, value=b"60"):
        Ticks.now = 0
        defender.time = Ticks
        self.identity = self.clock = self.messages = self.store = self
        self.thing = b"t1"
        self.received = self.writes = 0
        self.seconds = 1700000000
        self.config = Config()
        self.config.value = value
        self.session = Session()
        self.reports = defender.Defender(self)
        self.reports.turn()

    def now(self):
        return self.seconds

    async def let(self, seconds, step=1000):
        """Let so many seconds pass, a turn each."""
        for _ in range(seconds * 1000 // step):
            Ticks.now += step
            if not Ticks.now % 1000:
                self.seconds += 1
            self.reports.turn()
            for _ in range(6):
                await asyncio.sleep_ms(0)

    def last(self):
        """The metrics of the last report, as a dict of numbers."""
        report = json.loads(self.session.posts[-1][1])
        found = {}
        for name, held in report["custom_metrics"].items():
            assert len(held) == 1 and list(held[0]) == ["number"], held
            found[name] = held[0]["number"]
        return found

    def last_id(self):
        header = json.loads(self.session.posts[-1][1])["header"]
        assert header["version"] == "1.0"
        return header["report_id"]


def _zero(**others):
    found = {
        "BytesOut": 0,
        "MessagesSent": 0,
        "MessagesReceived": 0,
        "HardResetEvent": 0,
        "ReconnectEvents": 0,
        "FlashMemoryWrites": 0,
    }
    found.update(others)
    return found


async def test_the_first_report_comes_after_one_interval_and_has_all_of_table_6():
    b = Bench()
    assert b.reports.status == b"waiting"
    b.session.bytes_out, b.session.messages_sent = 5120, 12
    b.received, b.writes = 3, 7
    await b.let(59)
    assert b.session.posts == [] and b.session.subscriptions == []
    await b.let(1)
    assert b.session.subscriptions == [(TOPIC + b"/accepted", 1), (TOPIC + b"/rejected", 1)]
    assert [(t, q) for t, _, q in b.session.posts] == [(TOPIC, 0)]
    assert b.last() == {
        "BytesOut": 5120,
        "MessagesSent": 12,
        "MessagesReceived": 3,
        "HardResetEvent": 1,
        "ReconnectEvents": 0,
        "FlashMemoryWrites": 7,
    }
    assert b.last_id() == b.seconds


async def test_accepted_counts_start_again_at_the_report_not_at_the_answer():
    b = Bench()
    b.session.bytes_out = 100
    await b.let(60)
    b.session.bytes_out = 130
    b.session.answer(b"accepted")
    assert b.reports.status == b"accepted"
    await b.let(60)
    assert b.last() == _zero(BytesOut=30)
    # Subscribed once in a connection.
    assert len(b.session.subscriptions) == 2 and len(b.session.posts) == 2


async def test_rejected_counts_are_kept():
    b = Bench()
    b.session.messages_sent = 2
    await b.let(60)
    b.session.answer(b"rejected", REJECTION)
    assert b.reports.status == b"rejected Throttled"
    b.session.messages_sent = 5
    await b.let(60)
    assert b.last() == _zero(MessagesSent=5, HardResetEvent=1)
    for payload in (b"", b"{}", b'{"ErrorCode"', b'{"ErrorCode":7}', b"\xff" * 600):
        b.session.answer(b"rejected", payload)
        assert b.reports.status == b"rejected without a code", b.reports.status
        await b.let(60)
    b.session.answer(b"rejected", b'{"ErrorCode":"%s"}' % (b"x" * 300))
    assert b.reports.status == b"rejected " + b"x" * 32


async def test_lost_counts_are_kept_and_the_wait_is_30_s():
    b = Bench()
    b.writes = 4
    await b.let(60)
    await b.let(29)
    assert b.reports.status == b"waiting"
    await b.let(1)
    assert b.reports.status == b"no answer"
    await b.let(30)
    assert b.last() == _zero(FlashMemoryWrites=4, HardResetEvent=1)
    assert len(b.session.posts) == 2


async def test_a_late_answer_still_counts():
    b = Bench()
    b.writes = 4
    await b.let(95)
    assert b.reports.status == b"no answer"
    b.session.answer(b"accepted")
    assert b.reports.status == b"accepted"
    await b.let(25)
    assert b.last() == _zero()


async def test_answers_that_nobody_asked_for_change_nothing():
    b = Bench()
    b.session.answer(b"accepted")
    b.session.answer(b"rejected", REJECTION)
    assert b.reports.status == b"waiting"
    await b.let(60)
    b.session.answer(b"accepted")
    b.session.answer(b"rejected", REJECTION)
    b.session.answer(b"accepted")
    assert b.reports.status == b"accepted"
    await b.let(60)
    assert b.last() == _zero()


async def test_short_intervals_never_have_two_reports_on_their_way():
    b = Bench(b"2")
    await b.let(31)
    assert len(b.session.posts) == 1
    await b.let(1)
    # What came due meanwhile is sent once, not ten times.
    assert len(b.session.posts) == 2 and b.reports.status == b"no answer"
    b.session.answer(b"accepted")
    await b.let(2)
    assert len(b.session.posts) == 3


async def test_never_sooner_than_the_interval():
    b = Bench(b"10")
    # A subscription that takes its time: the cloud counts from the report.
    b.session.slow = 400
    for _ in range(500):
        # Turns that do not fall on whole seconds.
        await b.let(1, step=300)
        b.session.answer(b"accepted")
    times = b.session.times
    spaces = [times[i + 1] - times[i] for i in range(len(times) - 1)]
    assert len(spaces) > 10 and min(spaces) >= 10000 and max(spaces) <= 11000, spaces


async def test_due_while_offline_is_sent_once_after_the_next_connection():
    b = Bench()
    b.session.up = False
    await b.let(1000)
    assert b.session.posts == [] and b.reports.status == b"waiting"
    b.session.up = True
    await b.let(1)
    assert len(b.session.posts) == 1
    b.session.answer(b"accepted")
    await b.let(59)
    assert len(b.session.posts) == 1
    await b.let(1)
    assert len(b.session.posts) == 2


async def test_reconnect_is_a_flag_and_the_first_connection_is_none():
    b = Bench()
    b.session.connections = 4
    await b.let(60)
    assert b.last()["ReconnectEvents"] == 1
    b.session.answer(b"rejected", REJECTION)
    await b.let(60)
    assert b.last()["ReconnectEvents"] == 1
    b.session.answer(b"accepted")
    await b.let(60)
    assert b.last()["ReconnectEvents"] == 0
    b.session.answer(b"accepted")
    # A connection that was lost and made again, and its answers are subscribed to anew.
    b.session.connections = 5
    await b.let(60)
    assert b.last()["ReconnectEvents"] == 1
    assert len(b.session.subscriptions) == 4


async def test_report_ids_rise_even_when_the_clock_stands_or_goes_back():
    b = Bench(b"1")
    ids = []
    for jump in (0, -500, -1, 0, 900, -900):
        b.seconds += jump
        await b.let(1)
        ids.append(b.last_id())
        b.session.answer(b"accepted")
    assert len(b.session.posts) == 6
    assert all(ids[i] < ids[i + 1] for i in range(5)), ids


async def test_off_and_the_key_at_run_time():
    b = Bench(b"0")
    await b.let(100)
    assert b.reports.status == b"off" and b.session.posts == []
    b.config.value = b"30"
    await b.let(1)
    assert b.reports.status == b"waiting"
    await b.let(29)
    assert b.session.posts == []
    await b.let(1)
    assert len(b.session.posts) == 1
    # Another value begins another interval, also while an answer is awaited.
    b.config.value = b"50"
    await b.let(49)
    assert len(b.session.posts) == 1
    await b.let(2)
    assert len(b.session.posts) == 2
    b.config.value = b"0"
    await b.let(200)
    assert len(b.session.posts) == 2 and b.reports.status == b"off"
    b.session.answer(b"accepted")
    assert b.reports.status == b"off"
    # What a damaged store may hold.
    b.config.value = b"6x"
    await b.let(10)
    assert b.reports.status == b"off"


async def test_turned_off_while_it_subscribes():
    defects = []
    loop = asyncio.get_event_loop()
    loop.set_exception_handler(lambda loop, context: defects.append(context["exception"]))
    b = Bench(b"1")
    Ticks.now += 1000
    b.reports.turn()
    await asyncio.sleep_ms(0)
    b.config.value = b"0"
    b.reports.turn()
    await b.let(3)
    assert b.session.posts == [] and b.reports.status == b"off"
    b.config.value = b"1"
    await b.let(3)
    assert len(b.session.posts) == 1
    assert defects == []


async def test_a_refused_subscription_is_a_status_and_tried_again():
    b = Bench()
    b.session.refusal = Refused()
    await b.let(60)
    assert b.reports.status == b"subscription refused" and b.session.posts == []
    b.session.refusal = None
    await b.let(60)
    assert len(b.session.posts) == 1


def _lose(b, reason):
    b.session.up = False
    b.session.lost = reason


async def test_an_endpoint_that_closes_on_us_is_not_tried_again():
    for reason in (MQTTException(BY_SERVER, "closed"), OSError(ECONNRESET)):
        # While the subscription waits for its answer.
        b = Bench()
        b.session.refusal = SessionError(b"closed by the endpoint")
        b.session.lost = reason
        await b.let(60)
        assert b.reports.status == b"given up, closed by the endpoint"
        b.session.refusal = None
        await b.let(600)
        assert b.session.posts == []
        # The key brings it back.
        b.config.value = b"61"
        await b.let(62)
        assert len(b.session.posts) == 1
        # And soon after the report, when the host has connected again meanwhile too.
        _lose(b, reason)
        b.session.up = True
        b.session.connections += 1
        await b.let(200)
        assert b.reports.status == b"given up, closed by the endpoint"
        assert len(b.session.posts) == 1


async def test_other_ends_of_a_connection_are_lost_reports():
    for reason, after in (
        (MQTTException(BY_CLIENT, "Wi-Fi lost"), 1),
        (OSError(5), 1),
        (MQTTException(BY_SERVER, "closed"), 6),
    ):
        b = Bench()
        b.writes = 2
        await b.let(60 + after - 1)
        _lose(b, reason)
        await b.let(1)
        assert b.reports.status == b"connection lost", b.reports.status
        b.session.up = True
        b.session.connections = 2
        await b.let(60)
        assert b.last() == _zero(FlashMemoryWrites=2, HardResetEvent=1, ReconnectEvents=1)


async def test_a_post_that_fails():
    b = Bench()
    for failure, status in (
        (SessionError(b"no memory"), b"no memory"),
        (SessionError(b""), b"connection lost"),
        (MemoryError(), b"no memory"),
    ):
        b.session.failure = failure
        await b.let(60)
        assert b.reports.status == status
    b.session.failure = None
    await b.let(60)
    assert b.last()["HardResetEvent"] == 1


async def test_ticks_that_wrap_and_turns_that_are_late():
    b = Bench(b"100")
    await b.let(50)
    Ticks.now -= 1 << 29
    await b.let(49)
    assert b.session.posts == []
    Ticks.now += 25000
    await b.let(1)
    assert len(b.session.posts) == 1
