"""A flash chip in memory for tests on the VM, whose power can be cut at any operation.

Programming can only clear bits, erasing sets a sector to 0xFF. `Nor` is a block device for
VfsLfs2 as well as something to make an `esp32.Partition` of (`partition`).
"""

import os

import vfs

SECTOR = 4096


class Cut(Exception):
    """The power has gone."""


class Nor:
    """sectors: how many. data: the content, for a chip that comes back after a cut.

    cut_at: the number of the operation (from 1) at which the power goes, 0 for never. way: how
    far that operation gets: 0 half of it, 1 not at all, 2 all of it, 3 only some of the bits.
    """

    def __init__(self, sectors, data=None):
        self.sectors = sectors
        self.data = data or bytearray(b"\xff" * (sectors * SECTOR))
        self._view = memoryview(self.data)
        self.cut_at = 0
        self.way = 0
        self.operations = 0
        self.erases = 0
        self.dead = False

    def again(self):
        """The chip after the power has come back. The old one takes nothing any more: a file that
        was open is closed, and with that written, when it is collected."""
        self.dead = True
        return Nor(self.sectors, self.data)

    def _operate(self, at, new):
        """Put `new` at `at`, as far as the power lasts."""
        self.operations += 1
        cut = self.operations == self.cut_at
        if cut:
            old = bytes(self._view[at : at + len(new)])
            if self.way == 0:
                new = bytes(new[: len(new) // 2])
            elif self.way == 1:
                new = b""
            elif self.way == 3:
                # Of each byte other bits have got there.
                mixed = bytearray(old)
                for i in range(len(new)):
                    mixed[i] ^= (old[i] ^ new[i]) & (i * 37) & 0xFF
                new = mixed
        self._view[at : at + len(new)] = new
        if cut:
            self.dead = True
            raise Cut()

    def readblocks(self, block, buf, offset=0):
        if self.dead:
            return
        at = block * SECTOR + offset
        if at + len(buf) > len(self.data):
            raise OSError(-260, "ESP_ERR_INVALID_SIZE")
        buf[:] = self._view[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=None):
        if self.dead:
            return
        at = block * SECTOR + (offset or 0)
        if at + len(buf) > len(self.data):
            raise OSError(-260, "ESP_ERR_INVALID_SIZE")
        if offset is None:
            for sector in range(len(buf) // SECTOR):
                self.ioctl(6, block + sector)
        old = self._view[at : at + len(buf)]
        if old == b"\xff" * len(buf):
            self._operate(at, buf)
        else:
            self._operate(at, bytes([a & b for a, b in zip(old, buf)]))

    def ioctl(self, op, arg=0):
        if op == 4:
            return self.sectors
        if op == 5:
            return SECTOR
        if op == 6 and not self.dead:
            self.erases += 1
            self._operate(arg * SECTOR, b"\xff" * SECTOR)
        return 0


class Part:
    """`esp32.Partition`, as far as areas use it: all of a `Nor`."""

    def __init__(self, chip, label):
        self.readblocks = chip.readblocks
        self.writeblocks = chip.writeblocks
        self.ioctl = chip.ioctl
        self._info = (0, 0x10, 0x10000, len(chip.data), label, False)

    def info(self):
        return self._info


def mount(chip, path="/flash"):
    """Mount the filesystem of `chip` in place of the one that is at `path`."""
    try:
        os.umount(path)
    except OSError:
        # Nothing was mounted there.
        pass
    vfs.mount(vfs.VfsLfs2(chip), path)


def formatted(sectors, path="/flash"):
    """A new chip with an empty filesystem, mounted at `path`."""
    chip = Nor(sectors)
    vfs.VfsLfs2.mkfs(chip)
    mount(chip, path)
    return chip
