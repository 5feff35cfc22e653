"""Checks an application image in a slot as esp_ota_set_boot_partition does, and edits otadata.

Image: 24-byte header (magic 0xE9, number of segments, …, byte 23 says that a SHA-256 follows),
segments of an 8-byte header (address, length) and data, padding so that the last byte of a
16-byte row is the checksum (XOR of all data bytes and 0xEF), then the SHA-256 of all of it.
otadata: two sectors, each begins with sequence number, label, state and the CRC of the number.
"""

import binascii
import hashlib
import struct

import sim_flash as flash

NEW = 0
PENDING = 1
VALID = 2
INVALID = 3
ABORTED = 4
UNDEFINED = 0xFFFFFFFF
_RECORD = "<L20sLL"


def is_valid(address, size):
    """Whether the slot at `address` of `size` bytes holds a whole, undamaged image."""
    header = bytearray(24)
    flash.read(address, header)
    if header[0] != 0xE9 or not 1 <= header[1] <= 16:
        return False
    digest = hashlib.sha256(header)
    checksum = 0xEF
    at = 24
    buf = bytearray(1024)
    for _ in range(header[1]):
        segment = bytearray(8)
        flash.read(address + at, segment)
        digest.update(segment)
        at += 8
        left = struct.unpack("<LL", segment)[1]
        if left > size - at:
            return False
        while left:
            piece = memoryview(buf)[: min(left, 1024)]
            flash.read(address + at, piece)
            digest.update(piece)
            for byte in piece:
                checksum ^= byte
            at += len(piece)
            left -= len(piece)
    tail = bytearray(16 - at % 16)
    if at + len(tail) + 32 > size:
        return False
    flash.read(address + at, tail)
    digest.update(tail)
    if tail[-1] != checksum:
        return False
    if header[23]:
        want = bytearray(32)
        flash.read(address + at + len(tail), want)
        return digest.digest() == want
    return True


def _records(otadata):
    records = []
    for i in range(2):
        raw = bytearray(32)
        flash.read(otadata + i * flash.SECTOR, raw)
        records.append(list(struct.unpack(_RECORD, raw)))
    return records


def _crc(seq):
    return binascii.crc32(struct.pack("<L", seq), 0xFFFFFFFF)


def _active(records):
    # The valid record with the higher number, or -1.
    best = -1
    for i in range(2):
        seq, _, state, crc = records[i]
        if seq != 0xFFFFFFFF and state not in (INVALID, ABORTED) and crc == _crc(seq):
            if best < 0 or seq > records[best][0]:
                best = i
    return best


def _write(otadata, index, record):
    flash.erase(otadata + index * flash.SECTOR)
    flash.program(otadata + index * flash.SECTOR, struct.pack(_RECORD, *record))


def select(otadata, slot, slots):
    """Make `slot` (0 …) of `slots` the next to boot, in state NEW."""
    records = _records(otadata)
    active = _active(records)
    if active < 0:
        seq = slot + 1
        index = 0
    else:
        seq = (slot + 1) % slots
        while seq < records[active][0]:
            seq += slots
        index = 1 - active
    _write(otadata, index, [seq, b"\xff" * 20, NEW, _crc(seq)])


def selected(otadata, slots):
    """The slot that otadata selects, or None when it is blank."""
    records = _records(otadata)
    active = _active(records)
    return None if active < 0 else (records[active][0] - 1) % slots


def mark_valid(otadata):
    """Confirm the active record; False when there is none."""
    records = _records(otadata)
    active = _active(records)
    if active < 0:
        return False
    if records[active][2] != VALID:
        records[active][2] = VALID
        _write(otadata, active, records[active])
    return True
