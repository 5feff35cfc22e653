"""The parts of the local cloud's fleet provisioning: requests for certificates, tokens, hooks,
what a registration does to the registry, faults at a service."""

import asyncio
import base64
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests_host.certificates import self_signed
from tools.cloud import csr, hook, registration
from tools.cloud.faults import FaultTable
from tools.cloud.ownership import Ownership
from tools.cloud.registry import Registry, RegistryError
from tools.cloud.settings import Settings
from tools.cloud.template_functions import TemplateError
from tools.cloud.template_store import TemplateStore
from tools.cloud.templates import BUILT_IN, Plan


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "cloud") as opened:
        yield opened


def request(key, name="SN1", digest=hashes.SHA256):
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(key, digest() if digest else None).public_bytes(Encoding.PEM).decode()


# -- signing requests --


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_requests_on_curves(curve):
    key = ec.generate_private_key(curve())
    public, name = csr.read(request(key))
    assert (public, name) == (key.public_key(), "SN1")


def test_requests_with_rsa_and_without_a_name():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert csr.read("\n" + request(key, None) + "\n") == (key.public_key(), None)


def test_keys_that_are_refused():
    for key, digest in (
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), hashes.SHA256),
        (ec.generate_private_key(ec.SECP224R1()), hashes.SHA256),
        (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ):
        with pytest.raises(csr.CsrError, match=r"bits|neither"):
            csr.read(request(key, digest=digest))


def test_a_signature_of_somebody_else():
    good = request(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER))
    at = bytes(der).index(b"SN1")
    der[at] ^= 1
    bad = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(csr.CsrError, match="signature"):
        csr.read(bad)


def test_another_version():
    key = ec.generate_private_key(ec.SECP256R1())
    der = x509.load_pem_x509_csr(request(key).encode()).public_bytes(Encoding.DER)
    at = der.index(b"\x02\x01\x00") + 2
    text = base64.encodebytes(der[:at] + b"\x02" + der[at + 1 :]).decode()
    with pytest.raises(csr.CsrError, match="InvalidVersion"):
        csr.read(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----")


def test_text_that_is_no_request():
    good = request(ec.generate_private_key(ec.SECP256R1()))
    body = good.replace("CERTIFICATE REQUEST", "CERTIFICATE")
    lines = good.splitlines()
    for text in ("", "x", body, good + good, "x" + good, good[:-10], lines[1], "-" + good):
        with pytest.raises(csr.CsrError):
            csr.read(text)
    for position in range(30, len(good) - 40, 37):
        with pytest.raises(csr.CsrError):
            csr.read(
                good[:position] + ("B" if good[position] != "B" else "C") + good[position + 1 :]
            )


# -- tokens --


def test_a_token_is_for_one_certificate_one_claim_one_use_one_hour(registry):
    now = [1000.0]
    tokens = Ownership(registry, Settings(), lambda: now[0])
    ident = registry.add_certificate(self_signed("a"), "PENDING_ACTIVATION")
    token = tokens.issue(ident, "claim")
    assert len(token) == 512
    assert tokens.certificate(token, "claim") == ident
    assert tokens.certificate(token, "other claim") is None
    assert tokens.certificate(token[:-1], "claim") is None
    assert tokens.certificate("\ud800", "claim") is None
    now[0] += 3599
    assert tokens.certificate(token, "claim") == ident
    now[0] += 1
    assert tokens.certificate(token, "claim") is None
    now[0] -= 1
    tokens.use(token)
    assert tokens.certificate(token, "claim") is None


def test_tokens_are_not_in_the_file(registry, tmp_path):
    tokens = Ownership(registry, Settings())
    token = tokens.issue(registry.add_certificate(self_signed("a")), "claim")
    registry.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert token.encode() not in (tmp_path / "cloud" / "registry.sqlite").read_bytes()


def test_unclaimed_certificates_are_removed(registry):
    now = [1000.0]
    tokens = Ownership(registry, Settings(token_life=10), lambda: now[0])
    pending = registry.add_certificate(self_signed("a"), "PENDING_ACTIVATION")
    by_hand = registry.add_certificate(self_signed("b"), "PENDING_ACTIVATION")
    used = registry.add_certificate(self_signed("c"), "PENDING_ACTIVATION")
    tokens.issue(pending, "claim")
    tokens.issue(by_hand, "claim")
    tokens.use(tokens.issue(used, "claim"))
    registry.set_status(by_hand, "ACTIVE")
    assert tokens.sweep() == []
    now[0] += 10
    assert tokens.sweep() == [pending]
    assert registry.principal(pending) is None
    assert registry.principal(by_hand).status == "ACTIVE"
    assert registry.principal(used) is not None
    assert tokens.sweep() == []


# -- the store --


def test_templates_are_kept(tmp_path):
    body = BUILT_IN["expresslink"]
    with Registry(tmp_path) as registry:
        store = TemplateStore(registry)
        assert store.names() == ["expresslink"]
        store.put("mine", body, hook={"allowProvisioning": False})
        store.put("mine", enabled=False)
        store.put("expresslink", enabled=False)
    with Registry(tmp_path) as registry:
        store = TemplateStore(registry)
        assert store.names() == ["expresslink", "mine"]
        found = store.get("mine")
        assert (found.body, found.enabled, found.hook) == (
            body,
            False,
            {"allowProvisioning": False},
        )
        assert not store.get("expresslink").enabled
        store.put("mine", hook=None)
        assert store.get("mine").hook is None
        store.remove("mine")
        assert store.get("mine") is None
        with pytest.raises(RegistryError):
            store.remove("mine")


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a b", "body": BUILT_IN["expresslink"]},
        {"name": "new"},
        {"name": "expresslink", "body": {}},
        {"name": "expresslink", "enabled": 1},
        {"name": "expresslink", "hook": {}},
        {"name": "expresslink", "hook": {"allowProvisioning": "yes"}},
        {"name": "expresslink", "hook": {"allowProvisioning": True, "ms": -1}},
        {"name": "expresslink", "hook": {"allowProvisioning": True, "parameterOverrides": []}},
        {"name": "expresslink", "hook": {"allowProvisioning": True, "more": 1}},
        {"name": "expresslink", "hook": {"command": []}},
        {"name": "expresslink", "hook": {"command": "a"}},
        {"name": "expresslink", "hook": {"command": ["a"], "ms": 1}},
    ],
)
def test_what_is_not_stored(registry, values):
    store = TemplateStore(registry)
    before = store.get("expresslink")
    with pytest.raises(TemplateError):
        store.put(**values)
    assert (store.names(), store.get("expresslink")) == (["expresslink"], before)


# -- registration --


def plan(thing="t", attributes=None, override="DO_NOTHING", policies=(("default", None),)):
    return Plan(thing, attributes or {}, override, "ACTIVE", list(policies))


@pytest.fixture
def fresh(registry):
    """Function that registers one more certificate."""
    return lambda: registry.add_certificate(self_signed("x"), "PENDING_ACTIVATION")


def test_a_registration(registry, fresh):
    document = '{"Statement": {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}}'
    ident = fresh()
    policies = (("default", None), (None, document))
    registration.carry_out(registry, plan(attributes={"a": "1"}, policies=policies), ident)
    holder = registry.principal(ident)
    assert (holder.status, holder.things) == ("ACTIVE", ("t",))
    assert document in holder.documents and len(holder.documents) == 2
    assert registry.thing("t") == {"name": "t", "attributes": {"a": "1"}, "certificates": [ident]}


@pytest.mark.parametrize(
    ("override", "attributes"),
    [
        ("DO_NOTHING", {"a": "1", "b": "1"}),
        ("REPLACE", {"b": "2", "c": "2"}),
        ("MERGE", {"a": "1", "b": "2", "c": "2"}),
    ],
)
def test_a_thing_that_exists(registry, fresh, override, attributes):
    first, second = fresh(), fresh()
    registration.carry_out(registry, plan(attributes={"a": "1", "b": "1"}), first)
    again = plan(attributes={"b": "2", "c": "2"}, override=override)
    registration.carry_out(registry, again, second)
    assert registry.thing("t")["attributes"] == attributes
    assert registry.thing("t")["certificates"] == [first, second]
    assert registry.principal(first).status == registry.principal(second).status == "ACTIVE"


@pytest.mark.parametrize(
    "bad",
    [
        plan(override="FAIL"),
        plan("not a name"),
        plan("new", policies=[("default", None), ("no such policy", None)]),
        plan("new", policies=[(None, "{}")]),
        plan(attributes={"c": "", "d": ""}, override="MERGE"),
    ],
)
def test_a_registration_that_fails_changes_nothing(registry, fresh, bad):
    registration.carry_out(registry, plan(attributes={"a": "1", "b": "1"}), fresh())
    ident, before = fresh(), (registry.things(), registry.thing("t"))
    with pytest.raises(TemplateError) as caught:
        registration.carry_out(registry, bad, ident)
    assert isinstance(caught.value, registration.Conflict) == (bad.override == "FAIL")
    assert (registry.things(), registry.thing("t")) == before
    holder = registry.principal(ident)
    assert (holder.status, holder.things, holder.policies) == ("PENDING_ACTIVATION", (), ())


# -- the hook --


def ask(given, timeout=5.0, event=None):
    return asyncio.run(hook.ask(given, event or {}, timeout))


def program(text):
    return {"command": [sys.executable, "-c", text]}


def test_hooks_that_allow():
    assert ask(None) == {}
    assert ask({"allowProvisioning": True}) == {}
    fixed = {"allowProvisioning": True, "parameterOverrides": {"a": "b"}, "ms": 1}
    assert ask(fixed) == {"a": "b"}
    text = (
        "import json, sys; event = json.load(sys.stdin);"
        "print(json.dumps({'allowProvisioning': event['clientId'] == 'me',"
        "'parameterOverrides': {'a': event['parameters']['b']}}))"
    )
    event = {"clientId": "me", "parameters": {"b": "c"}}
    assert ask(program(text), event=event) == {"a": "c"}
    with pytest.raises(hook.HookDenied):
        ask(program(text), event={"clientId": "you", "parameters": {"b": "c"}})


@pytest.mark.parametrize(
    "given",
    [
        {"allowProvisioning": False},
        program("raise SystemExit(3)"),
        program("print('no')"),
        program("print('[]')"),
        program("print('{\"allowProvisioning\": 1}')"),
        program('print(\'{"allowProvisioning": true, "parameterOverrides": {"a": 1}}\')'),
        {"command": ["/no/such/program"]},
    ],
)
def test_hooks_that_deny(given):
    with pytest.raises(hook.HookDenied):
        ask(given)


def test_hooks_that_are_late():
    start = time.monotonic()
    for given in ({"allowProvisioning": True, "ms": 9000}, program("import time; time.sleep(9)")):
        with pytest.raises(hook.HookDenied, match="no answer"):
            ask(given, 0.2)
    assert time.monotonic() - start < 3


# -- faults at a service --


def test_a_fault_with_a_place_acts_there_alone():
    faults = FaultTable()
    for kind in ("delay", "duplicate", "close"):
        more = {"ms": 1} if kind == "delay" else {}
        faults.set({"kind": kind, "at": "provision", **more})
        assert faults.take(kind, packet="PUBLISH") is None
        assert faults.take(kind) is None
        assert faults.take(kind, at="create") is None
        assert faults.take(kind, at="provision") is not None
    faults.clear("all")
    faults.set({"kind": "duplicate"})
    assert faults.take("duplicate", at="provision") is None
    assert faults.take("duplicate") is not None


def test_when_a_fault_acts():
    faults = FaultTable()
    faults.set({"kind": "close", "at": "create"})
    assert faults.take("close", at="create", when="after") is None
    fault = faults.take("close", at="create", when="before")
    assert (fault.when, fault.count) == ("before", 1)
    faults.set({"kind": "foreign", "at": "create", "when": "instead"})
    assert faults.take("foreign", at="create").when == "instead"
    assert [f["when"] for f in faults.as_list()] == ["before", "instead"]


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "close"},
        {"kind": "close", "at": "create", "packet": "PUBLISH"},
        {"kind": "close", "at": "create", "when": "instead"},
        {"kind": "close", "packet": "PUBLISH", "when": "before"},
        {"kind": "close", "at": "tcp"},
        {"kind": "delay", "at": "connect", "ms": 1},
        {"kind": "duplicate", "at": "live"},
        {"kind": "duplicate", "at": "create", "when": "before"},
        {"kind": "foreign"},
        {"kind": "foreign", "at": "defender"},
        {"kind": "foreign", "at": "create", "when": "never"},
        {"kind": "foreign", "at": "create", "error": 5},
    ],
)
def test_faults_at_a_service_that_make_no_sense(values):
    with pytest.raises(ValueError):
        FaultTable().set(values)
