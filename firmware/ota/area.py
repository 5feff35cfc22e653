"""Where an image lies in flash: a partition, or a file for boards without one.

Both kinds look alike: `start(at)` says from where on the content is void, `write` fills it piece
by piece, erasing sector by sector as it gets there, `readinto` reads any part. An OSError of the
flash passes through.
"""

import os

from micropython import const

from firmware.ota.fault import Fault

_SECTOR = const(4096)
_ERASE = const(6)  # of a block device's ioctl

_ENOENT = const(2)
_EIO = const(5)
_EEXIST = const(17)

# What a file leaves free for configuration, certificates and the filesystem's own needs.
_SPARE = const(65536)


class AreaError(Fault):
    """An image cannot be put here; the argument (bytes) says why."""


def _check(area, end):
    if end > area.size:
        raise AreaError(b"no room, at most %d bytes" % area.size)


class PartitionArea:
    """A partition of the flash, from its first byte on.

    partition: as `esp32.Partition`, with blocks of 4,096 bytes. name: its label. size: in bytes.
    blank: sectors at its beginning that are erased and not used, so that what is kept here is
    never taken for a version of the firmware.
    hold: bytes at its beginning that are kept in memory, and not in flash before `release`: so
    what may become a version of the firmware is none before that.
    """

    # Pieces may come in any order at the same price.
    ordered = False

    def __init__(self, partition, blank=0, hold=0):
        info = partition.info()
        self.name = info[4].encode()
        self.size = info[3] - blank * _SECTOR
        self._partition = partition
        self._blank = blank
        self.hold = hold
        self._held = bytearray(hold)
        # One bit a sector: it has been erased since `start`.
        self._erased = None

    def start(self, at):
        """Let what is from `at` on be void; `at` is a multiple of 4,096."""
        _check(self, at)
        self._erased = bytearray((self.size // _SECTOR + 7) // 8)
        if not at:
            for sector in range(self._blank):
                self._partition.ioctl(_ERASE, sector)

    def write(self, offset, data):
        """Program `data`; since `start` each byte at most once, not below its `at`."""
        end = offset + len(data)
        _check(self, end)
        held = min(self.hold, end) - offset
        if held > 0:
            self._held[offset : offset + held] = data[:held]
            if offset + held == end:
                return
            data = memoryview(data)[held:]
            offset += held
        for sector in range(offset // _SECTOR, (end + _SECTOR - 1) // _SECTOR):
            bit = 1 << (sector & 7)
            if not self._erased[sector >> 3] & bit:
                # Also when it looks blank: an erase that a power cut has ended too early may
                # leave bits that are neither.
                self._partition.ioctl(_ERASE, sector + self._blank)
                self._erased[sector >> 3] |= bit
        self._partition.writeblocks(offset // _SECTOR + self._blank, data, offset % _SECTOR)

    def readinto(self, offset, buffer):
        """Fill `buffer` from `offset`."""
        self._partition.readblocks(offset // _SECTOR + self._blank, buffer, offset % _SECTOR)
        held = min(self.hold - offset, len(buffer))
        if held > 0:
            buffer[:held] = self._held[offset : offset + held]

    def release(self):
        """Write what was held back: it is as it has to be."""
        self._partition.writeblocks(0, self._held, 0)
        found = bytearray(self.hold)
        self._partition.readblocks(0, found, 0)
        if found != self._held:
            raise AreaError(b"flash does not hold what was written")

    def sync(self):
        """Let what was written survive a power cut: here it does at once."""

    def close(self):
        """Release what is open: nothing here."""

    def discard(self):
        """Let the content be gone."""
        self._partition.ioctl(_ERASE, self._blank)


class FileArea:
    """A file on the filesystem; its folder is made when it is missing.

    size: `limit`, or less where the filesystem would be left with less than 64 KiB.

    LittleFS keeps a file's blocks in a chain from the last to the first, so a piece that is not at
    the end makes it copy all that is behind. Written in order and read back piece by piece, each
    4,096 bytes cost two erases.
    """

    name = b"file"
    # Pieces that come in order are much cheaper.
    ordered = True

    def __init__(self, path, limit):
        self._path = path
        self._file = None
        folder = path[: path.rfind("/")]
        try:
            os.mkdir(folder)
        except OSError as error:
            if error.errno != _EEXIST:
                raise
        status = os.statvfs(folder)
        # LittleFS counts blocks that are shared more than once: on a full one none are left, and
        # less than none looks like a great many.
        blocks = status[3] if status[3] <= status[2] else 0
        own = self._length()
        if own:
            # What it takes itself, with the pointers in its blocks: else a file that fits exactly
            # would not when it is resumed.
            own += own // 256 + 2 * _SECTOR
        self.size = max(0, min(limit, status[0] * blocks + own - _SPARE))

    def _length(self):
        try:
            return os.stat(self._path)[6]
        except OSError as error:
            if error.errno != _ENOENT:
                raise
            return 0

    def _open(self, mode):
        self._file = open(self._path, mode)  # noqa: SIM115

    def start(self, at):
        """Let what is from `at` on be void; AreaError when there is less than that."""
        _check(self, at)
        self.close()
        if at > self._length():
            raise AreaError(b"image damaged, too short")
        if not at:
            # Else its blocks would stay in use until the new content is synced.
            self.discard()
        self._open("r+b" if at else "w+b")

    def write(self, offset, data):
        """Write `data`, after `start`. What lies between it and the end so far becomes zeros."""
        _check(self, offset + len(data))
        self._file.seek(offset)
        self._file.write(data)

    def readinto(self, offset, buffer):
        """Fill `buffer` from `offset`; OSError also when the file ends before."""
        if not self._file:
            self._open("rb")
        self._file.seek(offset)
        if self._file.readinto(buffer) != len(buffer):
            raise OSError(_EIO)

    def sync(self):
        """Let what was written survive a power cut."""
        if self._file:
            self._file.flush()

    def close(self):
        """Release the file; what was written is synced."""
        if self._file:
            self._file.close()
            self._file = None

    def discard(self):
        """Remove the file, if there is one."""
        self.close()
        try:
            os.remove(self._path)
        except OSError as error:
            if error.errno != _ENOENT:
                raise
