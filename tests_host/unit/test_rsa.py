"""RSA PKCS #1 v1.5 with SHA-256: NIST's vectors, the cryptography package, and forged blocks."""

import itertools
import math
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from lib import rsa
from tests_host.unit import crypto_cases as cases
from tests_host.unit.crypto_cases import verify

_FOLDER = cases.VECTORS / "asymmetric/RSA/FIPS_186-2"
_SIZES = (2048, 3072, 4096)


def _nist(file: str, bits: int) -> list[tuple]:
    found = []
    for case in cases.rsp(_FOLDER / file, f"mod = {bits}"):
        if case["SHAAlg"] == "SHA256":
            key = rsa.PublicKey(int(case["n"], 16), int(case["e"], 16))
            digest = cases.sha256(bytes.fromhex(case["Msg"]))
            good = case.get("Result", "P").startswith("P")
            found.append((key, digest, bytes.fromhex(case["S"]), good))
    return found


def _ours(private) -> rsa.PublicKey:
    numbers = private.public_key().public_numbers()
    return rsa.PublicKey(numbers.n, numbers.e)


def _accepted(private, message: bytes, signature: bytes) -> bool:
    try:
        private.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("bits", _SIZES)
def test_nist_signature_verification(bits):
    verdicts = []
    for key, digest, signature, good in _nist("SigVer15_186-3.rsp", bits):
        verdicts.append(verify(key, digest, signature))
        assert verdicts[-1] == good
    assert len(verdicts) == 18
    assert verdicts.count(True) == 3


@pytest.mark.parametrize("bits", _SIZES)
def test_nist_signature_generation(bits):
    found = _nist("SigGen15_186-3.rsp", bits) + (
        _nist("SigGen15_186-2.rsp", bits) if bits < 4096 else []
    )
    assert len(found) >= 10
    for key, digest, signature, _ in found:
        assert verify(key, digest, signature)


@pytest.mark.parametrize("bits, exponent", [(2048, 65537), (2048, 3), (2052, 65537), (3072, 3)])
def test_what_the_cryptography_package_signs_and_what_was_changed_since(bits, exponent):
    generator = random.Random(bits + exponent)
    private = cases.rsa_key(bits, exponent)
    key = _ours(private)
    for _ in range(15):
        message = generator.randbytes(50)
        digest = cases.sha256(message)
        signature = private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        assert len(signature) == (bits + 7) // 8
        assert verify(key, digest, signature)
        for _ in range(5):
            changed = bytearray(signature)
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
            assert not verify(key, digest, bytes(changed))
            changed = bytearray(digest)
            changed[generator.randrange(32)] ^= 1 << generator.randrange(8)
            assert not verify(key, bytes(changed), signature)
        # Another number that is the same modulo n, and other lengths of the same number.
        number = int.from_bytes(signature, "big") + key.modulus
        if number.bit_length() <= 8 * len(signature):
            assert not verify(key, digest, number.to_bytes(len(signature), "big"))
        for wrong in (b"\0" + signature, signature[:-1], signature + b"\0", b"", bytes(256)):
            assert not verify(key, digest, wrong)
    other = cases.rsa_key(2048, 3 if exponent != 3 else 65537)
    assert not verify(_ours(other), digest, signature)


_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def _blocks(digest: bytes, size: int) -> dict[str, bytes]:
    def block(info, front=b"\x00\x01", fill=b"\xff", zero=b"\x00"):
        return front + fill * (size - len(front) - len(zero) - len(info)) + zero + info

    info = _INFO + digest
    short = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest
    ber = b"\x30\x81\x31" + info[2:]
    return {
        "good": block(info),
        "no parameters": block(short),
        "BER length": block(ber),
        "block type 0": block(info, b"\x00\x00", b"\x00"),
        "block type 2": block(info, b"\x00\x02"),
        "first byte 1": block(info, b"\x01\x01"),
        "padding of zeros": block(info, fill=b"\x00"),
        "padding of fe": block(info, fill=b"\xfe"),
        "one wrong byte of padding": block(info)[:50] + b"\xfe" + block(info)[51:],
        "no zero": block(info, zero=b"\xff"),
        "digest only": block(digest),
        "bytes behind the digest": b"\x00\x01" + b"\xff" * 8 + b"\x00" + info + bytes(size - 62),
        "hash moved left": b"\x00\x01" + b"\xff" * (size - 64) + b"\x00" + info + b"\x05" * 10,
        "SHA-1's identifier": block(bytes.fromhex("3021300906052b0e03021a05000414") + digest[:20]),
        "SHA-512's identifier": block(_INFO.replace(b"\x02\x01\x05", b"\x02\x03\x05") + digest),
        "digest cut short": block(_INFO + digest[:31]),
    }


def test_only_one_block_is_right():
    private = cases.rsa_key(2048, 3)
    numbers = private.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    message = b"message"
    blocks = _blocks(cases.sha256(message), 256)
    for name, block in blocks.items():
        signature = pow(int.from_bytes(block, "big"), d, n).to_bytes(256, "big")
        accepted = verify(_ours(private), cases.sha256(message), signature)
        assert accepted == (name == "good"), name
        if name != "no parameters":
            assert accepted == _accepted(private, message, signature), name


def test_a_cube_root_is_no_signature():
    """With exponent 3 and a reader that looks at the front only, anybody could sign."""
    digest = cases.sha256(b"message")
    front = b"\x00\x01" + b"\xff" * 8 + b"\x00" + _INFO + digest
    target = int.from_bytes(front + b"\xff" * (256 - len(front)), "big")
    low, high = 0, 1 << 700
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= target else (low, middle)
    assert (low**3).to_bytes(256, "big").startswith(front)
    key = _ours(cases.rsa_key(2048, 3))
    assert not verify(key, digest, low.to_bytes(256, "big"))


def test_sizes_and_exponents():
    n = cases.rsa_key().public_key().public_numbers().n
    for bits in (2048, 2049, 3000, 4095, 4096):
        rsa.PublicKey(1 << (bits - 1) | 1, 65537)
    for bits in (0, 1, 512, 1024, 2047, 4097, 8192):
        with pytest.raises(ValueError, match="modulus"):
            rsa.PublicKey((1 << bits >> 1) | 1, 65537)
    with pytest.raises(ValueError, match="modulus"):
        rsa.PublicKey(n - 1, 65537)
    for exponent in (3, 5, 17, 65537, 2**32 - 1):
        rsa.PublicKey(n, exponent)
    for exponent in (0, 1, 2, 65536, 2**32 + 1, n - 2):
        with pytest.raises(ValueError, match="exponent"):
            rsa.PublicKey(n, exponent)
    for size in (0, 20, 31, 33):
        with pytest.raises(ValueError):
            verify(rsa.PublicKey(n, 3), bytes(size), bytes(256))


@pytest.mark.parametrize("exponent", [257, 2**31 + 11, 2**32 - 5])
def test_exponents_of_all_lengths(exponent):
    """A key made for the exponent: p and q for which it has an inverse."""
    numbers = [cases.rsa_key(4096).private_numbers(), cases.rsa_key().private_numbers()]
    primes = [prime for each in numbers for prime in (each.p, each.q)]
    p, q = next(
        (p, q)
        for p, q in itertools.combinations(primes, 2)
        if math.gcd((p - 1) * (q - 1), exponent) == 1 and (p * q).bit_length() <= 4096
    )
    size = ((p * q).bit_length() + 7) // 8
    digest = cases.sha256(b"message")
    block = int.from_bytes(_blocks(digest, size)["good"], "big")
    s = pow(block, pow(exponent, -1, (p - 1) * (q - 1)), p * q)
    assert verify(rsa.PublicKey(p * q, exponent), digest, s.to_bytes(size, "big"))
    assert not verify(rsa.PublicKey(p * q, exponent), bytes(32), s.to_bytes(size, "big"))
    assert not verify(rsa.PublicKey(p * q, exponent ^ 2), digest, s.to_bytes(size, "big"))


def test_it_gives_way_in_every_multiplication():
    private = cases.rsa_key()
    signature = private.sign(b"m", padding.PKCS1v15(), hashes.SHA256())
    steps = list(_ours(private).steps(cases.sha256(b"m"), signature))
    # 65537 is sixteen squarings and a multiplication, each in three steps.
    assert steps == [False] * 51 + [True]
