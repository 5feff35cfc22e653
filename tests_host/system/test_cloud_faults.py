"""Every fault switch, seen from a client; the exemptions; the faults of the time server."""

import socket
import ssl
import struct
import time

import pytest

from tests_host.system.cloud_client import Device, Operator, Raw, connected, context
from tools.cloud import packets as p
from tools.cloud.process import CloudProcess


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with CloudProcess(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="module")
def device(cloud):
    return Device(cloud.state, "lab_1")


@pytest.fixture(scope="module")
def other(cloud):
    return Device(cloud.state, "lab_2")


@pytest.fixture(scope="module")
def operator(cloud):
    return Operator(cloud.state)


@pytest.fixture(autouse=True)
def _clear(cloud):
    yield
    cloud.control.clear()


def works(cloud, who):
    """Whether a client gets in and is answered."""
    with connected(cloud, who) as raw:
        raw.ping()


# -- on the way in --


def test_refused_at_tcp(cloud, device, operator):
    cloud.control.fault("refuse", at="tcp")
    for who in (device, operator):  # nobody is known yet, so nobody is exempt
        with pytest.raises(OSError):
            Raw(cloud.mqtt, who)
    assert cloud.control.closings()[-1]["rule"] == "fault"
    cloud.control.clear()
    works(cloud, device)


def test_silent_at_tcp_and_the_end_of_the_fault(cloud, device):
    cloud.control.fault("silent", at="tcp", count=1)
    with socket.create_connection(("127.0.0.1", cloud.mqtt)) as sock:
        sock.settimeout(0.3)
        sock.sendall(b"\x16\x03\x01\x00\x05hello")
        with pytest.raises(TimeoutError):
            sock.recv(1)
        works(cloud, device)  # count=1: the second one is served
        cloud.control.clear("silent")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_silent_after_tls(cloud, device, other, operator):
    cloud.control.fault("silent", at="tls", client="lab_1")
    with Raw(cloud.mqtt, device) as raw:  # the certificate's thing, no client id is known yet
        raw.send(p.Connect("lab_1"))
        assert raw.silent()
        works(cloud, other)
        works(cloud, operator)
        cloud.control.clear()
        assert raw.closed() == []
    works(cloud, device)


def test_silent_after_connect(cloud, device):
    cloud.control.fault("silent", at="connect", client="lab_1", count=1)
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"))
        assert raw.silent()
        assert cloud.control.clients() == []
    works(cloud, device)


@pytest.mark.parametrize("code", [2, 3, 5])
def test_refused_at_connect(cloud, device, operator, code):
    number = cloud.control.fault("refuse", at="connect", code=code)
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"))
        assert raw.closed() == [p.Connack(code)]
    works(cloud, operator)
    (fault,) = cloud.control.faults()
    assert (fault["id"], fault["hits"]) == (number, 1)
    assert cloud.control.clear(number) == 1
    works(cloud, device)


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("expired", "expired"),
        ("wrong-ca", "unable to get|self-signed"),
        ("wrong-name", "mismatch"),
    ],
)
def test_bad_server_certificates(cloud, device, which, told):
    cloud.control.fault("server-certificate", which=which)
    with pytest.raises(ssl.SSLCertVerificationError, match=f"(?i){told}"):
        Raw(cloud.mqtt, device)
    cloud.control.clear()
    works(cloud, device)


def test_a_bad_server_certificate_for_one_handshake(cloud, device):
    cloud.control.fault("server-certificate", which="expired", count=1)
    with pytest.raises(ssl.SSLCertVerificationError):
        Raw(cloud.mqtt, device)
    works(cloud, device)


# -- while connected --


def test_silent_while_connected(cloud, device, other):
    cloud.control.set(keepalive_scale=0.01)
    try:
        with connected(cloud, device, keep_alive=30) as raw, connected(cloud, other) as second:
            raw.subscribe("a")
            cloud.control.fault("silent", at="live", client="lab_1")
            raw.send(p.Bare(p.PINGREQ), p.Publish("b", b"x", 1, packet_id=9))
            cloud.control.publish("a", b"lost", qos=0)
            cloud.control.publish("a", b"in flight", qos=1)
            assert raw.silent(0.6)  # longer than the keep-alive allows, and still open
            second.ping()
            (entry,) = [c for c in cloud.control.clients() if c["client"] == "lab_1"]
            assert entry["muted"]
            cloud.control.clear()
            raw.ping()
            cloud.control.publish("a", b"heard")
            assert raw.read().payload == b"heard"
            assert cloud.control.redeliver("lab_1") == 1
            assert raw.read().payload == b"in flight"
    finally:
        cloud.control.set(keepalive_scale=1)


def test_silent_live_waits_for_a_client_that_is_not_there_yet(cloud, device):
    cloud.control.fault("silent", at="live", client="lab_1", count=1)
    with connected(cloud, device) as raw:
        raw.send(p.Bare(p.PINGREQ))
        assert raw.silent()
    works(cloud, device)


def test_delay_by_packet_type(cloud, device):
    cloud.control.fault("delay", packet="PUBACK", ms=300, client="lab_1")
    with connected(cloud, device) as raw:
        start = time.monotonic()
        raw.publish("a", qos=1)
        raw.ping()  # other packets are not held up
        assert time.monotonic() - start < 0.25
        assert isinstance(raw.read(), p.Ack)
        assert time.monotonic() - start >= 0.3


def test_drop_what_goes_out(cloud, device):
    cloud.control.fault("drop", packet="PUBACK", every=2)
    with connected(cloud, device) as raw:
        for _ in range(4):
            raw.publish("a", qos=1)
        raw.send(p.Bare(p.PINGREQ))
        got = raw.packets(3)
        assert [getattr(packet, "packet_id", None) for packet in got] == [1, 3, None]


def test_drop_what_comes_in(cloud, device, other):
    cloud.control.fault("drop", packet="PUBLISH", direction="in", client="lab_1")
    with connected(cloud, device) as raw, connected(cloud, other) as second:
        second.subscribe("a")
        raw.publish("a", b"lost", qos=1)
        raw.ping()
        second.publish("a", b"there")
        assert second.read().payload == b"there"


def test_drop_pingresp(cloud, device):
    cloud.control.fault("drop", packet="PINGRESP", count=1)
    with connected(cloud, device) as raw:
        raw.send(p.Bare(p.PINGREQ))
        assert raw.silent(0.2)
        raw.ping()


def test_duplicate(cloud, device):
    cloud.control.fault("duplicate", client="lab_1", count=1)
    with connected(cloud, device) as raw:
        raw.subscribe("a")
        cloud.control.publish("a", b"twice", qos=1)
        cloud.control.publish("a", b"once", qos=1)
        first, second, third = raw.packets(3)
        assert first == second
        assert third.payload == b"once"


@pytest.mark.parametrize("packet", ["PUBLISH", "SUBACK", "CONNACK", "PUBACK"])
def test_close_in_the_middle_of_a_packet(cloud, device, packet):
    cloud.control.fault("close", packet=packet, client="lab_1")
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"))
        if packet != "CONNACK":
            assert raw.read() == p.Connack(0)
            raw.send(p.Subscribe(1, (("a", 0),)))
        if packet in ("PUBLISH", "PUBACK"):
            raw.read()
            raw.publish("a" if packet == "PUBLISH" else "b", bytes(500), qos=1)
        assert raw.closed() == []
        assert raw._framer.pending > 0
    assert cloud.control.closings("lab_1")[-1]["rule"] == "fault"
    works(cloud, device)  # it acts once


def test_dribble(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe("a")
        cloud.control.fault("dribble", packet="PUBLISH", size=3, ms=10, count=1)
        start = time.monotonic()
        cloud.control.publish("a", b"drop by drop")
        cloud.control.publish("a", b"after it")
        assert [packet.payload for packet in raw.packets(2)] == [b"drop by drop", b"after it"]
        assert time.monotonic() - start >= 0.05  # 17 bytes in pieces of 3


@pytest.mark.parametrize("reset", [False, True])
def test_kick(cloud, device, operator, reset):
    with connected(cloud, device) as raw, connected(cloud, operator, "op") as op:
        op.subscribe("$aws/events/presence/disconnected/+")
        cloud.control.kick("lab_1", reset=reset)
        assert raw.closed() == []
        assert b'"disconnectReason": "SERVER_INITIATED_DISCONNECT"' in op.read().payload


def test_suback_refuses_a_filter(cloud, device):
    cloud.control.fault("suback", filter="b")
    with connected(cloud, device) as raw:
        assert raw.subscribe("a", "b", "c") == (1, 0x80, 1)
        cloud.control.publish("b", b"x")
        cloud.control.publish("c", b"x")
        assert raw.read().topic == "c"


def test_inject_raw_bytes(cloud, device):
    with connected(cloud, device) as raw:
        cloud.control.inject("lab_1", p.encode(p.Ack(p.PUBACK, 4711)) + b"\x30")
        assert raw.read() == p.Ack(p.PUBACK, 4711)
        assert raw.silent(0.1)


def test_deliver_more_than_a_client_could_send(cloud, device):
    with connected(cloud, device) as raw:
        body = {"client": "lab_1", "topic": "big", "size": 300_000}
        cloud.control.request({"deliver": body})
        assert len(raw.read().payload) == 300_000


def test_operators_are_exempt_unless_named(cloud, operator):
    cloud.control.fault("drop", packet="PINGRESP")
    with connected(cloud, operator, "op") as raw:
        raw.ping()
        cloud.control.fault("drop", packet="PINGRESP", client="op")
        raw.send(p.Bare(p.PINGREQ))
        assert raw.silent(0.2)


def test_a_client_that_does_not_read_loses_qos_0_only(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe(("flood", 1))
        for _ in range(120):
            cloud.control.request({"publish": {"topic": "flood", "size": 130_000}})
        cloud.control.publish("flood", b"last", qos=1)
        raw.send(p.Bare(p.PINGREQ))
        got = 0
        while isinstance(packet := raw.read(), p.Publish) and packet.payload != b"last":
            got += 1
        assert packet.payload == b"last"
        assert 8 <= got < 120
    assert "rule slow-reader" in cloud.log()


# -- the time server --


def _ask(cloud, address="127.0.0.1", timeout=2.0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.sendto(bytes([4 << 3 | 3]) + bytes(39) + b"originat", (address, cloud.sntp))
        return sock.recv(100)


def _seconds(reply):
    whole, part = struct.unpack("!II", reply[40:48])
    return whole - 2_208_988_800 + part / 2**32


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_sntp(cloud, address):
    reply = _ask(cloud, address)
    assert (len(reply), reply[0], reply[1], reply[24:32]) == (48, 0x24, 2, b"originat")
    assert abs(_seconds(reply) - time.time()) < 1


def test_sntp_faults(cloud):
    before = cloud.control.counters()["sntp"]
    cloud.control.sntp(offset=-86400)
    assert abs(_seconds(_ask(cloud)) - (time.time() - 86400)) < 1
    cloud.control.sntp(mode="kiss-of-death", offset=0)
    assert _ask(cloud)[1] == 0
    cloud.control.sntp(mode="silent")
    with pytest.raises(TimeoutError):
        _ask(cloud, timeout=0.2)
    cloud.control.sntp(mode="normal")
    assert _ask(cloud)[1] == 2
    assert cloud.control.counters()["sntp"] == before + 4


# -- HTTPS shows the same certificate --


def test_https_follows_the_server_certificate_fault(cloud, device):
    cloud.control.fault("server-certificate", which="expired", count=1)
    plain = socket.create_connection(("127.0.0.1", cloud.http), timeout=5)
    with plain, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        context(device).wrap_socket(plain, server_hostname="localhost")
