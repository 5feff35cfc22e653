"""Which private key belongs to which certificate; keys are made by the cryptography package."""

import asyncio
import random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lib import keypair, p256_key, x509
from lib.der_writer import unsigned, value
from tests_host.unit import crypto_cases as cases
from tests_host.unit.crypto_cases import N

_TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
_PKCS8 = serialization.PrivateFormat.PKCS8
_FORMS = (_TRADITIONAL, _PKCS8)


def belongs(key: bytes, certificate) -> bool:
    verdict = asyncio.run(keypair.belongs(key, certificate))
    assert verdict in (True, False)
    return verdict


def _der(private, form=_TRADITIONAL, secret=None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    )
    return private.private_bytes(serialization.Encoding.DER, form, encryption)


def _certificate(private):
    return x509.parse(cases.certificate(private, cases.ec_key()))


def _rsa(other: int = 0, bits: int = 2048):
    return cases.rsa_key(bits, 65537 if not other else 3)


@pytest.mark.parametrize("form", _FORMS)
def test_keys_that_belong(form):
    for number in range(8):
        private = cases.ec_key(number)
        assert belongs(_der(private, form), _certificate(private))
    for private in (_rsa(), _rsa(1), _rsa(0, 3072)):
        assert belongs(_der(private, form), _certificate(private))


@pytest.mark.parametrize("form", _FORMS)
def test_keys_that_do_not(form):
    keys = [cases.ec_key(0), cases.ec_key(1), _rsa(), _rsa(1), _rsa(0, 3072)]
    for one in keys:
        for other in keys:
            assert belongs(_der(one, form), _certificate(other)) == (one is other)
    for one in (ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256K1())):
        for other in keys:
            assert not belongs(_der(one, form), _certificate(other))
    if form == _PKCS8:
        assert not belongs(_der(ed25519.Ed25519PrivateKey.generate(), form), _certificate(keys[0]))


def test_the_edges_of_the_range():
    for secret in (1, 2, N - 1, 1 << 200):
        private = ec.derive_private_key(secret, ec.SECP256R1())
        certificate = _certificate(private)
        assert belongs(_der(private), certificate)
        assert not belongs(
            _der(ec.derive_private_key(secret >> 1 | 4, ec.SECP256R1())), certificate
        )


def test_our_own_keys():
    key = asyncio.run(p256_key.generate())
    private = serialization.load_der_private_key(key.der(), None)
    assert belongs(key.der(), _certificate(private))
    assert _certificate(private).point == key.point


def _sec1(secret: bytes, *more: bytes, version: int = 1) -> bytes:
    return value(0x30, unsigned(version), value(0x04, secret), *more)


def test_sec_1_with_and_without_its_optional_fields():
    private = cases.ec_key()
    certificate = _certificate(private)
    secret = private.private_numbers().private_value.to_bytes(32, "big")
    curve = value(0xA0, b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")
    other_curve = value(0xA0, b"\x06\x05\x2b\x81\x04\x00\x0a")
    public = value(0xA1, value(0x03, b"\x00", certificate.point))
    other = _certificate(cases.ec_key(1)).point
    other_public = value(0xA1, value(0x03, b"\x00", other))
    assert belongs(_sec1(secret), certificate)
    assert belongs(_sec1(secret, curve), certificate)
    assert belongs(_sec1(secret, public), certificate)
    assert belongs(_sec1(secret, curve, public), certificate)
    assert not belongs(_sec1(secret, other_curve), certificate)
    assert not belongs(_sec1(secret, other_public), certificate)
    assert not belongs(_sec1(secret, curve, other_public), certificate)
    # The public point alone says nothing.
    assert not belongs(_sec1(b"\x01" * 32, curve, public), certificate)
    for wrong in (
        _sec1(secret, public, curve),
        _sec1(secret, curve, public, public),
        _sec1(secret, curve, version=0),
        _sec1(secret, curve, version=2),
        _sec1(secret, curve) + b"\x00",
        _sec1(secret, value(0xA0, curve[2:], curve[2:])),
        _sec1(secret, value(0xA1, public[2:], public[2:])),
        _sec1(secret[1:]),
        _sec1(b"\x00" + secret),
        _sec1(b""),
        _sec1(bytes(32)),
        _sec1(N.to_bytes(32, "big")),
    ):
        with pytest.raises(ValueError, match=r"no private key|not a P-256 key"):
            belongs(wrong, certificate)


def test_pkcs_8_with_attributes_and_public_key():
    private = cases.ec_key()
    certificate = _certificate(private)
    algorithm = value(
        0x30,
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
        b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    )
    inner = value(0x04, _der(private))
    more = (value(0xA0), value(0x81, b"\x00", certificate.point))
    assert belongs(value(0x30, unsigned(0), algorithm, inner), certificate)
    assert belongs(value(0x30, unsigned(1), algorithm, inner, *more), certificate)
    assert belongs(value(0x30, unsigned(0), algorithm, inner, more[0]), certificate)
    for wrong in (
        value(0x30, unsigned(2), algorithm, inner),
        value(0x30, unsigned(0), algorithm, inner, b"\x05\x00"),
        value(0x30, unsigned(0), algorithm),
        value(0x30, unsigned(0), algorithm, value(0x04, b"")),
        # One in the other.
        value(0x30, unsigned(0), algorithm, value(0x04, _der(private, _PKCS8))),
    ):
        with pytest.raises(ValueError, match="no private key"):
            belongs(wrong, certificate)


def _pkcs1(numbers, version: int = 0) -> bytes:
    return value(0x30, unsigned(version), *map(unsigned, numbers))


def test_every_number_of_an_rsa_key_is_looked_at():
    private = _rsa()
    certificate = _certificate(private)
    secret = private.private_numbers()
    public = secret.public_numbers
    numbers = [public.n, public.e, secret.d, secret.p, secret.q,
               secret.dmp1, secret.dmq1, secret.iqmp]  # fmt: skip
    assert _pkcs1(numbers) == _der(private)
    assert belongs(_pkcs1(numbers), certificate)
    for i, number in enumerate(numbers):
        for wrong in (number ^ 2, number + 1, 0, 1, number << 1):
            changed = [*numbers[:i], wrong, *numbers[i + 1 :]]
            assert not belongs(_pkcs1(changed), certificate), (i, wrong)
    n, e, d, p, q, dp, dq, coefficient = numbers
    for changed in (
        [n, e, d, 1, n, 0, dq, coefficient],
        [n, e, d, n, 1, dp, 0, 1],
        [n, e, d, q, p, dp, dq, coefficient],
        [n, e, d, p, q, dq, dp, coefficient],
    ):
        assert not belongs(_pkcs1(changed), certificate)
    # Numbers that fit each other, but not all of them.
    turn = (p - 1) * (q - 1)
    alone = pow(e, -1, n - 1)
    others = _rsa(0, 3072).private_numbers()
    for changed in (
        [n, e + turn, d, p, q, dp, dq, coefficient],
        [n, e, d + 2, p, q, (d + 2) % (p - 1), (d + 2) % (q - 1), coefficient],
        [n, e, others.d, others.p, others.q, others.dmp1, others.dmq1, others.iqmp],
        [n, e, alone, n, 1, alone, 0, 1],
        [n, e, alone, 1, n, 0, alone, 1],
    ):
        assert not belongs(_pkcs1(changed), certificate)
    # A private exponent may be any that fits.
    other = d + turn
    assert belongs(_pkcs1([n, e, other, p, q, dp, dq, coefficient]), certificate)
    for wrong in (_pkcs1(numbers, 1), _pkcs1(numbers[:-1]), _pkcs1([*numbers, 1])):
        with pytest.raises(ValueError, match="no private key"):
            belongs(wrong, certificate)


def test_what_is_no_key():
    certificate = _certificate(cases.ec_key())
    wrong = [b"", b"\x30\x00", bytes(100), certificate.der, value(0x30, unsigned(0))]
    wrong.append(
        cases.ec_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    wrong.append(
        cases.ec_key().private_bytes(
            serialization.Encoding.PEM, _PKCS8, serialization.NoEncryption()
        )
    )
    for data in wrong:
        with pytest.raises(ValueError, match="no private key"):
            belongs(data, certificate)


def test_encrypted_keys_are_called_so():
    certificate = _certificate(cases.ec_key())
    for private in (cases.ec_key(), _rsa()):
        with pytest.raises(ValueError, match="encrypted"):
            belongs(_der(private, _PKCS8, b"a password"), certificate)


def test_a_certificate_of_another_kind():
    strange = x509.parse(
        cases.certificate(ec.generate_private_key(ec.SECP384R1()), cases.ec_key())
    )
    assert strange.point is None
    with pytest.raises(x509.X509Error, match="public key of type"):
        belongs(_der(_rsa()), strange)
    assert not belongs(_der(cases.ec_key()), strange)


@pytest.mark.parametrize("form", _FORMS)
def test_every_byte_changed(form):
    """A changed key is none, or it is not ours: never an error of another kind."""
    private = cases.ec_key()
    certificate = _certificate(private)
    good = _der(private, form)
    generator = random.Random(6)
    verdicts = {True: 0, False: 0, None: 0}
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1 << generator.randrange(8)
        try:
            verdict = belongs(bytes(changed), certificate)
        except ValueError:
            verdict = None
        verdicts[verdict] += 1
    # No byte is without meaning, but the version of PKCS #8, which may be 0 or 1.
    assert verdicts[True] <= (form == _PKCS8)
    assert verdicts[False] > 60
    assert verdicts[None] > 12
    for size in range(len(good)):
        with pytest.raises(ValueError, match="no private key"):
            belongs(good[:size], certificate)


def test_a_key_of_another_kind_needs_no_arithmetic(monkeypatch):
    monkeypatch.setattr(p256_key, "load", None)
    assert not belongs(_der(cases.ec_key()), _certificate(_rsa()))
    assert not belongs(_der(cases.ec_key()), _certificate(cases.ec_key(1)))
