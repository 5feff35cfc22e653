"""The module's Jobs client on the MicroPython VM, over its real session, against the local cloud.

The VM evaluates the expressions that the test sends it, and awaits what can be awaited.
"""

import ast
import base64
import re
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests_host.system.cloud_client import Device
from tests_host.vm import runner

DOCUMENT = {"action": "blink", "count": 3}

PEER = """
import asyncio, sys, time, tls
from firmware.cloud import jobs as module
from firmware.cloud.backoff import Backoff
from firmware.cloud.execution import Execution
from firmware.cloud.session import Session

folder, thing, port = sys.argv[1:]

def read(name):
    with open(folder + "/" + name, "rb") as file:
        return file.read()

class Parts:
    # Identity, configuration, Wi-Fi, clock, events and messages.
    thing = thing.encode()
    certified = True
    on_trial = doubted = False
    lost = []
    strangers = []
    def certificate(self):
        return [read("certificate.der")]
    def private_key(self):
        return read("key.der")
    def get(self, name):
        return {b"EndPoint": b"localhost:" + port.encode(), b"SSID": b"x", b"Passphrase": b"y",
            b"RootCA": [read("ca.der")]}[name]
    def trial_roots(self):
        return []
    async def join(self, *_):
        pass
    async def ensure(self):
        pass
    def leave(self):
        pass
    def put(self, *_):
        pass
    def arrived(self, topic, payload):
        self.strangers.append(topic)
    discarded = arrived
    def forget_subscriptions(self):
        pass
    def give_way(self):
        return False

class Counting(Session):
    # What is asked, and what is answered: answers that nobody waits for are the difference.
    asked = answers = 0
    async def post(self, *args):
        self.asked += 1
        await super().post(*args)
    def route(self, topic, handler):
        def counted(payload):
            self.answers += 1
            handler(payload)
        super().route(topic, handler and counted)

class Fast:
    # Ten seconds of silence pass in half a second.
    ticks_diff = staticmethod(time.ticks_diff)
    @staticmethod
    def ticks_ms():
        return time.ticks_ms() * 20

class Pauses:
    @staticmethod
    async def sleep_ms(ms):
        await asyncio.sleep_ms(min(ms, 100))

async def main():
    parts = Parts()
    none = Backoff(time.ticks_ms, time.ticks_diff, lambda n: 0)
    session = Counting(parts, parts, parts, parts, parts, parts, none,
        lambda: tls.SSLContext(tls.PROTOCOL_TLS_CLIENT), (bytearray(5376), bytearray(1024)))
    await session.connect()
    scope = {"jobs": module.Jobs(session, parts.thing), "session": session, "parts": parts,
        "Execution": Execution, "module": module, "hurry": hurry}
    print("= ready")
    lines = asyncio.StreamReader(sys.stdin)
    while True:
        line = (await lines.readline()).decode().strip()
        if not line:
            break
        try:
            value = eval(line, scope)
            if hasattr(value, "send"):
                value = await value
            answer = repr(value)
        except Exception as error:
            value = error
            answer = "! " + type(error).__name__ + " " + repr(error.args)
        # Executions and errors are talked about afterwards.
        if isinstance(value, (Execution, Exception)):
            scope["e" if isinstance(value, Execution) else "error"] = value
        print("=", answer)

def hurry():
    module.time = Fast
    module.asyncio = Pauses

asyncio.run(main())
"""


def der(path):
    """The first object of a PEM file."""
    text = re.search(r"-----BEGIN [^-]*-----([^-]*)-----END", Path(path).read_text())
    return base64.b64decode(text[1])


class Peer:
    """A module of which only the Jobs client is there."""

    def __init__(self, cloud, folder):
        self.device = Device(cloud.state, f"jobs-{uuid.uuid4().hex[:8]}")
        self.thing = self.device.thing
        folder.mkdir()
        for name, path in (
            ("ca.der", self.device.ca),
            ("certificate.der", self.device.cert),
            ("key.der", self.device.key),
        ):
            (folder / name).write_bytes(der(path))
        script = folder / "peer.py"
        script.write_text(PEER)
        self._vm = runner.popen(
            [script, folder, self.thing, cloud.info["mqtt"]], stdin=subprocess.PIPE
        )
        self._killer = threading.Timer(60, self._vm.kill)
        self._killer.start()
        self.printed = []
        self._answer()

    def _answer(self):
        for line in self._vm.stdout:
            self.printed.append(line)
            if line.startswith("= "):
                return line[2:-1]
        raise AssertionError("".join(self.printed))

    def run(self, expression):
        """The value as text; of an exception `! <name> <arguments>`."""
        self._vm.stdin.write(expression + "\n")
        self._vm.stdin.flush()
        return self._answer()

    def value(self, expression):
        """The value, a literal."""
        text = self.run(expression)
        assert not text.startswith("!"), text
        return ast.literal_eval(text)

    def good(self, expression):
        """Evaluate what must not fail."""
        text = self.run(expression)
        assert not text.startswith("!"), text

    def close(self):
        self._vm.stdin.close()
        self._vm.wait(10)
        self._killer.cancel()
        self._vm.stdout.close()


@pytest.fixture
def peer(cloud, tmp_path):
    made = Peer(cloud, tmp_path / "peer")
    yield made
    for job in cloud.control.jobs():
        cloud.control.delete_job(job["job"], force=True)
    made.close()
    assert not any("Traceback" in line for line in made.printed), made.printed


@pytest.fixture
def order(cloud, peer):
    """Function that orders a job; its id."""

    def order(document=DOCUMENT, **fields):
        job = f"job-{uuid.uuid4().hex[:8]}"
        cloud.control.create_job(job, [peer.thing], document, **fields)
        return job

    return order


def stands(cloud, peer, job):
    """(status, version, details) of an execution in the cloud."""
    found = cloud.control.execution(job, peer.thing)
    return found["status"], found["version"], found["details"]


def test_a_job_from_queue_to_success(cloud, peer, order):
    assert peer.value("jobs.next()") is None
    assert peer.value("jobs.pending()") == []
    job, other = order(), order()
    peer.good("jobs.next()")
    assert peer.value("e.id, e.status, e.version, e.document, e.details") == (
        job,
        b"QUEUED",
        1,
        DOCUMENT,
        {},
    )
    assert peer.value("jobs.update(e, b'IN_PROGRESS', {'receive': '1/2'})") is None
    assert peer.value("e.status, e.version") == (b"IN_PROGRESS", 2)
    assert stands(cloud, peer, job) == ("IN_PROGRESS", 2, {"receive": "1/2"})
    assert peer.value("jobs.pending()") == [job, other]
    peer.good(f"jobs.describe('{job}')")
    assert peer.value("e.status, e.version, e.details") == (b"IN_PROGRESS", 2, {"receive": "1/2"})
    assert peer.value("jobs.update(e, b'SUCCEEDED', {'reason': 'a \"b\" c'})") is None
    assert stands(cloud, peer, job) == ("SUCCEEDED", 3, {"reason": 'a "b" c'})
    assert peer.run(f"jobs.describe('{job}')").startswith("! JobError (b'TerminalStateReached'")
    assert peer.run("jobs.describe('nothing')").startswith("! JobError (b'ResourceNotFound'")
    peer.good("jobs.next()")
    assert peer.value("e.id, e.document, e.too_long") == (other, DOCUMENT, False)
    peer.good("jobs.update(Execution(e.id), b'REJECTED', {})")
    assert stands(cloud, peer, other) == ("REJECTED", 2, {})
    assert peer.value("jobs.next()") is None
    # Nothing was subscribed to, and nothing went to the host.
    [client] = [c for c in cloud.control.clients() if c["client"] == peer.thing]
    assert client["subscriptions"] == {}
    assert peer.value("session.answers - session.asked, parts.strangers") == (0, [])


def test_what_the_cloud_ends(cloud, peer, order):
    job = order()
    peer.good("jobs.next()")
    assert peer.value("jobs.update(e, b'IN_PROGRESS', {})") is None
    cloud.control.cancel_job(job, force=True)
    assert peer.run("jobs.update(e, b'IN_PROGRESS', {})").startswith(
        "! JobError (b'InvalidStateTransition'"
    )
    assert peer.value("error.gone, error.state[0]") == (True, b"CANCELED")
    assert peer.run("jobs.update(e, b'FAILED', {})").startswith("! JobError")
    assert peer.value("jobs.next()") is None
    job = order()
    peer.good("jobs.next()")
    cloud.control.delete_job(job, force=True)
    assert peer.run("jobs.update(e, b'FAILED', {})").startswith("! JobError (b'ResourceNotFound'")
    assert peer.value("error.gone") is True
    # Time that runs out.
    cloud.control.set(job_minute=0.3)
    job = order(timeout=1)
    peer.good("jobs.next()")
    assert peer.value("jobs.update(e, b'IN_PROGRESS', {})") is None
    until = time.monotonic() + 5
    while stands(cloud, peer, job)[0] != "TIMED_OUT":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert peer.run("jobs.update(e, b'SUCCEEDED', {})").startswith("! JobError")
    assert peer.value("error.gone, error.state[0]") == (True, b"TIMED_OUT")
    cloud.control.set(job_minute=60.0)


def test_somebody_else_has_changed_it(cloud, peer, order):
    job = order()
    peer.good("jobs.next()")
    peer.good("jobs.update(Execution(e.id), b'IN_PROGRESS', {'x': '1'})")
    assert peer.run("jobs.update(e, b'SUCCEEDED', {})").startswith(
        "! JobError (b'VersionMismatch'"
    )
    assert peer.value("error.gone, error.state") == (False, (b"IN_PROGRESS", 2, {"x": "1"}))
    peer.good(f"jobs.describe('{job}')")
    peer.good("jobs.update(e, b'SUCCEEDED', {})")
    assert stands(cloud, peer, job) == ("SUCCEEDED", 3, {"x": "1"})


def test_a_document_that_does_not_fit(cloud, peer, order):
    job = order({"action": "x" * 20000})
    peer.good("jobs.next()")
    assert peer.value("e.id, e.document, e.too_long") == (job, None, True)
    peer.good(f"jobs.describe('{job}')")
    assert peer.value("e.too_long, e.version") == (True, 1)
    peer.good("jobs.update(e, b'REJECTED', {'reason': 'too long'})")
    assert stands(cloud, peer, job)[0] == "REJECTED"
    # One that just fits.
    job = order({"action": "y" * 4800})
    peer.good("jobs.next()")
    assert peer.value("e.id, e.too_long, len(e.document['action'])") == (job, False, 4800)


def test_answers_that_are_lost(cloud, peer, order):
    peer.good("hurry()")
    control = cloud.control
    # An update that is given up and made again, then what comes after it.
    job = order()
    peer.good("jobs.next()")
    control.fault("drop", at="jobs", request="update", count=3)
    told = peer.run("jobs.update(e, b'IN_PROGRESS', {'receive': '1/2'})")
    assert told.startswith("! JobError (b'no answer'")
    assert peer.value("e.version") == 1
    assert stands(cloud, peer, job) == ("IN_PROGRESS", 2, {"receive": "1/2"})
    peer.good("jobs.update(e, b'IN_PROGRESS', {'receive': '1/2'})")
    assert peer.value("e.version") == 2
    peer.good("jobs.update(e, b'IN_PROGRESS', {'receive': '2/2'})")
    assert stands(cloud, peer, job) == ("IN_PROGRESS", 3, {"receive": "2/2"})
    # An outcome.
    control.fault("drop", at="jobs", request="update", count=1)
    assert peer.value("jobs.update(e, b'SUCCEEDED', {'reason': 'x'})") is None
    assert stands(cloud, peer, job) == ("SUCCEEDED", 4, {"reason": "x"})
    assert peer.value("e.status, e.version") == (b"SUCCEEDED", 4)
    # Silence, before and after what asks.
    control.fault("silent", at="jobs", request="describe", count=2)
    job = order()
    peer.good("jobs.next()")
    assert peer.value("e.id") == job
    control.fault("silent", at="jobs", request="update", count=3)
    assert peer.run("jobs.update(e, b'FAILED', {})").startswith("! JobError (b'no answer'")
    peer.good("jobs.update(e, b'FAILED', {})")
    assert stands(cloud, peer, job) == ("FAILED", 2, {})


def test_rejections_that_pass(cloud, peer, order):
    peer.good("hurry()")
    job = order()
    peer.good("jobs.next()")
    for code in ("RequestThrottled", "InternalError"):
        for request in ("update", "describe"):
            cloud.control.fault("refuse", at="jobs", request=request, error=code, count=2)
        peer.good("jobs.update(e, b'IN_PROGRESS', {})")
        peer.good("jobs.next()")
    assert stands(cloud, peer, job) == ("IN_PROGRESS", 3, {})
    cloud.control.fault("refuse", at="jobs", request="update", error="RequestThrottled")
    assert peer.run("jobs.update(e, b'FAILED', {})").startswith("! JobError (b'RequestThrottled'")
    assert stands(cloud, peer, job) == ("IN_PROGRESS", 3, {})


def test_answers_of_others_and_answers_twice(cloud, peer, order):
    job = order()
    cloud.control.fault("foreign", at="jobs", when="before")
    cloud.control.fault("duplicate", at="jobs")
    peer.good("jobs.next()")
    assert peer.value("e.id") == job
    cloud.control.fault("foreign", at="jobs", when="before", error="ResourceNotFound")
    peer.good("jobs.update(e, b'SUCCEEDED', {})")
    assert stands(cloud, peer, job)[0] == "SUCCEEDED"
    assert peer.value("jobs.pending()") == []
    assert peer.value("session.answers - session.asked, parts.strangers") == (6, [])


def test_a_connection_that_ends_before_the_answer(cloud, peer, order):
    job = order()
    peer.good("jobs.next()")
    cloud.control.fault("close", at="jobs", request="update")
    for _ in range(2):
        told = peer.run("jobs.update(e, b'IN_PROGRESS', {'receive': '1/2'})")
        assert told.startswith("! SessionError")
    peer.good("session.connect()")
    # It was taken, and so it stands in the cloud.
    peer.good("jobs.next()")
    peer.good("jobs.update(e, b'SUCCEEDED', {})")
    assert stands(cloud, peer, job) == ("SUCCEEDED", 3, {"receive": "1/2"})
    peer.good("jobs.close()")
    assert peer.value("len(session._routes)") == 0
