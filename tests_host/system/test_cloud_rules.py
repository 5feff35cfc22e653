"""Every rule that closes, refuses or holds back, seen from a socket."""

import json
import socket
import ssl
import time

import pytest

from tests_host.system.cloud_client import Device, Operator, Raw, connected, context
from tools.cloud import identity, pki, policy
from tools.cloud import packets as p
from tools.cloud.control import ControlError
from tools.cloud.process import CloudProcess
from tools.cloud.registry import Registry


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with CloudProcess(tmp_path_factory.mktemp("rules")) as running:
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
def _defaults(cloud):
    yield
    cloud.control.clear()
    cloud.control.set(
        enforce_quotas=False,
        replay_per_second=10,
        session_expiry=3600,
        keepalive_scale=1,
        redelivery="dup",
        subscribe_gap=0,
        deadline=30,
    )


def last_rule(cloud, client=None):
    """The rule of the newest end, from the control socket."""
    return cloud.control.closings(client)[-1]["rule"]


# -- before MQTT --


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_tls_versions_on_both_addresses(cloud, device, version, address):
    with Raw(cloud.mqtt, device, version=version, address=address) as raw:
        raw.connect("lab_1")
        raw.ping()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(cloud, device):
    made = context(device)
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        Raw(cloud.mqtt, device, ctx=made)


def test_no_session_ticket(cloud, device):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with Raw(cloud.mqtt, device, version=version) as raw:
            raw.connect("lab_1")
            assert raw.socket.session is None or not raw.socket.session.has_ticket


@pytest.mark.parametrize("name", [None, "elsewhere.invalid", "127.0.0.1"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sni_must_be_the_endpoint(cloud, device, name, version):
    made = context(device, version)
    made.check_hostname = False
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        Raw(cloud.mqtt, device, name=name, ctx=made)
    assert last_rule(cloud) == "sni"


def test_sni_knows_no_case(cloud, device):
    with Raw(cloud.mqtt, device, name="LocalHost") as raw:
        raw.connect("lab_1")


def _handshake_fails(cloud, made):
    """TLS 1.3 tells a client of its bad certificate after its own side is done."""
    with pytest.raises((ssl.SSLError, EOFError)) as caught:
        with Raw(cloud.mqtt, None, ctx=made) as raw:
            raw.send(p.Connect("lab_1"))
            raw.read()
    return str(caught.value).lower()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_client_certificate(cloud, device, version):
    made = ssl.create_default_context(cafile=device.ca)
    made.minimum_version = made.maximum_version = version
    assert "alert" in _handshake_fails(cloud, made)
    assert last_rule(cloud) == "certificate-required"


def _files(tmp_path, certificate, key):
    made = pki.Issuer(certificate, key)
    (tmp_path / "x.pem").write_bytes(made.cert_pem)
    (tmp_path / "x.key").write_bytes(made.key_pem)
    who = Operator(tmp_path, "x")
    return who, made.cert_pem


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_unregistered_certificate_of_the_device_ca(cloud, device, tmp_path, version):
    key = pki.make_key()
    signed = pki.sign_client(pki.Store(cloud.state).device_ca(), key.public_key(), "lab_1")
    who, _ = _files(tmp_path, signed, key)
    who.ca = device.ca
    assert "unknown ca" in _handshake_fails(cloud, context(who, version))
    assert last_rule(cloud) == "certificate-registered"


def test_a_registered_certificate_of_an_unknown_ca(cloud, device, tmp_path):
    key, stranger = pki.make_key("rsa"), pki.make_ca("Somebody", "ec")
    who, pem = _files(tmp_path, pki.sign_client(stranger, key.public_key(), "x"), key)
    who.ca = device.ca
    assert "unknown ca" in _handshake_fails(cloud, context(who))
    # The cloud that runs takes the change over at the very next handshake.
    ident = identity.register_certificate(cloud.state, pem, "lab_foreign")
    with Raw(cloud.mqtt, who) as raw:
        raw.connect("lab_foreign")
    with Registry(cloud.state) as registry:
        registry.delete_certificate(ident)
    assert "unknown ca" in _handshake_fails(cloud, context(who))


def test_what_a_registered_certificate_signed_is_not_registered(cloud, device, tmp_path):
    middle = pki.make_ca("Registered", "ec")
    identity.register_certificate(cloud.state, middle.cert_pem, "lab_middle")
    key = pki.make_key()
    who, _ = _files(tmp_path, pki.sign_client(middle, key.public_key(), "x"), key)
    who.ca = device.ca
    with Raw(cloud.mqtt, who) as raw:
        raw.send(p.Connect("lab_middle"))
        assert raw.closed() == []
    assert last_rule(cloud) == "certificate-registered"


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED", "PENDING_ACTIVATION"])
def test_a_certificate_that_is_not_active(cloud, status):
    who = Device(cloud.state, "lab_" + status)
    with connected(cloud, who) as raw:
        cloud.control.certificate(who.thing, status)
        assert raw.closed() == []
        assert last_rule(cloud, who.thing) == "certificate-active"
    with Raw(cloud.mqtt, who) as raw:
        raw.send(p.Connect(who.thing))
        assert raw.closed() == []
        assert last_rule(cloud, who.thing) == "certificate-active"
    cloud.control.certificate(who.certificate_id, "ACTIVE")
    connected(cloud, who).socket.close()


def test_a_client_that_stops_in_the_handshake_is_dropped(cloud):
    cloud.control.set(deadline=0.2)
    with socket.create_connection(("127.0.0.1", cloud.mqtt), timeout=5) as sock:
        assert sock.recv(100) == b""
    assert last_rule(cloud) == "handshake-deadline"


def test_a_client_that_never_sends_connect_is_dropped(cloud, device):
    cloud.control.set(deadline=0.2)
    with Raw(cloud.mqtt, device) as raw:
        assert raw.closed() == []
    assert last_rule(cloud) == "handshake-deadline"


def test_bytes_that_are_no_tls(cloud):
    with socket.create_connection(("127.0.0.1", cloud.mqtt), timeout=5) as sock:
        sock.sendall(p.encode(p.Connect("lab_1")))
        got = sock.recv(100)
    assert p.encode(p.Connack(0)) not in got


# -- CONNECT --


@pytest.mark.parametrize(
    "first",
    [
        p.Publish("a", b"x"),
        p.Publish("a", b"x", 1, packet_id=1),
        p.Subscribe(1, (("a", 0),)),
        p.Bare(p.PINGREQ),
        p.Bare(p.DISCONNECT),
    ],
)
def test_connect_comes_first(cloud, device, first):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(first)
        assert raw.closed() == []
    assert last_rule(cloud) == "connect-first"


def test_a_second_connect_closes(cloud, device):
    with connected(cloud, device) as raw:
        raw.send(p.Connect("lab_1"))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "connect-once"


def test_data_before_connack_closes(cloud, device):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"), p.Publish("a", b"x", 1, packet_id=1))
        assert raw.closed() == [p.Connack(0)]
    assert last_rule(cloud, "lab_1") == "connack-first"


def test_data_before_a_late_connack_closes(cloud, device):
    cloud.control.fault("delay", packet="CONNACK", ms=300)
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_1"))
        time.sleep(0.05)
        raw.send(p.Bare(p.PINGREQ))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "connack-first"


@pytest.mark.parametrize(
    "packet", [p.Connect("lab_1", level=5), p.Connect("lab_1", protocol="MQIsdp", level=3)]
)
def test_other_versions_get_code_1(cloud, device, packet):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(packet)
        assert raw.closed() == [p.Connack(1)]
    assert last_rule(cloud) == "protocol-version"


@pytest.mark.parametrize("client_id", ["", "a" * 129, "é" * 65, "$dollar"])
@pytest.mark.parametrize("clean", [True, False])
def test_client_ids_that_are_refused(cloud, device, client_id, clean):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect(client_id, clean=clean))
        assert raw.closed() == [p.Connack(2)]
    assert last_rule(cloud) == "client-id"


def test_the_policy_allows_the_own_name_only(cloud, device):
    with Raw(cloud.mqtt, device) as raw:
        raw.send(p.Connect("lab_2"))
        assert raw.closed() == [p.Connack(7)]
    assert last_rule(cloud, "lab_2") == "connect-policy"


def test_a_certificate_without_its_thing_cannot_connect(cloud):
    who = Device(cloud.state, "lab_loose")
    with Registry(cloud.state) as registry:
        registry.detach_thing("lab_loose", who.certificate_id)
    with Raw(cloud.mqtt, who) as raw:
        raw.connect("lab_loose", code=7)


def test_an_operator_may_leave_its_client_id_out(cloud, operator):
    with Raw(cloud.mqtt, operator) as raw:
        raw.connect("")
        assert any(c["client"].startswith("operator-") for c in cloud.control.clients())


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 1200), (1, 30), (29, 30), (30, 30), (60, 60), (1200, 1200)]
)
def test_keep_alive_is_clamped(cloud, device, asked, given):
    with connected(cloud, device, keep_alive=asked):
        (entry,) = [c for c in cloud.control.clients() if c["client"] == "lab_1"]
        assert entry["keep_alive"] == given


def test_keep_alive_beyond_the_longest(cloud, device):
    with connected(cloud, device, keep_alive=65535):
        assert cloud.control.clients()[0]["keep_alive"] == 1200


def test_keep_alive_runs_out_after_one_and_a_half(cloud, device, operator):
    cloud.control.set(keepalive_scale=0.02)  # 30 s become 0.6 s, closed after 0.9 s
    with connected(cloud, device, keep_alive=30) as raw:
        for _ in range(3):
            time.sleep(0.4)
            raw.ping()
        silent = time.monotonic()
        assert raw.closed() == []
        assert 0.85 < time.monotonic() - silent < 1.15
    assert last_rule(cloud, "lab_1") == "keep-alive"


@pytest.mark.parametrize(
    "traffic",
    [
        lambda raw: (raw.publish("a", qos=1), raw.read()),
        lambda raw: raw.publish("a"),
        lambda raw: raw.subscribe("b"),
        lambda raw: raw.send(p.Ack(p.PUBACK, 77)),
    ],
)
def test_any_packet_resets_the_keep_alive(cloud, device, traffic):
    cloud.control.set(keepalive_scale=0.02)  # closed after 0.9 s
    with connected(cloud, device, keep_alive=30) as raw:
        for _ in range(2):
            time.sleep(0.5)
            traffic(raw)
        raw.ping()


# -- malformed packets --


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",
        b"\xf0\x00",
        b"\x20\x02\x00\x00",  # CONNACK from a client
        b"\x90\x03\x00\x01\x00",  # SUBACK from a client
        b"\x62\x02\x00\x01",  # PUBREL
        b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
        b"\x80\x06\x00\x01\x00\x01a\x00",  # SUBSCRIBE without flag 2
        b"\x82\x02\x00\x01",  # no filter
        b"\xc1\x00",  # PINGREQ with flags
        b"\x30\xff\xff\xff\xff\x7f",  # length of five bytes
        b"\x30\x03\x00\x05a",  # topic longer than the packet
        b"\x30\x04\x00\x02\xc3\x28",  # not UTF-8
        b"\x30\x02\x00\x00",  # empty topic
        b"\x30\x04\x00\x02a+",  # wildcard in a name
        p.encode(p.Subscribe(1, (("a#", 0),))),
        p.encode(p.Subscribe(1, (("a/#/b", 0),))),
    ],
)
def test_malformed_packets_close(cloud, device, data):
    with connected(cloud, device) as raw:
        raw.send(data)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "malformed"


# -- topics and sizes --


def test_a_payload_at_the_limit(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe(("big", 0))
        raw.publish("big", bytes(131072))
        assert len(raw.read().payload) == 131072


@pytest.mark.parametrize("size", [131073, 140000])
def test_a_payload_over_the_limit_closes(cloud, device, size):
    with connected(cloud, device) as raw:
        raw.publish("big", bytes(size))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "payload-size"


def test_a_length_over_the_limit_closes_before_the_bytes_come(cloud, device):
    with connected(cloud, device) as raw:
        raw.send(b"\x30\xff\xff\xff\x7f")  # 256 MiB announced
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "payload-size"


@pytest.mark.parametrize(
    ("topic", "rule"), [("a" * 257, "topic-length"), ("1/2/3/4/5/6/7/8/9", "topic-slashes")]
)
def test_topics_over_the_limits_close(cloud, device, topic, rule):
    with connected(cloud, device) as raw:
        raw.publish(topic)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == rule
    with connected(cloud, device) as raw:
        raw.send(p.Subscribe(1, ((topic, 0),)))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == rule


def test_topics_at_the_limits(cloud, device):
    with connected(cloud, device) as raw:
        for topic in ("a" * 256, "1/2/3/4/5/6/7/8"):
            assert raw.subscribe((topic, 0)) == (0,)
            raw.publish(topic)
            assert raw.read().topic == topic


# -- QoS 2 --


def test_qos_2_is_not_answered(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe(("a", 1))
        raw.send(p.Subscribe(9, (("b", 2),)))
        raw.send(p.Publish("a", b"x", 2, packet_id=10))
        raw.send(p.Subscribe(11, (("c", 0), ("d", 2))))
        assert raw.silent()
        raw.ping()
        (entry,) = [c for c in cloud.control.clients() if c["client"] == "lab_1"]
        assert entry["subscriptions"] == {"a": 1}


# -- policy on publish, subscribe, receive --


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("topic", ["$aws/things/lab_2/jobs/get", "$aws/certificates/create/json"])
def test_a_publish_that_is_not_allowed_closes(cloud, device, topic, qos):
    with connected(cloud, device) as raw:
        raw.publish(topic, qos=qos)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "publish-policy"


@pytest.mark.parametrize(
    "pattern",
    ["$aws/things/lab_2/jobs/notify", "$aws/things/+/jobs/notify", "$aws/events/presence/#"],
)
def test_a_subscribe_that_is_not_allowed_closes(cloud, device, pattern):
    with connected(cloud, device) as raw:
        raw.send(p.Subscribe(1, (("fine", 0), (pattern, 0))))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "subscribe-policy"


def test_a_narrow_policy_takes_effect_on_a_live_connection(cloud):
    who = Device(cloud.state, "lab_narrow")
    document = json.dumps(
        {
            "Statement": [
                {"Effect": "Allow", "Action": "iot:Connect", "Resource": "client/lab_narrow"},
                {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": "*"},
                {
                    "Effect": "Allow",
                    "Action": "iot:Publish",
                    "Resource": policy.ARN + "topic/out/*",
                },
                {"Effect": "Allow", "Action": "iot:Receive", "Resource": "topic/in/*"},
            ]
        }
    )
    with connected(cloud, who) as raw:
        raw.subscribe(("#", 1))
        raw.publish("before")
        assert raw.read().topic == "before"
        identity.give_policy(cloud.state, "lab_narrow", document)
        time.sleep(0.6)  # the cloud looks four times a second
        raw.publish("out/x")  # allowed, but not to be received
        cloud.control.publish("out/x", b"", qos=1)
        cloud.control.publish("in/y", b"1")
        assert raw.read().topic == "in/y"
        (entry,) = [c for c in cloud.control.clients() if c["client"] == "lab_narrow"]
        assert entry["inflight"] == 0
        raw.publish("out/x", retain=True)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_narrow") == "retain-policy"
    with connected(cloud, who) as raw:
        raw.publish("elsewhere")
        assert raw.closed() == []
    assert last_rule(cloud, "lab_narrow") == "publish-policy"


@pytest.mark.parametrize(
    "topic", ["$aws/things/lab_1/nothing", "$aws/things/lab_1/jobs/notify-next"]
)
def test_reserved_topics_that_do_not_exist_close(cloud, device, topic):
    with connected(cloud, device) as raw:
        raw.publish(topic)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "reserved-topic"
    with connected(cloud, device) as raw:
        raw.send(p.Subscribe(1, (("$aws/things/lab_1/nothing", 0),)))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "reserved-topic"


def test_own_reserved_topics_are_open(cloud, device):
    own = "$aws/things/lab_1/"
    with connected(cloud, device) as raw:
        assert raw.subscribe(own + "jobs/notify-next", own + "jobs/start-next/+") == (1, 1)
        assert raw.subscribe(own + "shadow/#") == (1,)
        raw.publish(own + "shadow/get", b"", qos=1)
        answers = raw.packets(2)
        assert {type(answer) for answer in answers} == {p.Publish, p.Ack}


def test_the_claim_certificate_provisions_and_nothing_else(cloud):
    claim = Operator(cloud.state, "claim")
    root = "$aws/certificates/create-from-csr/json"
    with connected(cloud, claim, "any-name") as raw:
        assert raw.subscribe(root + "/accepted", root + "/rejected") == (1, 1)
        raw.publish(root, b"{}", qos=1)
        assert raw.read() == p.Ack(p.PUBACK, 2)
        assert raw.read().topic == root + "/rejected"
        raw.publish("data")
        assert raw.closed() == []
    assert last_rule(cloud, "any-name") == "publish-policy"


def test_basic_ingest_reaches_no_subscriber(cloud, operator):
    with connected(cloud, operator, "op") as raw:
        raw.subscribe("#", "$aws/#")
        raw.publish("$aws/rules/r/1/2/3/4/5/6/7/8", qos=1)
        assert raw.read() == p.Ack(p.PUBACK, 2)
        assert raw.silent(0.1)


# -- retained --


def test_retain_on_a_reserved_topic_closes(cloud, device):
    with connected(cloud, device) as raw:
        raw.publish("$aws/things/lab_1/shadow/update", b"{}", retain=True)
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "retain-reserved"


def test_retained_messages_need_the_exact_filter(cloud, device, other):
    with connected(cloud, device) as raw:
        raw.publish("state/lamp", b"on", qos=1, retain=True)
        raw.read()
        raw.subscribe(("state/#", 1), ("state/+", 1))
        assert raw.silent(0.1)
        raw.subscribe(("state/lamp", 0))
        assert raw.read() == p.Publish("state/lamp", b"on", 0, retain=True)
    with connected(cloud, other) as raw:
        raw.subscribe("state/lamp")
        first = raw.read()
        assert (first.qos, first.retain, first.payload) == (1, True, b"on")
        raw.publish("state/lamp", b"off", retain=True)
        live = raw.read()
        assert (live.qos, live.retain, live.payload) == (0, False, b"off")
        raw.publish("state/lamp", b"", retain=True)
        raw.read()
        raw.subscribe("state/lamp")
        assert raw.silent(0.1)


# -- subscriptions --


def test_eight_filters_are_granted_and_nine_close(cloud, device):
    with connected(cloud, device) as raw:
        assert raw.subscribe(*[(f"t/{n}", 0) for n in range(8)]) == (0,) * 8
        raw.send(p.Subscribe(5, tuple((f"u/{n}", 0) for n in range(9))))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "filters-per-subscribe"
    with connected(cloud, device) as raw:
        raw.send(p.Unsubscribe(5, tuple(f"t/{n}" for n in range(9))))
        assert raw.closed() == []
    assert last_rule(cloud, "lab_1") == "filters-per-subscribe"


def test_fifty_subscriptions(cloud, device):
    with connected(cloud, device) as raw:
        for start in range(0, 48, 8):
            raw.subscribe(*[(f"t/{start + n}", 0) for n in range(8)])
        assert raw.subscribe(("t/48", 0), ("t/49", 0), ("t/50", 0)) == (0, 0, 0x80)
        assert raw.subscribe(("t/3", 1)) == (1,)  # one that is there may be changed
        raw.send(p.Unsubscribe(99, ("t/0",)))
        assert raw.read() == p.Ack(p.UNSUBACK, 99)
        assert raw.subscribe(("t/50", 0)) == (0,)


def test_hash_does_not_match_the_parent_and_dollar_is_not_wild(cloud, device, operator):
    with connected(cloud, device) as raw, connected(cloud, operator, "op") as op:
        raw.subscribe(("sensor/#", 0))
        op.subscribe(("#", 0))
        raw.publish("sensor")
        raw.publish("sensor/x")
        assert raw.read().topic == "sensor/x"
        raw.publish("$aws/things/lab_1/shadow/get", b"")
        raw.publish("end")
        assert [packet.topic for packet in op.packets(3)] == ["sensor", "sensor/x", "end"]


def test_one_copy_with_the_highest_qos(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe(("a/#", 0), ("a/b", 1), ("a/+", 0))
        raw.publish("a/b", qos=1)
        got = raw.packets(2)
        assert sorted(type(packet).__name__ for packet in got) == ["Ack", "Publish"]
        (message,) = [packet for packet in got if isinstance(packet, p.Publish)]
        assert message.qos == 1
        assert raw.silent(0.1)


def test_unsubscribe_stops_the_messages(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe(("a", 0))
        raw.send(p.Unsubscribe(7, ("a", "never/there")))
        assert raw.read() == p.Ack(p.UNSUBACK, 7)
        raw.publish("a")
        assert raw.silent(0.1)


def test_a_gap_after_suback(cloud, device):
    cloud.control.set(subscribe_gap=0.2)
    with connected(cloud, device) as raw:
        raw.subscribe(("a", 0))
        raw.publish("a", b"early")
        time.sleep(0.3)
        raw.publish("a", b"late")
        assert raw.read().payload == b"late"


# -- delivery to the requester --


def test_delivery_without_a_subscription(cloud, device, other):
    with connected(cloud, device) as raw, connected(cloud, other) as second:
        topic = "$aws/things/lab_1/jobs/get/accepted"
        assert cloud.control.deliver("lab_1", topic, b"{}")
        assert cloud.control.deliver("lab_1", topic, b"{}", qos=1)
        assert raw.read() == p.Publish(topic, b"{}")
        assert raw.read().qos == 1
        assert second.silent(0.1)
        # Its policy covers its own topics only.
        assert not cloud.control.deliver("lab_1", "$aws/things/lab_2/jobs/get/accepted", b"")
        assert not cloud.control.deliver("nobody", topic, b"{}")
        assert raw.silent(0.1)


# -- the window --


def test_a_hundred_unacknowledged_to_the_client(cloud, device):
    with connected(cloud, device) as raw:
        raw.subscribe("w")
        for n in range(150):
            cloud.control.publish("w", b"%d" % n, qos=1)
        first = raw.packets(100)
        assert [int(packet.payload) for packet in first] == list(range(100))
        assert raw.silent(0.2)
        for packet in first[:30]:
            raw.send(p.Ack(p.PUBACK, packet.packet_id))
        assert [int(packet.payload) for packet in raw.packets(30)] == list(range(100, 130))
        assert raw.silent(0.1)


def test_a_hundred_unacknowledged_from_the_client(cloud, device, operator):
    cloud.control.fault("delay", packet="PUBACK", ms=400, client="lab_1")
    with connected(cloud, device) as raw, connected(cloud, operator, "op") as op:
        op.subscribe(("w", 0))
        raw.send(*[p.Publish("w", b"%d" % n, 1, packet_id=n + 1) for n in range(130)])
        assert [int(packet.payload) for packet in op.packets(100)] == list(range(100))
        assert op.silent(0.15)
        assert [int(packet.payload) for packet in op.packets(30)] == list(range(100, 130))
        acks = [packet.packet_id for packet in raw.packets(130)]
        assert acks == list(range(1, 131))


@pytest.mark.parametrize(("mode", "same"), [("dup", True), ("fresh", False)])
def test_redelivery(cloud, device, mode, same):
    cloud.control.set(redelivery=mode)
    with connected(cloud, device) as raw:
        raw.subscribe("r")
        cloud.control.publish("r", b"once", qos=1)
        first = raw.read()
        assert cloud.control.redeliver("lab_1") == 1
        again = raw.read()
        assert again.payload == b"once"
        assert again.dup is same
        assert (again.packet_id == first.packet_id) is same
        raw.send(p.Ack(p.PUBACK, again.packet_id))
        raw.ping()
        assert cloud.control.redeliver("lab_1") == 0


# -- quotas --


def test_quotas_are_counted_and_not_enforced(cloud, device):
    with connected(cloud, device) as raw:
        raw.send(*[p.Publish("q", b"x") for _ in range(250)])
        raw.ping()
        (entry,) = [c for c in cloud.control.clients() if c["client"] == "lab_1"]
        assert entry["exceeded"]["publish-rate"] >= 50
        assert cloud.control.counters().get("exceeded connect-rate", 0) > 0


def test_enforced_publish_rate_discards(cloud, device):
    cloud.control.set(enforce_quotas=True)
    time.sleep(1.1)  # one CONNECT a second for a client id
    with connected(cloud, device) as raw:
        time.sleep(1.02 - time.monotonic() % 1)  # within one second of the counting
        raw.send(*[p.Publish("q", b"x", 1, packet_id=n) for n in range(1, 151)])
        raw.send(p.Bare(p.PINGREQ))
        acks = 0
        while isinstance(raw.read(), p.Ack):
            acks += 1
        assert acks == 100


def test_enforced_connect_rate_closes_without_connack(cloud, device):
    cloud.control.set(enforce_quotas=True)
    # Of three in a row at least two fall into one second.
    for _ in range(3):
        with Raw(cloud.mqtt, device) as raw:
            raw.send(p.Connect("lab_1"), p.Bare(p.DISCONNECT))
            raw.closed()
    assert "connect-rate" in [end["rule"] for end in cloud.control.closings("lab_1")[-3:]]


# -- the control socket itself --


def test_the_control_socket_answers_errors(cloud):
    for request in (
        {"get": "nonsense"},
        {"nonsense": 1},
        {"get": "clients", "clear": "all"},
        {"fault": {"kind": "nonsense"}},
        {"fault": "nonsense"},
        {"clear": 9999},
        {"kick": {"client": "nobody"}},
        {"kick": {}},
        {"publish": {"topic": "a", "qos": 2}},
        {"publish": {"topic": "a/#"}},
        {"inject": {"client": "nobody", "hex": "zz"}},
        {"certificate": {"id": "none", "status": "ACTIVE"}},
        {"set": {"nonsense": 1}},
        {"sntp": {"mode": "nonsense"}},
    ):
        with pytest.raises(ControlError):
            cloud.control.request(request)
    assert cloud.control.get("settings")["enforce_quotas"] is False


def test_the_control_socket_survives_garbage(cloud):
    path = str(cloud.state / "control.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b"nonsense\n[]\n{}\n")
        answers = [json.loads(line) for line in sock.makefile().readlines(1)]
        assert "error" in answers[0]
    assert (cloud.state / "control.sock").stat().st_mode & 0o777 == 0o600
