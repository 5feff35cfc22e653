"""HMAC with SHA-256 (RFC 2104, FIPS 198-1)."""

from hashlib import sha256

from micropython import const

# Bytes of a block of SHA-256 (B in RFC 2104).
_BLOCK = const(64)


def digest(key, *parts):
    """The HMAC (32 bytes) of `parts`, one behind the other; key and parts are bytes-like.

    Whoever compares it with one that came from outside must do so in constant time.
    """
    if len(key) > _BLOCK:
        key = sha256(key).digest()
    inner = bytearray(b"\x36" * _BLOCK)
    outer = bytearray(b"\x5c" * _BLOCK)
    for i, byte in enumerate(key):
        inner[i] ^= byte
        outer[i] ^= byte
    inner = sha256(inner)
    for part in parts:
        inner.update(part)
    outer = sha256(outer)
    outer.update(inner.digest())
    return outer.digest()
