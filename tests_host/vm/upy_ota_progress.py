"""Reports of a download on the VM: a session, a cloud and a clock of the test's own."""
# vm-file: heap=96

import asyncio
import json

from firmware.cloud.session import SessionError
from firmware.log import WARNING
from firmware.ota import progress

UPDATE = b"$aws/things/t1/jobs/job1/update"
BLOCK = 4096

# What the cloud does with a report: takes it and answers once, twice or not at all.
LOST, ONCE, TWICE = range(3)


class Over(Exception):
    """The time that the test gives has passed."""


class Cloud:
    """Session, asyncio, receiver and cloud: an execution with a version, as the cloud keeps it.

    `answers`: what becomes of each report, oldest first: LOST, ONCE, TWICE, or the code of a
    rejection; ONCE of those that follow. `version`: what the reports begin with."""

    def __init__(self, *answers, version=2):
        self.answers = list(answers)
        self.status = "IN_PROGRESS"
        self.version = version or 7
        self.routes = {}
        self.hosts = []
        self.reports = []
        self.times = []
        self.failure = None
        self.due = []
        self.plans = []
        self.now = 0
        self.end = None
        self.done = 0
        self.size = 4 * BLOCK
        self.printed = []
        self.heard = []
        progress.asyncio = self
        progress.log = self.log
        self.progress = progress.Progress(self, b"t1", "job1", version)

    def log(self, severity, *words):
        self.printed.append((severity,) + words)

    # asyncio: time passes only where somebody waits, and so do answers arrive.
    async def sleep_ms(self, ms):
        self.now += ms
        due, self.due = self.due, []
        for good, answer in due:
            self.say(good, json.dumps(answer).encode())
        while self.plans and self.plans[0][0] <= self.now:
            self.plans.pop(0)[1]()
        if self.now >= self.end:
            raise Over
        await asyncio.sleep_ms(0)

    # The session.
    def route(self, topic, handler):
        if handler:
            self.routes[topic] = handler
        else:
            self.routes.pop(topic, None)

    async def post(self, topic, payload, qos):
        assert topic == UPDATE and qos == 0
        await asyncio.sleep_ms(0)
        if self.failure:
            raise self.failure
        body = json.loads(payload)
        self.reports.append(body)
        self.times.append(self.now)
        answer = self.answers.pop(0) if self.answers else ONCE
        if isinstance(answer, str):
            self.due.append((False, {"code": answer, "message": "no"}))
        elif body.get("expectedVersion", self.version) != self.version:
            self.due.append((False, {"code": "VersionMismatch", "message": "no"}))
        elif self.status != "IN_PROGRESS":
            self.due.append((False, {"code": "InvalidStateTransition", "message": "no"}))
        else:
            self.version += 1
            self.due.extend([(True, {"timestamp": 1700000000})] * answer)

    def say(self, good, answer):
        """Send an answer; the payload is valid during the call only."""
        topic = UPDATE + (b"/accepted" if good else b"/rejected")
        handler = self.routes.get(topic)
        if handler is None:
            self.hosts.append(topic)
        elif answer is None:
            handler(None)
        else:
            buffer = bytearray(answer)
            handler(memoryview(buffer))
            for i in range(len(buffer)):
                buffer[i] = 0

    # The test.
    def plan(self, at, what):
        """Have `what` called `at` ms from the start."""
        self.plans.append((at, what))

    def receive(self, *times):
        """A block is received at each of the times."""

        def block():
            self.done += BLOCK

        for at in times:
            self.plan(at, block)

    def look(self, at):
        """Note in `heard` whether the reports are refused by then."""
        self.plan(at, lambda: self.heard.append(self.progress.refused))

    def cancel(self):
        """The operator cancels the job."""
        self.status = "CANCELED"
        self.version += 1

    async def run(self, ms):
        self.end = ms
        try:
            await self.progress.run(self)
        except Over:
            return
        raise AssertionError("ended by itself")

    @property
    def received(self):
        """What the reports say."""
        return [body["statusDetails"]["receive"] for body in self.reports]

    @property
    def named(self):
        """The version that each report names; None when it names none."""
        return [body.get("expectedVersion") for body in self.reports]

    @property
    def warnings(self):
        return [words for words in self.printed if words[0] == WARNING]


async def test_reports_that_are_accepted():
    c = Cloud()
    c.receive(500, 700, 2500, 9000)
    await c.run(20000)
    # At once, then two seconds apart, and only when there is something new.
    assert c.received == ["0/4", "2/4", "3/4", "4/4"]
    assert c.times == [0, 2000, 4000, 10000]
    # Each acceptance makes a version.
    assert c.named == [2, 3, 4, 5] and c.version == 6
    assert c.reports[1] == {
        "status": "IN_PROGRESS",
        "expectedVersion": 3,
        "statusDetails": {"receive": "2/4"},
    }
    assert not c.progress.refused and not c.warnings and c.hosts == []


async def test_one_report_by_itself():
    # As when all has been received.
    for done, size, said in (
        (0, 1, "0/1"),
        (1, 1, "1/1"),
        (BLOCK, BLOCK + 1, "1/2"),
        (BLOCK + 1, BLOCK + 1, "2/2"),
        (2 * BLOCK, 2 * BLOCK, "2/2"),
    ):
        c = Cloud()
        c.done, c.size = done, size
        await c.progress.tell(c)
        assert c.received == [said] and c.named == [2]


async def test_an_acceptance_that_comes_twice():
    c = Cloud(ONCE, TWICE)
    c.receive(500, 2500, 4500)
    await c.run(9000)
    # The third names a version that there is not, and is said again at once, without one; so are
    # those that follow.
    assert c.received == ["0/4", "1/4", "2/4", "2/4", "3/4"]
    assert c.named == [2, 3, 5, None, None]
    assert c.times[3] - c.times[2] <= 100
    assert c.version == 6 and not c.progress.refused


async def test_an_acceptance_that_is_lost():
    c = Cloud(ONCE, LOST)
    c.receive(500, 2500, 4500)
    await c.run(9000)
    assert c.received == ["0/4", "1/4", "2/4", "2/4", "3/4"]
    assert c.named == [2, 3, 3, None, None]
    assert c.version == 6 and not c.progress.refused
    # Said again once, though nothing is received any more.
    c = Cloud(LOST)
    c.receive(500)
    await c.run(9000)
    assert c.received == ["0/4", "1/4", "1/4"] and c.named == [2, 2, None]


async def test_an_execution_whose_version_is_not_known():
    c = Cloud(version=0)
    c.receive(500, 2500)
    await c.run(6000)
    assert c.received == ["0/4", "1/4", "2/4"] and c.named == [None] * 3
    assert not c.progress.refused


async def test_what_the_cloud_cannot_do_at_the_moment():
    for code in ("RequestThrottled", "InternalError"):
        c = Cloud(ONCE, code, code)
        c.receive(500, 2500, 4500)
        await c.run(9000)
        # Not again before there is something new: it would make matters worse.
        assert c.received == ["0/4", "1/4", "2/4", "3/4"]
        assert c.times == [0, 2000, 4000, 6000]
        assert c.named == [2, 3, 3, 3] and c.version == 4
        assert not c.progress.refused


async def test_a_job_that_is_gone():
    for code in (
        "TerminalStateReached",
        "InvalidStateTransition",
        "ResourceNotFound",
        "InvalidRequest",
    ):
        c = Cloud(ONCE, code)
        c.receive(500)
        c.look(2000)
        c.look(2100)
        await c.run(5000)
        assert c.heard == [False, True] and c.named == [2, 3], code


async def test_rejections_without_sense():
    for rubbish in (None, b"", b"{", b"\xff\xfe", b"[]", b'{"code":7}'):
        c = Cloud()
        c.say(False, rubbish)
        assert c.progress.refused


async def test_a_job_that_is_cancelled_meanwhile():
    # The cancellation has made a version, so that the report is refused for that first.
    c = Cloud()
    c.receive(500)
    c.plan(1000, c.cancel)
    c.look(2000)
    c.look(2200)
    await c.run(9000)
    assert c.received == ["0/4", "1/4", "1/4"]
    assert c.named == [2, 3, None] and c.times == [0, 2000, 2100]
    # A fifth of a second after the report that found it out.
    assert c.heard == [False, True] and c.status == "CANCELED"


async def test_a_connection_that_is_lost():
    for failure in (SessionError(b"connection lost"), MemoryError()):
        c = Cloud()

        def fail(c=c, failure=failure):
            c.failure = failure

        def mend(c=c):
            c.failure = None

        c.plan(100, fail)
        c.receive(500)
        c.plan(2500, mend)
        c.receive(3000)
        await c.run(9000)
        # One is left out, and nothing else.
        assert c.received == ["0/4", "2/4"] and c.named == [2, 3]
        assert len(c.warnings) == 1 and not c.progress.refused
        c.failure = failure
        await c.progress.tell(c)
        assert len(c.warnings) == 2


async def test_no_memory_for_a_rejection():
    def none(_):
        raise MemoryError

    c = Cloud()
    progress.bytes = none
    c.say(False, b'{"code":"ResourceNotFound"}')
    assert not c.progress.refused
    del progress.bytes
    c.say(False, b'{"code":"ResourceNotFound"}')
    assert c.progress.refused


async def test_what_comes_after_its_end_is_for_others():
    c = Cloud()
    assert sorted(c.routes) == [UPDATE + b"/accepted", UPDATE + b"/rejected"]
    await c.progress.tell(c)
    c.progress.close()
    assert c.routes == {}
    c.say(True, b"{}")
    c.say(False, b'{"code":"ResourceNotFound"}')
    assert c.hosts == [UPDATE + b"/accepted", UPDATE + b"/rejected"]
    assert not c.progress.refused
    await c.progress.tell(c)
    assert c.named == [2, 2]
    # It may be ended twice.
    c.progress.close()
