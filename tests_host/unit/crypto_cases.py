"""What the tests of X.509 and its signatures share: published vectors, keys, certificates made by
the cryptography package, and the curve P-256 in its slowest and plainest form."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from functools import cache
from pathlib import Path

import cryptography_vectors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from tests_host.unit import conftest

# What lets CPython import lib, also for tests outside this folder.
assert conftest

VECTORS = Path(cryptography_vectors.__file__).parent

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def rsp(path: Path, section: str) -> list[dict]:
    """The cases below `[section]` of a NIST .rsp file. Fields that stand before a case (as the
    modulus of RSA) are carried on to it; a case ends where S does."""
    cases: list[dict] = []
    fields: dict[str, str] = {}
    inside = False
    for line in path.read_text().splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{section}]"
            fields = {}
        elif inside and " = " in line:
            name, value = line.split(" = ", 1)
            fields[name] = value
            if name == "Result" or (name == "S" and "SigGen" in path.name):
                cases.append(dict(fields))
    return cases


def add(a, b):
    """The sum of two affine points; None is the point at infinity."""
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(k: int, point):
    """k times the point."""
    result = None
    while k:
        if k & 1:
            result = add(result, point)
        point = add(point, point)
        k >>= 1
    return result


def encode(point) -> bytes:
    """The point as it stands in a key (SEC 1, 2.3.3)."""
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def crafted(d: int, u1: int, u2: int) -> tuple[bytes, bytes, bytes]:
    """(key, digest, signature) for which a verifier computes u1 * G + u2 * Q, Q being d * G; a
    valid one, but where that sum is the point at infinity."""
    k = (u1 + u2 * d) % N
    r = base(k)[0] % N if k else 1
    s = r * pow(u2, -1, N) % N
    digest = (u1 * s % N).to_bytes(32, "big")
    return encode(base(d)), digest, encode_dss_signature(r, s)


def base(k: int) -> tuple[int, int]:
    """k * G, by the cryptography package."""
    numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()
    return numbers.x, numbers.y


def verify(key, digest: bytes, signature: bytes) -> bool:
    """What `await key.verify(…)` gives, and the same from its steps."""
    verdict = asyncio.run(key.verify(digest, signature))
    assert verdict in (True, False)
    return verdict


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@cache
def ec_key(number: int = 0, curve=ec.SECP256R1):
    """Private keys that a test run makes once."""
    return ec.generate_private_key(curve())


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537):
    return rsa.generate_private_key(exponent, bits)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(key, signer, *extensions, subject="subject", issuer="issuer", digest=None,
                start=None, end=None, serial=4711, **options) -> bytes:  # fmt: skip
    """The DER of a certificate for `key`, signed by `signer`; extensions are (value, critical)."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start or datetime.datetime(2026, 1, 1))
        .not_valid_after(end or datetime.datetime(2036, 1, 1))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    made = builder.sign(signer, digest or hashes.SHA256(), **options)
    return made.public_bytes(serialization.Encoding.DER)


@cache
def root(kind: str = "ec") -> tuple:
    """(private key, DER) of a CA."""
    key = ec_key() if kind == "ec" else rsa_key()
    ca = x509.BasicConstraints(ca=True, path_length=1)
    return key, certificate(key, key, (ca, True), subject="root", issuer="root")


def described(data: bytes) -> str:
    """What lib.x509 reads in a certificate under CPython, as a line; or why it is none."""
    from lib import x509 as ours

    try:
        c = ours.parse(data)
        fields = (c.version, c.serial, c.not_before, c.not_after, c.is_ca, c.path_length)
        fields += (c.signs_code, c.unknown_critical, len(c.signed), c.key.algorithm)
    except ours.X509Error as error:
        return str(error)
    return " ".join(map(str, fields))
