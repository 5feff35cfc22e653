"""Reads a bundle, the files of an application (docs/updates.md), and puts them into a folder.

Imported for one image. Nothing here holds more of a bundle than one piece.
"""

import asyncio
import os
import struct
from binascii import crc32

from micropython import const

from firmware.ota.header import ImageError

_MAGIC = b"OXLBUNDL"
_ENTRY = "<BLL"
_ENTRY_SIZE = const(9)
_PIECE = const(1024)

# A file of LittleFS takes whole blocks; a folder takes two, which statvfs counts twice.
_BLOCK = const(4096)
_FOLDER = const(16384)

_ENOENT = const(2)


def entries(area, start, length):
    """Yield (name, offset, size, CRC-32) of each file in the bundle that lies in `area` from
    `start` on and has `length` bytes; its content is at the offset in the area. Raises ImageError
    at the first thing that is not as it has to be; contents are not looked at."""
    at = start + len(_MAGIC) + 2
    end = start + length
    if at > end:
        raise _damaged(b"too short")
    head = bytearray(len(_MAGIC) + 2)
    area.readinto(start, head)
    count = head[-2] | head[-1] << 8
    if head[:-2] != _MAGIC or not count:
        raise _damaged(b"no files")
    head = bytearray(_ENTRY_SIZE)
    last = b""
    # The files whose name the last one begins with: names come in order, so no other can turn
    # out to be a folder too.
    above = []
    for _ in range(count):
        if at + _ENTRY_SIZE > end:
            raise _damaged(b"ends early")
        area.readinto(at, head)
        long, size, crc = struct.unpack(_ENTRY, head)
        at += _ENTRY_SIZE + long
        if at + size > end:
            raise _damaged(b"ends early")
        name = bytearray(long)
        area.readinto(at - long, name)
        name = bytes(name)
        if name <= last or not allowed(name):
            raise _damaged(b"bad name")
        while above and not name.startswith(above[-1]):
            above.pop()
        for file in above:
            if name[len(file)] == 47:
                raise _damaged(b"a file is a folder")
        above.append(name)
        last = name
        yield name, at, size, crc
        at += size
    if at != end:
        raise _damaged(b"bytes behind the last file")


def _damaged(why):
    return ImageError(b"bundle: " + why)


def allowed(name):
    """Whether `name` (bytes) is a relative path into `firmware` or `lib`, of parts that begin with
    a letter, a digit or `_` and go on with these, `.` and `-`."""
    first = True
    for c in name:
        if c == 47 and not first:
            first = True
        elif 48 <= c <= 57 or 97 <= c | 32 <= 122 or c == 95 or (c in b".-" and not first):
            first = False
        else:
            return False
    return not first and (name.startswith(b"firmware/") or name.startswith(b"lib/"))


async def room(area, start, length):
    """How many bytes of a filesystem the bundle's files need, at most. Checks all of its names
    and sizes: raises ImageError."""
    need = _FOLDER
    last = b""
    for name, _, size, _ in entries(area, start, length):
        # Beside the content a block holds links to others, 8 bytes on average; an entry in a
        # folder is written twice.
        need += (size + size // 256 + _BLOCK - 1) // _BLOCK * _BLOCK + 2 * len(name) + 64
        slash = name.find(b"/")
        while slash > 0:
            if not last.startswith(name[: slash + 1]):
                need += _FOLDER
            slash = name.find(b"/", slash + 1)
        last = name
        await asyncio.sleep_ms(0)
    return need


async def unpack(area, start, length, folder):
    """Write the bundle's files below `folder`, which is new or empty, and compare them with their
    checksums as they are in flash. Raises ImageError, and OSError of the flash."""
    buffer = memoryview(bytearray(_PIECE))
    _make(folder)
    for name, at, size, _ in entries(area, start, length):
        path = folder + "/" + name.decode()
        slash = path.find("/", len(folder) + 1)
        while slash > 0:
            _make(path[:slash])
            slash = path.find("/", slash + 1)
        await asyncio.sleep_ms(0)
        with open(path, "wb") as file:
            for offset in range(at, at + size, _PIECE):
                piece = buffer[: min(_PIECE, at + size - offset)]
                area.readinto(offset, piece)
                file.write(piece)
                await asyncio.sleep_ms(0)
        await asyncio.sleep_ms(0)
    for name, _, size, crc in entries(area, start, length):
        found = 0
        with open(folder + "/" + name.decode(), "rb") as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    break
                found = crc32(buffer[:count], found)
                size -= count
                await asyncio.sleep_ms(0)
        if found != crc or size:
            raise _damaged(b"wrong checksum")
        await asyncio.sleep_ms(0)


def _make(folder):
    """Make a folder if it is not there. Raises OSError."""
    try:
        os.mkdir(folder)
    except OSError:
        # EEXIST; but a file may be in its place.
        if not os.stat(folder)[0] & 0x4000:
            raise


async def remove(path):
    """Remove a file, or a folder with all that is in it, if it is there. Raises OSError."""
    try:
        folder = os.stat(path)[0] & 0x4000
    except OSError as error:
        if error.errno != _ENOENT:
            raise
        return
    if folder:
        for name in os.listdir(path):
            await remove(path + "/" + name)
        os.rmdir(path)
    else:
        os.remove(path)
    await asyncio.sleep_ms(0)
