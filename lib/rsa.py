"""Checks RSA signatures: PKCS #1 v1.5 with SHA-256 (RFC 8017, 8.2.2)."""

import asyncio

# DigestInfo with SHA-256, before the digest itself (RFC 8017, 9.2, note 1).
_PREFIX = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"


class PublicKey:
    """`modulus` of 2048 to 4096 bits, `exponent` odd and from 3 to 2^32 - 1.

    ValueError for others: they are not safe, or would take too long.
    """

    algorithm = "RSA"

    def __init__(self, modulus, exponent):
        bits = 1
        rest = modulus
        step = 4096
        while step:
            if rest >> step:
                rest >>= step
                bits += step
            step >>= 1
        if bits < 2048 or bits > 4096 or not modulus & 1:
            raise ValueError("RSA modulus is not of 2048 to 4096 bits")
        self.bits = bits
        if exponent < 3 or exponent >> 32 or not exponent & 1:
            raise ValueError("RSA exponent")
        self.modulus = modulus
        self.exponent = exponent

    async def verify(self, digest, signature):
        """Whether `signature` fits the SHA-256 `digest` of 32 bytes.

        Gives way to other tasks three times in each multiplication.
        """
        verdict = False
        for step in self.steps(digest, signature):
            verdict = step
            await asyncio.sleep(0)
        return verdict

    def steps(self, digest, signature):
        """What verify() does, as a generator: False after each step, at last the verdict; nothing
        at all for a signature of the wrong length or range.
        """
        if len(digest) != 32:
            raise ValueError("digest is not 32 bytes")
        n = self.modulus
        size = (self.bits + 7) // 8
        s = int.from_bytes(signature, "big")
        if len(signature) != size or s >= n:
            return
        # Square and multiply, from the exponent's highest bit down.
        bit = 31
        while not self.exponent >> bit:
            bit -= 1
        power = s
        while bit:
            bit -= 1
            power = yield from self._product(power, power)
            if self.exponent >> bit & 1:
                power = yield from self._product(power, s)
        # The whole block is made and compared, so nothing in it can be misread.
        block = b"\x00\x01" + b"\xff" * (size - 54) + b"\x00" + _PREFIX + digest
        yield power == int.from_bytes(block, "big")

    def _product(self, a, b):
        # a * b modulo n in three steps that take about the same time.
        n = self.modulus
        half = self.bits >> 1
        product = a * b
        yield False
        high = product >> half
        product -= high << half
        product += high % n << half
        yield False
        product %= n
        yield False
        return product
