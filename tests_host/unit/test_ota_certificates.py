"""Certificates by an update job: the checks of AT+CONF, the same store, DER besides."""

import asyncio
import types
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.config.dictionary import Dictionary
from firmware.config.store import Store
from firmware.ota import certificates
from firmware.ota.certificates import CertificateError
from firmware.profile import V05
from lib import pem
from tests_host.unit import crypto_cases as cases
from tools.cloud import pki

_AMAZON = Path(__file__).parents[2] / "tools/flash/amazon_roots.pem"
NAMES = {103: b"OTAcertificate", 107: b"RootCA", 204: b"HOTAcertificate"}


class Context:
    """TLS that takes every root but those of `refused`."""

    refused = ()

    def load_verify_locations(self, der):
        if der in self.refused:
            raise ValueError("invalid cert")


@pytest.fixture
def module(tmp_path):
    """What apply() needs of a module: its OTAcertificate is of cases.ec_key(0)."""
    key = cases.ec_key(0)
    store = Store(str(tmp_path))
    config = Dictionary(store, V05, [])
    config.provide(b"OTAcertificate", [cases.certificate(key, key)])
    config.provide(b"RootCA", [cases.root()[1]])
    config.provide(b"HOTAcertificate", [])
    return types.SimpleNamespace(
        config=config, store=store, session=types.SimpleNamespace(make_context=Context)
    )


def text(*found):
    return b"".join(b"".join(pem.lines(der)) for der in found)


def apply(module, kind, data):
    asyncio.run(certificates.apply(module, kind, data))


def refused(module, kind, data):
    """The reason; and nothing may have been written."""
    before = module.store.writes
    shown = module.config.query(NAMES[kind])[0]
    with pytest.raises(CertificateError) as error:
        apply(module, kind, data)
    (reason,) = error.value.args
    assert isinstance(reason, bytes)
    assert reason
    assert module.store.writes == before
    assert module.config.query(NAMES[kind])[0] == shown
    return reason


def successor(signer=0, number=1, *extensions):
    return cases.certificate(cases.ec_key(number), cases.ec_key(signer), *extensions)


@pytest.mark.parametrize("form", [bytes, text])
def test_a_successor(module, form):
    first, second = successor(), successor(1, 2)
    apply(module, 103, form(first))
    assert module.config.get(b"OTAcertificate") == [first]
    # From now on the new one counts.
    assert refused(module, 103, form(successor(0, 3))) == b"not signed by the present certificate"
    apply(module, 103, form(second))
    assert module.config.get(b"OTAcertificate") == [second]


def test_an_rsa_successor_and_its_own(module):
    middle = cases.certificate(cases.rsa_key(), cases.ec_key(0))
    apply(module, 103, middle)
    apply(module, 103, cases.certificate(cases.ec_key(2), cases.rsa_key()))


def test_the_same_again_is_no_write(module):
    for kind, der in ((103, successor()), (107, cases.root("rsa")[1]), (204, successor(3, 3))):
        apply(module, kind, der)
        writes = module.store.writes
        assert writes
        apply(module, kind, text(der))
        assert module.store.writes == writes
    present = module.config.get(b"OTAcertificate")[0]
    apply(module, 103, present)


def test_the_first_certificate_of_the_host_need_not_be_signed_by_anybody(module):
    stranger = successor(5, 5)
    apply(module, 204, stranger)
    assert refused(module, 204, successor()) == b"not signed by the present certificate"
    apply(module, 204, successor(5, 6))


def test_no_predecessor(module):
    module.config.provide(b"OTAcertificate", [])
    reason = refused(module, 103, successor())
    assert reason == b"there is no certificate to verify it with"


@pytest.mark.parametrize("kind", [103, 204])
def test_what_could_never_verify_anything(module, kind):
    signer = cases.ec_key(0)
    reason = refused(module, kind, cases.certificate(cases.ec_key(9, ec.SECP384R1), signer))
    assert reason == b"public key of type 1.3.132.0.34"
    purpose = (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False)
    assert refused(module, kind, successor(0, 1, purpose)) == b"not for code signing"
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)
    assert refused(module, kind, successor(0, 1, unknown)) == b"unknown critical extension"


@pytest.mark.parametrize("kind", [103, 107, 204])
def test_files_that_are_none(module, kind):
    for data in (b"", b"hello", b"\n" * 100, b"\x30", b"\x30\x00"):
        assert refused(module, kind, data)
    assert refused(module, kind, b"") == b"no certificate"
    damaged = text(successor()).replace(b"MII", b"MI!")
    assert refused(module, kind, damaged)
    cut = text(successor()).split(b"-----END")[0]
    assert refused(module, kind, cut) == b"PEM without its END line"
    assert refused(module, kind, text(successor()) + b"-----BEGIN CERTIFICATE-----\n")
    assert refused(module, kind, bytes(8193)) == b"file of certificates over 8192 bytes"


@pytest.mark.parametrize("kind", [103, 204])
def test_two_where_one_is_wanted(module, kind):
    for data in (text(successor(), successor()), successor() * 2):
        assert refused(module, kind, data) == b"too many certificates"


@pytest.mark.parametrize("form", [b"".join, lambda found: text(*found)])
def test_a_bundle_of_roots_is_on_trial(module, form):
    found = [pki.make_ca(f"ca {n}", "ec").certificate for n in range(6)]
    found = [ca.public_bytes(Encoding.DER) for ca in found]
    old = module.config.get(b"RootCA")
    apply(module, 107, form(found[:5]))
    assert module.config.trial_roots() == found[:5]
    assert module.config.get(b"RootCA") == old
    assert refused(module, 107, form(found)) == b"too many certificates"
    module.config.trial_worked()
    assert module.config.get(b"RootCA") == found[:5]


def test_the_roots_of_aws(module):
    apply(module, 107, _AMAZON.read_bytes())
    assert len(module.config.trial_roots()) == 5


def test_roots_that_cannot_be(module):
    assert refused(module, 107, text(successor())) == b"not a CA certificate"
    good = cases.root("rsa")[1]
    assert refused(module, 107, good + successor()) == b"not a CA certificate"
    Context.refused = (good,)
    try:
        assert refused(module, 107, good) == b"not usable for TLS"
    finally:
        Context.refused = ()


def test_the_flash_does_not_take_it(module, monkeypatch):
    def full(name, value):
        raise OSError(28, "full")

    monkeypatch.setattr(module.store, "write", full)
    assert refused(module, 103, successor()) == b"not stored, errno 28"


def test_another_one_came_first(module):
    """The host writes one while the job's is being verified."""

    async def both():
        job = asyncio.create_task(certificates.apply(module, 103, successor(0, 1)))
        while not job.done():
            await asyncio.sleep(0)
            if module.config.get(b"OTAcertificate") != [successor_of_host]:
                module.config.keep_certificates(b"OTAcertificate", [successor_of_host])
        await job

    successor_of_host = successor(0, 2)
    with pytest.raises(CertificateError, match="changed meanwhile"):
        asyncio.run(both())
    assert module.config.get(b"OTAcertificate") == [successor_of_host]


_HOST = text(successor(5, 5))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_files(data):
    """No file ends in anything but a reason; only a certificate that is whole is kept."""
    kept = []
    config = types.SimpleNamespace(
        query=lambda name: ([], True),
        get=lambda name: [],
        keep_certificates=lambda name, found: kept.append(found),
    )
    session = types.SimpleNamespace(make_context=Context)
    fake = types.SimpleNamespace(config=config, session=session)
    changed = bytearray(data.draw(st.sampled_from([_HOST, pem.decode(_HOST)[0]])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    kind = data.draw(st.sampled_from([103, 107, 204]))
    try:
        asyncio.run(certificates.apply(fake, kind, bytes(changed)))
    except CertificateError as error:
        assert isinstance(error.args[0], bytes)
        return
    # Nobody looks at the signature of the first one, but it has to be a certificate.
    assert kind == 204
    (found,) = kept
    assert len(found) == 1
