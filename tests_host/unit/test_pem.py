"""DER values in a row, and PEM, judged by the cryptography package."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from lib import pem


@pytest.fixture(scope="module")
def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2026, 1, 1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def test_pem_lines_are_what_cryptography_writes(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert b"".join(pem.lines(der)) == certificate.public_bytes(serialization.Encoding.PEM)


def test_split(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert pem.split(b"") == []
    assert pem.split(der) == [der]
    assert pem.split(der * 3) == [der] * 3


def test_split_refuses_what_does_not_fit(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    for bad in (der[:-1], der + b"0", der + b"\0\0\0\0", b"\x31" + der[1:]):
        with pytest.raises(ValueError):
            pem.split(bad)


@given(st.binary(max_size=40))
def test_split_gives_all_or_nothing(data):
    try:
        values = pem.split(data)
    except ValueError:
        return
    assert b"".join(values) == data
