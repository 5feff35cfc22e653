"""The small parts of the local cloud: rules, faults, settings, quotas, SNTP, registry, sockets."""

import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tools.cloud import identity, listening, log, pki, quotas, rules, sntp
from tools.cloud.faults import FaultTable
from tools.cloud.registry import Registry, RegistryError
from tools.cloud.session import Session
from tools.cloud.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cloud")
    identity.prepare(folder)
    return folder


# -- the table of rules --


def _sources():
    names = (ROOT / "tools" / "cloud").glob("*.py")
    return "\n".join(path.read_text() for path in names if path.name != "rules.py")


def test_every_rule_is_named_where_it_is_enforced():
    source = _sources()
    missing = [name for name in rules.RULES if not re.search(rf"[\"` ]{name}[\"`,;:.) ]", source)]
    assert missing == []


def test_every_rule_has_a_known_tag_and_a_section():
    for rule in rules.RULES.values():
        assert rule.tag in rules.TAGS
        assert rule.section.startswith(("AWS IoT: ", "MQTT 3.1.1 section ", "local cloud"))
        assert rule.text.endswith(".")


def test_the_manual_holds_the_table():
    manual = (ROOT / "docs" / "local-cloud.md").read_text()
    assert rules.as_markdown() in manual


def test_the_table_is_printed():
    for words in (["rules"], ["--rules"]):
        command = [sys.executable, "-m", "tools.cloud", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout == rules.as_markdown()


# -- faults --


class _Who:
    def __init__(self, client_id, things=(), operator=False):
        self.client_id = client_id
        self.principal = type("P", (), {"things": things, "operator": operator})


def test_a_fault_acts_on_whom_it_names_only():
    table = FaultTable()
    table.set({"kind": "delay", "ms": 5, "client": "a"})
    assert table.take("delay", _Who("a"), packet="PUBACK")
    assert table.take("delay", _Who("other id", things=("a",)), packet="PUBACK")
    assert not table.take("delay", _Who("b"), packet="PUBACK")


def test_operators_are_exempt_unless_named():
    table = FaultTable()
    table.set({"kind": "silent", "at": "tls"})
    assert not table.take("silent", _Who("op", operator=True), at="tls")
    assert table.take("silent", _Who("dev"), at="tls")
    assert not table.take("silent", _Who("dev"), at="connect")
    table.set({"kind": "silent", "at": "tls", "client": "op"})
    assert table.take("silent", _Who("op", operator=True), at="tls")


def test_count_and_every():
    table = FaultTable()
    table.set({"kind": "drop", "packet": "PUBACK", "every": 3, "count": 2})
    hits = [
        bool(table.take("drop", _Who("a"), packet="PUBACK", direction="out")) for _ in range(12)
    ]
    assert [at for at, hit in enumerate(hits, 1) if hit] == [3, 6]
    assert table.as_list()[0]["hits"] == 2
    assert not table.take("drop", _Who("a"), packet="SUBACK", direction="out")


def test_close_acts_once_by_default():
    table = FaultTable()
    table.set({"kind": "close", "packet": "PUBLISH"})
    assert table.take("close", _Who("a"), packet="PUBLISH")
    assert not table.take("close", _Who("a"), packet="PUBLISH")


def test_clear_by_number_kind_and_all():
    table = FaultTable()
    first = table.set({"kind": "duplicate"})
    table.set({"kind": "suback", "filter": "a"})
    table.set({"kind": "suback"})
    assert [f.id for f in table.clear(first.id)] == [first.id]
    assert len(table.clear("suback")) == 2
    assert table.clear("all") == []
    assert not table
    with pytest.raises(ValueError, match="no fault"):
        table.clear(first.id)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "nonsense"},
        {"kind": "refuse"},
        {"kind": "refuse", "at": "live"},
        {"kind": "silent", "at": "tcp", "client": "x"},
        {"kind": "drop"},
        {"kind": "drop", "packet": "PUBSUCK"},
        {"kind": "drop", "packet": "PUBACK", "direction": "up"},
        {"kind": "delay", "ms": -1},
        {"kind": "delay", "ms": "5"},
        {"kind": "delay", "ms": 5, "count": 0},
        {"kind": "delay", "ms": 5, "count": True},
        {"kind": "refuse", "at": "connect", "code": 256},
        {"kind": "duplicate", "ms": 5},
        {"kind": "server-certificate", "which": "best"},
        {"kind": "server-certificate", "which": "expired", "client": "x"},
    ],
)
def test_faults_that_make_no_sense_are_refused(values):
    table = FaultTable()
    with pytest.raises(ValueError):
        table.set(values)
    assert not table


# -- settings, quotas, log --


def test_settings_change_all_or_nothing():
    settings = Settings()
    settings.change({"enforce_quotas": True, "session_expiry": 5})
    assert settings.as_dict()["session_expiry"] == 5
    for bad in ({"nonsense": 1}, {"enforce_quotas": 1}, {"deadline": -1}, {"redelivery": "x"}):
        with pytest.raises(ValueError):
            settings.change({"replay_per_second": 77, **bad})
    assert settings.replay_per_second == 10


def test_a_window_counts_one_second():
    window = quotas.Window(3)
    assert [window.add(1, now=10.5) for _ in range(4)] == [True, True, True, False]
    assert window.add(1, now=11.0)
    assert window.exceeded == 1


def test_the_meter_names_the_rule():
    meter = quotas.Meter()
    assert meter.publish(512 * 1024, outgoing=False) is None
    assert meter.publish(512 * 1024, outgoing=True) is None
    assert meter.publish(1, outgoing=False) == "throughput"
    for _ in range(97):
        meter.publish(0, outgoing=True)
    assert meter.publish(0, outgoing=True) == "publish-rate"


def test_nothing_from_outside_starts_a_log_line():
    record = log.logging.LogRecord("cloud", 20, "f", 1, "closed: %s", ("a\nfake: \x1b[31m",), None)
    assert log.OneLine("%(message)s").format(record) == "closed: a\\nfake: \\x1b[31m"


# -- sessions --


class _Wire:
    """Stands for a connection: takes everything."""

    def __init__(self):
        self.sent = []

    def may_receive(self, _topic):
        return True

    def send_delivery(self, delivery, dup=False):
        self.sent.append((delivery.packet_id, dup))
        return True


def test_packet_ids_wrap_and_spare_those_in_use():
    session = Session("c", False, Settings())
    session.attach(_Wire())
    session.offer("t", b"", 1)
    session.offer("t", b"", 1)
    session.detach()  # 1 and 2 wait in the backlog
    wire = _Wire()
    session.attach(wire)
    session._next_id = 65534
    for _ in range(3):
        session.offer("t", b"", 1)
    assert wire.sent == [(65535, False), (3, False), (4, False)]


def test_redelivery_stores_what_a_broken_connection_leaves():
    session = Session("c", False, Settings())

    class Breaks(_Wire):
        def send_delivery(self, delivery, dup=False):
            if dup:
                session.detach()
            return super().send_delivery(delivery, dup)

    session.attach(Breaks())
    for _ in range(3):
        session.offer("t", b"", 1)
    session.redeliver()
    assert [delivery.packet_id for delivery in session.backlog] == [1, 2, 3]


# -- SNTP --

_FORM = struct.Struct("!BBbbII4s8s8s8s8s")


def _request(version=4, mode=3):
    return bytes([version << 3 | mode]) + bytes(39) + b"ORIGINAL"


def test_sntp_answer_fields():
    now = 1_700_000_000.25
    fields = _FORM.unpack(sntp.answer(_request(), now))
    assert fields[0] == 0 << 6 | 4 << 3 | 4
    assert fields[1] == 2
    assert fields[8] == b"ORIGINAL"
    assert struct.unpack("!II", fields[10]) == (1_700_000_000 + 2_208_988_800, 1 << 30)


def test_sntp_era_of_2036_wraps():
    assert sntp.timestamp(2**32 - 2_208_988_800 + 5)[:4] == struct.pack("!I", 5)


@pytest.mark.parametrize("data", [b"", bytes(47), _request(mode=4), _request(mode=1)])
def test_sntp_ignores_what_is_no_request(data):
    assert sntp.answer(data, 0.0) is None


def test_sntp_faults():
    assert sntp.answer(_request(), 0.0, "silent") is None
    kiss = sntp.answer(_request(3), 0.0, "kiss-of-death")
    assert (kiss[0], kiss[1], kiss[12:16]) == (3 << 6 | 3 << 3 | 4, 0, b"DENY")
    assert sntp.answer(_request(), 0.0, "unsynchronised")[0] >> 6 == 3
    assert sntp.answer(_request(), 0.0, "bad-stratum")[1] == 16
    assert sntp.answer(_request(), 0.0, "wrong-origin")[24:32] == bytes(8)


# -- registry and identities --


def test_a_birth_identity_is_registered_with_thing_and_policy(state):
    born = identity.issue_birth(state, "lab_birth")
    certificate = x509.load_pem_x509_certificate(born.cert_pem)
    assert certificate.subject.rfc4514_string() == "CN=lab_birth"
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_after_utc.year == 2049
    with Registry(state) as registry:
        found = registry.principal(born.certificate_id)
        assert (found.status, found.things, found.policies) == (
            "ACTIVE",
            ("lab_birth",),
            ("default",),
        )
        assert registry.find_certificate("lab_birth") == born.certificate_id
        assert registry.find_certificate(born.certificate_id[:12]) == born.certificate_id
    assert "PRIVATE" not in repr(born)


def test_a_bad_thing_name_changes_nothing(state):
    pem = identity.issue_birth(state, "lab_before").cert_pem
    with Registry(state) as registry:
        registry.delete_certificate(pki.certificate_id(x509.load_pem_x509_certificate(pem)))
        before = registry.certificates()
    for thing in ("", "a b", "a" * 129, "a/b", "ä"):
        with pytest.raises(RegistryError):
            identity.register_certificate(state, pem, thing)
    with pytest.raises(RegistryError):
        identity.register_certificate(state, pem, "fine", policy="absent")
    with pytest.raises(RegistryError):
        identity.register_certificate(state, b"no certificate")
    with Registry(state) as registry:
        assert registry.certificates() == before
        assert "fine" not in registry.things()


def test_changes_by_another_process_are_seen(state):
    with Registry(state) as one, Registry(state) as other:
        assert not one.changed()
        other.add_thing("lab_seen")
        assert one.changed()
        assert not one.changed()
        one.add_thing("lab_own")
        assert one.changed()


def test_processes_that_prepare_at_once_agree(tmp_path):
    code = (
        "import sys; from tools.cloud.identity import issue_birth;"
        "print(issue_birth(sys.argv[1], sys.argv[2]).certificate_id)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), f"lab_{n}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    ids = {process.communicate(timeout=30)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    with Registry(tmp_path) as registry:
        known = {entry["id"]: entry["policies"] for entry in registry.certificates()}
    assert ids <= set(known)
    attached = [name for names in known.values() for name in names]
    assert sorted(attached) == ["claim"] + 3 * ["default"] + ["operator"]


def test_private_keys_are_private(state):
    identity.issue_birth(state, "lab_mode")
    keys = [*state.glob("*.key"), *(state / "private").glob("*.key")]
    assert len(keys) >= 5
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert (state / "private").stat().st_mode & 0o777 == 0o700
    assert "BEGIN CERTIFICATE" in (state / "ca.pem").read_text()
    assert (state / "ca.pem").read_text().count("BEGIN") == 1


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_the_servers_chain_ends_at_the_root(state, kind):
    chain, _ = pki.Store(state).server_files("valid", kind)
    leaf, middle = x509.load_pem_x509_certificates(chain.read_bytes())
    root = x509.load_pem_x509_certificate((state / "ca.pem").read_bytes())
    leaf.verify_directly_issued_by(middle)
    middle.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    shown = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert shown == ["127.0.0.1", "::1"]


# -- sockets --


def test_both_loopbacks_share_a_port():
    port, sockets = listening.loopback(0)
    try:
        assert {sock.getsockname()[1] for sock in sockets} == {port}
        families = [sock.family for sock in sockets]
        assert families in ([socket.AF_INET, socket.AF_INET6], [socket.AF_INET])
        with pytest.raises(listening.PortTaken, match=str(port)):
            listening.loopback(port)
    finally:
        for sock in sockets:
            sock.close()


def test_a_machine_without_ipv6_gets_one_socket(monkeypatch):
    real = listening._bind

    def bind(family, *rest):
        if family == socket.AF_INET6:
            raise OSError(
                listening.errno.EADDRNOTAVAIL, os.strerror(listening.errno.EADDRNOTAVAIL)
            )
        return real(family, *rest)

    monkeypatch.setattr(listening, "_bind", bind)
    _, sockets = listening.loopback(0)
    assert [sock.family for sock in sockets] == [socket.AF_INET]
    sockets[0].close()
