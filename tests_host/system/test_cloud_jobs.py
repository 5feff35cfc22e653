"""Jobs in the local cloud, seen from a device that sends raw packets."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests_host.system.cloud_client import Device, Operator, connected
from tools.cloud import packets as p
from tools.cloud.control import ControlError
from tools.cloud.process import CloudProcess

ROOT = Path(__file__).resolve().parents[2]


class Thing:
    """A connected device that talks about its own jobs."""

    def __init__(self, cloud, device, *subscriptions):
        self.client = connected(cloud, device)
        self.root = f"$aws/things/{device.thing}/jobs/"
        for name in subscriptions:
            assert self.client.subscribe(self.root + name) == (1,)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.socket.close()

    def ask(self, name, body):
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.client.publish(self.root + name, payload)

    def read(self, timeout=5.0):
        """The next message: (topic under jobs/, object)."""
        packet = self.client.read(timeout)
        assert isinstance(packet, p.Publish), packet
        if packet.qos:
            self.client.send(p.Ack(p.PUBACK, packet.packet_id))
        assert packet.topic.startswith(self.root)
        return packet.topic[len(self.root) :], json.loads(packet.payload)

    def request(self, name, body, which="accepted"):
        self.ask(name, {"clientToken": "t1", **body})
        topic, answer = self.read()
        assert topic == f"{name}/{which}", answer
        assert answer.pop("clientToken") == "t1"
        assert abs(answer.pop("timestamp") - time.time()) < 5
        return answer

    def rejected(self, name, body):
        """(code, execution state or None)."""
        answer = self.request(name, body, "rejected")
        assert set(answer) <= {"code", "message", "executionState"} and answer["message"]
        return answer["code"], answer.get("executionState")


@pytest.fixture(scope="module", autouse=True)
def _no_traceback(_cloud):
    """Whatever clients and faults do, the cloud itself has no accident."""
    before = len(_cloud.log())
    yield
    assert "Traceback" not in _cloud.log()[before:]


@pytest.fixture(scope="module")
def device(_cloud):
    return Device(_cloud.state, "jobs_1")


@pytest.fixture(autouse=True)
def _no_jobs(cloud):
    yield
    cloud.control.set(job_minute=60.0)
    for job in cloud.control.jobs():
        cloud.control.delete_job(job["job"], force=True)


@pytest.fixture
def thing(cloud, device):
    """A device that has subscribed to nothing: its answers come all the same."""
    with Thing(cloud, device) as made:
        yield made


@pytest.fixture
def make(cloud, device):
    def make(*jobs, **fields):
        for job in jobs:
            document = {"action": "blink", "count": 3}
            cloud.control.create_job(job, [device.thing], document, **fields)

    return make


# -- the way that works --


def test_a_job_from_queue_to_success(cloud, thing, device, make):
    make("job1", "job2")
    pending = thing.request("get", {})
    assert [e["jobId"] for e in pending["queuedJobs"]] == ["job1", "job2"]
    assert pending["inProgressJobs"] == []
    assert set(pending["queuedJobs"][0]) == {
        "jobId",
        "queuedAt",
        "lastUpdatedAt",
        "versionNumber",
        "executionNumber",
    }
    started = thing.request("start-next", {"statusDetails": {"p": "0"}})["execution"]
    assert started["jobId"] == "job1" and started["status"] == "IN_PROGRESS"
    assert started["jobDocument"] == {"action": "blink", "count": 3}
    assert (started["versionNumber"], started["executionNumber"]) == (2, 1)
    assert started["statusDetails"] == {"p": "0"} and started["thingName"] == device.thing
    assert all(type(started[name]) is int for name in ("queuedAt", "startedAt", "lastUpdatedAt"))
    update = {"status": "IN_PROGRESS", "statusDetails": {"p": "50"}, "expectedVersion": 2}
    answer = thing.request("job1/update", {**update, "includeJobExecutionState": True})
    state = {"status": "IN_PROGRESS", "statusDetails": {"p": "50"}, "versionNumber": 3}
    assert answer == {"executionState": state}
    # Without statusDetails they stay as they are.
    done = {"status": "SUCCEEDED", "includeJobExecutionState": True, "includeJobDocument": True}
    answer = thing.request("job1/update", done)
    assert answer["executionState"] == {**state, "status": "SUCCEEDED", "versionNumber": 4}
    assert answer["jobDocument"] == {"action": "blink", "count": 3}
    assert thing.request("job2/update", {"status": "REJECTED"}) == {}
    for job, status in (("job1", "SUCCEEDED"), ("job2", "REJECTED")):
        found = cloud.control.wait_job(job)
        assert found["status"] == "COMPLETED" and found["counts"] == {status: 1}
    assert cloud.control.execution("job1", device.thing)["details"] == {"p": "50"}
    assert thing.request("get", {}) == {"inProgressJobs": [], "queuedJobs": []}
    assert thing.request("start-next", {}) == {}
    assert thing.request("$next/get", {}) == {}


def test_describe_by_id_and_by_next(thing, make):
    make("job1", "job2")
    shown = thing.request("job2/get", {"executionNumber": 1})["execution"]
    assert shown["jobId"] == "job2" and shown["status"] == "QUEUED" and "startedAt" not in shown
    shown = thing.request("$next/get", {"includeJobDocument": False})["execution"]
    assert shown["jobId"] == "job1" and "jobDocument" not in shown
    # In progress comes before queued, whatever was queued first.
    thing.request("job2/update", {"status": "IN_PROGRESS"})
    assert thing.request("$next/get", {})["execution"]["jobId"] == "job2"
    assert thing.request("start-next", {})["execution"]["jobId"] == "job2"
    assert thing.rejected("job1/get", {"executionNumber": 2}) == ("ResourceNotFound", None)
    thing.request("job1/update", {"status": "FAILED"})
    assert thing.rejected("job1/get", {}) == ("TerminalStateReached", None)


def test_start_next_leaves_what_is_in_progress_as_it_is(thing, make):
    make("job1")
    thing.request("start-next", {"statusDetails": {"step": "1"}})
    again = thing.request("start-next", {"statusDetails": {"step": "2"}})["execution"]
    assert again["versionNumber"] == 2 and again["statusDetails"] == {"step": "1"}


# -- notices --


def test_notify_and_notify_next(cloud, device, make):
    with Thing(cloud, device, "notify", "notify-next") as thing:

        def notices(count):
            return dict(thing.read() for _ in range(count))

        make("job1")
        got = notices(2)
        assert [e["jobId"] for e in got["notify"]["jobs"]["QUEUED"]] == ["job1"]
        assert got["notify-next"]["execution"]["jobDocument"]["action"] == "blink"
        make("job2")  # not the first: only the list
        topic, notice = thing.read()
        assert topic == "notify" and len(notice["jobs"]["QUEUED"]) == 2
        thing.request("start-next", {})  # the first stays the first
        thing.request("job1/update", {"status": "IN_PROGRESS", "statusDetails": {"p": "1"}})
        assert thing.client.silent()
        thing.request("job1/update", {"status": "SUCCEEDED"})
        got = notices(2)
        assert got["notify-next"]["execution"]["jobId"] == "job2"
        assert set(got["notify"]["jobs"]) == {"QUEUED"}
        make("job3")
        assert thing.read()[0] == "notify"
        thing.request("job3/update", {"status": "IN_PROGRESS"})  # overtakes job2
        topic, notice = thing.read()
        assert (topic, notice["execution"]["jobId"]) == ("notify-next", "job3")
        cloud.control.cancel_job("job3", force=True)
        assert notices(2)["notify-next"]["execution"]["jobId"] == "job2"
        cloud.control.delete_job("job2", force=True)
        got = notices(2)
        assert got["notify"]["jobs"] == {} and set(got["notify-next"]) == {"timestamp"}


def test_a_notice_lists_fifteen(cloud, device, make):
    make(*(f"job{n:02}" for n in range(16)))
    with Thing(cloud, device, "notify") as thing:
        thing.request("job15/update", {"status": "IN_PROGRESS"})
        assert thing.client.silent(0.1)
        make("more")
        jobs = thing.read()[1]["jobs"]
        assert [e["jobId"] for e in jobs["IN_PROGRESS"]] == ["job15"]
        assert [e["jobId"] for e in jobs["QUEUED"]] == [f"job{n:02}" for n in range(14)]


def test_the_answer_comes_before_the_notice(cloud, device, make):
    make("job1")
    with Thing(cloud, device, "#") as thing:
        thing.ask("job1/update", {"status": "SUCCEEDED"})
        topics = [thing.read()[0] for _ in range(4)]
        # The filter takes the device's own request too.
        assert topics == ["job1/update", "job1/update/accepted", "notify", "notify-next"]


def test_answers_go_to_nobody_but_the_one_who_asked(cloud, device, make):
    make("job1")
    with connected(cloud, Operator(cloud.state), "watcher") as watcher:
        watcher.subscribe("$aws/things/+/jobs/get/accepted")
        with Thing(cloud, device, "get/accepted") as thing:
            thing.request("get", {})
        assert watcher.silent()


# -- what is refused --


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("get", b"", "InvalidJson"),
        ("get", b"{", "InvalidJson"),
        ("get", b"\xff{}", "InvalidJson"),
        ("get", b"NaN", "InvalidJson"),
        ("get", b"[]", "InvalidRequest"),
        ("get", {"nonsense": 1}, "InvalidRequest"),
        ("get", b'{"\\ud800":1}', "InvalidRequest"),
        ("get", b"[" * 100000, "InvalidJson"),
        ("get", b'{"clientToken":' + b"9" * 5000 + b"}", "InvalidJson"),
        ("get", {"clientToken": "x" * 65}, "InvalidRequest"),
        ("get", {"clientToken": 5}, "InvalidRequest"),
        ("start-next", {"stepTimeoutInMinutes": 0}, "InvalidRequest"),
        ("start-next", {"stepTimeoutInMinutes": 10081}, "InvalidRequest"),
        ("start-next", {"statusDetails": {"a b": "1"}}, "InvalidRequest"),
        ("none/get", {}, "ResourceNotFound"),
        ("no+no/get", {}, None),
        ("a.b/get", {}, "InvalidTopic"),
        ("$next/update", {"status": "FAILED"}, "InvalidTopic"),
        ("x" * 65 + "/get", {}, "InvalidTopic"),
        ("job1/get", {"executionNumber": "1"}, "InvalidRequest"),
        ("job1/get", {"includeJobDocument": 1}, "InvalidRequest"),
        ("none/update", {"status": "FAILED"}, "ResourceNotFound"),
        ("job1/update", {}, "InvalidRequest"),
        ("job1/update", {"status": "QUEUED"}, "InvalidRequest"),
        ("job1/update", {"status": "TIMED_OUT"}, "InvalidRequest"),
        ("job1/update", {"status": ["FAILED"]}, "InvalidRequest"),
        ("job1/update", {"status": "FAILED", "expectedVersion": True}, "InvalidRequest"),
        ("job1/update", {"status": "FAILED", "executionNumber": 2}, "ResourceNotFound"),
        ("job1/update", {"status": "FAILED", "statusDetails": {"a": 1}}, "InvalidRequest"),
        ("job1/update", {"status": "FAILED", "statusDetails": {"a": ""}}, "InvalidRequest"),
        ("job1/update", {"status": "FAILED", "statusDetails": {"a": "\n"}}, "InvalidRequest"),
        *(
            ("job1/update", {"status": "FAILED", "statusDetails": {"a": value}}, "InvalidRequest")
            for value in ("x" * 1025, "a\x7f", "\x9f", "soft\u00adhyphen", "\u200b", "\ue000")
        ),
        ("job1/update", {"status": "FAILED", "statusDetails": {"": "x"}}, "InvalidRequest"),
        (
            "job1/update",
            {"status": "FAILED", "statusDetails": {str(n): "x" for n in range(11)}},
            "InvalidRequest",
        ),
    ],
)
def test_bad_requests(cloud, thing, device, make, name, body, code):
    make("job1")
    thing.ask(name, body)
    if code is None:
        thing.client.closed()
        return
    topic, answer = thing.read()
    assert topic == f"{name}/rejected" and answer["code"] == code
    assert "executionState" not in answer and "clientToken" not in answer
    assert cloud.control.execution("job1", device.thing)["version"] == 1
    entry = cloud.control.job_requests(device.thing)[-1]
    assert (entry["status"], entry["code"]) == ("REJECTED", code) and entry["rule"]


def test_versions_and_states(thing, make):
    make("job1")
    state = {"status": "QUEUED", "statusDetails": {}, "versionNumber": 1}
    update = {"status": "IN_PROGRESS", "expectedVersion": 99}
    assert thing.rejected("job1/update", update) == ("VersionMismatch", state)
    thing.request("job1/update", {"status": "SUCCEEDED", "expectedVersion": 1})
    state = {**state, "status": "SUCCEEDED", "versionNumber": 2}
    for status in ("IN_PROGRESS", "SUCCEEDED", "FAILED"):
        got = thing.rejected("job1/update", {"status": status, "expectedVersion": 2})
        assert got == ("InvalidStateTransition", state)


def test_limits_that_just_fit(thing, make):
    make("x" * 64)
    details = {f"{n}" + "k" * 127: "\u00fc\u2603" * 512 for n in range(10)}
    body = {"status": "IN_PROGRESS", "statusDetails": details, "clientToken": "t" * 64}
    thing.ask("x" * 64 + "/update", {**body, "includeJobExecutionState": True})
    topic, answer = thing.read()
    assert topic.endswith("/update/accepted") and answer["clientToken"] == "t" * 64
    assert answer["executionState"]["statusDetails"] == details


def test_another_things_jobs_are_behind_the_policy(cloud, thing):
    thing.client.publish("$aws/things/jobs_other/jobs/get", b"{}")
    thing.client.closed()
    assert cloud.control.closings("jobs_1")[-1]["rule"] == "publish-policy"


# -- time --


def test_timeouts(cloud, thing, device, make):
    cloud.control.set(job_minute=0.3)
    make("step", "whole", timeout=1)
    started = thing.request("start-next", {"stepTimeoutInMinutes": 10080})["execution"]
    assert started["approximateSecondsBeforeTimedOut"] == 0
    thing.request("whole/update", {"status": "IN_PROGRESS"})
    for job in ("step", "whole"):
        assert cloud.control.wait_job(job, 3)["counts"] == {"TIMED_OUT": 1}
    code, state = thing.rejected("step/update", {"status": "SUCCEEDED"})
    assert code == "InvalidStateTransition"
    assert (state["status"], state["versionNumber"]) == ("TIMED_OUT", 3)


def test_the_step_timer_is_set_again_and_cleared(cloud, thing, device, make):
    make("job1")
    started = thing.request("start-next", {"stepTimeoutInMinutes": 1})["execution"]
    assert 58 <= started["approximateSecondsBeforeTimedOut"] <= 60
    update = {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 10}
    thing.request("job1/update", update)
    assert 598 <= cloud.control.execution("job1", device.thing)["seconds_left"] <= 600
    thing.request("job1/update", {"status": "IN_PROGRESS"})
    assert 598 <= cloud.control.execution("job1", device.thing)["seconds_left"] <= 600
    thing.request("job1/update", {**update, "stepTimeoutInMinutes": -1})
    assert cloud.control.execution("job1", device.thing)["seconds_left"] is None


def test_a_step_that_takes_too_long(cloud, device, make):
    cloud.control.set(job_minute=0.3)
    make("job1")
    with Thing(cloud, device, "notify-next") as thing:
        thing.request("start-next", {"stepTimeoutInMinutes": 1})
        topic, notice = thing.read()
        assert topic == "notify-next" and "execution" not in notice
    assert cloud.control.job("job1")["status"] == "COMPLETED"


# -- operators --


def test_cancel(cloud, thing, device, make):
    other = Device(cloud.state, "jobs_2").thing
    cloud.control.create_job("job1", [device.thing, other], {"a": None})
    thing.request("start-next", {})
    cloud.control.cancel_job("job1", comment="no more")
    job = cloud.control.job("job1")
    assert job["status"] == "CANCELED" and job["comment"] == "no more" and not job["forced"]
    assert job["counts"] == {"IN_PROGRESS": 1, "CANCELED": 1}
    with pytest.raises(ControlError, match="CANCELED"):
        cloud.control.cancel_job("job1")
    thing.request("job1/update", {"status": "IN_PROGRESS"})  # goes on
    cloud.control.cancel_job("job1", force=True)
    assert cloud.control.job("job1")["counts"] == {"CANCELED": 2}
    code, state = thing.rejected("job1/update", {"status": "SUCCEEDED"})
    assert (code, state["status"]) == ("InvalidStateTransition", "CANCELED")
    assert thing.rejected("job1/get", {}) == ("TerminalStateReached", None)


def test_cancel_and_delete_one_execution(cloud, thing, device, make):
    make("job1", "job2", "job3")
    with pytest.raises(ControlError, match="version"):
        cloud.control.cancel_execution("job1", device.thing, expected_version=7)
    cloud.control.cancel_execution("job1", device.thing, details={"why": "so"})
    assert cloud.control.job("job1")["status"] == "COMPLETED"
    assert cloud.control.execution("job1", device.thing)["details"] == {"why": "so"}
    thing.request("start-next", {})
    with pytest.raises(ControlError, match="IN_PROGRESS"):
        cloud.control.cancel_execution("job2", device.thing)
    with pytest.raises(ControlError, match="not ended"):
        cloud.control.delete_execution("job2", device.thing)
    cloud.control.cancel_execution("job2", device.thing, force=True)
    cloud.control.delete_execution("job2", device.thing)
    with pytest.raises(ControlError, match="no such execution"):
        cloud.control.execution("job2", device.thing)
    assert thing.rejected("job2/update", {"status": "FAILED"}) == ("ResourceNotFound", None)
    cloud.control.remove_target("job3", device.thing)
    code, state = thing.rejected("job3/update", {"status": "FAILED"})
    assert (code, state["status"]) == ("InvalidStateTransition", "REMOVED")


def test_delete(cloud, thing, make):
    make("job1")
    with pytest.raises(ControlError, match="not ended"):
        cloud.control.delete_job("job1")
    thing.request("start-next", {})
    cloud.control.delete_job("job1", force=True)
    assert cloud.control.job("job1") is None
    assert thing.rejected("job1/update", {"status": "SUCCEEDED"}) == ("ResourceNotFound", None)
    make("job1")  # the name is free again
    assert thing.request("start-next", {})["execution"]["versionNumber"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job": "a b"}, "job id"),
        ({"job": "x" * 65}, "job id"),
        ({"things": []}, "at least one"),
        ({"things": ["jobs_1", "jobs_1"]}, "different"),
        ({"things": ["nobody"]}, "no thing nobody"),
        ({"document": "{"}, "not JSON"),
        ({"document": [1]}, "object"),
        ({"document": {"a": "x" * 32768}}, "32768"),
        ({"document": {"u": "${aws:iot:s3-presigned-url:missing}"}}, "missing"),
        ({"url_life": 59}, "60"),
        ({"timeout": 0}, "timeout"),
        ({"colour": "red"}, "takes no colour"),
    ],
)
def test_jobs_that_cannot_be_made(cloud, device, changes, words):
    given = {"job": "bad", "things": [device.thing], "document": {}, **changes}
    with pytest.raises(ControlError, match=words):
        cloud.control.request({"create_job": given})
    assert cloud.control.job("bad") is None


def test_a_name_that_is_taken(cloud, make):
    make("job1")
    with pytest.raises(ControlError, match="exists"):
        make("job1")


def test_the_largest_document_arrives(cloud, thing, device):
    document = {"a": "x" * (32768 - 9)}
    cloud.control.create_job("big", [device.thing], json.dumps(document))
    assert thing.request("$next/get", {})["execution"]["jobDocument"] == document


def test_hostile_documents_arrive_as_they_are(cloud, thing, device):
    document = {"afr_ota": {"files": [None, {"filesize": 1e300, "fileid": -1}]}, "": [[[]]]}
    cloud.control.create_job("odd", [device.thing], document)
    assert thing.request("$next/get", {})["execution"]["jobDocument"] == document


def test_jobs_outlive_the_cloud(tmp_path):
    with CloudProcess(tmp_path) as cloud:
        device = Device(cloud.state, "kept")
        cloud.control.create_job("job1", ["kept"], {"a": 1}, timeout=5)
        cloud.control.create_job("job2", ["kept"], {"a": 2})
        with Thing(cloud, device) as thing:
            thing.request("start-next", {"statusDetails": {"p": "7"}})
        cloud.restart()
        with Thing(cloud, device) as thing:
            found = thing.request("$next/get", {})["execution"]
            assert found["statusDetails"] == {"p": "7"} and found["versionNumber"] == 2
            assert 295 <= found["approximateSecondsBeforeTimedOut"] <= 300
            thing.request("job1/update", {"status": "SUCCEEDED", "expectedVersion": 2})
        assert [job["status"] for job in cloud.control.jobs()] == ["COMPLETED", "IN_PROGRESS"]


# -- faults --


def test_silent_refuse_and_drop(cloud, thing, device, make):
    make("job1")
    cloud.control.fault("silent", at="jobs", request="start-next", count=1)
    thing.ask("start-next", {})
    assert thing.client.silent()
    assert cloud.control.execution("job1", device.thing)["status"] == "QUEUED"
    assert cloud.control.job_requests(device.thing)[-1]["status"] == "UNANSWERED"
    assert thing.request("get", {})["queuedJobs"]
    cloud.control.fault("refuse", at="jobs", error="RequestThrottled", count=1)
    assert thing.rejected("get", {}) == ("RequestThrottled", None)
    # A lost answer: what was asked for is done.
    cloud.control.fault("drop", at="jobs", request="start-next")
    thing.ask("start-next", {})
    assert thing.client.silent()
    assert cloud.control.execution("job1", device.thing)["status"] == "IN_PROGRESS"


def test_delay_duplicate_and_foreign(cloud, thing, make):
    make("job1")
    cloud.control.fault("delay", at="jobs", ms=300, count=1)
    before = time.monotonic()
    thing.request("get", {})
    assert time.monotonic() - before >= 0.3
    cloud.control.fault("duplicate", at="jobs", request="describe", count=1)
    thing.request("get", {})
    first = thing.request("$next/get", {})
    assert thing.read()[1]["execution"] == first["execution"]
    cloud.control.fault("foreign", at="jobs", when="before", count=1)
    thing.ask("get", {"clientToken": "mine"})
    tokens = [thing.read()[1]["clientToken"] for _ in range(2)]
    assert tokens[0].startswith("foreign-") and tokens[1] == "mine"
    cloud.control.fault("foreign", at="jobs", error="InternalError", when="instead", count=1)
    thing.ask("get", {"clientToken": "mine"})
    topic, answer = thing.read()
    assert topic == "get/rejected" and answer["clientToken"] != "mine"


@pytest.mark.parametrize("when", ["before", "after"])
def test_close(cloud, thing, device, make, when):
    make("job1")
    cloud.control.fault("close", at="jobs", request="update", when=when)
    thing.request("get", {})
    thing.ask("job1/update", {"status": "SUCCEEDED"})
    got = [packet for packet in thing.client.closed() if isinstance(packet, p.Publish)]
    assert len(got) == (1 if when == "after" else 0)
    assert cloud.control.execution("job1", device.thing)["status"] == "SUCCEEDED"


# -- the command line --


def test_the_command_line(cloud, thing, device, tmp_path):
    def run(*words, code=0):
        command = [sys.executable, "-m", "tools.cloud", *words[:2], "--state", str(cloud.state)]
        done = subprocess.run(
            [*command, *words[2:]], cwd=ROOT, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    (tmp_path / "document.json").write_text('{"action":"blink"}')
    path = str(tmp_path / "document.json")
    run("job", "create", "cli", path, "--thing", device.thing)
    assert "exists" in run("job", "create", "cli", path, "--thing", device.thing, code=1)
    assert json.loads(run("job", "list"))["jobs"][0]["job"] == "cli"
    thing.request("start-next", {"statusDetails": {"p": "1"}})
    watch = subprocess.Popen(
        [sys.executable, "-m", "tools.cloud", "job", "watch", "--state", str(cloud.state), "cli"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout.readline() == f'{device.thing} 2 IN_PROGRESS {{"p": "1"}}\n'
    thing.request("cli/update", {"status": "SUCCEEDED"})
    out, _ = watch.communicate(timeout=10)
    assert out == f'{device.thing} 3 SUCCEEDED {{"p": "1"}}\ncli COMPLETED\n'
    assert json.loads(run("job", "show", "cli"))["job"]["status"] == "COMPLETED"
    assert "COMPLETED" in run("job", "cancel", "cli", code=1)
    run("job", "delete", "cli")
    assert json.loads(run("job", "show", "cli")) == {"job": None}
    assert "no job" in run("job", "watch", "cli", code=1)
