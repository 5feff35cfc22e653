"""The 256 bytes in front of every module image: packed, read and checked.

They say who made the image and for what, so that a module can refuse it after the first block of
a download. The layout is in docs/updates.md.
"""

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass

from tools.sim import espimage

SIZE = 256
MAGIC = b"OXLIMAGE"
FORMAT = 1

# Kinds of payload.
SLOT = 1
BUNDLE = 2
KINDS = {SLOT: "slot image", BUNDLE: "bundle"}

VENDOR = "open-expresslink"
ANY = "any"
CHIPS = (*espimage.CHIPS, ANY)

_FIELDS = struct.Struct("<8sBBH32s32s16s32sLL32s")
_CRC = struct.Struct("<L")
_CRC_AT = SIZE - _CRC.size
_VERSION = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})")
_LARGEST = 0xFFFFFFFF


class ImageError(ValueError):
    """The bytes are no undamaged module image, or none can be made; the text says why."""


@dataclass(frozen=True)
class Header:
    """What the header says. kind: a key of KINDS; vendor, model, chip, version: texts; security:
    0 to 2**32 - 1; length: bytes of the payload; sha256: 32 bytes, the payload's digest."""

    kind: int
    vendor: str
    model: str
    chip: str
    version: str
    security: int
    length: int
    sha256: bytes

    def pack(self):
        """The 256 bytes. Raises ImageError for a value that the header cannot hold."""
        _check(self)
        body = _FIELDS.pack(
            MAGIC,
            FORMAT,
            self.kind,
            0,
            _packed("vendor", self.vendor, 32),
            _packed("model", self.model, 32),
            _packed("chip", self.chip, 16),
            _packed("version", self.version, 32),
            self.security,
            self.length,
            self.sha256,
        ).ljust(_CRC_AT, b"\0")
        return body + _CRC.pack(zlib.crc32(body))


def of_payload(payload, **fields):
    """The Header of `payload` (bytes); `fields` are the other fields of Header."""
    return Header(length=len(payload), sha256=hashlib.sha256(payload).digest(), **fields)


def parse(data):
    """The Header at the beginning of `data`. Its payload is not looked at. Raises ImageError."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ImageError("no module image: it does not begin with OXLIMAGE")
    if len(data) < SIZE:
        raise ImageError(f"{len(data)} bytes are less than a header of {SIZE}")
    (crc,) = _CRC.unpack_from(data, _CRC_AT)
    if crc != zlib.crc32(bytes(data[:_CRC_AT])):
        raise ImageError("the header is damaged: wrong CRC")
    _, form, kind, reserved, *texts, security, length, digest = _FIELDS.unpack_from(data)
    if form != FORMAT:
        raise ImageError(f"the header's format is {form}; only {FORMAT} is known")
    if reserved or any(data[_FIELDS.size : _CRC_AT]):
        raise ImageError("there is something where the header has to be zero")
    names = ("vendor", "model", "chip", "version")
    vendor, model, chip, version = map(_unpacked, names, texts)
    header = Header(kind, vendor, model, chip, version, security, length, digest)
    _check(header)
    return header


def _check(header):
    if header.kind not in KINDS:
        raise ImageError(f"there is no kind {header.kind} of image")
    if header.chip not in CHIPS:
        raise ImageError(f"there is no chip {header.chip!r}: {', '.join(CHIPS)}")
    if header.kind == SLOT and header.chip == ANY:
        raise ImageError("a slot image is for one chip, not for any")
    version_numbers(header.version)
    if not 0 <= header.security <= _LARGEST:
        raise ImageError("the security version is a number from 0 to 4294967295")
    if not 0 < header.length <= _LARGEST - SIZE:
        raise ImageError(f"the payload has an impossible length: {header.length}")
    if len(header.sha256) != 32:
        raise ImageError("the SHA-256 is not 32 bytes long")


def version_numbers(text):
    """`major.minor.patch` as three numbers, to compare. Each is 0 to 99999 without leading
    zeros. Raises ImageError."""
    if not _VERSION.fullmatch(text):
        raise ImageError(f"{text!r} is no version: major.minor.patch in numbers")
    return tuple(map(int, text.split(".")))


def _packed(name, text, room):
    raw = text.encode()
    if not raw or not text.isprintable():
        raise ImageError(f"the {name} has to be text that can be printed")
    if len(raw) >= room:
        raise ImageError(f"the {name} may have {room - 1} bytes in UTF-8, not {len(raw)}")
    return raw.ljust(room, b"\0")


def _unpacked(name, raw):
    text, end, rest = raw.partition(b"\0")
    if not text or not end or any(rest):
        raise ImageError(f"the {name} is not a text padded with zeros")
    try:
        text = text.decode()
    except UnicodeDecodeError:
        raise ImageError(f"the {name} is not UTF-8") from None
    if not text.isprintable():
        raise ImageError(f"the {name} has to be text that can be printed")
    return text
