"""Which slot boots: ESP-IDF's second-stage bootloader with rollback enabled.

otadata has two sectors; each begins with a record `<L20sLL`: sequence number, label, state, and
the CRC-32 of the number. The valid record with the higher number rules; its slot is number - 1
modulo the number of slots (ESP-IDF programming guide, "Over The Air Updates").
"""

import struct
import zlib
from dataclasses import dataclass, replace

from tools.sim import espimage, flash, partition_table

NEW = 0
PENDING_VERIFY = 1
VALID = 2
INVALID = 3
ABORTED = 4
UNDEFINED = 0xFFFFFFFF

STATES = {
    NEW: "new",
    PENDING_VERIFY: "pending verify",
    VALID: "valid",
    INVALID: "invalid",
    ABORTED: "aborted",
    UNDEFINED: "undefined",
}

_RECORD = struct.Struct("<L20sLL")
_BLANK = 0xFFFFFFFF


class NothingBootable(RuntimeError):
    """No slot holds a good image."""


@dataclass(frozen=True)
class Record:
    """One otadata record as it is in flash."""

    seq: int
    label: bytes
    state: int
    crc: int

    @classmethod
    def parse(cls, raw):
        return cls(*_RECORD.unpack_from(raw))

    def pack(self):
        return _RECORD.pack(self.seq, self.label, self.state, self.crc)

    @property
    def is_valid(self):
        if self.seq == _BLANK or self.state in (INVALID, ABORTED):
            return False
        return self.crc == seq_crc(self.seq)


def seq_crc(seq):
    """The CRC-32 that goes with sequence number `seq`."""
    return zlib.crc32(struct.pack("<L", seq), 0xFFFFFFFF)


def records(chip):
    """The two records of `chip`, a Flash."""
    return [Record.parse(chip.read("otadata", i * flash.SECTOR, _RECORD.size)) for i in (0, 1)]


def active(pair):
    """Index of the record that rules, or None."""
    valid = [i for i in (0, 1) if pair[i].is_valid]
    return max(valid, key=lambda i: (pair[i].seq, -i)) if valid else None


def _store(chip, pair, index, state):
    pair[index] = replace(pair[index], state=state)
    chip.write("otadata", pair[index].pack(), index * flash.SECTOR)


def select(chip, chip_name="esp32"):
    """Do what the bootloader does at a reset: settle the states and return (label, Image).

    A record left PENDING_VERIFY by the boot before is ABORTED, a NEW one becomes
    PENDING_VERIFY; a slot with a bad image is passed over. Without slots the one application is
    loaded. Raises NothingBootable.
    """
    slots = partition_table.slots(chip.table)
    if not slots:
        only = next(p.label for p in chip.table if p.type == flash.APP)
        try:
            return only, load(chip, only, chip_name)
        except espimage.ImageError as error:
            raise NothingBootable(f"the image in {only} is damaged: {error}") from None
    pair = records(chip)
    for i in (0, 1):
        if pair[i].state == PENDING_VERIFY:
            _store(chip, pair, i, ABORTED)
    ruling = active(pair)
    # Without a valid record and without a factory slot, the first OTA slot is tried.
    first = 0
    if ruling is not None:
        first = (pair[ruling].seq - 1) % len(slots)
        if pair[ruling].state == NEW:
            _store(chip, pair, ruling, PENDING_VERIFY)
    # From the chosen slot downwards, then upwards.
    for number in [*range(first, -1, -1), *range(first + 1, len(slots))]:
        try:
            image = load(chip, slots[number].label, chip_name)
        except espimage.ImageError:
            continue
        return slots[number].label, image
    raise NothingBootable("no bootable slot: every image is damaged")


def load(chip, label, chip_name="esp32"):
    """The Image in slot `label`; raises ImageError. A wake from deep sleep loads only this way."""
    return espimage.parse(chip.read(label), chip_name)


def state(chip, label):
    """What otadata says of the slot `label`: a text of STATES; "" when it says nothing of it."""
    slots = [p.label for p in partition_table.slots(chip.table)]
    if label not in slots:
        return ""
    pair = records(chip)
    for i in sorted((0, 1), key=lambda i: -pair[i].seq):
        record = pair[i]
        known = record.seq != _BLANK and record.crc == seq_crc(record.seq)
        if known and slots[(record.seq - 1) % len(slots)] == label:
            return STATES.get(record.state, str(record.state))
    return ""
