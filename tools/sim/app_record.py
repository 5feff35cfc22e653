"""The record by which boot.py chooses between /app/a and /app/b, read from outside."""

import zlib

from tools.fleet import factory_image

STATES = {"v": "valid", "n": "new", "p": "pending verify"}
_PATH = "/app/record"


def read(filesystem):
    """(letter, state) as the record has them, or None without one, or with a damaged one.

    filesystem: a filesystem.Filesystem."""
    if "app" not in filesystem.names("/") or "record" not in filesystem.names("/app"):
        return None
    data = filesystem.read(_PATH)
    if len(data) != 9 or data[:3] != b"OXB" or data[3:4] not in (b"a", b"b"):
        return None
    if data[5:] != zlib.crc32(data[:5]).to_bytes(4, "little"):
        return None
    return chr(data[3]), chr(data[4])


def pack(letter, state):
    """The record's bytes. letter: a or b; state: a key of STATES."""
    data = b"OXB" + letter.encode() + state.encode()
    return data + zlib.crc32(data).to_bytes(4, "little")


def state(filesystem, folder):
    """What the record says of `folder`, /app/a or /app/b: a text of STATES; "" when it says
    nothing."""
    found = read(filesystem)
    if found is None or "/app/" + found[0] != folder:
        return ""
    return STATES.get(found[1], found[1])


def updated(filesystem, digest):
    """Whether an update has replaced the application that was installed in /app/a.

    digest: of that one, with its boot scripts (factory_image.digest)."""
    found = read(filesystem)
    if found is None:
        return False
    files = {"/" + name: filesystem.read("/" + name) for name in ("boot.py", "main.py")}
    for folder, _, names in filesystem.fs.walk("/app/a"):
        for name in names:
            path = folder + "/" + name
            files[path] = filesystem.read(path)
    return found != ("a", "v") or factory_image.digest(files) != digest
