"""Module images for tests of what goes wrong: small ones that are only loaded, and versions that
are broken in one place."""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from pathlib import Path

from tools.fleet import image_bundle, image_header, image_make
from tools.sim import espimage, romfs

_KINDS = {"slot": image_header.SLOT, "bundle": image_header.BUNDLE}


@functools.cache
def payload(kind, size=20_000):
    """A payload that is whole and does nothing: it is not for being started."""
    data = random.Random(size).randbytes(size)
    if kind == "slot":
        return espimage.build([(espimage.DROM["esp32"], data)], "esp32")
    files = {"firmware/app.mpy": data[: size // 2], "lib/other.mpy": data[size // 2 :]}
    return image_bundle.pack(files)


def wrapped(kind, data, **fields):
    """`data` behind a header that suits it, but for `fields`."""
    said = {
        "kind": _KINDS[kind],
        "vendor": image_header.VENDOR,
        "model": image_header.ANY,
        "chip": "esp32" if kind == "slot" else image_header.ANY,
        "version": "9.1.0",
        "security": 0,
        **fields,
    }
    return image_header.of_payload(data, **said).pack() + data


def small(kind, **fields):
    """A small image of that kind, undamaged."""
    return wrapped(kind, payload(kind), **fields)


def flipped(data, bit):
    """`data` with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def tree(folder, changes):
    """A copy of the source tree in `folder` with texts replaced: changes is {path: ((old, new),
    …)}."""
    for name, file in romfs.application(romfs.ROOT).items():
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name, pairs in changes.items():
        path = Path(folder) / name
        text = path.read_text()
        for old, new in pairs:
            assert old in text, f"{name} has no {old}"
            text = text.replace(old, new)
        path.write_text(text)
    return Path(folder)


# What is broken in a version, and how.
_BROKEN = {
    # The application raises before it serves anybody.
    "crashes": {"firmware/app.py": ((" make(", " made("),)},
    # It does not import at all.
    "damaged": {"firmware/app.py": (('"""The comp', 'raise SystemError()\n"""The comp'),)},
    # The loop stands still on trial, and the watchdog ends it.
    "hangs": {
        "firmware/ota/trial.py": (
            ("    record = module.updates.record\n", "    while True:\n        pass\n"),
        ),
        "firmware/module.py": (("const(60000)", "const(1500)"),),
    },
    # The chip is reset on trial.
    "restarts": {
        "firmware/ota/trial.py": (
            ("    record = module.updates.record\n", "    module.board.reset()\n"),
        ),
    },
    # It gives up soon when the cloud does not accept it.
    "impatient": {
        "firmware/ota/trial.py": (
            ("_LONGEST_MS = const(600000)", "_LONGEST_MS = const(3000)"),
            ("_PAUSE_MS = const(2000)", "_PAUSE_MS = const(500)"),
        ),
    },
    # Does not know the records of this one, and has little patience.
    "stranger": {
        "firmware/ota/record.py": (("FORMAT = const(1)", "FORMAT = const(7)"),),
        "firmware/ota/trial.py": (
            ("_LONGEST_MS = const(600000)", "_LONGEST_MS = const(3000)"),
            ("_PAUSE_MS = const(2000)", "_PAUSE_MS = const(500)"),
        ),
    },
}


@functools.cache
def broken(how, kind, version):
    """An image of the source tree, broken in one way (see above)."""
    labels = image_make.Labels(version=version)
    with tempfile.TemporaryDirectory() as folder:
        source = tree(folder, _BROKEN[how])
        if kind == "bundle":
            return image_make.bundle(labels, source)
        return image_make.slot(labels, "esp32", source)
