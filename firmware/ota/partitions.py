"""Versions in OTA partitions, chosen by ESP-IDF's bootloader.

`set_boot` makes a slot the one that the next start tries; the bootloader then notes that it is
pending, and passes it over at the start after that unless it has been marked valid. MicroPython
has no call that tells the state: it is read from the partition `otadata` (ESP-IDF programming
guide, "Over The Air Updates").

Imported for single calls (slots.py).
"""

import struct
from binascii import crc32

from esp32 import Partition
from micropython import const

from firmware.log import WARNING, log
from firmware.ota.header import SIZE, SLOT, ImageError

# A record in otadata: sequence number, label, state, CRC-32 of the number; one a sector.
_RECORD = "<L20sLL"
_RECORD_SIZE = const(32)
_BLANK = const(0xFFFFFFFF)
_NEW = const(0)
_PENDING = const(1)
_VALID = const(2)
_INVALID = const(3)
_ABORTED = const(4)

_OTADATA = const(0)  # subtypes: of data, and of the first of at most 16 OTA slots
_OTA_0 = const(0x10)

_ERASE = const(6)  # of a block device's ioctl

_HEADER = const(16)  # bytes of an application without which it is none

_NO_ROLLBACK = const(-261)  # from a bootloader that was built without it


def running():
    """The Slots, None when this does not run from one of several OTA slots with `otadata`."""
    found = Partition(Partition.RUNNING)  # pyright: ignore[reportArgumentType]
    count = len([p for p in Partition.find(Partition.TYPE_APP) if _number(p) >= 0])
    otadata = Partition.find(Partition.TYPE_DATA, _OTADATA)
    if _number(found) < 0 or count < 2 or not otadata:
        return None
    return Slots(found, count, otadata[0])


def _number(partition):
    """Of an OTA slot from 0 on, -1 for another partition."""
    kind, subtype = partition.info()[:2]
    number = subtype - _OTA_0
    return number if kind == Partition.TYPE_APP and 0 <= number < 16 else -1


class Slots:
    """partition: the slot that runs; count: of slots; otadata: the partition with the records."""

    kind = SLOT

    def __init__(self, partition, count, otadata):
        self._number = _number(partition)
        self._count = count
        self._otadata = otadata
        self.spare = partition.get_next_update()
        self.running = partition.info()[4].encode()
        self.idle = self.spare.info()[4].encode()

    def _records(self):
        """[(sequence number, slot, state)] of the good records, the latest one first."""
        found = []
        raw = bytearray(_RECORD_SIZE)
        for sector in range(2):
            self._otadata.readblocks(sector, raw, 0)
            sequence, _, state, crc = struct.unpack(_RECORD, raw)
            if sequence not in (0, _BLANK) and crc32(raw[:4], _BLANK) == crc:
                found.append((sequence, (sequence - 1) % self._count, state))
        found.sort(reverse=True)
        return found

    def on_trial(self):
        for _, slot, state in self._records():
            if slot == self._number:
                # Also when it is none of these: the checksum is of the number only, and a power
                # cut may have left the state half written.
                return state not in (_VALID, _INVALID, _ABORTED, _BLANK)
        return False

    def activated(self):
        for _, slot, state in self._records():
            if state not in (_INVALID, _ABORTED):
                return state == _NEW and slot != self._number
        return False

    def place(self, size):
        from firmware.ota.area import PartitionArea

        # A bootloader that finds its record damaged starts whatever begins as an application.
        area = PartitionArea(self.spare, hold=_HEADER)
        if size - SIZE > area.size:
            raise ImageError(b"image too large, at most %d bytes" % (area.size + SIZE))
        return area, SIZE

    async def install(self, area, start, length):
        """It has been received to where it runs; only its beginning has been held back."""
        area.release()

    def activate(self):
        self.spare.set_boot()

    def confirm(self):
        try:
            Partition.mark_app_valid_cancel_rollback()
        except OSError as error:
            if error.errno != _NO_ROLLBACK:
                raise
            log(WARNING, "ota: the bootloader has no rollback")

    def leave(self):
        for _, slot, state in self._records():
            if slot == self._number:
                if state not in (_NEW, _PENDING):
                    # Half written: the bootloader would stay with it.
                    self.spare.set_boot()
                return

    async def tidy(self):
        """Nothing: there are no files."""

    def forget(self, verified):
        # A slot that was not activated does not boot, unless all else is damaged: then it would.
        if not verified:
            self.spare.ioctl(_ERASE, 0)
