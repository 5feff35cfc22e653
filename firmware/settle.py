"""What asyncio keeps of tasks that have ended, given back."""

import asyncio
import gc

from micropython import const

_SOON_MS = const(50)

# Longer than any task of the module sleeps.
_LONG_MS = const(1500)

# Until all of it has been given back.
_REST_MS = const(1700)


async def settle(fresh=False):
    """Have the memory of tasks that have just ended given back.

    asyncio's queue leaves in a task that waits the address of the last one that came to wait
    behind it (`child_last` of MicroPython's pairing heap), also when that one has ended long ago;
    and a task that has ended still holds its code and all it knew. So a new task that holds
    nothing comes to wait behind the others; new, because this one may hold such an address too.
    """
    await asyncio.sleep_ms(_SOON_MS)
    if fresh:
        await asyncio.sleep_ms(_LONG_MS)
        gc.collect()
    else:
        asyncio.create_task(settle(True))  # noqa: RUF006


async def rest():
    """Settle, and return when it has had its effect."""
    await settle()
    await asyncio.sleep_ms(_REST_MS)
    gc.collect()
