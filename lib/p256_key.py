"""Private keys of P-256: makes them, writes them, signs with them.

The key is a random number (FIPS 186-5, A.2.2); signatures are ECDSA with SHA-256 and a nonce that
is derived from key and digest (FIPS 186-5, 6.4.1; RFC 6979, 3.2).

What takes pains to keep the number secret: the multiplication of the base point does the same
doublings, additions and look-ups for every number; a random multiple of the order is added to
the number first, and the point begins with random coordinates; inversions, whose time depends on
their number, get that number times a random one; a signature is checked before it is given away,
since one that was disturbed may tell the key. What does not: the VM's arithmetic of long numbers
is not made for constant time, which entries of a table are looked up shows in their addresses,
numbers stay in the heap until something else overwrites them, and nobody looks for more than a
defect that repeats its bytes in what os.urandom() gives (on an ESP32 that is true noise only
while Wi-Fi or Bluetooth is on).
"""

import asyncio
from os import urandom

from micropython import const

from lib.p256 import N, P, PublicKey, add, inverse, number

_SEQUENCE = const(0x30)
_EIO = const(5)
# A random number is too large once in 2^32 times.
_TRIES = const(4)

# The number is cut into four teeth of this many bits; they lie side by side, and the bits of one
# place are a column.
_COLUMNS = const(80)
_TOOTH = const(10)  # bytes

# Points for columns: 2^240 +- 2^160 +- 2^80 +- 1 times the base point, plus where the bits 2, 1
# and 0 of the point's place in the table are set; x and then 2 y, 32 bytes each.
_POINTS = (
    b"\x9e\x56\x2e\x25\x69\x5d\x52\x74\x3f\x07\xac\x5f\x09\x2f\x99\xb9"
    b"\x8e\x22\xc0\xd0\x7c\x03\x2a\x4a\x4f\xa5\x6d\xe2\x59\x28\x99\xde"
    b"\xdb\x88\xc3\x5a\xe3\x61\x14\xf0\xc3\x8d\xcc\x61\x14\x8f\x81\x7d"
    b"\x35\x94\x79\xae\x9f\x4d\x80\xef\x86\x58\x14\x75\x91\x72\xa8\x8e"
    b"\x9c\x08\x70\xe3\xe8\x26\x97\xd6\x2a\xc1\xab\xdc\xb9\x31\x99\x07"
    b"\x84\xd3\xf8\x19\x9e\x2c\x15\x06\xdb\xa5\x73\xed\x1d\x4e\x7c\xfa"
    b"\x13\x36\xdd\x52\xd0\xdd\xd3\x2d\x23\x18\xcc\xd9\x61\x66\x20\x87"
    b"\xe7\xc5\x41\x55\x87\x87\xdb\xf8\xe2\x05\x7e\x14\x85\xe2\x4b\x5a"
    b"\x34\xb1\xdc\x62\x19\x30\xce\x69\x54\x92\xe0\x86\xc4\xd0\x6b\x0b"
    b"\x0f\x17\x50\x6e\x91\xeb\xe0\x78\x12\x98\x3c\x0a\xe0\x34\x68\xfb"
    b"\xb9\x2a\xbc\xd4\x51\x4d\xe7\xf8\xa8\x14\x9b\xa8\x00\xdf\x2c\x9d"
    b"\xac\x4d\xdb\xe7\xa6\x49\x9e\xe4\xa4\x8e\x4a\x81\xae\x5d\xf6\x44"
    b"\xd2\xe9\x64\x04\xd5\xda\xc4\x59\xdd\xa8\xba\x26\x47\x16\x3e\x06"
    b"\x9c\x0f\xd5\x6a\x3c\x61\x8e\x34\x4f\x4e\x4e\x8a\x96\x61\xf4\x9c"
    b"\xd9\xb8\xb7\xcf\x4a\x19\xd6\x04\x89\x30\x88\x8c\x31\x92\x39\x82"
    b"\x55\x18\xb4\xf3\xd9\xea\xa6\xe3\x41\x31\x70\x19\xec\xf7\x6a\x1d"
    b"\x52\x6a\xdf\xf8\x11\x4e\x46\x70\xb0\xd0\x33\x81\x82\xc4\x57\x47"
    b"\x9d\x1c\xd2\x2c\x68\xbc\x9f\x8d\xc2\x20\x2c\x65\x41\x58\x1d\x76"
    b"\xa6\xec\x95\x58\xc7\xc8\xe3\xa2\x41\x2c\x9f\xb8\x5e\x19\xd6\x34"
    b"\x0b\xba\x9b\x1d\x0c\x99\x4d\x5a\x9e\x56\xd9\xa4\x8e\x3f\x45\x88"
    b"\xec\x86\x54\x80\xd8\xbd\xdb\x43\xc2\x1e\x46\x91\x5d\xa9\xb4\x7e"
    b"\xe4\x2c\x02\x77\x54\x1f\xe7\xb3\x81\xba\xed\x98\x42\x1c\x3f\x5f"
    b"\x40\xa5\x0d\x79\xcd\xdc\xbb\x0d\xe0\x5e\x1b\x21\x4c\x6d\x33\x57"
    b"\x68\xe4\xb5\x7b\xbb\x80\x59\xb3\xf0\x83\x93\x7f\xd5\x48\x97\xd7"
    b"\x86\x0d\x76\x93\x4c\x8a\xf4\x3c\x26\xc7\xb5\x41\x9c\x38\x99\x75"
    b"\x27\x31\x47\x6e\xe5\xeb\x0e\x43\x17\x47\xbf\x3c\x62\xbf\x95\x8c"
    b"\x9c\x19\x85\x25\xc4\xbf\x80\x2e\x5d\xc2\xf6\xf0\xe8\x76\x6f\xd2"
    b"\xa3\x9a\x5a\x8d\x66\xe1\x30\x08\x9f\xd6\x2c\xbd\x50\x31\xe0\x67"
    b"\x6f\xcc\x75\xe6\xb7\x97\x72\xa9\x5e\xdd\x93\xfc\x7c\x6a\x30\x71"
    b"\x6c\x19\xc5\x64\x5e\x27\x2d\xdf\x69\xa6\x50\x13\xf8\x3a\x3c\x1d"
    b"\x41\xd5\x83\x96\xe6\x03\x94\xfc\x28\xa0\x31\xf4\x8e\x21\x07\xa3"
    b"\x55\xcc\x15\x61\x1f\xa5\xf4\x63\xe7\xab\x1c\x6b\xab\x85\x04\x0f"
)


async def generate():
    """A new PrivateKey. Gives way to other tasks at every step.

    Its public point lies on the curve; that it is the number's own shows with the first signature
    (lib.csr makes one), which would be refused. OSError when the random numbers are none, or the
    chip miscalculates.
    """
    return await load(_random().to_bytes(32, "big"))


async def load(secret):
    """The PrivateKey whose number is `secret` (32 bytes, the highest first).

    ValueError when that is no key, OSError as with generate().
    """
    k = int.from_bytes(secret, "big")
    if len(secret) != 32 or not 0 < k < N:
        raise ValueError("not a P-256 key")
    point = await _last(_multiple(k))
    try:
        return PrivateKey(secret, point)
    except ValueError as error:
        raise OSError(_EIO, str(error))


class PrivateKey:
    """Made by generate() or load(). point: the public key (SEC 1, 2.3.3: 04, x, y)."""

    def __init__(self, secret, point):
        self._secret = secret
        self._public = PublicKey(point)
        self.point = point

    def der(self):
        """The key in DER (RFC 5915), with its curve's name and its public point: a secret."""
        return (
            b"\x30\x77\x02\x01\x01\x04\x20"
            + self._secret
            + b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\xa1\x44\x03\x42\x00"
            + self.point
        )

    async def sign(self, digest):
        """The signature (DER, RFC 3279, 2.2.3) of a SHA-256 `digest` of 32 bytes, the same every
        time. Gives way to other tasks at every step.

        ValueError for a digest of another size; OSError as with generate().
        """
        return await _last(self._steps(digest))

    def _steps(self, digest):
        if len(digest) != 32:
            raise ValueError("digest is not 32 bytes")
        # The library is only loaded for signatures, as hmac_sha256 is.
        from lib.der_writer import unsigned, value

        d = int.from_bytes(self._secret, "big")
        e = int.from_bytes(digest, "big") % N
        for k in _nonces(self._secret, e):
            yield
            point = yield from _multiple(k)
            r = number(point[1:], 0) % N
            # (e + d * r) / k, both sides of the fraction times a random number.
            b = _random()
            w = yield from inverse(k * b % N, N)
            s = (e * b + d * b % N * r) % N * w % N
            if r and s:
                break
        signature = value(_SEQUENCE, unsigned(r), unsigned(s))
        good = False
        yield
        for step in self._public.steps(digest, signature):
            good = step
            yield
        if not good:
            raise OSError(_EIO, "signature is wrong")
        yield signature


async def _last(steps):
    # Runs a generator's steps; the last gives the result.
    result = None
    for step in steps:
        result = step
        await asyncio.sleep(0)
    return result


def _random():
    # From 1 to N - 1, all equally likely. Bytes that repeat themselves are none by chance.
    for _ in range(_TRIES):
        data = urandom(32)
        k = int.from_bytes(data, "big")
        if 0 < k < N and data != urandom(32):
            return k
    raise OSError(_EIO, "no random numbers")


def _nonces(secret, e):
    # RFC 6979, 3.2; more than the first are asked for once in 2^32 times.
    from lib.hmac_sha256 import digest

    seed = secret + e.to_bytes(32, "big")
    key = bytes(32)
    v = b"\x01" * 32
    for i in (b"\x00", b"\x01"):
        key = digest(key, v, i, seed)
        v = digest(key, v)
    while True:
        v = digest(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < N:
            yield k
        key = digest(key, v, b"\x00")
        v = digest(key, v)


def _column(bits, i):
    # The point for column i: the highest of its four bits is the sign, the others choose.
    at = i >> 3
    i &= 7
    sign = bits[at + 3 * _TOOTH] >> i & 1
    place = (
        (bits[at] >> i & 1)
        | (bits[at + _TOOTH] >> i & 1) << 1
        | (bits[at + 2 * _TOOTH] >> i & 1) << 2
    )
    # Of a negative point the others are turned round.
    place = (place ^ 7 * (1 - sign)) << 1
    v = number(_POINTS, place + 1)
    return number(_POINTS, place), (P - v, v)[sign]


def _multiple(k):
    # k times the base point (65 bytes) for 0 < k < N; a generator that ends with yielding it, and
    # returns it too.
    p = P
    # An odd number that stands for the same point: it can be written with the digits 1 and -1
    # alone, so that no column is zero. A bit that is set is a 1, the others are -1.
    k += (int.from_bytes(urandom(8), "big") >> 1 << 1 | (k & 1 ^ 1)) * N
    bits = (k >> 1 | 1 << (4 * _COLUMNS - 1)).to_bytes(4 * _TOOTH, "little")
    i = _COLUMNS - 1
    x, v = _column(bits, i)
    z = _random()
    d = z * z % p
    x = x * d % p
    v = v * d % p * z % p
    while i:
        i -= 1
        d = z * z % p
        b = v * v % p
        a = 3 * (x - d) * (x + d) % p
        z = v * z % p
        d = x * b % p
        x = (a * a - d - d) % p
        v = ((a + a) * (d - x) - b * b) % p
        x, v, z = add(x, v, z, _column(bits, i), p)
        if i & 1:
            yield
    z = yield from inverse(z, p)
    d = z * z % p
    v = v * d % p * z % p
    # Half of v modulo p.
    y = v + (v & 1) * p >> 1
    point = b"\x04" + (x * d % p).to_bytes(32, "big") + y.to_bytes(32, "big")
    yield point
    return point
