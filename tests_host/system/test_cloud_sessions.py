"""Persistent sessions, take-over, last will, lifecycle events, and the process itself."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests_host.system.cloud_client import Device, Operator, Raw, connected, context
from tools.cloud import packets as p
from tools.cloud.control import Control, ControlError
from tools.cloud.process import CloudProcess

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with CloudProcess(tmp_path_factory.mktemp("sessions")) as running:
        yield running


@pytest.fixture(scope="module")
def device(cloud):
    return Device(cloud.state, "lab_1")


@pytest.fixture(scope="module")
def operator(cloud):
    return Operator(cloud.state)


@pytest.fixture(autouse=True)
def _defaults(cloud):
    yield
    if cloud.control.get("settings")["replay_per_second"] != 10:
        cloud.control.set(replay_per_second=10)
    cloud.control.set(session_expiry=3600, redelivery="dup")
    with connected(cloud, Operator(cloud.state), "lab_1"):
        """A clean session of the same id ends what a test has left."""


# -- persistent sessions --


def test_a_persistent_session_keeps_subscriptions_and_backlog(cloud, device):
    cloud.control.set(replay_per_second=0)
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe(("a", 1), ("b", 0))
        raw.send(p.Bare(p.DISCONNECT))
        raw.closed()
    cloud.control.publish("a", b"1", qos=1)
    cloud.control.publish("a", b"qos 0 is not kept", qos=0)
    cloud.control.publish("b", b"granted 0 is not kept", qos=1)
    cloud.control.publish("a", b"2", qos=1)
    with Raw(cloud.mqtt, device) as raw:
        assert raw.connect("lab_1", clean=False).session_present
        got = raw.packets(2)
        assert [packet.payload for packet in got] == [b"1", b"2"]
        assert not any(packet.dup for packet in got)
        cloud.control.publish("b", b"live")
        assert raw.read().payload == b"live"


def test_a_new_session_is_not_present_and_clean_forgets(cloud, device):
    with Raw(cloud.mqtt, device) as raw:
        assert not raw.connect("lab_1", clean=False).session_present
        raw.subscribe("a")
    cloud.control.wait_client("lab_1", False)
    with Raw(cloud.mqtt, device) as raw:
        assert not raw.connect("lab_1", clean=True).session_present
        cloud.control.publish("a", b"x", qos=1)
        assert raw.silent(0.1)
    with Raw(cloud.mqtt, device) as raw:
        assert not raw.connect("lab_1", clean=False).session_present


@pytest.mark.parametrize(("mode", "same"), [("dup", True), ("fresh", False)])
def test_what_was_not_acknowledged_comes_again(cloud, device, mode, same):
    cloud.control.set(replay_per_second=0, redelivery=mode)
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe("a")
        cloud.control.publish("a", b"kept", qos=1)
        cloud.control.publish("a", b"acknowledged", qos=1)
        first, second = raw.packets(2)
        raw.send(p.Ack(p.PUBACK, second.packet_id))
        raw.ping()
    with connected(cloud, device, clean=False) as raw:
        again = raw.read()
        assert again.payload == b"kept"
        assert again.dup is same
        assert same == (again.packet_id == first.packet_id)
        cloud.control.publish("a", b"new", qos=1)
        assert raw.read().packet_id != again.packet_id
        assert raw.silent(0.1)


def test_the_backlog_comes_at_its_rate(cloud, device):
    cloud.control.set(replay_per_second=20)
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe("a")
    cloud.control.wait_client("lab_1", False)
    for n in range(11):
        cloud.control.publish("a", b"%d" % n, qos=1)
    with connected(cloud, device, clean=False) as raw:
        start = time.monotonic()
        assert [int(packet.payload) for packet in raw.packets(11)] == list(range(11))
        assert 0.45 < time.monotonic() - start < 1.0


def test_a_session_expires(cloud, device):
    cloud.control.set(session_expiry=0.2)
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe("a")
    time.sleep(0.4)
    assert cloud.control.get("sessions") == []
    with Raw(cloud.mqtt, device) as raw:
        assert not raw.connect("lab_1", clean=False).session_present


def test_a_session_that_is_taken_up_in_time_does_not_expire(cloud, device):
    cloud.control.set(session_expiry=0.3)
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe("a")
    cloud.control.wait_client("lab_1", False)
    with Raw(cloud.mqtt, device) as raw:
        assert raw.connect("lab_1", clean=False).session_present
        time.sleep(0.5)
        cloud.control.publish("a", b"x")
        assert raw.read().payload == b"x"


def test_the_backlog_is_bounded(cloud, device):
    with connected(cloud, device, clean=False) as raw:
        raw.subscribe("a")
    cloud.control.wait_client("lab_1", False)
    for n in range(1010):
        cloud.control.publish("a", b"%d" % n, qos=1)
    (session,) = [s for s in cloud.control.get("sessions") if s["client"] == "lab_1"]
    assert (session["backlog"], session["lost"]) == (1000, 10)
    cloud.control.set(replay_per_second=0)
    with connected(cloud, device, clean=False) as raw:
        assert raw.read().payload == b"10"


# -- take-over, will, lifecycle --


def test_the_newer_connection_takes_over(cloud, device, operator):
    with connected(cloud, operator, "op") as op, connected(cloud, device) as old:
        op.subscribe("$aws/events/presence/+/lab_1")
        with connected(cloud, device) as new:
            assert old.closed() == []
            new.ping()
            gone, come = (json.loads(packet.payload) for packet in op.packets(2))
    assert gone["eventType"] == "disconnected"
    assert gone["disconnectReason"] == "DUPLICATE_CLIENTID"
    assert come["eventType"] == "connected"
    assert come["versionNumber"] == gone["versionNumber"] + 1
    assert come["sessionIdentifier"] != gone["sessionIdentifier"]


def test_take_over_keeps_a_persistent_session(cloud, device):
    with connected(cloud, device, clean=False) as old:
        old.subscribe("a")
        with Raw(cloud.mqtt, device) as new:
            assert new.connect("lab_1", clean=False).session_present
            cloud.control.publish("a", b"x")
            assert new.read().payload == b"x"
            assert old.closed() == []


def test_the_last_will(cloud, device, operator):
    will = p.Will("will/lab_1", b"gone", 1)
    with connected(cloud, operator, "op") as op:
        op.subscribe("will/#")
        with connected(cloud, device, will=will) as raw:
            raw.send(p.Bare(p.DISCONNECT))
            raw.closed()
        assert op.silent(0.2)
        connected(cloud, device, will=will).socket.close()
        assert op.read().payload == b"gone"
        with connected(cloud, device, will=will) as raw:
            raw.publish("$aws/things/lab_2/jobs/get")
            raw.closed()
        assert op.read().payload == b"gone"


def test_a_retained_will(cloud, device, operator):
    will = p.Will("will/retained", b"gone", 0, retain=True)
    connected(cloud, device, will=will).socket.close()
    cloud.control.wait_client("lab_1", False)
    with connected(cloud, operator, "op") as op:
        op.subscribe("will/retained")
        assert op.read() == p.Publish("will/retained", b"gone", retain=True)


@pytest.mark.parametrize(
    ("will", "answer", "rule"),
    [
        (p.Will("$aws/things/lab_2/shadow/update", b""), [p.Connack(7)], "will-policy"),
        (p.Will("$aws/nothing", b""), [p.Connack(7)], "will-policy"),
        (p.Will("$aws/things/lab_1/shadow/get", b"", 0, True), [p.Connack(7)], "will-policy"),
        (p.Will("a", b"", 2), [], "qos2"),
        (p.Will("1/2/3/4/5/6/7/8/9", b""), [], "topic-slashes"),
        (p.Will("a/#", b""), [], "malformed"),
    ],
)
def test_wills_that_are_refused(cloud, device, will, answer, rule):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1", will=will))
        assert raw.closed() == answer
    assert cloud.control.closings("lab_1")[-1]["rule"] == rule


def test_lifecycle_events(cloud, device, operator):
    with connected(cloud, operator, "op") as op:
        op.subscribe("$aws/events/presence/connected/lab_1")
        op.subscribe("$aws/events/presence/disconnected/lab_1")
        with connected(cloud, device) as raw:
            event = json.loads(op.read().payload)
            assert abs(event.pop("timestamp") / 1000 - time.time()) < 5
            assert len(event.pop("sessionIdentifier")) == 36
            assert isinstance(event.pop("versionNumber"), int)
            assert event == {
                "clientId": "lab_1",
                "eventType": "connected",
                "ipAddress": "127.0.0.1",
                "principalIdentifier": device.certificate_id,
            }
            raw.send(p.Bare(p.DISCONNECT))
            raw.closed()
        event = json.loads(op.read().payload)
        assert event["clientInitiatedDisconnect"] is True
        assert event["disconnectReason"] == "CLIENT_INITIATED_DISCONNECT"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda raw: raw.socket.close(), "CONNECTION_LOST"),
        (lambda raw: raw.send(b"\xff\x00"), "CLIENT_ERROR"),
        (lambda raw: raw.send(p.Connect("lab_1")), "CLIENT_ERROR"),
        (lambda raw: raw.publish("$aws/things/x/jobs/get"), "FORBIDDEN_ACCESS"),
    ],
)
def test_reasons_of_disconnection(cloud, device, operator, action, reason):
    with connected(cloud, operator, "op") as op, connected(cloud, device) as raw:
        op.subscribe("$aws/events/presence/disconnected/lab_1")
        action(raw)
        event = json.loads(op.read().payload)
        assert event["disconnectReason"] == reason
        assert event["clientInitiatedDisconnect"] is False


# -- HTTPS --


def _post(cloud, who, topic, payload=b"x", query=""):
    url = f"https://localhost:{cloud.http}/topics/{topic}{query}"
    made = context(who) if who.cert else ssl.create_default_context(cafile=who.ca)
    request = urllib.request.Request(url, payload, method="POST")
    try:
        with urllib.request.urlopen(request, context=made, timeout=5) as answer:
            return answer.status, json.load(answer)["message"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


def test_publish_over_https(cloud, device, operator):
    with connected(cloud, operator, "op") as op:
        op.subscribe("web/#")
        assert _post(cloud, device, "web%2Fhello%20you", b"hi", "?qos=1") == (200, "OK")
        assert op.read() == p.Publish("web/hello you", b"hi", 1, packet_id=1)
        assert _post(cloud, device, "web/plain", b"") == (200, "OK")
        assert op.read() == p.Publish("web/plain", b"")


def test_https_publish_under_policy_and_limits(cloud, device):
    assert _post(cloud, device, "%24aws/things/lab_1/shadow/update")[0] == 200
    assert _post(cloud, device, "%24aws/things/lab_2/shadow/update")[0] == 403
    assert _post(cloud, device, "%24aws/things/lab_1/nothing")[0] == 403
    assert _post(cloud, device, "a", query="?qos=2")[0] == 400
    assert _post(cloud, device, "1/2/3/4/5/6/7/8/9")[0] == 400
    assert _post(cloud, device, "a", bytes(131072))[0] == 200
    assert _post(cloud, device, "a", bytes(131073))[0] == 413
    nobody = Operator(cloud.state)
    nobody.cert = None
    assert _post(cloud, nobody, "a")[0] == 403


def test_https_knows_a_certificate_at_once_and_its_status(cloud):
    fresh = Device(cloud.state, "lab_fresh")
    assert _post(cloud, fresh, "a")[0] == 200
    cloud.control.certificate("lab_fresh", "INACTIVE")
    assert _post(cloud, fresh, "a")[0] == 403


def test_the_status_page_needs_no_certificate(cloud, device):
    made = ssl.create_default_context(cafile=device.ca)
    url = f"https://localhost:{cloud.http}/"
    with urllib.request.urlopen(url, context=made, timeout=5) as answer:
        assert json.load(answer)["endpoint"] == "localhost"


# -- the process --


def _run(*arguments, **options):
    command = [sys.executable, "-m", "tools.cloud", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, **options)


def test_cloud_json_names_everything(cloud):
    info = json.loads((cloud.state / "cloud.json").read_text())
    assert set(info) == {"host", "endpoint", "mqtt", "http", "sntp", "control", "pid"}
    assert (info["host"], info["endpoint"], info["control"]) == (
        "localhost",
        "localhost",
        "control.sock",
    )
    os.kill(info["pid"], 0)


def test_a_taken_port_is_one_clear_line(cloud, tmp_path):
    for options in (
        ("--port", cloud.mqtt, "--http-port", 0),
        ("--port", 0, "--http-port", cloud.http),
    ):
        done = _run("--state", tmp_path, *options)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "taken" in line
        assert str(options[1] or options[3]) in line


def test_one_cloud_for_one_folder(cloud):
    done = _run("--state", cloud.state, "--port", 0, "--http-port", 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert "already runs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    cloud.control.clients()  # and the first one goes on


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_the_registry_stays(tmp_path, number):
    running = CloudProcess(tmp_path)
    running.start()
    device = Device(tmp_path, "lab_1")
    root = (tmp_path / "ca.pem").read_bytes()
    with connected(running, device) as raw:
        process = running._process
        process.send_signal(number)
        assert raw.closed() == []
        assert process.wait(5) == 0
        assert process.stdout.read() == b""  # `ready` was all
    assert "Traceback" not in running.log()
    assert not (tmp_path / "control.sock").exists()
    ports = (running.mqtt, running.http, running.sntp)
    running.restart()
    try:
        assert (running.mqtt, running.http, running.sntp) == ports
        assert (tmp_path / "ca.pem").read_bytes() == root
        connected(running, device).socket.close()
    finally:
        running.stop()


def test_an_ec_chain(tmp_path):
    with CloudProcess(tmp_path, "--ec") as running:
        device = Device(tmp_path, "lab_1")
        made = context(device, ssl.TLSVersion.TLSv1_2)
        with Raw(running.mqtt, device, ctx=made) as raw:
            raw.connect("lab_1")
            assert raw.socket.cipher()[0].startswith("ECDHE-ECDSA-")


def test_a_long_folder_name(tmp_path):
    state = tmp_path / ("long" * 30)
    with CloudProcess(state) as running:
        where = Path(json.loads((state / "cloud.json").read_text())["control"])
        assert where.is_absolute()
        assert running.control.clients() == []
    assert not where.parent.exists()


def test_the_command_line_speaks_to_the_control_socket(cloud, device):
    state = ("--state", cloud.state)
    with connected(cloud, device) as raw:
        raw.subscribe("cli")
        done = _run("ctl", *state, '{"get":"clients"}')
        assert json.loads(done.stdout)["clients"][0]["client"] == "lab_1"
        assert json.loads(_run("publish", *state, "cli", "hello").stdout)["taken"] == 1
        assert raw.read().payload == b"hello"
        _run("deliver", *state, "lab_1", "x", "hi")
        assert raw.read() == p.Publish("x", b"hi")
        done = _run("fault", "set", *state, "silent", "--at", "live", "--client", "lab_1")
        number = json.loads(done.stdout)["fault"]
        assert cloud.control.faults()[0]["id"] == number
        assert json.loads(_run("fault", "clear", *state, number).stdout)["cleared"] == 1
        raw.ping()
        _run("kick", *state, "lab_1")
        assert raw.closed() == []
    _run("certificate", *state, "lab_1", "INACTIVE")
    assert cloud.control.get("certificates")[-1]["status"] in ("ACTIVE", "INACTIVE")
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"))
        assert raw.closed() == []
    _run("certificate", *state, "lab_1", "ACTIVE")
    done = _run("ctl", *state, "nonsense")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_no_cloud_there(tmp_path):
    with pytest.raises(ControlError, match="no cloud has run"):
        Control(tmp_path)
    done = _run("show", "--state", tmp_path, "clients")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_nothing_secret_is_logged(cloud, device):
    with Raw(cloud.mqtt, device) as raw:
        raw.connect("lab_1", username="user", password=b"a-password")
        raw.publish("a", b"a-payload", qos=1)
        raw.read()
    log = cloud.log()
    assert "a-password" not in log
    assert "a-payload" not in log
    assert "PRIVATE KEY" not in log


def test_two_hundred_connections_leave_nothing_behind(cloud, device):
    before = len(os.listdir(f"/proc/{cloud.info['pid']}/fd"))
    for _ in range(200):
        connected(cloud, device).socket.close()
    cloud.control.wait_client("lab_1", False)
    deadline = time.monotonic() + 3
    while len(os.listdir(f"/proc/{cloud.info['pid']}/fd")) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cloud.control.get("sessions") == []
    assert socket.has_ipv6
