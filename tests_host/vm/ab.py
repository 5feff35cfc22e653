"""Boards for tests on the VM that have two places for versions: folders chosen by the real boot.py
on a LittleFS, and OTA slots chosen by a bootloader as ESP-IDF's. Both lie on a chip whose power
can be cut (nor.py).
"""

import hashlib
import os
import struct
import sys
from binascii import crc32

import vfs

import firmware

# All that is wanted later: Python looks for the parts of a package where it lay when the package
# was imported.
from firmware.ota import area, folders, image, unpack  # noqa: F401
from firmware.ota.header import BUNDLE, SLOT
from tests_host.vm import nor

# The source tree: the root is going to be the chip's.
_SOURCE = "/src"


class Head:
    """What an install looks at in an image's header."""

    def __init__(self, kind, payload, chip=b"any"):
        self.kind = kind
        self.chip = chip
        self.length = len(payload)
        self.digest = hashlib.sha256(payload).digest()


class Machine:
    """`machine`, as far as boot.py asks: power on."""

    PWRON_RESET = 1
    WDT_RESET = 3

    def reset_cause(self):
        return 1


class Chip(nor.Nor):
    """One that tells a filesystem of the cut by an error and not by an exception: that would leave
    the filesystem's C code in the middle of its work, and a later one would crash in it."""

    def again(self):
        self.dead = True
        return Chip(self.sectors, self.data)

    def _try(self, function, *args):
        if self.dead:
            return -5
        try:
            return function(*args)
        except nor.Cut:
            return -5

    def readblocks(self, block, buf, offset=0):
        return self._try(super().readblocks, block, buf, offset)

    def writeblocks(self, block, buf, offset=None):
        return self._try(super().writeblocks, block, buf, offset)

    def ioctl(self, op, arg=0):
        if op != 6:
            return super().ioctl(op, arg)
        return self._try(super().ioctl, op, arg)


def bundle(files):
    """The payload with `files`, [(name, content)] in order."""
    pieces = [b"OXLBUNDL", struct.pack("<H", len(files))]
    for name, data in files:
        pieces += [struct.pack("<BLL", len(name), len(data), crc32(data)), name, data]
    return b"".join(pieces)


class FolderBoard:
    """A stock board: the folder /app/<first> holds `old`; `new` is what it is to be updated to, in
    form of a file with 256 bytes of header. Both are lists of (name, content)."""

    kind = BUNDLE

    def __init__(self, old, new, sectors=64, first="a"):
        if _SOURCE[1:] not in os.listdir("/"):
            vfs.mount(vfs.VfsPosix(os.getcwd()), _SOURCE)
            sys.path[:] = [_SOURCE, ".frozen"]
            sys.modules["machine"] = Machine()
        self.versions = {b"old": old, b"new": new}
        self.offer(b"new")
        self.chip = Chip(sectors)
        vfs.VfsLfs2.mkfs(self.chip)
        nor.mount(self.chip, "/")
        os.mkdir("/app")
        os.mkdir("/app/" + first)
        for name, content in old:
            path = "/app/" + first + "/" + name.decode()
            slash = path.find("/", 7)
            while slash > 0:
                if path[7:slash] not in os.listdir(path[: path[:slash].rfind("/")]):
                    os.mkdir(path[:slash])
                slash = path.find("/", slash + 1)
            with open(path, "wb") as file:
                file.write(content)
        with open(_SOURCE + "/boot.py") as file:
            self._boot = compile(file.read(), "boot.py", "exec")
        self._kept = bytes(self.chip.data)

    def offer(self, name):
        """Let the version of that name be the next update."""
        payload = bundle(self.versions[name])
        self.file = bytes(256) + payload
        self.head = Head(BUNDLE, payload)

    def renew(self):
        """As it was at the beginning, without a record; power off."""
        self.chip = self.chip.again()
        self.chip.data[:] = self._kept

    def start(self):
        """Power on, or a reset. Returns the version that runs: b"old" or b"new". Raises nor.Cut,
        AssertionError for what is neither."""
        if self.chip.dead:
            self.chip = self.chip.again()
        nor.mount(self.chip, "/")
        # boot.py looks for a firmware that is frozen.
        del sys.modules["firmware"]
        sys.path[:] = ["", ".frozen", "/lib"]
        try:
            exec(self._boot, {"__name__": "__main__"})
            chosen = [path for path in sys.path if path.startswith("/app/")]
        finally:
            sys.modules["firmware"] = firmware
            sys.path[:] = [_SOURCE, ".frozen"]
        assert len(chosen) == 1, chosen
        firmware.__file__ = chosen[0] + "/firmware/__init__.mpy"
        found = []
        _walk(chosen[0], len(chosen[0]) + 1, found)
        found.sort()
        for name, version in self.versions.items():
            if found == version:
                return name
        raise AssertionError((chosen[0], found))


def _walk(path, cut, found):
    for name in os.listdir(path):
        inner = path + "/" + name
        if os.stat(inner)[0] & 0x4000:
            _walk(inner, cut, found)
        elif inner[cut:] != "fresh":
            with open(inner, "rb") as file:
                found.append((inner[cut:].encode(), file.read()))


# -- slots --


def application(content, chip=0, hashed=1):
    """An ESP32 image with one segment (ESP-IDF, "App Image Format")."""
    content += bytes(-len(content) % 4)
    out = struct.pack("<BBBBL", 0xE9, 1, 2, 0x20, 0)
    out += struct.pack("<BBBBHBHHLB", 0xEE, 0, 0, 0, chip, 0, 0, 0xFFFF, 0, hashed)
    out += struct.pack("<LL", 0x3F400020, len(content)) + content
    checksum = 0xEF
    for c in content:
        checksum ^= c
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    return out + hashlib.sha256(out).digest()


_NEW = 0
_PENDING = 1
_ABORTED = 4


class SlotBoard:
    """A board with two OTA slots, `old` in the first; `old` and `new` are images. It is
    `sys.modules["esp32"]` from then on."""

    kind = SLOT
    TABLE = (("otadata", 1, 0, 0, 2), ("ota_0", 0, 16, 2, 4), ("ota_1", 0, 17, 6, 4))

    def __init__(self, old, new):
        self.versions = {b"old": old, b"new": new}
        self.offer(b"new")
        self.chip = nor.Nor(10)
        self.chip.data[2 * nor.SECTOR : 2 * nor.SECTOR + len(old)] = old
        self._kept = bytes(self.chip.data)
        # The stand-ins of the virtual module work on a chip that is a module.
        sys.modules["sim_flash"] = self
        self.SECTOR = nor.SECTOR
        from tools.sim.device import sim_image

        self.image = sim_image
        sim_image.flash = self
        sys.modules["esp32"] = self
        sys.modules.pop("firmware.ota.partitions", None)
        board = self

        class Partition(_Partition):
            def __init__(self, name):
                super().__init__(board, name)

            @staticmethod
            def find(type=0, subtype=0xFF):
                rows = board.TABLE
                return [Partition(r[0]) for r in rows if r[1] == type and subtype in (255, r[2])]

            @classmethod
            def mark_app_valid_cancel_rollback(cls):
                if not board.image.mark_valid(0):
                    raise OSError(-1)

        self.Partition = Partition
        firmware.__file__ = "firmware/__init__.mpy"

    def offer(self, name):
        """Let the version of that name be the next update."""
        self.file = bytes(256) + self.versions[name]
        self.head = Head(SLOT, self.versions[name], b"esp32")

    def renew(self):
        """As it was at the beginning, with blank otadata; power off."""
        self.chip = self.chip.again()
        self.chip.data[:] = self._kept

    # What the stand-in wants of the flash.
    def read(self, address, buf):
        buf[:] = self.chip.data[address : address + len(buf)]

    def program(self, address, data):
        self.chip.writeblocks(address // nor.SECTOR, data, address % nor.SECTOR)

    def erase(self, address):
        self.chip.ioctl(6, address // nor.SECTOR)

    def start(self):
        """As FolderBoard.start(): what ESP-IDF's bootloader does, rollback enabled."""
        if self.chip.dead:
            self.chip = self.chip.again()
        stand_in = self.image
        records = stand_in._records(0)
        for i in range(2):
            if records[i][2] == _PENDING:
                records[i][2] = _ABORTED
                stand_in._write(0, i, records[i])
        records = stand_in._records(0)
        ruling = stand_in._active(records)
        first = 0
        if ruling >= 0:
            first = (records[ruling][0] - 1) % 2
            if records[ruling][2] == _NEW:
                records[ruling][2] = _PENDING
                stand_in._write(0, ruling, records[ruling])
        for slot in (first, 1 - first):
            at = (2 + 4 * slot) * nor.SECTOR
            if stand_in.is_valid(at, 4 * nor.SECTOR):
                break
        else:
            raise AssertionError("nothing to boot")
        self.running = "ota_%d" % slot
        for name, version in self.versions.items():
            if self.chip.data[at : at + len(version)] == version:
                return name
        raise AssertionError("neither version")


class _Partition:
    """`esp32.Partition` of a SlotBoard."""

    RUNNING = 1
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, board, name):
        self._board = board
        name = board.running if name == 1 else name
        rows = [row for row in board.TABLE if row[0] == name]
        if not rows:
            raise OSError(2)
        self._row = rows[0]

    def info(self):
        label, kind, subtype, start, sectors = self._row
        return kind, subtype, start * nor.SECTOR, sectors * nor.SECTOR, label, False

    def readblocks(self, block, buf, offset=0):
        self._board.chip.readblocks(self._row[3] + block, buf, offset)

    def writeblocks(self, block, buf, offset=None):
        self._board.chip.writeblocks(self._row[3] + block, buf, offset)

    def ioctl(self, op, arg):
        return self._board.chip.ioctl(op, self._row[3] + arg)

    def get_next_update(self):
        return self._board.Partition("ota_1" if self._row[0] == "ota_0" else "ota_0")

    def set_boot(self):
        if not self._board.image.is_valid(self._row[3] * nor.SECTOR, 4 * nor.SECTOR):
            raise OSError(-5379, "ESP_ERR_OTA_VALIDATE_FAILED")
        self._board.image.select(0, self._row[2] - 16, 2)
