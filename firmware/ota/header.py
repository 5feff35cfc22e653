"""The 256 bytes in front of every module image (docs/updates.md): read, and compared with the
module that they have come to.

Imported for one job.
"""

import struct
from binascii import crc32

from micropython import const

from firmware.ota.fault import Fault

SIZE = const(256)

# Kinds of payload: an ESP32 application for the other slot, or the application's files.
SLOT = const(1)
BUNDLE = const(2)

# Who makes images for this firmware.
VENDOR = b"open-expresslink"

_MAGIC = b"OXLIMAGE"
_FORMAT = const(1)
_ANY = b"any"
_CHIPS = (b"esp32", b"esp32s3", b"esp32c3", _ANY)

# Magic, format, kind, zero, vendor, model, chip, version, security version, length, SHA-256.
_FIELDS = "<8sBBH32s32s16s32sLL32s"
_FIELDS_END = const(164)
_CRC_AT = const(252)
_MAX_LENGTH = const(0xFFFFFEFF)


class ImageError(Fault):
    """The image is not taken, or cannot be started; the argument says why (bytes)."""


class Header:
    """What a header says; made by parse().

    kind: SLOT or BUNDLE; vendor, model, chip, version: bytes; security: number; length: bytes of
    the payload; digest: its SHA-256.
    """

    def __init__(self, head):
        (
            magic,
            form,
            self.kind,
            zero,
            vendor,
            model,
            chip,
            version,
            self.security,
            self.length,
            self.digest,
        ) = struct.unpack(_FIELDS, head[:_FIELDS_END])
        if magic != _MAGIC or form != _FORMAT:
            raise ImageError(b"no module image of a known format")
        if zero or any(head[_FIELDS_END:_CRC_AT]):
            raise ImageError(b"image header has unknown fields")
        self.vendor = _text(vendor)
        self.model = _text(model)
        self.chip = _text(chip)
        self.version = _text(version)


def parse(head):
    """The Header in the first 256 bytes of a module image. Raises ImageError."""
    if len(head) < SIZE or head[: len(_MAGIC)] != _MAGIC:
        raise ImageError(b"no module image")
    head = bytes(head[:SIZE])
    if struct.unpack("<L", head[_CRC_AT:])[0] != crc32(head[:_CRC_AT]):
        raise ImageError(b"image header is damaged")
    header = Header(head)
    if header.kind not in (SLOT, BUNDLE):
        raise ImageError(b"image of unknown kind %d" % header.kind)
    if header.chip not in _CHIPS or (header.kind == SLOT and header.chip == _ANY):
        raise ImageError(b"image for an unknown chip")
    numbers(header.version)
    if not 0 < header.length <= _MAX_LENGTH:
        raise ImageError(b"image of impossible length")
    return header


def _text(field):
    """The text in a field that is padded with zeros. Raises ImageError."""
    end = field.find(b"\0")
    text = field[: max(end, 0)]
    # A reason may show it to people.
    if not text or any(field[end:]) or min(text) < 32 or 127 in text:
        raise ImageError(b"image header has a malformed text")
    try:
        str(text, "utf-8")
    except UnicodeError:
        raise ImageError(b"image header has a malformed text")
    return text


def numbers(version):
    """The three numbers of a version `major.minor.patch` (bytes), to be compared. Each is 0 to
    99999 without leading zeros. Raises ImageError."""
    parts = version.split(b".")
    for part in parts:
        # MicroPython takes an empty text for digits.
        if not (part and part.isdigit() and len(part) <= 5) or (part[0] == 48 and len(part) > 1):
            parts = ()
    if len(parts) != 3:
        raise ImageError(b"version is not major.minor.patch")
    return tuple([int(part) for part in parts])


def refuse(header, kind, board, chip, security, size):
    """Raise ImageError unless an image with that header can run here.

    kind: what this build can run (SLOT, BUNDLE, or 0 for neither); board: its name and chip: as
    `Board` has them (texts); security: the running version's; size: bytes of the whole file."""
    if header.kind != kind:
        # Nobody's fault: the job is for other boards, and is said to be rejected.
        raise ImageError(
            (b"this build takes no module images", b"not a slot image", b"not a bundle")[kind],
            b"REJECTED",
        )
    if header.vendor != VENDOR:
        raise ImageError(b"image of another vendor")
    if header.model not in (_ANY, board.encode()):
        raise ImageError(b"image for the model " + header.model)
    if header.chip not in (_ANY, chip.encode()):
        raise ImageError(b"image for the chip " + header.chip)
    if header.security < security:
        raise ImageError(b"security version %d is below %d" % (header.security, security))
    if header.length != size - SIZE:
        raise ImageError(b"image of %d bytes, header says %d" % (size, header.length + SIZE))
