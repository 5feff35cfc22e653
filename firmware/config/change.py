"""Changes several values of the store in one transaction. Imported when there is one.

A plan of the whole change is written first: from then on it is decided, and while the plan's file
exists it is not done. For each value: the length of its name, the length of the value or _NONE,
name, value.
"""

import struct

from micropython import const

from firmware.config.store import CHANGE

_PLACE = "<BH"
_NONE = const(0xFFFF)  # the value is to go


def decide(store, values):
    """Write the plan for `values` ({name: bytes or None}). Raises OSError: nothing is decided."""
    plan = b""
    for name, value in values.items():
        size = _NONE if value is None else len(value)
        plan += struct.pack(_PLACE, len(name), size) + name.encode() + (value or b"")
    store.write(CHANGE, plan)
    store.unfinished = True


def finish(store):
    """Do what the plan says, if there is one. Returns the last OSError of a value; one of the
    plan itself is raised, and it is done later."""
    fault = None
    plan = store.read(CHANGE)
    at = 0
    while plan and at < len(plan):
        length, size = struct.unpack_from(_PLACE, plan, at)
        at += struct.calcsize(_PLACE) + length
        name = plan[at - length : at].decode()
        try:
            if size == _NONE:
                store.drop(name)
            else:
                at += size
                store.put(name, plan[at - size : at])
        except OSError as error:
            # A folder in its place, for instance: it must not stop the rest.
            store.damaged(name, "not changed, errno %d" % error.errno)
            fault = error
    store.drop(CHANGE)
    store.unfinished = False
    return fault
