"""The container that ESP-IDF's bootloader loads: built, read and checked.

A 24-byte header, segments of an 8-byte header and data, padding up to the checksum in the last
byte of a 16-byte row, and the SHA-256 of everything before it (Espressif's esptool
documentation, "Firmware Image Format").
"""

import hashlib
import struct
from dataclasses import dataclass

MAGIC = 0xE9
_CHECKSUM_SEED = 0xEF
_HEADER = struct.Struct("<BBBBL")
_EXTENDED = struct.Struct("<BBBBHBHHLB")
_SEGMENT = struct.Struct("<LL")
_HEADER_SIZE = _HEADER.size + _EXTENDED.size
_MAX_SEGMENTS = 16

CHIPS = {"esp32": 0, "esp32c3": 5, "esp32s3": 9}

# Where a segment of read-only data is mapped on the chip; the loader wants a plausible address.
DROM = {"esp32": 0x3F400020, "esp32c3": 0x3C000020, "esp32s3": 0x3C000020}


class ImageError(ValueError):
    """The bytes are not a whole and undamaged image; the text says what is wrong."""


@dataclass
class Image:
    """chip_id: as in CHIPS; segments: (load address, data) of each; size: bytes up to the end."""

    chip_id: int
    segments: list
    size: int


def build(segments, chip="esp32"):
    """Return the image of `segments`, a list of (load address, bytes). Data is padded to 4."""
    if not 1 <= len(segments) <= _MAX_SEGMENTS:
        raise ValueError(f"an image has 1 to {_MAX_SEGMENTS} segments, not {len(segments)}")
    # Mode DIO, 4 MB at 40 MHz, no entry point; every revision of the chip; with a digest.
    out = bytearray(_HEADER.pack(MAGIC, len(segments), 2, 0x20, 0))
    out += _EXTENDED.pack(0xEE, 0, 0, 0, CHIPS[chip], 0, 0, 0xFFFF, 0, 1)
    checksum = _CHECKSUM_SEED
    for address, data in segments:
        data = bytes(data) + bytes(-len(data) % 4)
        out += _SEGMENT.pack(address, len(data)) + data
        checksum ^= _xor(data)
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    return bytes(out) + hashlib.sha256(out).digest()


def _xor(data):
    # XOR of all bytes, folded in halves because images are megabytes long.
    size = 1 << max(0, (len(data) - 1).bit_length())
    value = int.from_bytes(data, "little")
    while size > 1:
        size //= 2
        value = (value >> (8 * size)) ^ (value & ((1 << (8 * size)) - 1))
    return value & 0xFF


def parse(data, chip=None):
    """Return the Image at the beginning of `data`, checked as the bootloader checks it.

    chip: a key of CHIPS that the image has to be for. Raises ImageError.
    """
    if len(data) < _HEADER_SIZE:
        raise ImageError("shorter than an image header")
    magic, count, _, _, _ = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ImageError(f"magic byte is {magic:#04x}, not {MAGIC:#04x}")
    if not 1 <= count <= _MAX_SEGMENTS:
        raise ImageError(f"{count} segments")
    fields = _EXTENDED.unpack_from(data, _HEADER.size)
    chip_id, has_digest = fields[4], fields[9]
    if chip is not None and chip_id != CHIPS[chip]:
        raise ImageError(f"made for chip {chip_id}, not for {chip}")
    at = _HEADER_SIZE
    checksum = _CHECKSUM_SEED
    segments = []
    for number in range(count):
        if at + _SEGMENT.size > len(data):
            raise ImageError(f"ends before segment {number}")
        address, length = _SEGMENT.unpack_from(data, at)
        at += _SEGMENT.size
        if length % 4 or at + length > len(data):
            raise ImageError(f"segment {number} of {length} bytes does not fit")
        piece = bytes(data[at : at + length])
        checksum ^= _xor(piece)
        segments.append((address, piece))
        at += length
    at += 16 - at % 16
    if at > len(data) or data[at - 1] != checksum:
        raise ImageError("wrong checksum")
    if has_digest:
        if bytes(data[at : at + 32]) != hashlib.sha256(data[:at]).digest():
            raise ImageError("wrong SHA-256")
        at += 32
    return Image(chip_id, segments, at)
