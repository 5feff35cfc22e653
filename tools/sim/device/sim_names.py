"""The names in a ROMFS application: on a board they lie in flash with the frozen code.

MicroPython keeps every name that a module mentions in a table in the heap, unless it is compiled
into the image. So that the virtual module's limited heap is not charged with names that a board's
is not, the launcher makes the heap larger by `room`; here the names are put into the table before
the application starts, and ballast takes what they have left of that.
"""

import gc
import os


def _number(data, at):
    value = 0
    while True:
        c = data[at]
        at += 1
        value = value << 7 | c & 0x7F
        if not c & 0x80:
            return value, at


def _put(data, name):
    # A `.mpy` file of format 6: `M`, 6, flags, bits of a small integer, how many names and
    # objects; of each name its length doubled, and the name; or an odd number, of one that every
    # MicroPython has.
    count, at = _number(data, 4)
    _, at = _number(data, at)
    for _ in range(count):
        size, at = _number(data, at)
        if not size & 1:
            size >>= 1
            # Looking a name up puts it into the table.
            getattr(gc, data[at : at + size].decode(), None)
            at += size + 1
    # What the import system makes of it.
    getattr(gc, name, None)


def _walk(folder, dotted):
    for entry in os.ilistdir(folder):
        name = entry[0]
        if entry[1] & 0x4000:
            getattr(gc, dotted + name, None)
            _walk(folder + "/" + name, dotted + name + ".")
        elif name.endswith(".mpy"):
            file = open(folder + "/" + name, "rb")  # noqa: SIM115
            data = file.read()
            file.close()
            _put(data, dotted + name[:-4])
            # Else the table's pieces would lie between what is left of this.
            data = None
            gc.collect()


def settle(folder, heap, room):
    """Put the names in `folder` into the table; returns the ballast that leaves a heap of `heap`
    of the present `heap + room` (any unit)."""
    total = gc.mem_alloc() + gc.mem_free()
    gc.collect()
    before = gc.mem_alloc()
    _walk(folder, "")
    gc.collect()
    return bytearray(total * room // (heap + room) - (gc.mem_alloc() - before))
