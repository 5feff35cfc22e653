"""What the cloud does to jobs that the module deals with, seen from its terminal."""

import json
import random
import time
import uuid

import pytest

from tests_host.system.conftest import connect, give_wifi, next_event, reset
from tests_host.updates import (
    host_image,
    image,
    module_image,
    ota_event,
    read_all,
    thing_of,
    wait_state,
)
from tools.cloud.identity import give_policy
from tools.cloud.policy import DEFAULT

DATA = random.Random(5).randbytes(20_000)
LARGE = random.Random(6).randbytes(400_000)


@pytest.fixture
def thing(module, cloud):
    """The connected module's thing; its jobs go at the end."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    yield thing_of(module)
    cloud.control.set(job_minute=60.0)
    for job in cloud.control.jobs():
        cloud.control.delete_job(job["job"], force=True)


def offered(module, cloud, thing, data=DATA, **how):
    """A job that has been proposed to the host."""
    update = host_image(cloud, thing, data, **how)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?").startswith(b"OK 2 ")
    return update


def loading(module, cloud, thing):
    """A job whose file is on its way, slowly."""
    cloud.control.fault("delay", at="streams", ms=150)
    update = offered(module, cloud, thing, LARGE)
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    update.is_in("IN_PROGRESS")
    wait_state(module, 3)
    return update


def ready(module, cloud, thing):
    """A job whose file is there."""
    update = offered(module, cloud, thing)
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 5 20000"
    return update


PHASES = {"offered": offered, "loading": loading, "ready": ready}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_the_job_is_taken_away(module, cloud, thing, phase, how):
    update = PHASES[phase](module, cloud, thing)
    if how == "cancelled":
        cloud.control.cancel_job(update.job, force=True)
    else:
        cloud.control.delete_job(update.job, force=True)
    assert ota_event(module) == b"CANCELED"
    wait_state(module, 0)
    assert module.command(b"AT+OTA READ 10").startswith(b"ERR19 ")
    # The next one finds it idle.
    cloud.control.clear()
    ready(module, cloud, thing)
    assert read_all(module) == DATA


def test_a_forced_image_is_taken_away_behind_its_last_block(module, cloud, thing):
    """It is not started: the cloud is asked once more before that."""
    version = module.command(b"AT+CONF? Version")
    update = module_image(cloud, thing, image("slot", "9.1.0"), force=True)
    until = time.monotonic() + 30
    while True:
        details = cloud.control.execution(update.job, thing)["details"]
        have, _, of = details.get("receive", "").partition("/")
        if of and have == of:
            break
        assert time.monotonic() < until, details
        time.sleep(0.01)
    cloud.control.cancel_job(update.job, force=True)
    # It began, and it is there.
    assert [ota_event(module) for _ in range(3)] == [b"", b"", b"CANCELED"]
    wait_state(module, 0)
    assert module.command(b"AT+CONF? Version") == version
    assert update.status()[0] == "CANCELED"
    again = module_image(cloud, thing, image("slot", "9.1.0"), force=True)
    assert again.ended() == ("SUCCEEDED", "accepted 9.1.0")


@pytest.mark.parametrize("phase", ["loading", "ready"])
def test_the_job_runs_out_of_time(module, cloud, thing, phase):
    cloud.control.set(job_minute=1.5)
    if phase == "loading":
        cloud.control.fault("delay", at="streams", ms=300)
    update = host_image(cloud, thing, LARGE if phase == "loading" else DATA, fields={"timeout": 1})
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    event = ota_event(module)
    if phase == "ready":
        assert event == b""
        event = ota_event(module)
    assert event == b"CANCELED"
    assert update.ended()[0] == "TIMED_OUT"
    wait_state(module, 0)


def test_taken_away_while_there_is_no_connection(module, cloud, thing):
    update = ready(module, cloud, thing)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    cloud.control.cancel_job(update.job, force=True)
    assert read_all(module) == DATA
    connect(module)
    assert ota_event(module) == b"CANCELED"
    wait_state(module, 0)


def test_an_outcome_of_a_job_that_is_over(module, cloud, thing):
    update = ready(module, cloud, thing)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    cloud.control.cancel_job(update.job, force=True)
    connect(module)
    assert ota_event(module).startswith(b"REPORT FAILED ")
    assert update.status()[0] == "CANCELED"
    ready(module, cloud, thing)


def test_the_host_decides_without_a_connection(module, cloud, thing):
    update = ready(module, cloud, thing)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+OTA FLUSH") == b"OK"
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert update.status()[0] == "IN_PROGRESS"
    connect(module)
    assert update.ended() == ("FAILED", "flushed by the host")
    assert not module.event()


def test_jobs_wait_for_each_other(module, cloud, thing):
    first = offered(module, cloud, thing, version="first")
    second = host_image(cloud, thing, DATA, version="second")
    third = host_image(cloud, thing, DATA, version="third")
    time.sleep(1.5)
    assert module.command(b"AT+OTA?") == b"OK 2 first"
    assert not module.event()
    assert module.command(b"AT+OTA FLUSH") == b"OK"
    assert first.ended()[0] == "FAILED"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 2 second"
    cloud.control.cancel_job(second.job)
    assert ota_event(module) == b"CANCELED"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 2 third"
    assert third.status()[0] == "QUEUED"


def test_a_second_job_while_the_mailbox_is_full(module, cloud, thing):
    update = ready(module, cloud, thing)
    other = host_image(cloud, thing, DATA)
    assert other.ended()[0] == "REJECTED"
    assert "mailbox" in other.status()[1]
    assert read_all(module) == DATA
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"


ODD = (
    {},
    {"action": "blink", "count": 3},
    {"afr_ota": None},
    {"afr_ota": {"files": [None]}},
    {"afr_ota": {"files": [{"filesize": 1e300, "fileid": -1}]}},
    {"action": "OTA", "url": "https://localhost/x"},
    {"x": "y" * 4500},
    {"x": "y" * 20_000},
    {"x": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]] * 20},
    {"x": [{}] * 1500},
)


def test_documents_that_are_no_update(make_module, cloud):
    module = make_module("--heap", "96")
    give_wifi(module)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    thing = thing_of(module)
    for document in ODD:
        job = f"odd-{uuid.uuid4().hex[:8]}"
        cloud.control.create_job(job, [thing], document)
        # What fills the memory is asked for three times.
        cloud.control.wait_job(job, 40)
        found = cloud.control.execution(job, thing)
        assert found["status"] == "REJECTED"
        assert found["details"]["reason"]
        assert module.command(b"AT+OTA?") == b"OK 0"
        assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert not module.event()
    ready(module, cloud, thing)


def test_answers_of_others_and_answers_twice(module, cloud, thing):
    cloud.control.fault("foreign", at="jobs", when="before")
    cloud.control.fault("duplicate", at="jobs")
    for _ in range(3):
        update = ready(module, cloud, thing)
        assert module.command(b"AT+OTA CLOSE") == b"OK"
        assert update.ended()[0] == "SUCCEEDED"
        wait_state(module, 0)
    time.sleep(0.3)
    assert not module.event(), module.command(b"AT+EVENT?") + module.command(b"AT+GET0")


def test_a_document_that_is_too_long_in_front_of_another_job(module, cloud, thing):
    """Also the notice of it is too long to be received."""
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    cloud.control.create_job("long", [thing], {"x": "y" * 30_000})
    connect(module)
    offered(module, cloud, thing)
    found = cloud.control.execution("long", thing)
    assert (found["status"], found["details"]) == ("REJECTED", {"reason": "job document too long"})


def test_an_answer_that_gets_lost(module, cloud, thing):
    """It costs ten seconds, during which the module has to answer its host."""
    cloud.control.fault("refuse", at="jobs", request="describe", error="RequestThrottled", count=1)
    update = ready(module, cloud, thing)
    cloud.control.fault("drop", at="jobs", request="update", count=1)
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended() == ("SUCCEEDED", "closed by the host")
    until = time.monotonic() + 13
    slowest = 0.0
    while time.monotonic() < until:
        before = time.monotonic()
        assert module.command(b"AT+OTA?") == b"OK 0"
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.1)
    assert slowest < 0.3
    assert not module.event()
    [said, again] = [
        r for r in cloud.control.job_requests(thing, "update") if "SUCCEEDED" in str(r["body"])
    ]
    assert (said["status"], again["code"]) == ("ACCEPTED", "InvalidStateTransition")
    ready(module, cloud, thing)


def test_the_connection_ends_in_mid_download(module, cloud, thing):
    update = loading(module, cloud, thing)
    until = time.monotonic() + 20
    while not cloud.control.execution(update.job, thing)["details"].get("receive", "").strip("0/"):
        assert time.monotonic() < until
        time.sleep(0.05)
    cloud.control.kick(thing)
    assert next_event(module) == b"OK 3 0 CONLOST"
    cloud.control.clear()
    assert module.command(b"AT+OTA?").startswith(b"OK 3")
    connect(module)
    assert ota_event(module) == b""
    assert read_all(module) == LARGE
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"


@pytest.mark.parametrize("action", ["iot:Subscribe", "iot:Publish"])
def test_a_policy_that_forbids_jobs_costs_one_connection_and_no_more(module, cloud, action):
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    thing = thing_of(module)
    policy = json.loads(DEFAULT)
    what = "topicfilter" if action == "iot:Subscribe" else "topic"
    denied = f"arn:aws:iot:*:*:{what}/$aws/things/*/jobs/*"
    policy["Statement"].append({"Effect": "Deny", "Action": [action], "Resource": [denied]})
    give_policy(cloud.state, thing, json.dumps(policy))
    connect(module)
    assert next_event(module) == b"OK 3 0 CONLOST"
    connect(module)
    time.sleep(3)
    assert not module.event()
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert module.console().count("does the policy allow") == 1


@pytest.mark.parametrize(
    "what", ["topic/$aws/things/*/jobs/*/update", "*/$aws/things/*/streams/*"]
)
def test_a_policy_that_forbids_what_comes_later(module, cloud, what):
    """Reporting, or the file: the host loses a few connections to it, and no more."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    thing = thing_of(module)
    policy = json.loads(DEFAULT)
    denied = {"Effect": "Deny", "Action": ["iot:Publish", "iot:Subscribe"]}
    policy["Statement"].append({**denied, "Resource": ["arn:aws:iot:*:*:" + what]})
    give_policy(cloud.state, thing, json.dumps(policy))
    connect(module)
    update = host_image(cloud, thing, DATA)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    lost = 0
    while True:
        until = time.monotonic() + 4
        while not module.event() and time.monotonic() < until:
            time.sleep(0.02)
        if not module.event():
            break
        assert module.command(b"AT+EVENT?") == b"OK 3 0 CONLOST"
        lost += 1
        assert lost <= 4, module.console()
        connect(module)
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert module.console().count("does the policy allow") == 1
    give_policy(cloud.state, thing, DEFAULT)
    reset(module)
    connect(module)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"
