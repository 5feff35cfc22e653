"""Keys from a passkey, and messages encrypted and authenticated with them (docs/ble.md).

    sealed = counter (4 bytes, little endian) | IV (16) | AES-256-CBC, PKCS #7 | tag (16)

The tag is HMAC-SHA256, cut to 16 bytes, over the number of the characteristic, the counter, the
IV and the ciphertext. Each direction has keys of its own, and a counter that only grows.
"""

import asyncio
import os
import struct
from hashlib import sha256

from cryptolib import aes
from micropython import const

from lib.hmac_sha256 import digest

_CBC = const(2)
_BLOCK = const(16)
_HEAD = const(20)
_TAG = const(16)

# Rounds between two turns for other tasks: some milliseconds on a chip.
_TURN = const(20)


async def stretch(passkey, salt, rounds):
    """PBKDF2 with HMAC-SHA256 (RFC 8018), 32 bytes: makes each guess at the passkey dearer."""
    padded = passkey + bytes(64 - len(passkey))
    inner = bytes(c ^ 0x36 for c in padded)
    outer = bytes(c ^ 0x5C for c in padded)
    block = salt + b"\0\0\0\1"
    total = 0
    for count in range(rounds):
        part = sha256(inner)
        part.update(block)
        whole = sha256(outer)
        whole.update(part.digest())
        block = whole.digest()
        total ^= int.from_bytes(block, "big")
        if not count % _TURN:
            await asyncio.sleep_ms(0)
    return total.to_bytes(32, "big")


def same(a, b):
    """Whether two byte strings are equal, in a time that does not tell where they differ."""
    different = len(a) ^ len(b)
    for x, y in zip(a, b):
        different |= x ^ y
    return not different


class Seal:
    """One direction of a session.

    secret: what `stretch` gave; way: b"central" or b"module", who sends; nonces: the module's and
    the central's, one behind the other.
    """

    def __init__(self, secret, way, nonces):
        self._key = digest(secret, way, b" encrypts ", nonces)
        self._tag_key = digest(secret, way, b" signs ", nonces)
        self._next = 0

    def _tag(self, place, sealed):
        return digest(self._tag_key, bytes((place,)), sealed)[:_TAG]

    def close(self, place, text):
        """`text` (bytes) sealed for the characteristic number `place`."""
        iv = os.urandom(_BLOCK)
        fill = _BLOCK - len(text) % _BLOCK
        sealed = struct.pack("<I", self._next) + iv
        sealed += aes(self._key, _CBC, iv).encrypt(text + bytes((fill,)) * fill)
        self._next += 1
        return sealed + self._tag(place, sealed)

    def open(self, place, sealed):
        """What was sealed (bytes). ValueError for what is forged, or was sent before."""
        size = len(sealed) - _HEAD - _TAG
        if size <= 0 or size % _BLOCK:
            raise ValueError("not sealed")
        view = memoryview(sealed)
        if not same(self._tag(place, view[:-_TAG]), view[-_TAG:]):
            raise ValueError("forged")
        (counter,) = struct.unpack_from("<I", sealed, 0)
        if counter < self._next:
            raise ValueError("sent before")
        self._next = counter + 1
        iv = bytes(view[4:_HEAD])
        text = aes(self._key, _CBC, iv).decrypt(view[_HEAD:-_TAG])
        # The tag vouches for the padding.
        return text[: -text[-1]]
