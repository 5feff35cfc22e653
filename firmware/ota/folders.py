"""Versions in the folders /app/a and /app/b, for boards with a stock MicroPython.

boot.py chooses, by the record in the file /app/record:

    "OXB" | folder, "a" or "b" | state, "v" valid, "n" new, "p" pending | CRC-32 of the five bytes

A new version is pending from its first start on, and that is left at the next start; a missing or
damaged record means the folder a if it is there, else b. A folder of that name is a whole version
at all times: what is being unpacked, or removed, has another name.

Imported for single calls (slots.py).
"""

import os
import struct
from binascii import crc32

from micropython import const

from firmware.log import WARNING, log
from firmware.ota.header import BUNDLE, ImageError

VALID = b"v"
NEW = b"n"
PENDING = b"p"

_APP = "/app/"
_RECORD = "/app/record"
_MAGIC = b"OXB"

# What is being unpacked or removed; a file in a folder that was unpacked and never activated.
_PART = "/app/part"
_FRESH = "/fresh"

_IMAGE = "/ota/image"

# What a version leaves free on the filesystem when it is unpacked: four blocks.
_SPARE = const(16384)

_ENOENT = const(2)


class Folders:
    """letter: of the folder that runs."""

    kind = BUNDLE
    spare = None

    def __init__(self, letter):
        self._letter = letter
        other = "b" if letter == "a" else "a"
        self._other = other
        self._target = _APP + other
        self.running = letter.encode()
        self.idle = other.encode()

    def on_trial(self):
        return read() in ((self._letter, NEW), (self._letter, PENDING))

    def activated(self):
        return read() == (self._other, NEW)

    def place(self, size):
        from firmware.ota.area import FileArea

        area = FileArea(_IMAGE, size)
        if area.size < size or not self._room(size):
            raise ImageError(b"no room for the image")
        return area, 0

    def _room(self, size):
        """Whether there is room for an image of `size` bytes, and for its files beside it, which
        are at least as large."""
        have = _free() - 2 * size - _SPARE
        for path in (_IMAGE, _PART, self._target):
            if have < 0:
                have += _weight(path)
        return have >= 0

    async def install(self, area, start, length):
        """Unpack the bundle at `start` in `area`."""
        from firmware.ota import unpack

        need = await unpack.room(area, start, length)
        # From here on no start may try the other folder, not even for want of a good record.
        if read() != (self._letter, VALID):
            write(self._letter, VALID)
        await unpack.remove(_PART)
        if _exists(self._target):
            os.rename(self._target, _PART)
            await unpack.remove(_PART)
        if _free() < need + _SPARE:
            raise ImageError(b"no room for the version")
        await unpack.unpack(area, start, length, _PART)
        with open(_PART + _FRESH, "wb"):
            pass
        os.rename(_PART, self._target)

    def activate(self):
        if not _exists(self._target + _FRESH):
            raise ImageError(b"no version installed")
        write(self._other, NEW)
        os.remove(self._target + _FRESH)

    def confirm(self):
        # A power cut in activate() has left it.
        _remove(_APP + self._letter + _FRESH)
        write(self._letter, VALID)

    def leave(self):
        """Nothing: boot.py leaves a version that is pending, and a damaged record is none."""

    def forget(self, verified):
        _remove(_IMAGE)
        record = read()
        if record and record[0] != self._letter:
            # boot.py was to try it and could not write that down, or the start has not come yet.
            write(self._letter, VALID)
        # A version that has run is kept, in case that the running one gets lost.
        if _exists(self._target + _FRESH):
            # Its files are removed by tidy(), or by the next install().
            os.rename(self._target, _PART)

    async def tidy(self):
        from firmware.ota import unpack

        await unpack.remove(_PART)


def parse(data):
    """(letter, state) of a boot record's bytes, None when they are none."""
    if len(data) != 9 or data[:3] != _MAGIC or struct.unpack("<L", data[5:])[0] != crc32(data[:5]):
        return None
    letter, state = data[3:4], data[4:5]
    if letter not in (b"a", b"b") or state not in (VALID, NEW, PENDING):
        return None
    return letter.decode(), state


def pack(letter, state):
    """The bytes of a boot record."""
    data = _MAGIC + letter.encode() + state
    return data + struct.pack("<L", crc32(data))


def read():
    """(letter, state) of the boot record, None when it is missing or damaged."""
    try:
        with open(_RECORD, "rb") as file:
            return parse(file.read(10))
    except OSError as error:
        if error.errno != _ENOENT:
            log(WARNING, "ota: boot record, errno", error.errno)
        return None


def write(letter, state):
    """Keep a boot record, in one step. Raises OSError."""
    with open(_RECORD + ".new", "wb") as file:
        file.write(pack(letter, state))
    os.rename(_RECORD + ".new", _RECORD)


def _exists(path):
    try:
        os.stat(path)
    except OSError as error:
        if error.errno != _ENOENT:
            raise
        return False
    return True


def _remove(path):
    if _exists(path):
        os.remove(path)


def _free():
    status = os.statvfs(_APP)
    # LittleFS counts some blocks twice: when nearly full, more than there are, and what is left is
    # then a huge number.
    return status[0] * status[3] if status[3] <= status[2] else 0


def _weight(path):
    """How many bytes the removal of a file, or of a folder with what is in it, makes free."""
    if not _exists(path):
        return 0
    status = os.stat(path)
    if not status[0] & 0x4000:
        return (status[6] + 4095) // 4096 * 4096
    total = 0
    for name in os.listdir(path):
        total += _weight(path + "/" + name)
    return total
