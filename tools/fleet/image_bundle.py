"""The payload of a bundle: an application's files, one behind the other.

A module unpacks it from a stream, without going back; so each file's name, length and checksum
come before its content. The layout is in docs/updates.md.
"""

import re
import struct
import zlib

from tools.fleet.image_header import ImageError

MAGIC = b"OXLBUNDL"

_COUNT = struct.Struct("<H")
_ENTRY = struct.Struct("<BLL")
_FOLDERS = ("firmware", "lib")
# A part of a path. It does not begin with a dot, so that it is neither `.` nor `..`.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST = 0xFFFF
_LONGEST_NAME = 255
_LARGEST = 0xFFFFFFFF


def check_name(name):
    """Raise ImageError unless `name` may be a file of a bundle: a relative path into `firmware`
    or `lib`, of letters, digits, `_`, `-` and `.`."""
    parts = name.split("/")
    good = len(parts) > 1 and parts[0] in _FOLDERS and all(map(_PART.fullmatch, parts))
    if not good or len(name) > _LONGEST_NAME:
        raise ImageError(f"{name[:80]!r} may not be a file's name in a bundle")


def _check_names(names):
    if not names:
        raise ImageError("a bundle without files")
    if len(names) > _MOST:
        raise ImageError(f"a bundle holds {_MOST} files at most, not {len(names)}")
    there = set(names)
    for name in names:
        check_name(name)
        above = name.rpartition("/")[0]
        while above:
            if above in there:
                raise ImageError(f"{above} cannot be a file and a folder")
            above = above.rpartition("/")[0]


def pack(files):
    """The payload that holds `files`, {name: bytes}. The same files make the same bytes. Raises
    ImageError for a name that is not allowed."""
    names = sorted(files)
    _check_names(names)
    pieces = [MAGIC, _COUNT.pack(len(names))]
    for name in names:
        data = files[name]
        if len(data) > _LARGEST:
            raise ImageError(f"{name} is too large")
        pieces += [_ENTRY.pack(len(name), len(data), zlib.crc32(data)), name.encode(), data]
    return b"".join(pieces)


def unpack(payload):
    """{name: bytes} of the files in a payload, in its order. Raises ImageError."""
    if bytes(payload[: len(MAGIC)]) != MAGIC:
        raise ImageError("the payload is no bundle: it does not begin with OXLBUNDL")
    at = len(MAGIC)

    def take(count):
        nonlocal at
        if at + count > len(payload):
            raise ImageError("the bundle ends in the middle of a file")
        at += count
        return bytes(payload[at - count : at])

    (count,) = _COUNT.unpack(take(_COUNT.size))
    files = {}
    last = ""
    for _ in range(count):
        length, size, crc = _ENTRY.unpack(take(_ENTRY.size))
        name = take(length).decode("ascii", "replace")
        if name <= last:
            raise ImageError(f"the bundle's files are not in order at {name[:80]!r}")
        last = name
        # Before the content is taken: a module has to know where to put it.
        check_name(name)
        data = take(size)
        if zlib.crc32(data) != crc:
            raise ImageError(f"the file {name} is damaged: wrong CRC")
        files[name] = data
    _check_names(list(files))
    if at != len(payload):
        raise ImageError(f"{len(payload) - at} bytes behind the bundle's last file")
    return files
