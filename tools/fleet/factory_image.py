"""The filesystem that a module leaves the factory with, as one LittleFS image.

Boards and the virtual module get it from here. An image fills its partition exactly: MicroPython
refuses to mount one that was made for another size.
"""

import binascii
import hashlib
import json
import posixpath

import littlefs

from tools import loadable
from tools.sim import romfs

BLOCK = 4096
# What the module needs to keep its configuration, with room for LittleFS to move things.
ROOM = 64 * 1024

_APP = "/app/a/"
_FACTORY = "/factory/"


class ImageError(ValueError):
    """The image cannot be made, or is not what it should be; the text says why."""


def application(source=romfs.ROOT):
    """{path on the board: bytes} of the application: boot scripts as source, the rest compiled.

    Scripts lie in the root folder, packages in /app/a. Names are short (tools/loadable.py)."""
    files = loadable.loadable(romfs.application(source))
    return {(_APP if "/" in name else "/") + name: data for name, data in files.items()}


def digest(files):
    """One SHA-256, in hexadecimal, over the names and contents of `files`."""
    total = hashlib.sha256()
    for name, data in sorted(files.items()):
        total.update(b"%s\0%d\0" % (name.encode(), len(data)))
        total.update(data)
    return total.hexdigest()


def _filesystem(size):
    if size <= 0 or size % BLOCK:
        raise ImageError(f"a filesystem of {size} bytes is not whole blocks of {BLOCK}")
    return littlefs.LittleFS(
        block_size=BLOCK,
        block_count=size // BLOCK,
        # The older form, which every MicroPython reads; the module raises it at its first write.
        disk_version=0x00020000,
        name_max=255,
        mount=False,
    )


def build(files, size):
    """The image of `size` bytes that holds `files`, {absolute path: bytes}.

    The same files make the same image. Raises ImageError when they do not fit with `ROOM` to
    spare.
    """
    filesystem = _filesystem(size)
    try:
        filesystem.format()
        filesystem.mount()
        for path, data in sorted(files.items()):
            filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
            with filesystem.open(path, "wb") as file:
                file.write(data)
    except littlefs.LittleFSError as error:
        if error.code != littlefs.LittleFSError.Error.LFS_ERR_NOSPC:
            raise ImageError(f"the filesystem cannot be made: {error}") from None
        raise ImageError(_too_small(files, size)) from None
    if size - filesystem.used_block_count * BLOCK < ROOM:
        raise ImageError(_too_small(files, size))
    return bytes(filesystem.context.buffer)


def _too_small(files, size):
    total = sum(map(len, files.values()))
    return (
        f"{len(files)} files of {total // 1024} KiB do not fit into a filesystem of"
        f" {size // 1024} KiB with {ROOM // 1024} KiB to spare"
    )


def contents(image):
    """{absolute path: bytes} of all that is in an image. Raises ImageError."""
    if len(image) < 2 * BLOCK or len(image) % BLOCK:
        raise ImageError(f"{len(image)} bytes are not an image: whole blocks of {BLOCK} are")
    filesystem = littlefs.LittleFS(
        block_size=BLOCK, block_count=len(image) // BLOCK, name_max=255, mount=False
    )
    filesystem.context.buffer[:] = image
    found = {}
    try:
        filesystem.mount()
        for folder, _, names in filesystem.walk("/"):
            for name in names:
                path = posixpath.join(folder, name)
                with filesystem.open(path, "rb") as file:
                    found[path] = file.read()
    except (littlefs.LittleFSError, UnicodeError) as error:
        raise ImageError(f"no LittleFS of this size, or a damaged one ({error})") from None
    return found


def description(files):
    """What `module.json` among an image's files says: {name: text}. Raises ImageError."""
    try:
        info = json.loads(files[_FACTORY + "module.json"])
    except KeyError:
        raise ImageError("there is no factory data in it") from None
    except ValueError:
        raise ImageError("module.json is damaged") from None
    if not isinstance(info, dict) or not all(isinstance(text, str) for text in info.values()):
        raise ImageError("module.json is damaged")
    return info


def verify(files):
    """Compare the factory files among `files` with their sums. Raises ImageError.

    Returns the names of those that there are, without the folder.
    """
    there = {
        path.removeprefix(_FACTORY): data
        for path, data in files.items()
        if path.startswith(_FACTORY)
    }
    if "sums" not in there:
        raise ImageError("there is no factory data in it")
    body, _, last = there.pop("sums").rpartition(b"sums ")
    lines = body.splitlines()
    if last != b"%08x\n" % binascii.crc32(body):
        raise ImageError("the file sums is damaged")
    wanted = dict(line.decode().split(" ") for line in lines)
    for name in sorted(wanted.keys() | there.keys()):
        if name not in there:
            raise ImageError(f"the factory file {name} is missing")
        if wanted.get(name) != f"{binascii.crc32(there[name]):08x}":
            raise ImageError(f"the factory file {name} is damaged or does not belong here")
    return sorted(there)


def certificate_id(files):
    """("birth" or "claim" or "none", AWS's certificate id or "") of an image's files. The id is
    the SHA-256 of the certificate's DER form."""
    for kind, name in (("birth", "cert.der"), ("claim", "claim_cert.der")):
        data = files.get(_FACTORY + name)
        if data is not None:
            return kind, hashlib.sha256(data).hexdigest()
    return "none", ""
