"""Keys and signatures of P-256: RFC 6979, the cryptography package, the edges of the range, and
what must not be seen from outside: bad randomness, disturbed arithmetic, the number's bits."""

import asyncio
import hashlib
import hmac
import itertools
import random

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import p256, p256_key
from tests_host.unit import crypto_cases as cases
from tests_host.unit.crypto_cases import N

# RFC 6979, A.2.5.
_SECRET = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
_POINT = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
_RFC_6979 = {
    b"sample": (
        0xA6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60,
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    b"test": (
        0xD16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0,
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
}

EDGES = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, N - 1, N - 2, N - 3, N - 16, (N - 1) // 2, (N + 1) // 2]
EDGES += [1 << bit for bit in range(5, 256)]
EDGES += [(1 << bit) - 1 for bit in (32, 64, 79, 80, 81, 128, 160, 192, 240, 241, 255)]
EDGES += [N - (1 << bit) for bit in (32, 79, 80, 160, 224, 240, 255)]


def load(secret: int):
    return asyncio.run(p256_key.load(secret.to_bytes(32, "big")))


def sign(key, digest: bytes) -> bytes:
    return asyncio.run(key.sign(digest))


def _theirs(secret: int, digest: bytes) -> bytes:
    """The one signature that RFC 6979 allows."""
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    return ec.derive_private_key(secret, ec.SECP256R1()).sign(digest, algorithm)


def _stream(data: bytes):
    """An os.urandom that gives these bytes, and after them others that are the same every time."""
    generator = random.Random(data)
    rest = bytearray(data)

    def urandom(size):
        taken = bytes(rest[:size])
        del rest[:size]
        return taken + generator.randbytes(size - len(taken))

    return urandom


@pytest.mark.parametrize("message", _RFC_6979)
def test_rfc_6979(message):
    nonce, r, s = _RFC_6979[message]
    key = load(_SECRET)
    assert key.point == cases.encode(_POINT)
    digest = cases.sha256(message)
    e = int.from_bytes(digest, "big") % N
    assert next(p256_key._nonces(_SECRET.to_bytes(32, "big"), e)) == nonce
    assert sign(key, digest) == encode_dss_signature(r, s)


def test_points_are_those_of_the_cryptography_package():
    generator = random.Random(3)
    for secret in EDGES + [generator.randrange(1, N) for _ in range(300)]:
        assert load(secret).point == cases.encode(cases.base(secret)), hex(secret)


def _blind(k: int, multiple: int):
    """The point for k when this multiple of the order is added."""
    stream = _stream((multiple & ~1).to_bytes(8, "big"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(p256_key, "urandom", stream)
        return list(p256_key._multiple(k))[-1]


def test_the_edges_with_any_blind():
    """The additions' exceptions: with these blinds small numbers stay small."""
    blinds = [0, 2, 4, 2**64 - 2, 2**63, 0x5555555555555554]
    for secret, blind in itertools.product(EDGES[:40] + EDGES[-18:], blinds):
        assert _blind(secret, blind) == cases.encode(cases.base(secret)), (secret, blind)


@settings(max_examples=150)
@given(st.integers(1, N - 1), st.integers(0, 2**64 - 1))
def test_any_number_with_any_blind(secret, blind):
    assert _blind(secret, blind) == cases.encode(cases.base(secret))


def test_signatures_are_those_of_the_cryptography_package():
    generator = random.Random(4)
    digests = [bytes(32), b"\xff" * 32, N.to_bytes(32, "big"), (N - 1).to_bytes(32, "big")]
    digests += [(N + 1).to_bytes(32, "big"), (1).to_bytes(32, "big")]
    secrets = EDGES[:16] + [generator.randrange(1, N) for _ in range(180)]
    lengths = set()
    for number, secret in enumerate(secrets):
        digest = digests[number] if number < len(digests) else generator.randbytes(32)
        key = load(secret)
        signature = sign(key, digest)
        assert signature == _theirs(secret, digest), (hex(secret), digest.hex())
        assert cases.verify(p256.PublicKey(key.point), digest, signature)
        lengths.add(len(signature))
    # Numbers with a byte 00 before them, and shorter ones.
    assert len(lengths) > 2


def _reference_nonces(secret: int, e: int, order: int):
    """RFC 6979, 3.2, for an order of 256 bits."""

    def mac(key, data):
        return hmac.new(key, data, hashlib.sha256).digest()

    seed = secret.to_bytes(32, "big") + e.to_bytes(32, "big")
    v = b"\x01" * 32
    k = mac(bytes(32), v + b"\x00" + seed)
    v = mac(k, v)
    k = mac(k, v + b"\x01" + seed)
    v = mac(k, v)
    while True:
        v = mac(k, v)
        if 0 < int.from_bytes(v, "big") < order:
            yield int.from_bytes(v, "big")
        k = mac(k, v + b"\x00")
        v = mac(k, v)


@pytest.mark.parametrize("order", [N, N >> 2, N >> 4])
def test_nonces_that_are_out_of_range_are_passed_over(order, monkeypatch):
    """With the order itself that happens once in 2^32 times; smaller ones show it."""
    monkeypatch.setattr(p256_key, "N", order)
    ours = p256_key._nonces(_SECRET.to_bytes(32, "big"), 12345)
    expected = _reference_nonces(_SECRET, 12345, order)
    assert list(itertools.islice(ours, 8)) == list(itertools.islice(expected, 8))


def test_a_nonce_that_gives_no_signature_is_passed_over(monkeypatch):
    """s = 0: e = -d * r."""
    secret, nonce = 5, 77
    r = cases.base(nonce)[0] % N
    digest = (-secret * r % N).to_bytes(32, "big")
    key = load(secret)
    monkeypatch.setattr(p256_key, "_nonces", lambda *_: iter([nonce, 78]))
    r, s = decode_dss_signature(sign(key, digest))
    assert r == cases.base(78)[0] % N
    assert cases.verify(p256.PublicKey(key.point), digest, encode_dss_signature(r, s))


def test_an_abscissa_that_is_not_below_the_order(monkeypatch):
    """r is x modulo the order; nobody knows a nonce for such an x, so one is made up."""
    x, nonce, secret = N + 5, 99, 1234
    made_up = cases.encode((x, 0))

    def multiple(_):
        yield
        return made_up

    key = load(secret)
    monkeypatch.setattr(p256_key, "_multiple", multiple)
    monkeypatch.setattr(p256_key, "_nonces", lambda *_: iter([nonce]))
    monkeypatch.setattr(key._public, "steps", lambda *_: iter([True]))
    r, s = decode_dss_signature(sign(key, bytes(32)))
    assert r == 5
    assert s * nonce % N == 5 * secret


def test_the_key_in_der():
    generator = random.Random(5)
    for secret in [1, N - 1, 1 << 200] + [generator.randrange(1, N) for _ in range(200)]:
        key = load(secret)
        private = serialization.load_der_private_key(key.der(), None)
        assert private.private_numbers().private_value == secret
        assert key.der() == private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )


def test_generated_keys():
    points = set()
    for _ in range(100):
        key = asyncio.run(p256_key.generate())
        private = serialization.load_der_private_key(key.der(), None)
        numbers = private.public_key().public_numbers()
        assert key.point == cases.encode((numbers.x, numbers.y))
        points.add(key.point)
        digest = cases.sha256(key.point)
        signature = sign(key, digest)
        private.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert len(points) == 100


def test_a_key_shows_nothing_of_its_number():
    key = load(_SECRET)
    for text in (repr(key), str(key)):
        assert f"{_SECRET:x}" not in text
        assert str(_SECRET) not in text
        assert "c9af" not in text.lower()


@pytest.mark.parametrize(
    "secret",
    [b"", bytes(32), N.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33,
     b"\x00" + b"\x01" * 32],
)  # fmt: skip
def test_what_is_no_key(secret):
    with pytest.raises(ValueError, match="not a P-256 key"):
        asyncio.run(p256_key.load(secret))


@pytest.mark.parametrize("size", [0, 20, 31, 33, 64])
def test_a_digest_of_another_size(size):
    with pytest.raises(ValueError, match="digest"):
        sign(load(7), bytes(size))


# Randomness.


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x55])
def test_bytes_that_are_always_the_same_make_no_key(byte, monkeypatch):
    monkeypatch.setattr(p256_key, "urandom", lambda size: bytes([byte]) * size)
    with pytest.raises(OSError, match="random") as caught:
        asyncio.run(p256_key.generate())
    assert caught.value.errno == 5


def test_randomness_that_repeats_itself_every_32_bytes_makes_no_key(monkeypatch):
    data = bytes(range(1, 33))
    monkeypatch.setattr(p256_key, "urandom", lambda size: data[:size])
    with pytest.raises(OSError, match="random"):
        asyncio.run(p256_key.generate())
    # Nor a signature: its numbers could not be hidden.
    monkeypatch.undo()
    key = load(7)
    monkeypatch.setattr(p256_key, "urandom", lambda size: data[:size])
    with pytest.raises(OSError, match="random"):
        sign(key, bytes(32))


def test_numbers_that_are_out_of_range_are_passed_over(monkeypatch):
    """Not taken modulo the order: that would make small keys likelier."""
    first = [bytes(32), N.to_bytes(32, "big"), b"\xff" * 32]
    good = 0x1234567890
    for before in (first[:0], first[:1], first[:2], first):
        monkeypatch.setattr(p256_key, "urandom", _stream(b"".join(_pairs([*before, good]))))
        key = asyncio.run(p256_key.generate())
        assert key.point == cases.encode(cases.base(good))


def _pairs(numbers):
    """What is asked for: a number, and after one that is in range another for comparison."""
    for number in numbers:
        data = number if isinstance(number, bytes) else number.to_bytes(32, "big")
        yield data
        if 0 < int.from_bytes(data, "big") < N:
            yield b"\x77" * 32


def test_the_ends_of_the_range_are_keys(monkeypatch):
    for number in (1, N - 1):
        monkeypatch.setattr(p256_key, "urandom", _stream(b"".join(_pairs([number]))))
        key = asyncio.run(p256_key.generate())
        assert key.point == cases.encode(cases.base(number))


# Faults.


class _Fault:
    """Stands for a function, and spoils the result of one of its calls."""

    def __init__(self, function, when):
        self.function = function
        self.when = when
        self.calls = 0

    def __call__(self, *args):
        result = self.function(*args)
        self.calls += 1
        if self.calls != self.when:
            return result
        if hasattr(result, "send"):
            return self._spoiled(result)
        if isinstance(result, tuple):
            return (result[0] ^ 1, *result[1:])
        return result ^ 1

    @staticmethod
    def _spoiled(steps):
        return (yield from steps) ^ 1


@pytest.mark.parametrize(
    "name, when", [("add", 1), ("add", 40), ("add", 79), ("inverse", 1), ("inverse", 2),
                   ("_random", 3), ("_column", 5), ("_column", 80)],
)  # fmt: skip
def test_a_disturbed_signature_is_never_given_away(name, when, monkeypatch):
    key = load(_SECRET)
    digest = cases.sha256(b"sample")
    good = sign(key, digest)
    # Another random number changes nothing; any other spoiled number must show.
    fault = _Fault(getattr(p256_key, name), when)
    monkeypatch.setattr(p256_key, name, fault)
    if name == "_random":
        assert sign(key, digest) == good
        return
    with pytest.raises(OSError, match="wrong") as caught:
        sign(key, digest)
    assert caught.value.errno == 5
    assert fault.calls >= when
    # And nothing is left of it.
    assert sign(key, digest) == good


@pytest.mark.parametrize("name, when", [("add", 1), ("add", 79), ("_column", 33), ("inverse", 1)])
def test_a_disturbed_key_is_never_given_away(name, when, monkeypatch):
    monkeypatch.setattr(p256_key, name, _Fault(getattr(p256_key, name), when))
    with pytest.raises(OSError, match="curve") as caught:
        asyncio.run(p256_key.generate())
    assert caught.value.errno == 5


# Regularity.


def _calls(monkeypatch, name, action):
    """The arguments of every call of a function of the library."""
    calls = []
    function = getattr(p256_key, name)

    def recorded(*args):
        calls.append(args)
        return function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(p256_key, name, recorded)
        action()
    return calls


@pytest.mark.parametrize("secret", [1, 2, 3, 1 << 80, 1 << 255, N - 1, N - 2, _SECRET])
def test_every_number_takes_the_same_road(secret, monkeypatch):
    """As many additions, none with infinity and none of a point with itself; as many look-ups."""
    additions = _calls(monkeypatch, "add", lambda: load(secret))
    assert len(additions) == 79
    for x, _, z, point, p in additions:
        assert z
        assert (point[0] * z * z - x) % p
    columns = _calls(monkeypatch, "_column", lambda: load(secret))
    assert [i for _, i in columns] == list(range(79, -1, -1))
    assert len(list(p256_key._multiple(secret))) in range(40, 45)


def test_the_same_number_never_shows_the_same_digits(monkeypatch):
    def digits():
        return _calls(monkeypatch, "_column", lambda: load(_SECRET))[0][0]

    seen = {bytes(digits()) for _ in range(20)}
    assert len(seen) == 20
    # No place keeps its bit, but the sign of the whole, which is always 1, and the lowest ones
    # have nothing to tell.
    first = int.from_bytes(seen.pop(), "little")
    changed = 0
    for other in seen:
        changed |= first ^ int.from_bytes(other, "little")
    assert changed.bit_count() > 300
    for bits in [first, *(int.from_bytes(other, "little") for other in seen)]:
        assert (2 * bits - (2**320 - 1)) % N == _SECRET


def test_the_same_point_never_shows_the_same_coordinates(monkeypatch):
    """Nor is the number inverted that would tell something of the secret ones."""
    key = load(_SECRET)
    seen = set()
    for _ in range(10):
        calls = _calls(monkeypatch, "inverse", lambda: sign(key, bytes(32)))
        assert [m for _, m in calls] == [p256.P, N]
        seen.update(a for a, _ in calls)
    assert len(seen) == 20


def test_the_first_coordinates_are_random(monkeypatch):
    """Not only the multiple of the order: with the same one, other numbers are met on the way."""
    whole = p256_key.urandom
    monkeypatch.setattr(p256_key, "urandom", lambda size: whole(size) if size > 8 else bytes(8))
    seen = set()
    for _ in range(10):
        additions = _calls(monkeypatch, "add", lambda: load(_SECRET))
        assert [point for _, _, _, point, _ in additions[:2]] == [
            p256_key._column((_SECRET + 2**320 - 1 >> 1).to_bytes(40, "little"), i)
            for i in (78, 77)
        ]
        seen.update(number for call in additions for number in call[:3])
    assert len(seen) == 10 * 3 * 79
