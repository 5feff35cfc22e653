"""ECDSA with P-256: NIST's vectors, the cryptography package, and every exception of the curve."""

import asyncio
import itertools
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from lib import p256
from tests_host.unit import crypto_cases as cases
from tests_host.unit.crypto_cases import N, P, verify

_SIGNATURES = cases.VECTORS / "asymmetric/ECDSA/FIPS_186-3"
_SIGVER = cases.rsp(_SIGNATURES / "SigVer.rsp", "P-256,SHA-256")
_SIGGEN = cases.rsp(_SIGNATURES / "SigGen.rsp", "P-256,SHA-256")
_PKV = cases.rsp(_SIGNATURES / "PKV.rsp", "P-256")


def _theirs(point: bytes, digest: bytes, signature: bytes) -> bool:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    try:
        key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def _nist(case):
    point = cases.encode((int(case["Qx"], 16), int(case["Qy"], 16)))
    signature = encode_dss_signature(int(case["R"], 16), int(case["S"], 16))
    return p256.PublicKey(point), cases.sha256(bytes.fromhex(case["Msg"])), signature


def test_nist_signature_verification():
    verdicts = []
    for case in _SIGVER:
        verdicts.append(verify(*_nist(case)))
        assert verdicts[-1] == case["Result"].startswith("P"), case
    assert len(verdicts) == 15
    assert set(verdicts) == {True, False}


def test_nist_signature_generation():
    assert len(_SIGGEN) == 15
    for case in _SIGGEN:
        assert verify(*_nist(case)), case


def test_nist_public_key_validation():
    verdicts = []
    for case in _PKV:
        x, y = int(case["Qx"], 16), int(case["Qy"], 16)
        try:
            # A coordinate of more than 256 bits does not even fit the form.
            p256.PublicKey(cases.encode((x, y)))
            verdicts.append(True)
        except (ValueError, OverflowError):
            verdicts.append(False)
        assert verdicts[-1] == case["Result"].startswith("P"), case
    assert len(verdicts) == 12
    assert set(verdicts) == {True, False}


def test_what_the_cryptography_package_signs_and_what_was_changed_since():
    generator = random.Random(1)
    for number in range(60):
        private = cases.ec_key(number % 7)
        point = cases.encode(
            (private.public_key().public_numbers().x, private.public_key().public_numbers().y)
        )
        key = p256.PublicKey(point)
        digest = generator.randbytes(32)
        signature = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        assert verify(key, digest, signature)
        changed = bytearray(digest)
        changed[generator.randrange(32)] ^= 1 << generator.randrange(8)
        assert not verify(key, bytes(changed), signature)
        r, s = decode_dss_signature(signature)
        assert verify(key, digest, encode_dss_signature(r, N - s))
        assert not verify(key, digest, encode_dss_signature(N - r, s))
        assert not verify(key, digest, encode_dss_signature(s, r))
        other = cases.ec_key((number + 1) % 7).public_key().public_numbers()
        assert not verify(p256.PublicKey(cases.encode((other.x, other.y))), digest, signature)


def test_numbers_at_the_edges_of_their_ranges():
    edges = [0, 1, 2, N - 2, N - 1, N, N + 1, P - N, P - N - 1, P - 1, P, 2**256 - 1, 2**256]
    digests = [bytes(32), b"\xff" * 32, N.to_bytes(32, "big"), (N - 1).to_bytes(32, "big")]
    point = cases.encode(cases.multiply(3, cases.G))
    key = p256.PublicKey(point)
    count = 0
    for r, s in itertools.product(edges, edges):
        digest = digests[count % len(digests)]
        signature = encode_dss_signature(r, s)
        assert verify(key, digest, signature) == _theirs(point, digest, signature), (r, s)
        count += 1
    private = cases.ec_key()
    numbers = private.public_key().public_numbers()
    point = cases.encode((numbers.x, numbers.y))
    for digest in digests:
        signature = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        assert verify(p256.PublicKey(point), digest, signature)
        r, s = decode_dss_signature(signature)
        for wrong in ((r + N, s), (r, s + N), (r - N, s), (r, -s), (r + N, s + N)):
            assert not verify(p256.PublicKey(point), digest, _pair(*wrong))
    assert count == len(edges) ** 2


def _pair(r: int, s: int) -> bytes:
    def integer(value):
        size = (value.bit_length() if value >= 0 else (-value - 1).bit_length()) // 8 + 1
        return b"\x02" + bytes([size]) + value.to_bytes(size, "big", signed=True)

    body = integer(r) + integer(s)
    return b"\x30" + bytes([len(body)]) + body


# A sum may meet the same point, its negative, or infinity on its way, where the usual formulas
# fail; keys that are small multiples of the base point bring that about.
_SCALARS = [*range(1, 19), 31, 32, 33, 2**255, N - 1, N - 2, N - 3, N - 16, (N + 1) // 2, N // 3]


@pytest.mark.parametrize("d", [1, 2, 3, 5, 15, 16, 2**128, N - 1, N - 2, N - 15, (N + 1) // 2])
def test_points_that_meet_on_the_way(d):
    infinite = 0
    for u1, u2 in itertools.product([0, *_SCALARS[::2]], _SCALARS[1::2]):
        point, digest, signature = cases.crafted(d, u1, u2)
        expected = (u1 + u2 * d) % N != 0
        infinite += not expected
        assert verify(p256.PublicKey(point), digest, signature) == expected, (u1, u2)
    # Infinity itself: u1 = -d * u2.
    for u2 in _SCALARS:
        point, digest, signature = cases.crafted(d, -d * u2 % N, u2)
        assert not verify(p256.PublicKey(point), digest, signature)


def _key_for(x: int, y: int, r: int, s: int, e: int) -> bytes:
    """The key with which a verifier of (r, s) and e comes to the point (x, y):
    Q = (s * (x, y) - e * G) / r."""
    difference = cases.add(cases.multiply(s % N, (x, y)), cases.multiply(N - e, cases.G))
    return cases.encode(cases.multiply(pow(r, -1, N), difference))


def _points_from(x: int, count: int):
    """Points of the curve whose abscissas follow x."""
    while count:
        square = (x**3 - 3 * x + cases.B) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            yield x, y
            count -= 1
        x += 1


def test_an_abscissa_that_is_not_below_the_order():
    """r is x modulo n: the few x from n to p - 1 must be found too (never met by chance)."""
    for x, y in _points_from(N + 1, 8):
        r, s, e = x - N, 12345 + x, 67890
        point = _key_for(x, y, r, s, e)
        digest = e.to_bytes(32, "big")
        for number, good in ((r, True), (r + 1, False), (x, False)):
            signature = encode_dss_signature(number, s % N)
            assert _theirs(point, digest, signature) == good
            assert verify(p256.PublicKey(point), digest, signature) == good


def test_the_order_is_added_to_r_below_the_prime_only():
    """Else r could stand for an x that is smaller than r, too."""
    for x, y in _points_from(1, 4):
        r, s, e = x + P - N, 12345 + x, 67890
        point = _key_for(x, y, r, s, e)
        digest, signature = e.to_bytes(32, "big"), encode_dss_signature(r, s)
        assert not _theirs(point, digest, signature)
        assert not verify(p256.PublicKey(point), digest, signature)


def test_the_form_of_a_signature_is_strict():
    private = cases.ec_key()
    numbers = private.public_key().public_numbers()
    point = cases.encode((numbers.x, numbers.y))
    key = p256.PublicKey(point)
    digest = bytes(range(32))
    signature = private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    r, s = decode_dss_signature(signature)
    assert signature == _pair(r, s)

    def integer(value, front=b""):
        body = front + value.to_bytes((value.bit_length() + 8) // 8, "big")
        return b"\x02" + bytes([len(body)]) + body

    def sequence(body):
        return b"\x30" + bytes([len(body)]) + body

    good = integer(r) + integer(s)
    assert verify(key, digest, sequence(good))
    bad = [
        b"",
        b"\x30",
        signature + b"\x00",
        signature[:-1],
        b"\x31" + signature[1:],
        b"\x30\x81" + signature[1:],
        b"\x30\x82\x00" + signature[1:],
        b"\x30\x80" + good + b"\x00\x00",
        sequence(integer(r, b"\x00") + integer(s)),
        sequence(integer(r) + integer(s, b"\x00\x00")),
        sequence(good + b"\x05\x00"),
        sequence(integer(r)),
        sequence(b""),
        sequence(b"\x02\x00" + integer(s)),
        sequence(integer(r) + b"\x02\x81\x20" + integer(s)[2:]),
        sequence(b"\x22" + integer(r)[1:] + integer(s)),
        r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        sequence(sequence(integer(r)) + integer(s)),
        b"\x30\x84\xff\xff\xff\xff" + good,
    ]
    for data in bad:
        assert not verify(key, digest, data), data.hex()
        assert not _theirs(point, digest, data), data.hex()
    for bit in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[bit >> 3] ^= 1 << (bit & 7)
        assert not verify(key, digest, bytes(changed)), bit


def test_points_that_are_no_keys():
    good = cases.encode(cases.G)
    p256.PublicKey(good)
    x, y = next(_points_from(1, 1))
    p256.PublicKey(cases.encode((x, y)))
    with pytest.raises(ValueError, match="compressed"):
        p256.PublicKey(b"\x03" + good[1:33])
    for bad in (
        b"",
        b"\x00",
        good[:-1],
        good + b"\x00",
        b"\x06" + good[1:],
        b"\x04" + bytes(64),
        good[:-1] + b"\xf6",
        cases.encode((cases.G[0], P - cases.G[1] + 1)),
        # A point whose coordinate was not reduced.
        cases.encode((x + P, y)),
    ):
        with pytest.raises(ValueError):
            p256.PublicKey(bad)


def test_a_digest_of_another_length_is_an_error():
    for size in (0, 20, 31, 33, 64):
        with pytest.raises(ValueError):
            verify(p256.PublicKey(cases.encode(cases.G)), bytes(size), b"")


def test_other_tasks_get_turns():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        counter = asyncio.create_task(count())
        point, digest, signature = cases.crafted(77, 2**255 + 12345, 2**254 + 999)
        assert await p256.PublicKey(point).verify(digest, signature)
        counter.cancel()

    asyncio.run(main())
    assert turns >= 45
