"""Keys, signatures and requests that the VM makes, judged by the cryptography package."""

import random

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests_host.unit import crypto_cases as cases

_MAKE = """
import asyncio
from lib import csr, p256_key
async def main():
    for number in range(30):
        key = await p256_key.generate()
        print(key.der().hex(), key.point.hex(), (await csr.make(key, b"vm-%d" % number)).hex())
asyncio.run(main())
"""

_SIGN = """
import asyncio, sys
from lib import p256_key
async def main():
    for line in open(sys.argv[1]):
        secret, digest = line.split(",")
        key = await p256_key.load(bytes.fromhex(secret))
        print(key.point.hex(), (await key.sign(bytes.fromhex(digest.strip()))).hex())
asyncio.run(main())
"""

_BELONGS = """
import asyncio, sys
from lib import keypair, x509
async def main():
    for line in open(sys.argv[1]):
        key, certificate = line.split(",")
        certificate = x509.parse(bytes.fromhex(certificate.strip()))
        print("%d" % await keypair.belongs(bytes.fromhex(key), certificate), end="")
asyncio.run(main())
"""


def test_generated_keys_and_requests(vm):
    points = set()
    for number, line in enumerate(vm(_MAKE, heap=48).splitlines()):
        key, point, request = map(bytes.fromhex, line.split())
        private = serialization.load_der_private_key(key, None)
        numbers = private.public_key().public_numbers()
        assert cases.encode((numbers.x, numbers.y)) == point
        theirs = x509.load_der_x509_csr(request)
        assert theirs.is_signature_valid
        assert theirs.subject == cases.name(f"vm-{number}")
        assert theirs.public_key() == private.public_key()
        points.add(point)
    assert len(points) == 30


def test_points_and_signatures(vm, tmp_path):
    """RFC 6979 allows one signature only; each is the one."""
    generator = random.Random(21)
    secrets = [1, 2, 3, 15, 16, cases.N - 1, cases.N - 2, cases.N >> 1, 1 << 80, 1 << 160]
    secrets += [1 << 240, 1 << 255, (1 << 128) - 1]
    secrets += [generator.randrange(1, cases.N) for _ in range(40)]
    digests = [bytes(32), b"\xff" * 32] + [generator.randbytes(32) for _ in secrets[2:]]
    file = tmp_path / "cases"
    file.write_text(
        "\n".join(f"{s:064x},{d.hex()}" for s, d in zip(secrets, digests, strict=True))
    )
    lines = vm(_SIGN, file, heap=48).splitlines()
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    for secret, digest, line in zip(secrets, digests, lines, strict=True):
        private = ec.derive_private_key(secret, ec.SECP256R1())
        point, signature = map(bytes.fromhex, line.split())
        assert point == cases.encode(cases.base(secret)), hex(secret)
        assert signature == private.sign(digest, algorithm), hex(secret)


def test_key_pairs(vm, tmp_path):
    keys = [cases.ec_key(), cases.ec_key(1), cases.rsa_key(), cases.rsa_key(2048, 3)]
    lines = []
    expected = ""
    for form in (
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.PrivateFormat.PKCS8,
    ):
        for one in keys:
            key = one.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
            for other in keys:
                lines.append(f"{key.hex()},{cases.certificate(other, cases.ec_key()).hex()}")
                expected += "01"[one is other]
    file = tmp_path / "cases"
    file.write_text("\n".join(lines))
    assert vm(_BELONGS, file, heap=64) == expected
