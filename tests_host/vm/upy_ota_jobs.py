"""The Jobs protocol on the VM: a session, a cloud and a clock of the test's own."""
# vm-file: heap=128

import asyncio
import json

from firmware.cloud import jobs
from firmware.cloud.execution import IN_PROGRESS, QUEUED, Execution, JobError
from firmware.cloud.session import SessionError

ROOT = "$aws/things/t1/jobs/"
FAILED = b"FAILED"
SUCCEEDED = b"SUCCEEDED"


def described(**others):
    """An execution as the cloud describes it."""
    made = {
        "jobId": "job1",
        "thingName": "t1",
        "status": "QUEUED",
        "statusDetails": {},
        "queuedAt": 1700000000,
        "lastUpdatedAt": 1700000000,
        "versionNumber": 1,
        "executionNumber": 1,
        "jobDocument": {"action": "blink"},
    }
    made.update(others)
    return made


def state(status, version, **details):
    return {"status": status, "versionNumber": version, "statusDetails": details}


RUBBISH = (b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b'"x"', b'{"a":\xff}', b"{[]:1}")
RUBBISH += (b'{"clientToken"', b"9" * 4000, b"\x00" * 100, b'{"a":1e999}x', b"[" * 400)


class Cloud:
    """Session, clock and cloud. `answers`: one for each request, oldest first; an answer is a
    function of the cloud, or (accepted, dict or bytes or None), or None for silence."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.routes = {}
        self.requests = []
        self.hosts = []
        self.up = True
        self.connections = 1
        self.failure = None
        self.now = 0
        self.slept = []
        self.token = None
        jobs.asyncio = jobs.time = self
        jobs.log = self.log
        self.printed = []
        self.jobs = jobs.Jobs(self, b"t1")

    def log(self, severity, *words):
        self.printed.append(words)

    # time and asyncio: time passes only where somebody waits.
    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b

    async def sleep_ms(self, ms):
        self.now += ms
        self.slept.append(ms)
        await asyncio.sleep_ms(0)

    # The session.
    def connected(self):
        return self.up

    def route(self, topic, handler):
        if handler:
            self.routes[topic.decode()] = handler
        else:
            self.routes.pop(topic.decode(), None)

    async def post(self, topic, payload, qos):
        topic = topic.decode()
        assert topic.startswith(ROOT) and qos == 0
        assert topic + "/accepted" in self.routes and topic + "/rejected" in self.routes
        await asyncio.sleep_ms(0)
        if self.failure:
            raise self.failure
        body = json.loads(payload)
        self.token = body.pop("clientToken")
        assert 1 <= len(self.token) <= 64
        self.name = topic[len(ROOT) :]
        self.requests.append((self.name, body))
        answer = self.answers.pop(0)
        if callable(answer):
            answer(self)
        elif answer is not None:
            self.answering = asyncio.create_task(self._later(*answer))

    async def _later(self, good, answer):
        self.say(good, answer)

    def say(self, good, answer, token=None, name=None):
        """Send an answer; the payload is valid during the call only."""
        topic = ROOT + (name or self.name) + ("/accepted" if good else "/rejected")
        handler = self.routes.get(topic)
        if handler is None:
            self.hosts.append(topic)
        elif answer is None:
            handler(None)
        else:
            if isinstance(answer, dict):
                answer = dict(answer, clientToken=token or self.token, timestamp=1700000000)
                answer = json.dumps(answer).encode()
            buffer = bytearray(answer)
            handler(memoryview(buffer))
            for i in range(len(buffer)):
                buffer[i] = 0


def found(**others):
    return True, {"execution": described(**others)}


def rejected(code, **others):
    return False, dict(others, code=code, message="no")


async def failure(awaitable):
    """The JobError that is raised."""
    try:
        await awaitable
    except JobError as error:
        return error
    raise AssertionError("no JobError")


# -- what there is to do --


async def test_the_next_job_as_it_stands():
    c = Cloud(found(status="IN_PROGRESS", versionNumber=7, statusDetails={"receive": "1/2"}))
    e = await c.jobs.next()
    assert c.requests == [("$next/get", {})]
    assert (e.id, e.status, e.version, e.details) == ("job1", IN_PROGRESS, 7, {"receive": "1/2"})
    assert e.document == {"action": "blink"} and not e.too_long
    assert c.now < 1000


async def test_no_job_is_none():
    for nothing in ({}, {"execution": None}, {"execution": {}}):
        c = Cloud((True, nothing))
        assert await c.jobs.next() is None
    # A certificate may do without a thing.
    c = Cloud(rejected("ResourceNotFound"), rejected("InvalidTopic"))
    assert await c.jobs.next() is None
    assert (await failure(c.jobs.next())).code == b"InvalidTopic"


async def test_one_job_by_its_id():
    c = Cloud(found(), rejected("TerminalStateReached"), rejected("ResourceNotFound"), found())
    assert (await c.jobs.describe("job1")).id == "job1"
    for code in (b"TerminalStateReached", b"ResourceNotFound"):
        error = await failure(c.jobs.describe("job1"))
        assert error.code == code and error.gone and error.args == (code,)
    assert (await failure(c.jobs.describe("job2"))).code == b"malformed"
    assert [name for name, _ in c.requests] == ["job1/get"] * 3 + ["job2/get"]


async def test_a_document_that_is_too_long_is_left_out():
    made = described()
    del made["jobDocument"]
    for ask in ("$next", "job1"):
        c = Cloud((True, None), (True, {"execution": made}))
        e = await (c.jobs.next() if ask == "$next" else c.jobs.describe("job1"))
        assert e.too_long and e.document is None and e.id == "job1"
        assert c.requests == [
            (ask + "/get", {}),
            (ask + "/get", {"includeJobDocument": False}),
        ]
    # And what is too long without it too.
    c = Cloud((True, None), (True, None))
    error = await failure(c.jobs.next())
    assert error.code == b"too long" and not error.gone
    c = Cloud((True, None))
    assert (await failure(c.jobs.pending())).code == b"too long"


async def test_the_list_has_those_in_progress_first():
    def listed(*ids):
        return [{"jobId": i, "versionNumber": 1} for i in ids]

    c = Cloud((True, {"queuedJobs": listed("a", "b"), "inProgressJobs": listed("c")}))
    assert await c.jobs.pending() == ["c", "a", "b"]
    assert c.requests == [("get", {})]
    for bad in (None, 1, {}, [1], [{}], [{"jobId": 1}], listed("a/b"), listed("x" * 65)):
        c = Cloud((True, {"queuedJobs": bad, "inProgressJobs": []}))
        error = await failure(c.jobs.pending())
        assert error.code == b"malformed" and not error.gone
    c = Cloud((True, {}))
    assert (await failure(c.jobs.pending())).code == b"malformed"


async def test_descriptions_of_a_wrong_form():
    for name, values in (
        ("jobId", (None, 1, "", "a b", "a/b", "x" * 65, "\u00e9", ["a"], "+", "#")),
        ("status", (None, 1, "", "queued", "RUNNING", [], True)),
        ("versionNumber", (None, "1", 1.5, True, -1, 0, 1 << 30, [], {})),
        ("statusDetails", (1, "x", [], {"a": 1}, {"a": None}, {"a": {}})),
    ):
        for value in values:
            c = Cloud(found(**{name: value}))
            error = await failure(c.jobs.next())
            assert error.code == b"malformed" and not error.gone, (name, value)
    for execution in (1, "job1", [1], True):
        c = Cloud((True, {"execution": execution}))
        assert (await failure(c.jobs.next())).code == b"malformed"
    # Null is as good as nothing.
    c = Cloud(found(statusDetails=None, jobDocument=None))
    e = await c.jobs.next()
    assert e.details == {} and e.document is None


# -- what is said of it --


async def test_an_update_names_the_version_and_learns_the_next():
    c = Cloud((True, {"executionState": state("IN_PROGRESS", 3, receive="1/2")}), (True, {}))
    e = Execution("job1", QUEUED, 2)
    await c.jobs.update(e, IN_PROGRESS, {"receive": "1/2"})
    assert (e.status, e.version, e.details) == (IN_PROGRESS, 3, {"receive": "1/2"})
    # Without details they stay in the cloud; without a state in the answer it is worked out.
    await c.jobs.update(e, SUCCEEDED, {})
    assert (e.status, e.version) == (SUCCEEDED, 4)
    asked = {"status": "IN_PROGRESS", "expectedVersion": 2, "statusDetails": {"receive": "1/2"}}
    asked["includeJobExecutionState"] = True
    more = {"status": "SUCCEEDED", "expectedVersion": 3, "includeJobExecutionState": True}
    assert c.requests == [("job1/update", asked), ("job1/update", more)]


async def test_details_with_quotes_come_through():
    c = Cloud((True, {}))
    await c.jobs.update(Execution("job1", QUEUED, 2), FAILED, {"reason": 'a "b" \\ c'})
    assert c.requests[0][1]["statusDetails"] == {"reason": 'a "b" \\ c'}


async def test_an_execution_from_a_record_names_no_version():
    c = Cloud((True, {"executionState": state("FAILED", 9)}))
    e = Execution("job1")
    await c.jobs.update(e, FAILED, {})
    assert "expectedVersion" not in c.requests[0][1]
    assert e.version == 9 and e.status == FAILED
    c = Cloud((True, {}))
    e = Execution("job1")
    await c.jobs.update(e, FAILED, {})
    assert e.version == 0


async def test_what_ends_an_update():
    for code, known, gone in (
        ("TerminalStateReached", None, True),
        ("ResourceNotFound", None, True),
        ("InvalidStateTransition", state("CANCELED", 3), True),
        ("InvalidStateTransition", None, True),
        ("VersionMismatch", state("TIMED_OUT", 3), True),
        ("VersionMismatch", state("QUEUED", 1), False),
        ("VersionMismatch", state("IN_PROGRESS", 9), False),
        ("VersionMismatch", "nonsense", False),
        ("InvalidRequest", None, False),
        ("InvalidJson", None, False),
    ):
        c = Cloud(rejected(code, executionState=known))
        e = Execution("job1", IN_PROGRESS, 2)
        error = await failure(c.jobs.update(e, SUCCEEDED, {"reason": "x"}))
        assert error.code == code.encode() and error.gone == gone, (code, known)
        assert len(c.requests) == 1 and e.version == 2
        if isinstance(known, dict):
            assert error.state == (known["status"].encode(), known["versionNumber"], {})
        else:
            assert error.state is None


async def test_throttled_and_silent_are_tried_three_times():
    for code in ("RequestThrottled", "InternalError", None):
        answer = rejected(code) if code else None
        c = Cloud(answer, answer, (True, {}))
        await c.jobs.update(Execution("job1", IN_PROGRESS, 2), FAILED, {})
        assert len(c.requests) == 3 and c.requests[0] == c.requests[2]
        pauses = [ms for ms in c.slept if ms > 100]
        assert len(pauses) == 2 and 1000 <= pauses[0] < 2100 and 2000 <= pauses[1] < 3100
        c = Cloud(answer, answer, answer)
        error = await failure(c.jobs.update(Execution("job1", IN_PROGRESS, 2), FAILED, {}))
        assert error.code == (code.encode() if code else b"no answer") and not error.gone
        assert c.now < 36000 and (code or c.now > 33000)
        # What asks only, likewise.
        c = Cloud(answer, answer, found())
        assert (await c.jobs.next()).id == "job1"


async def test_an_update_whose_answer_was_lost():
    for code in ("VersionMismatch", "InvalidStateTransition"):
        c = Cloud(None, rejected(code, executionState=state("FAILED", 3, reason="x", more="y")))
        e = Execution("job1", IN_PROGRESS, 2)
        await c.jobs.update(e, FAILED, {"reason": "x"})
        assert (e.status, e.version) == (FAILED, 3)
    # Not if it says something else.
    c = Cloud(None, rejected("VersionMismatch", executionState=state("FAILED", 3, reason="y")))
    error = await failure(
        c.jobs.update(Execution("job1", IN_PROGRESS, 2), FAILED, {"reason": "x"})
    )
    assert error.gone


async def test_an_update_of_somebody_else_is_not_taken_for_ours():
    def mismatch(version, status="IN_PROGRESS"):
        return rejected("VersionMismatch", executionState=state(status, version))

    # Whether an answer was lost before or not.
    for answers in (
        (mismatch(3),),
        (None, mismatch(3)),
        (None, mismatch(4)),
        (None, mismatch(3, "QUEUED")),
        (rejected("RequestThrottled"), mismatch(3)),
        (None, rejected("Forbidden", executionState=state("IN_PROGRESS", 3))),
    ):
        c = Cloud(*answers)
        e = Execution("job1", IN_PROGRESS, 2)
        error = await failure(c.jobs.update(e, FAILED, {}))
        assert error.code in (b"VersionMismatch", b"Forbidden") and not error.gone
        assert e.version == 2


# -- answers that are late, somebody else's, or no answers --


async def test_answers_of_others_are_passed_over():
    def crowd(c):
        c.say(True, {"execution": described(jobId="early")}, "foreign")
        c.say(False, {"code": "InternalError"}, "foreign")
        c.say(True, b"{}")
        c.say(True, {"execution": described()})
        c.say(True, {"execution": described(jobId="twice")})
        c.say(True, b"{}")

    c = Cloud(crowd)
    assert (await c.jobs.next()).id == "job1"
    # Late, while nothing is asked and while something else is.
    token = c.token
    c.say(True, {"execution": described(jobId="late")})
    c.say(False, b"rubbish")

    def late(c):
        c.say(True, {"executionState": state("FAILED", 9)}, token, "$next/get")
        c.say(True, {})

    c.answers.append(late)
    e = Execution("job1", IN_PROGRESS, 2)
    await c.jobs.update(e, FAILED, {})
    assert e.version == 3 and c.hosts == []


async def test_an_answer_after_its_time():
    c = Cloud(None, None, None, found())
    assert (await failure(c.jobs.next())).code == b"no answer"
    c.say(True, {"execution": described(jobId="late")})
    # Nor is it kept, or the one that is waited for: either may be large.
    assert c.jobs._answer is None
    assert (await c.jobs.next()).id == "job1"
    assert c.jobs._answer is None and c.hosts == []


async def test_tokens_differ():
    c = Cloud(*[(True, {})] * 5)
    tokens = []
    for _ in range(5):
        await c.jobs.next()
        assert c.token not in tokens
        tokens.append(c.token)


async def test_rubbish_for_an_answer():
    for rubbish in RUBBISH:
        for good in (True, False):
            c = Cloud(*[(good, rubbish)] * 3)
            error = await failure(c.jobs.next())
            assert error.code == b"malformed" and not error.gone, rubbish
            c = Cloud((good, rubbish), (True, {}))
            await c.jobs.update(Execution("job1", IN_PROGRESS, 2), FAILED, {})
    # What would fill the heap only.
    c = Cloud(*[(True, b"[" * 5000)] * 3)
    assert (await failure(c.jobs.next())).code in (b"too long", b"malformed")


async def test_rejections_without_sense():
    for code, shown in (
        (None, b"rejected"),
        (7, b"rejected"),
        ("", b"rejected"),
        ([], b"rejected"),
        ("x" * 500, b"x" * 32),
        ("a\nb\u00e9", b"ab"),
    ):
        c = Cloud((False, {"code": code}))
        error = await failure(c.jobs.next())
        assert error.code == shown and not error.gone
        assert len(c.requests) == 1


async def test_no_memory_for_an_answer():
    real = jobs.json

    class Json:
        left = 2

        def loads(self, payload):
            if self.left:
                self.left -= 1
                raise MemoryError
            return real.loads(payload)

    jobs.json = Json()
    c = Cloud(found(), found(), found())
    assert (await c.jobs.next()).id == "job1"
    assert len(c.requests) == 3
    jobs.json.left = 3
    c = Cloud(found(), found(), found(), found(jobDocument=None))
    e = await c.jobs.next()
    assert e.too_long and len(c.requests) == 4
    # What is large will not fit another time either.
    jobs.json.left = 1
    c = Cloud(found(jobDocument={"x": "y" * 2048}), found(jobDocument=None))
    e = await c.jobs.next()
    assert e.too_long and len(c.requests) == 2
    # An update was taken for all that.
    jobs.json.left = 1
    c = Cloud((True, {"executionState": state("IN_PROGRESS", 3, x="y" * 2048)}))
    e = Execution("job1", IN_PROGRESS, 2)
    error = await failure(c.jobs.update(e, IN_PROGRESS, {}))
    assert error.code == b"too long" and len(c.requests) == 1


# -- the connection, and one request at a time --


async def _ends(c, awaitable, why):
    try:
        await awaitable
    except SessionError as error:
        assert error.args[0] == why, error.args
    else:
        raise AssertionError("no SessionError")


async def test_a_connection_that_ends():
    def lose(c):
        c.up = False

    def renew(c):
        c.connections += 1

    for end in (lose, renew):
        c = Cloud(end)
        await _ends(c, c.jobs.next(), b"connection lost")
        assert c.now < 1000
    c = Cloud()
    c.failure = SessionError(b"no memory")
    await _ends(c, c.jobs.next(), b"no memory")
    # An update that was under way then may have been taken.
    taken = state("IN_PROGRESS", 3, receive="1/2")
    c = Cloud(lose, rejected("VersionMismatch", executionState=taken))
    e = Execution("job1", IN_PROGRESS, 2)
    await _ends(c, c.jobs.update(e, IN_PROGRESS, {"receive": "1/2"}), b"connection lost")
    c.up = True
    await c.jobs.update(e, IN_PROGRESS, {"receive": "1/2"})
    assert e.version == 3


async def test_one_request_at_a_time():
    under_way = []

    def slow(c):
        assert not under_way
        under_way.append(c.name)

        async def answer():
            for _ in range(10):
                await asyncio.sleep_ms(0)
            under_way.pop()
            c.say(True, {"execution": described(), "executionState": state("IN_PROGRESS", 3)})

        c.answering = asyncio.create_task(answer())

    c = Cloud(slow, slow, slow)
    e = Execution("job1", IN_PROGRESS, 2)
    await asyncio.gather(
        c.jobs.next(), c.jobs.update(e, IN_PROGRESS, {"receive": "1"}), c.jobs.describe("job1")
    )
    assert len(c.requests) == 3


async def test_a_request_that_is_cancelled_makes_way():
    c = Cloud(None, found())
    task = asyncio.create_task(c.jobs.next())
    while not c.requests:
        await asyncio.sleep_ms(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    token = c.token

    def late(c):
        c.say(True, {"execution": described(jobId="late")}, token)
        c.say(*found())

    c.answers = [late]
    assert (await c.jobs.next()).id == "job1"
    assert c.hosts == []


async def test_routes_are_few_and_go_away():
    c = Cloud(*[found(jobId="job%d" % i) for i in range(9)])
    for i in range(9):
        await c.jobs.describe("job%d" % i)
    assert len(c.routes) == 6 and ROOT + "job8/get/accepted" in c.routes
    await c.jobs.close()
    assert c.routes == {}
    c.answers = [found()] * 5
    for _ in range(5):
        await c.jobs.next()
    assert sorted(c.routes) == [ROOT + "$next/get/accepted", ROOT + "$next/get/rejected"]
    # One that is asked often does not push out the others.
    c.answers = [found()] * 6
    await c.jobs.describe("job1")
    for _ in range(5):
        await c.jobs.next()
    assert ROOT + "job1/get/accepted" in c.routes
    await c.jobs.close()
    c.answers = [found()]
    assert (await c.jobs.next()).id == "job1"


class Mutations:
    """Answers without end, each the true one with a few bytes changed, taken out or put in."""

    BYTES = b'{}[]",:0123456789eE+-.\\u tfn\x00\xff'

    def __init__(self, seed):
        self.seed = seed

    def below(self, n):
        self.seed = (self.seed * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.seed >> 8) % n

    def pop(self, _):
        return self.answer

    def answer(self, c):
        body = {"execution": described(status="IN_PROGRESS"), "clientToken": c.token}
        body["executionState"] = state("IN_PROGRESS", 3, receive="1/2")
        body["inProgressJobs"] = body["queuedJobs"] = [{"jobId": "job2"}]
        body["code"] = "VersionMismatch"
        data = bytearray(json.dumps(body).encode())
        for _ in range(1 + self.below(4)):
            at = self.below(len(data))
            new = self.BYTES[self.below(len(self.BYTES)) :][:1]
            data = data[:at] + (new, b"", new + new)[self.below(3)] + data[at + 1 :]
        c.say(self.below(4) > 0, data)


async def test_changed_answers_are_understood_or_refused():
    seen = {}
    for seed in range(150):
        c = Cloud()
        c.answers = Mutations(seed)
        e = Execution("job1", IN_PROGRESS, 2)
        for ask in (
            c.jobs.next(),
            c.jobs.pending(),
            c.jobs.describe("job1"),
            c.jobs.update(e, IN_PROGRESS, {}),
            c.jobs.update(e, FAILED, {"reason": "x"}),
        ):
            try:
                await ask
                code = b"good"
            except JobError as error:
                code = error.code
                assert 0 < len(code) <= 32
            seen[code] = seen.get(code, 0) + 1
        assert type(e.version) is int and isinstance(e.status, bytes)
    for code in (b"good", b"malformed", b"no answer", b"VersionMismatch"):
        assert seen.get(code, 0) > 5, seen
