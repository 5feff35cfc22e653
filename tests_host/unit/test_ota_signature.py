"""Signatures of images: what verifies, and why everything else does not."""

import asyncio
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.ota import signature
from firmware.ota.signature import SignatureError
from tests_host.unit import crypto_cases as cases

IMAGE = b"an image" * 40
DIGEST = hashlib.sha256(IMAGE).digest()


def signed(key, data=IMAGE):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def verify(certificate, algorithm, digest=DIGEST, value=b""):
    asyncio.run(signature.verify(certificate, algorithm, digest, value))


def refused(*arguments):
    with pytest.raises(SignatureError) as error:
        verify(*arguments)
    (reason,) = error.value.args
    assert isinstance(reason, bytes)
    return reason


@pytest.fixture(scope="module", params=["ecdsa", "rsa"])
def kind(request):
    """(certificate, algorithm, signature, the other algorithm)"""
    key = cases.ec_key() if request.param == "ecdsa" else cases.rsa_key()
    other = b"rsa" if request.param == "ecdsa" else b"ecdsa"
    certificate = cases.certificate(key, key)
    return certificate, request.param.encode(), signed(key), other


def test_a_good_one(kind):
    certificate, algorithm, value, _ = kind
    verify(certificate, algorithm, DIGEST, value)


def test_of_another_image(kind):
    certificate, algorithm, value, _ = kind
    other = hashlib.sha256(IMAGE + b"x").digest()
    assert refused(certificate, algorithm, other, value) == b"signature does not verify"


def test_by_another_key(kind):
    certificate, algorithm, _, _ = kind
    stranger = cases.ec_key(7) if algorithm == b"ecdsa" else cases.rsa_key(2048, 3)
    reason = refused(certificate, algorithm, DIGEST, signed(stranger))
    assert reason == b"signature does not verify"


def test_algorithm_and_key_have_to_agree(kind):
    certificate, _, value, other = kind
    for wrong in (other, b"", b"ECDSA", None):
        reason = refused(certificate, wrong, DIGEST, value)
        assert reason == b"signature of another kind than the certificate's key"


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_signatures(kind, data):
    certificate, algorithm, value, _ = kind
    changed = bytearray(value)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
        changed = bytes(changed)
    else:
        changed = data.draw(st.binary(max_size=300))
    assert refused(certificate, algorithm, DIGEST, changed) == b"signature does not verify"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_digests_of_other_sizes(kind, size):
    certificate, algorithm, value, _ = kind
    assert refused(certificate, algorithm, bytes(size), value) == b"signature does not verify"


def test_signatures_cut_and_grown(kind):
    certificate, algorithm, value, _ = kind
    for changed in (b"", value[:-1], value[1:], value + b"\0", b"\0" + value, value * 2):
        assert refused(certificate, algorithm, DIGEST, changed)


def test_numbers_out_of_range():
    key = cases.ec_key()
    certificate = cases.certificate(key, key)
    r, s = decode_dss_signature(signed(key))
    verify(certificate, b"ecdsa", DIGEST, encode_dss_signature(r, s))
    for pair in ((0, s), (r, 0), (0, 0), (r + cases.N, s), (r, s + cases.N), (cases.N, s), (r, r)):
        assert refused(certificate, b"ecdsa", DIGEST, encode_dss_signature(*pair))


@pytest.mark.parametrize(
    "certificate", [b"", None, b"\x30", b"no DER at all", b"\x30\x03\x02\1\1"]
)
def test_what_is_no_certificate(certificate):
    reason = refused(certificate, b"ecdsa", DIGEST, signed(cases.ec_key()))
    nothing = b"there is no certificate to verify it with"
    assert reason == nothing if not certificate else reason.startswith(b"no certificate: ")


def test_keys_that_cannot_be_used():
    strong = ec.generate_private_key(ec.SECP384R1())
    small = cases.rsa_key(1024)
    other = ed25519.Ed25519PrivateKey.generate()
    for key, algorithm in ((strong, b"ecdsa"), (small, b"rsa"), (other, b"ecdsa")):
        certificate = cases.certificate(key, cases.ec_key())
        value = b"x" * 64 if key is other else signed(key)
        assert refused(certificate, algorithm, DIGEST, value).startswith(b"public key")


def usage(**allowed):
    names = ("digital_signature content_commitment key_encipherment data_encipherment "
             "key_agreement key_cert_sign crl_sign encipher_only decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: name in allowed for name in names.split()})


_PURPOSE = x509.ExtendedKeyUsageOID


@pytest.mark.parametrize(
    ("extensions", "good"),
    [
        ([usage(digital_signature=True)], True),
        ([usage(digital_signature=True, key_cert_sign=True)], True),
        ([x509.ExtendedKeyUsage([_PURPOSE.CODE_SIGNING])], True),
        ([x509.ExtendedKeyUsage([_PURPOSE.SERVER_AUTH, _PURPOSE.CODE_SIGNING])], True),
        ([x509.ExtendedKeyUsage([_PURPOSE.ANY_EXTENDED_KEY_USAGE])], True),
        ([x509.BasicConstraints(True, None)], True),
        ([usage(key_cert_sign=True)], False),
        ([usage(key_encipherment=True)], False),
        ([x509.ExtendedKeyUsage([_PURPOSE.SERVER_AUTH])], False),
        ([x509.ExtendedKeyUsage([_PURPOSE.CODE_SIGNING]), usage(key_agreement=True)], False),
    ],
)
@pytest.mark.parametrize("critical", [True, False])
def test_what_the_certificate_is_for(extensions, good, critical):
    key = cases.ec_key()
    certificate = cases.certificate(key, key, *((each, critical) for each in extensions))
    if good:
        verify(certificate, b"ecdsa", DIGEST, signed(key))
    else:
        reason = refused(certificate, b"ecdsa", DIGEST, signed(key))
        assert reason == b"certificate is not for code signing"


def test_an_unknown_critical_extension():
    key = cases.ec_key()
    policy = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    verify(cases.certificate(key, key, (policy, False)), b"ecdsa", DIGEST, signed(key))
    certificate = cases.certificate(key, key, (policy, True))
    reason = refused(certificate, b"ecdsa", DIGEST, signed(key))
    assert reason == b"certificate has an unknown critical extension"


def test_other_tasks_get_turns(kind):
    certificate, algorithm, value, _ = kind
    turns = 0

    async def both():
        task = asyncio.create_task(signature.verify(certificate, algorithm, DIGEST, value))
        nonlocal turns
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await task

    asyncio.run(both())
    assert turns > 40
