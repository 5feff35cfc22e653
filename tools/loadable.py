"""An application in `.mpy` files that costs a board little heap: with few names.

MicroPython keeps every name that it has met in a table in the heap, for ever: 7 bytes and its own
length each, on a board, and the table doubles when it is full. So names that only one file can
know become _0, _1, …, which all files share, and what a traceback calls a file becomes the name
under which it is imported, which is in the table anyway.

The code is left alone. Only texts in the table of names at the head of each file change, each to
one that is not in it; so a file does what it did, as long as nothing else knows those names.

`python -m tools.loadable < CONSOLE` puts the names of the source tree back into tracebacks.
"""

import re
import sys

from tools import names
from tools.sim import romfs

# MicroPython documentation, "MicroPython .mpy files": the bytes before the first number.
_HEAD = 4

_SHORT = re.compile(r"_[0-9]+")
_FRAME = re.compile(r'File "([A-Za-z0-9_.]+)", line [0-9]+, in ')


def _number(data, at):
    value = 0
    while True:
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at


def _packed(value):
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def _counts(data):
    # (number of names, offset of the first); a number of objects is between.
    count, at = _number(data, _HEAD)
    return count, _number(data, at)[1]


def table(data):
    """(names, offset of what follows) of a `.mpy` file. A name is bytes, or the number of one that
    every MicroPython has. The first is what a traceback calls the file."""
    count, at = _counts(data)
    found = []
    for _ in range(count):
        length, at = _number(data, at)
        if length & 1:
            found.append(length >> 1)
            continue
        length >>= 1
        found.append(bytes(data[at : at + length]))
        at += length + 1
    return found, at


def _rewritten(data, change):
    found, end = table(data)
    pieces = [data[: _counts(data)[1]]]
    for number, name in enumerate(found):
        if isinstance(name, int):
            pieces.append(_packed(name << 1 | 1))
        else:
            name = change(number, name)
            pieces += [_packed(len(name) << 1), name, b"\0"]
    return b"".join([*pieces, data[end:]])


def _module(path):
    return path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def plan(files, compiled):
    """{path of a `.mpy` file: {name: short name}} for an application: what romfs.application and
    romfs.compiled have made. Raises ValueError for one that has names like the short ones."""
    texts = {path: file.read_text() for path, file in files.items()}
    scripts = [texts.pop(path) for path in list(texts) if path in compiled]
    found = {}
    for family, hidden in names.hidden(texts, scripts).items():
        paths = [path[:-3] + ".mpy" for path in family]
        there = set()
        for path in paths:
            there |= {name for name in table(compiled[path])[0] if isinstance(name, bytes)}
        there = {name.decode("latin-1") for name in there}
        if any(map(_SHORT.fullmatch, there)):
            raise ValueError(f"{', '.join(paths)}: a name like _0, as others are shortened to")
        short = {name: f"_{i}" for i, name in enumerate(sorted(hidden & there))}
        found |= dict.fromkeys(paths, short)
    return found


def loadable(files):
    """{path: bytes} of an application for a board that loads it into its heap; files: of
    romfs.application. The same files make the same bytes. Raises ValueError."""
    compiled = romfs.compiled(files)
    for path, short in plan(files, compiled).items():
        known = {name.encode(): text.encode() for name, text in short.items()}
        known_as = _module(path).encode()
        compiled[path] = _rewritten(
            compiled[path],
            lambda number, name, known=known, known_as=known_as: (
                known.get(name, name) if number else known_as
            ),
        )
    return compiled


def readable(text, files):
    """`text` from the console of a board that runs `files` (of romfs.application), with the names
    of the source in its tracebacks."""
    shorts = {
        _module(path): {new: old for old, new in short.items()}
        for path, short in plan(files, romfs.compiled(files)).items()
    }
    lines = []
    known = {}
    for line in text.splitlines(keepends=True):
        frame = _FRAME.search(line)
        if frame:
            known = shorts.get(frame[1], {})
        elif line[:1].isspace() or "Error" not in line:
            known = {}
        # The last line of a traceback speaks of the last frame.
        lines.append(_SHORT.sub(lambda found, known=known: known.get(found[0], found[0]), line))
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(readable(sys.stdin.read(), romfs.application(romfs.ROOT)))
