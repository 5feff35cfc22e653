"""Checks ECDSA signatures made with NIST P-256 and SHA-256 (FIPS 186-5, 6.4.2; SEC 1, 4.1.4).

A point is (x, v, z): its affine coordinates are x / z^2 and v / (2 z^3); z = 0 is the point at
infinity. With twice the ordinate the formulas need no factors 4 and 8. Nothing here is secret,
so nothing takes pains to run in constant time; lib.p256_key, which uses the arithmetic for
numbers that are, hides them from it.
"""

import asyncio

# Numbers of 32 bytes (SP 800-186, 3.2.1.3): the prime of the field, the order of the base point,
# the curve's coefficient b, then x and y of the base point times 1, 3, 5 ... 15.
_NUMBERS = (
    b"\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"
    b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
    b"\x5a\xc6\x35\xd8\xaa\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc"
    b"\x65\x1d\x06\xb0\xcc\x53\xb0\xf6\x3b\xce\x3c\x3e\x27\xd2\x60\x4b"
    b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2"
    b"\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96"
    b"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16"
    b"\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5"
    b"\x5e\xcb\xe4\xd1\xa6\x33\x0a\x44\xc8\xf7\xef\x95\x1d\x4b\xf1\x65"
    b"\xe6\xc6\xb7\x21\xef\xad\xa9\x85\xfb\x41\x66\x1b\xc6\xe7\xfd\x6c"
    b"\x87\x34\x64\x0c\x49\x98\xff\x7e\x37\x4b\x06\xce\x1a\x64\xa2\xec"
    b"\xd8\x2a\xb0\x36\x38\x4f\xb8\x3d\x9a\x79\xb1\x27\xa2\x7d\x50\x32"
    b"\x51\x59\x0b\x7a\x51\x51\x40\xd2\xd7\x84\xc8\x56\x08\x66\x8f\xdf"
    b"\xef\x8c\x82\xfd\x1f\x5b\xe5\x24\x21\x55\x4a\x0d\xc3\xd0\x33\xed"
    b"\xe0\xc1\x7d\xa8\x90\x4a\x72\x7d\x8a\xe1\xbf\x36\xbf\x8a\x79\x26"
    b"\x0d\x01\x2f\x00\xd4\xd8\x08\x88\xd1\xd0\xbb\x44\xfd\xa1\x6d\xa4"
    b"\x8e\x53\x3b\x6f\xa0\xbf\x7b\x46\x25\xbb\x30\x66\x7c\x01\xfb\x60"
    b"\x7e\xf9\xf8\xb8\xa8\x0f\xef\x5b\x30\x06\x28\x70\x31\x87\xb2\xa3"
    b"\x73\xeb\x1d\xbd\xe0\x33\x18\x36\x6d\x06\x9f\x83\xa6\xf5\x90\x00"
    b"\x53\xc7\x36\x33\xcb\x04\x1b\x21\xc5\x5e\x1a\x86\xc1\xf4\x00\xb4"
    b"\xea\x68\xd7\xb6\xfe\xdf\x0b\x71\x87\x89\x38\xd5\x1d\x71\xf8\x72"
    b"\x9e\x0a\xcb\x8c\x2c\x6d\xf8\xb3\xd7\x9e\x8a\x4b\x90\x94\x9e\xe0"
    b"\x2a\x27\x44\xc9\x72\xc9\xfc\xe7\x87\x01\x4a\x96\x4a\x8e\xa0\xc8"
    b"\x4d\x71\x4f\xea\xa4\xde\x82\x3f\xe8\x5a\x22\x4a\x4d\xd0\x48\xfa"
    b"\x3e\xd1\x13\xb7\x88\x3b\x4c\x59\x06\x38\x37\x9d\xb0\xc2\x1c\xda"
    b"\x16\x74\x2e\xd0\x25\x50\x48\xbf\x43\x33\x91\xd3\x74\xbc\x21\xd1"
    b"\x90\x99\x20\x9a\xcc\xc4\xc8\xa2\x24\xc8\x43\xaf\xa4\xf4\xc6\x8a"
    b"\x09\x0d\x04\xda\x5e\x98\x89\xda\xe2\xf8\xee\xfc\xe8\x2a\x37\x40"
    b"\x17\x7c\x83\x7a\xe0\xac\x49\x5a\x61\x80\x5d\xf2\xd8\x5e\xe2\xfc"
    b"\x79\x2e\x28\x4b\x65\xea\xd5\x8a\x98\xe1\x5d\x9d\x46\x07\x2c\x01"
    b"\x63\xbb\x58\xcd\x4e\xbe\xa5\x58\xa2\x40\x91\xad\xb4\x0f\x4e\x72"
    b"\x26\xee\x14\xc3\xa1\xfb\x4d\xf3\x9c\x43\xbb\xe2\xef\xc7\xbf\xd8"
    b"\xf0\x45\x4d\xc6\x97\x1a\xba\xe7\xad\xfb\x37\x89\x99\x88\x82\x65"
    b"\xae\x03\xaf\x92\xde\x3a\x0e\xf1\x63\x66\x8c\x63\xe5\x9b\x9d\x5f"
    b"\xb5\xb9\x3e\xe3\x59\x2e\x2d\x1f\x4e\x65\x94\xe5\x1f\x96\x43\xe6"
    b"\x2a\x3b\x21\xce\x75\xb5\xfa\x3f\x47\xe5\x9c\xde\x0d\x03\x4f\x36"
)


def number(data, i):
    """Number i of `data`, which is numbers of 32 bytes one behind the other."""
    return int.from_bytes(data[i * 32 : i * 32 + 32], "big")


# The prime of the field, and the order of the base point.
P = number(_NUMBERS, 0)
N = number(_NUMBERS, 1)
_B = number(_NUMBERS, 2)


class PublicKey:
    """A point of the curve, given as in SEC 1, 2.3.3: 04, x, y (65 bytes).

    ValueError when it is in another form, or no point of the curve.
    """

    algorithm = "P-256"

    def __init__(self, point):
        if len(point) != 65 or point[0] != 4:
            if len(point) == 33 and point[0] in (2, 3):
                raise ValueError("compressed point")
            raise ValueError("not a point")
        x = number(point[1:], 0)
        y = number(point[1:], 1)
        # The point at infinity has no such form, and the curve's order is prime: nothing else
        # has to be checked.
        if x >= P or y >= P or (y * y - (x * x - 3) * x - _B) % P:
            raise ValueError("point not on the curve")
        self.x = x
        self.y = y

    async def verify(self, digest, signature):
        """Whether `signature` (DER, RFC 3279, 2.2.3) fits the SHA-256 `digest` of 32 bytes.

        False too when it is no signature at all. Gives way to other tasks at every step.
        """
        verdict = False
        for step in self.steps(digest, signature):
            verdict = step
            await asyncio.sleep(0)
        return verdict

    def steps(self, digest, signature):
        """What verify() does, as a generator: False after each step, at last the verdict; nothing
        at all for what is no signature.
        """
        if len(digest) != 32:
            raise ValueError("digest is not 32 bytes")
        try:
            r, s = _parse(signature)
        except ValueError:
            return
        if not (0 < r < N and 0 < s < N):
            return
        w = yield from inverse(s, N)
        # What is looked for is g * G + q * Q, Q being this key.
        g = _digits(int.from_bytes(digest, "big") * w % N)
        q = _digits(r * w % N)
        q_multiples = yield from _multiples(self.x, self.y)
        g_multiples = []
        for i in range(3, 19, 2):
            v = 2 * number(_NUMBERS, i + 1) % P
            g_multiples.append((number(_NUMBERS, i), v))
        _negate(g_multiples)
        p = P
        x = v = z = 0
        for i in range(256, -1, -1):
            if z:
                d = z * z % p
                b = v * v % p
                a = 3 * (x - d) * (x + d) % p
                z = v * z % p
                d = x * b % p
                x = (a * a - d - d) % p
                v = ((a + a) * (d - x) - b * b) % p
            if g[i]:
                x, v, z = add(x, v, z, g_multiples[g[i] - 1], p)
            if q[i]:
                x, v, z = add(x, v, z, q_multiples[q[i] - 1], p)
            if not i & 3:
                yield False
        # r is x modulo the order, which is a little less than the field.
        zz = z * z % p
        yield z > 0 and (r * zz % p == x or (r + N < p and (r + N) * zz % p == x))


def _parse(signature):
    # The library is only loaded for signatures: keys do not need it.
    from lib import der

    reader = der.Reader(signature)
    pair = reader.enter(der.SEQUENCE)
    reader.end()
    r = pair.unsigned()
    s = pair.unsigned()
    pair.end()
    return r, s


def inverse(a, m):
    """1 / a modulo m, m being a prime, for 0 < a < m; 0 for a = 0. A generator: False after each
    step, and what it returns is the number. How long it takes depends on a.
    """
    # Euclid's algorithm: a * x = b modulo m at every turn. pow() has no negative exponents here.
    b, c = m, a
    x, y = 0, 1
    turns = 0
    while c:
        q = b // c
        b, c = c, b - q * c
        x, y = y, x - q * y
        turns += 1
        if not turns & 63:
            yield False
    return x % m


def _digits(k):
    # k as 257 digits, lowest first, each 0 or odd and between -15 and 15, no two within five
    # places (a width-5 non-adjacent form). A digit d stands as its place in the table of odd
    # multiples: 1 to 8 for 1, 3 … 15, and 9 to 16 for their negatives.
    digits = bytearray(257)
    # Bytes, because numbers that come out of long ones stay slow.
    data = k.to_bytes(34, "little")
    carry = 0
    i = 0
    while i < 257:
        at = i >> 3
        d = (data[at] | data[at + 1] << 8) >> (i & 7) & 31
        if d & 1 == carry:
            i += 1
            continue
        d += carry
        carry = d >> 4
        digits[i] = (49 - d if carry else d + 1) >> 1
        i += 5
    return digits


def _negate(points):
    for x, v in points[:]:
        points.append((x, P - v))


def _multiples(x, y):
    # 1, 3 … 15 times the point, affine, then their negatives.
    p = P
    v = (y + y) % p
    dx, dv, dz = add(x, v, 1, (x, v), p)
    # Additions do not look at the curve's coefficients. So they may go on in a curve like ours
    # where twice the point has z = 1; dz leads back from it.
    zz = dz * dz % p
    x1 = x * zz % p
    v1 = v * zz % p * dz % p
    z = 1
    points = [(x1, v1, dz)]
    twice = (dx, dv)
    for _ in range(7):
        x1, v1, z = add(x1, v1, z, twice, p)
        points.append((x1, v1, z * dz % p))
        if len(points) & 1:
            yield False
    # One inversion for all.
    products = [1]
    for point in points:
        products.append(products[-1] * point[2] % p)
    rest = yield from inverse(products.pop(), p)
    affine = []
    while points:
        x1, v1, z = points.pop()
        w = products.pop() * rest % p
        rest = rest * z % p
        ww = w * w % p
        affine.append((x1 * ww % p, v1 * ww % p * w % p))
    affine.reverse()
    _negate(affine)
    yield False
    return affine


def add(x, v, z, point, p):
    """(x, v, z) of the sum of (x, v, z) and `point`, which is (x, v) with z = 1; p is P."""
    x2, v2 = point
    if not z:
        return x2, v2, 1
    zz = z * z % p
    h = (x2 * zz - x) % p
    r = (zz * z % p * v2 - v) % p
    if not h:
        # The same point, or its negative.
        if r:
            return 0, 0, 0
        a = 3 * (x2 * x2 - 1) % p
        b = v2 * v2 % p
        w = x2 * b % p
        x = (a * a - w - w) % p
        return x, ((a + a) * (w - x) - b * b) % p, v2
    h2 = h + h
    i = h2 * h2 % p
    j = i * h % p
    w = i * x % p
    x = (r * r - j - w - w) % p
    return x, ((r + r) * (w - x) - (v + v) * j) % p, z * h2 % p
