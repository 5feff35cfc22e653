"""DIAG (guide 6.2). Imported for one command.

DIAG LOG [level]    what is told on the console: 0 to 4, or OFF ERROR WARN INFO DEBUG
DIAG HEAP           memory
DIAG INFO [name]    what the module knows of itself (diag_info.py)
DIAG SCAN [seconds] access points (diag_network.py)
DIAG PING host [count]
"""

import asyncio
import gc

import firmware.log as log
from firmware.at.errors import PARAMETER, AtError

# Which function serves which command: (module, function).
_TABLE = {
    b"LOG": ("firmware.commands.diag", "set_log"),
    b"HEAP": ("firmware.commands.diag", "heap"),
    b"INFO": ("firmware.commands.diag_info", "info"),
    b"SCAN": ("firmware.commands.diag_network", "scan"),
    b"PING": ("firmware.commands.diag_network", "ping"),
}


def diag(module, command):
    """DIAG command [parameter] (6.2.1)."""
    word, _, parameter = command.brief().strip().partition(b" ")
    row = _TABLE.get(word.upper())
    if row is None:
        raise AtError(PARAMETER, b"known: LOG HEAP INFO SCAN PING")
    return module.engine.borrow(row[0], row[1])(module, parameter.strip())


def set_log(module, parameter):
    """DIAG LOG [level]. Log lines go to the REPL's console, never to the host."""
    if not parameter:
        return b"%d %s" % (log.level, log.NAMES[log.level].encode())
    for level, name in enumerate(log.NAMES):
        if parameter.upper() == name.encode() or parameter == b"%d" % level:
            log.level = level
            return None
    raise AtError(PARAMETER, b"level, 0 to 4")


async def heap(module, parameter):
    """DIAG HEAP: bytes free and used, and the largest block that could be had just now."""
    if parameter:
        raise AtError(PARAMETER)
    gc.collect()
    free = gc.mem_free()
    used = gc.mem_alloc()
    return b"free %d used %d largest %d" % (free, used, await _largest(free))


async def _largest(most):
    """The largest block of the heap, found by halving, to 1 % or 64 bytes."""
    low = 0
    high = most
    while high - low > max(64, low // 100):
        size = (low + high) // 2
        try:
            bytearray(size)
            low = size
        except MemoryError:
            high = size
        gc.collect()
        # A collection may take 10 ms on a chip.
        await asyncio.sleep_ms(0)
    return low
