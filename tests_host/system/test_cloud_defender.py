"""Device Defender's service in the local cloud: who is answered, with what, and what is kept."""

import json
import subprocess
import sys
import time
from pathlib import Path

import cbor2
import pytest

from tests_host.system.cloud_client import Device, Operator, connected
from tools.cloud import packets as p
from tools.cloud.control import ControlError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def device(cloud, request):
    """A thing of this test's own."""
    name = "dd_" + request.node.name[:40].replace("[", "_").replace("]", "")
    yield Device(cloud.state, name)
    cloud.control.set(defender_minimum=0)


def topic(device, form="json"):
    return f"$aws/things/{device.thing}/defender/metrics/{form}"


def report(number, **metrics):
    metrics = metrics or {"BytesOut": 1}
    return {
        "header": {"report_id": number, "version": "1.0"},
        "custom_metrics": {name: [{"number": value}] for name, value in metrics.items()},
    }


def send(client, device, body, form="json"):
    """Publish a report; the answer as (accepted or rejected, its object)."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode() if form == "json" else cbor2.dumps(body)
    client.publish(topic(device, form), body)
    answer = client.read()
    assert isinstance(answer, p.Publish), answer
    assert answer.topic.startswith(topic(device, form) + "/")
    decode = json.loads if form == "json" else cbor2.loads
    return answer.topic.rpartition("/")[2], decode(answer.payload)


def now_ms():
    return time.time() * 1000


@pytest.mark.parametrize("form", ["json", "cbor"])
def test_accepted(cloud, device, form):
    # The answer comes to the client that asked, subscribed or not.
    with connected(cloud, device) as client:
        which, answer = send(client, device, report(1700000000, BytesOut=5), form)
    assert which == "accepted"
    assert abs(answer.pop("timestamp") - now_ms()) < 5000
    assert answer == {"thingName": device.thing, "reportId": 1700000000, "status": "ACCEPTED"}
    (kept,) = cloud.control.defender(device.thing)
    assert abs(kept.pop("time") - now_ms()) < 5000
    assert kept == {
        "client": device.thing,
        "form": form,
        "status": "ACCEPTED",
        "code": None,
        "rule": None,
        "report": report(1700000000, BytesOut=5),
    }


def test_one_answer_for_a_client_that_has_subscribed(cloud, device):
    with connected(cloud, device) as client:
        assert client.subscribe(topic(device) + "/accepted", topic(device) + "/rejected") == (1, 1)
        client.publish(topic(device), json.dumps(report(1)).encode())
        answer = client.read()
        assert (answer.topic, answer.qos) == (topic(device) + "/accepted", 1)
        client.send(p.Ack(p.PUBACK, answer.packet_id))
        assert client.silent()


def test_nobody_else_is_answered(cloud, device):
    operator = Operator(cloud.state)
    with connected(cloud, operator, "dd-watcher") as watcher, connected(cloud, device) as client:
        watcher.subscribe("$aws/things/+/defender/#")
        assert send(client, device, report(1))[0] == "accepted"
        seen = watcher.read()
        assert seen.topic == topic(device)
        assert watcher.silent()


def test_rejected(cloud, device):
    with connected(cloud, device) as client:
        which, answer = send(client, device, {"header": {"report_id": 5, "version": "1.0"}})
        assert which == "rejected"
        assert answer.pop("timestamp") > 1700000000000
        assert answer == {
            "thingName": device.thing,
            "reportId": 5,
            "status": "REJECTED",
            "statusDetails": {
                "ErrorCode": "InvalidPayload",
                "ErrorMessage": "neither metrics nor custom_metrics",
            },
        }
        which, answer = send(client, device, b"not json")
        assert which == "rejected" and "reportId" not in answer
        # The connection stays, and a good report is taken.
        assert send(client, device, report(5))[0] == "accepted"
    kept = cloud.control.defender(device.thing)
    assert [(e["status"], e["rule"], e["report"] is None) for e in kept] == [
        ("REJECTED", "defender-report", True),
        ("REJECTED", "defender-report", True),
        ("ACCEPTED", None, False),
    ]


def test_report_ids_rise(cloud, device):
    with connected(cloud, device) as client:
        for number, wanted in ((10, "accepted"), (10, "rejected"), (9, "rejected")):
            assert send(client, device, report(number))[0] == wanted
        # A rejected report has used up nothing.
        assert send(client, device, report(11))[0] == "accepted"
    with connected(cloud, device) as client:
        which, answer = send(client, device, report(11))
        assert (which, answer["reportId"]) == ("rejected", 11)
    assert cloud.control.defender(device.thing)[-1]["rule"] == "defender-report-id"


def test_throttled_when_the_switch_is_on(cloud, device):
    cloud.control.set(defender_minimum=300)
    with connected(cloud, device) as client:
        assert send(client, device, report(1))[0] == "accepted"
        which, answer = send(client, device, report(2))
        assert which == "rejected"
        assert answer["statusDetails"]["ErrorCode"] == "Throttled"
        cloud.control.set(defender_minimum=0.3)
        time.sleep(0.4)
        # Counted from the accepted one.
        assert send(client, device, report(2))[0] == "accepted"
        assert send(client, device, report(3))[0] == "rejected"
    assert cloud.control.defender(device.thing)[-1]["rule"] == "defender-throttle"
    with pytest.raises(ControlError):
        cloud.control.set(defender_minimum=-1)


def test_fault_switches(cloud, device):
    cloud.control.fault("silent", at="defender", client=device.thing, count=1)
    with connected(cloud, device) as client:
        client.publish(topic(device), json.dumps(report(1)).encode())
        assert client.silent()
        # It was not taken: the same number is good again.
        cloud.control.fault("refuse", at="defender", error="Throttled", count=2)
        for _ in range(2):
            which, answer = send(client, device, report(1))
            assert (which, answer["statusDetails"]["ErrorCode"]) == ("rejected", "Throttled")
        assert send(client, device, report(1))[0] == "accepted"
    statuses = [e["status"] for e in cloud.control.defender(device.thing)]
    assert statuses == ["UNANSWERED", "REJECTED", "REJECTED", "ACCEPTED"]
    for bad in (
        {"kind": "silent", "at": "shadow"},
        {"kind": "refuse", "at": "connect", "error": "x"},
        {"kind": "refuse", "at": "defender", "error": 7},
    ):
        with pytest.raises(ControlError):
            cloud.control.request({"fault": bad})


def test_another_things_topic_is_forbidden(cloud, device):
    with connected(cloud, device) as client:
        client.publish("$aws/things/other/defender/metrics/json", b"{}")
        assert client.closed() == []
    assert cloud.control.closings(device.thing)[-1]["rule"] == "publish-policy"
    assert cloud.control.defender("other") == []


def test_from_the_command_line(cloud, device):
    with connected(cloud, device) as client:
        send(client, device, report(1, Odd=2.5))

    def run(*words):
        command = [sys.executable, "-m", "tools.cloud", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout

    shown = json.loads(run("defender", "--state", str(cloud.state), device.thing))
    assert shown["defender"][0]["report"]["custom_metrics"] == {"Odd": [{"number": 2.5}]}
    where = ("--state", str(cloud.state))
    run("fault", "set", *where, "refuse", "--at", "defender", "--error", "Slow", "--count", "1")
    (fault,) = cloud.control.faults()
    assert (fault["at"], fault["error"]) == ("defender", "Slow")


def test_the_option_for_throttling(tmp_path):
    from tools.cloud.process import CloudProcess

    with CloudProcess(tmp_path / "cloud", "--defender-minimum", "300") as cloud:
        assert cloud.control.get("settings")["defender_minimum"] == 300
