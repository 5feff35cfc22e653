"""Checks the payload of a module image as it lies in flash: against its header, and a slot image
also as ESP-IDF's bootloader will.

Imported for one image.
"""

import asyncio
import struct
from hashlib import sha256

from micropython import const

from firmware.ota.header import SLOT, ImageError

_PIECE = const(1024)

# ESP-IDF programming guide, "App Image Format": a header of 24 bytes, with magic, number of
# segments, the chip's number (two bytes) and whether a SHA-256 follows; segments of address,
# length and data; then up to the end of a row of 16 bytes, a checksum in the last one; then the
# SHA-256.
_HEADER = const(24)
_MAGIC = const(0xE9)
_COUNT_AT = const(1)
_CHIP_AT = const(12)
_HASHED_AT = const(23)
_MAX_SEGMENTS = const(16)
_DIGEST = const(32)
_CHIPS = {b"esp32": 0, b"esp32c3": 5, b"esp32s3": 9}


async def check(area, start, header):
    """Read the payload that begins at `start` in `area` and compare it with the Header `header`.
    Raises ImageError. Gives way to other tasks."""
    whole = sha256()
    if header.kind != SLOT:
        await _hash(area, start, start + header.length, (whole,))
    else:
        _walk(area, start, header)
        own = sha256()
        end = start + header.length
        await _hash(area, start, end - _DIGEST, (whole, own))
        tail = bytearray(_DIGEST)
        area.readinto(end - _DIGEST, tail)
        whole.update(tail)
        if own.digest() != bytes(tail):
            raise ImageError(b"ESP32 image: wrong SHA-256")
    if whole.digest() != header.digest:
        raise ImageError(b"image does not match its header's SHA-256")


async def _hash(area, at, end, hashes):
    buffer = memoryview(bytearray(_PIECE))
    while at < end:
        piece = buffer[: min(_PIECE, end - at)]
        area.readinto(at, piece)
        for each in hashes:
            each.update(piece)
        at += len(piece)
        await asyncio.sleep_ms(0)


def _walk(area, start, header):
    """Follow the segments of an ESP32 image to its end, which has to be the payload's."""
    head = bytearray(_HEADER)
    at = _HEADER
    if at > header.length:
        raise ImageError(b"ESP32 image: too short")
    area.readinto(start, head)
    if head[0] != _MAGIC or not 1 <= head[_COUNT_AT] <= _MAX_SEGMENTS:
        raise ImageError(b"no ESP32 image")
    if head[_CHIP_AT] | head[_CHIP_AT + 1] << 8 != _CHIPS.get(header.chip):
        raise ImageError(b"ESP32 image for another chip")
    if head[_HASHED_AT] != 1:
        raise ImageError(b"ESP32 image: no SHA-256")
    segment = bytearray(8)
    for _ in range(head[_COUNT_AT]):
        if at + len(segment) > header.length:
            raise ImageError(b"ESP32 image: too short")
        area.readinto(start + at, segment)
        at += len(segment) + struct.unpack("<LL", segment)[1]
    if at + 16 - at % 16 + _DIGEST != header.length:
        raise ImageError(b"ESP32 image: length is not the payload's")
