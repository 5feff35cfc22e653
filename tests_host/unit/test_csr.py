"""Certification requests, judged by the cryptography package."""

import asyncio
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import csr, der, p256_key, pem
from tests_host.unit import crypto_cases as cases


def make(name: bytes, secret: int = 1234567) -> tuple:
    """(our key, the request in DER)."""

    async def both():
        key = await p256_key.load(secret.to_bytes(32, "big"))
        return key, await csr.make(key, name)

    return asyncio.run(both())


def _check(key, request: bytes, name: str):
    theirs = x509.load_der_x509_csr(request)
    assert theirs.is_signature_valid
    assert theirs.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert theirs.subject == cases.name(name)
    (attribute,) = theirs.subject
    assert attribute.oid == NameOID.COMMON_NAME
    assert attribute._type == _ASN1Type.UTF8String
    numbers = theirs.public_key().public_numbers()
    assert isinstance(numbers.curve, ec.SECP256R1)
    assert cases.encode((numbers.x, numbers.y)) == key.point
    assert len(theirs.extensions) == len(theirs.attributes) == 0
    assert theirs.public_bytes(serialization.Encoding.DER) == request


def test_requests():
    generator = random.Random(8)
    for name in ("a", "3c71bf4a9e20", "ExpressLink-4a9e20", "Zürich 中", "x" * 64, "ü" * 32):
        secret = generator.randrange(1, cases.N)
        _check(*make(name.encode(), secret), name)


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=16), st.integers(1, cases.N - 1))
def test_any_name_and_any_key(name, secret):
    _check(*make(name.encode(), secret), name)


def test_a_request_is_what_the_cryptography_package_writes():
    """But for the signature, whose nonce is another one there."""
    key, ours = make(b"thing")
    private = serialization.load_der_private_key(key.der(), None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(cases.name("thing"))
    theirs = builder.sign(private, hashes.SHA256())
    assert theirs.tbs_certrequest_bytes in ours
    assert (
        builder.sign(private, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(
            serialization.Encoding.DER
        )
        == ours
    )


def test_a_request_as_pem():
    _, request = make(b"thing")
    text = b"".join(pem.lines(request, b"CERTIFICATE REQUEST"))
    theirs = x509.load_pem_x509_csr(text)
    assert theirs.public_bytes(serialization.Encoding.PEM) == text


@pytest.mark.parametrize("name", [b"", b"x" * 65, "ü".encode() * 33, b"\xff", b"abc\xc3"])
def test_names_that_are_refused(name):
    with pytest.raises(ValueError):
        make(name)


def test_it_is_der_to_the_end():
    _, request = make(b"thing")
    reader = der.Reader(request)
    outer = reader.enter(der.SEQUENCE)
    reader.end()
    outer.enter(der.SEQUENCE)
    algorithm = outer.enter(der.SEQUENCE)
    assert der.dotted(algorithm.oid()) == "1.2.840.10045.4.3.2"
    algorithm.end()
    assert outer.octets()
    outer.end()
