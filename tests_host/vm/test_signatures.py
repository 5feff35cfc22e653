"""The same signatures and damaged certificates on the VM as under CPython, in bulk.

The VM's whole numbers are another implementation than CPython's, so the arithmetic is judged
there too: by the cryptography package for signatures, by CPython's run for damaged certificates.
"""

import itertools
import random

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from tests_host.unit import crypto_cases as cases

_VERIFY = """
import asyncio, sys
from lib import p256, rsa
async def main():
    for line in open(sys.argv[1]):
        kind, first, second, digest, signature = line.split(",")
        if kind == "ec":
            key = p256.PublicKey(bytes.fromhex(first))
        else:
            key = rsa.PublicKey(int(first, 16), int(second, 16))
        verdict = await key.verify(bytes.fromhex(digest), bytes.fromhex(signature.strip()))
        print("%d" % verdict, end="")
asyncio.run(main())
"""

_DESCRIBE = """
import sys
from lib import x509
for line in open(sys.argv[1]):
    data = bytes.fromhex(line.strip())
    try:
        c = x509.parse(data)
        print(c.version, c.serial, c.not_before, c.not_after, c.is_ca, c.path_length,
              c.signs_code, c.unknown_critical, len(c.signed), c.key.algorithm)
    except x509.X509Error as error:
        print(error)
"""


def _judge(vm, tmp_path, lines: list[tuple[str, bool]]) -> None:
    file = tmp_path / "cases"
    file.write_text("\n".join(line for line, _ in lines))
    verdicts = vm(_VERIFY, file, heap=64).strip()
    expected = "".join("01"[good] for _, good in lines)
    assert len(verdicts) == len(lines) > 100
    wrong = [line for (line, good), got in zip(lines, verdicts, strict=True) if "01"[good] != got]
    assert verdicts == expected, wrong[:3]
    assert set(verdicts) == {"0", "1"}


def test_p256(vm, tmp_path):
    generator = random.Random(11)
    lines = []

    def case(point, digest, signature, good):
        lines.append((f"ec,{point.hex()},,{digest.hex()},{signature.hex()}", good))

    for number in range(40):
        private = cases.ec_key(number % 5)
        numbers = private.public_key().public_numbers()
        point = cases.encode((numbers.x, numbers.y))
        digest = generator.randbytes(32)
        signature = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        case(point, digest, signature, True)
        case(point, bytes(32), signature, False)
        changed = bytearray(signature)
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        case(point, digest, bytes(changed), False)
    scalars = [0, 1, 2, 15, 16, 17, cases.N - 1, cases.N - 2, 2**255, 2**128 - 1]
    for d in (1, 2, 3, cases.N - 1, 2**200):
        for u1, u2 in itertools.product(scalars, scalars[1:]):
            case(*cases.crafted(d, u1, u2), (u1 + u2 * d) % cases.N != 0)
    for r, s in itertools.product([0, 1, cases.N - 1, cases.N, cases.P, 2**256], repeat=2):
        if not (0 < r < cases.N and 0 < s < cases.N):
            case(point, digest, encode_dss_signature(r, s), False)
    _judge(vm, tmp_path, lines)


@pytest.mark.parametrize("bits, exponent", [(2048, 65537), (2048, 3), (2052, 65537)])
def test_rsa(vm, tmp_path, bits, exponent):
    generator = random.Random(bits)
    private = cases.rsa_key(bits, exponent)
    numbers = private.public_key().public_numbers()
    front = f"rsa,{numbers.n:x},{numbers.e:x},"
    lines = []
    for _ in range(35):
        message = generator.randbytes(20)
        digest = cases.sha256(message)
        signature = private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        lines.append((f"{front}{digest.hex()},{signature.hex()}", True))
        changed = bytearray(signature)
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        lines.append((f"{front}{digest.hex()},{changed.hex()}", False))
        lines.append((f"{front}{digest[::-1].hex()},{signature.hex()}", False))
    _judge(vm, tmp_path, lines)


def test_damaged_certificates(vm, tmp_path):
    """One bit of every byte, every cut, and random bytes: the VM reads what CPython reads."""
    ca = cases.root()[1]
    leaf = cases.certificate(cases.rsa_key(), cases.ec_key())
    generator = random.Random(5)
    damaged = [ca[:size] for size in range(0, len(ca), 3)]
    for data in (ca, leaf):
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 1 << generator.randrange(8)
            damaged.append(bytes(changed))
    damaged += [b"\x30" + generator.randbytes(generator.randrange(1, 200)) for _ in range(200)]
    expected = [cases.described(data) for data in damaged]
    file = tmp_path / "certificates"
    file.write_text("\n".join(data.hex() for data in damaged))
    assert vm(_DESCRIBE, file, heap=64).splitlines() == expected
    assert len(expected) > 1000
    assert sum(line.startswith("no certificate") for line in expected) > 200
