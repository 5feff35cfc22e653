"""The first run of a new version, and what becomes of it (D38).

The version connects by itself. When the cloud accepts it, it is marked valid; when it does not
within ten minutes, or when it restarts before, the one before it runs again and says why.
"""

import asyncio
import sys
import time

from micropython import const

from firmware import events
from firmware.cloud.session import ConnectError
from firmware.log import INFO, WARNING, log
from firmware.ota import slots
from firmware.ota.record import REPORT, load

_LONGEST_MS = const(600000)

# Between two attempts that failed at once; else the back-off is what lies between them.
_PAUSE_MS = const(2000)


class Unproven(Exception):
    """The version was not accepted in time; the argument (bytes) says why."""


async def settle(module):
    """Find out which version runs, and prove it or tell of its failure."""
    record = module.updates.record
    data = record.data
    if slots.running().decode() != data["slot"]:
        why = data.get("why", "restarted before it was accepted")
        # It may be a version on trial itself, see slots.leave().
        slots.confirm()
        slots.forget()
        _tell(module, record, "FAILED", why, b"FAILED " + why.encode())
    else:
        why = b""
        if slots.on_trial():
            module.updates.trial = True
            try:
                await _prove(module)
            except Unproven as error:
                why = error.args[0]
            except Exception as error:  # noqa: BLE001
                # A version that cannot do this is not fit for anything.
                sys.print_exception(error)
                why = b"internal error, " + type(error).__name__.encode()
            if why:
                await _give_up(module, record, why)
                return
            module.updates.trial = False
        version = data["version"]
        _tell(module, record, "SUCCEEDED", "accepted " + version, b"APPLIED " + version.encode())


def _tell(module, record, status, reason, detail):
    record.to(REPORT, status=status, reason=reason)
    module.events.put(events.OTA, 0, detail)
    module.updates.told = True


async def _prove(module):
    """Have the cloud accept this version, which is then marked valid. Raises Unproven."""
    session = module.session
    started = time.ticks_ms()
    why = b"not connected"
    while True:
        try:
            if session.connected():
                slots.confirm()
                log(INFO, "ota: version accepted")
                return
            await session.connect()
            continue
        except ConnectError as error:
            why = error.args[0]
        except OSError as error:
            why = b"flash refuses, errno %d" % (error.errno or 0)
        except MemoryError:
            why = b"no memory"
        # Work that has broken off begins anew, the time does not.
        took = max(time.ticks_diff(time.ticks_ms(), started), module.uptime * 1000)
        if took > _LONGEST_MS:
            raise Unproven(why)
        await asyncio.sleep_ms(_PAUSE_MS)


async def _give_up(module, record, why):
    """Restart, so that the version before this one runs again."""
    log(WARNING, "ota: version on trial not accepted:", why)
    try:
        # A record that only the version before understands stays as it is (resume.py).
        if record.job or load(module.store):
            record.keep(why="not accepted: " + why.decode())
    except OSError as error:
        log(WARNING, "ota: reason not stored, errno", error.errno)
    try:
        slots.leave()
    except OSError as error:
        log(WARNING, "ota: cannot leave, errno", error.errno)
    await module.restart()
