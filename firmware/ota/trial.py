"""The first run of a new version, and what becomes of it (D38).

The version connects by itself. When the cloud accepts it, it is marked valid; when it does not
within ten minutes, or when it restarts before, the one before it runs again and says why.
"""

import asyncio
import time

from micropython import const

from firmware import events
from firmware.cloud.session import ConnectError
from firmware.log import INFO, WARNING, log
from firmware.ota import slots
from firmware.ota.record import REPORT

_LONGEST_MS = const(600000)

# Between two attempts that failed at once; else the back-off is what lies between them.
_PAUSE_MS = const(2000)


async def settle(module):
    """Find out which version runs, and prove it or tell of its failure."""
    record = module.updates.record
    data = record.data
    if slots.running().decode() != data["slot"]:
        why = data.get("why", "restarted before it was accepted")
        slots.forget()
        _tell(module, record, "FAILED", why, b"FAILED " + why.encode())
    elif not slots.on_trial() or await _proven(module, record):
        version = data["version"]
        _tell(module, record, "SUCCEEDED", "accepted " + version, b"APPLIED " + version.encode())


def _tell(module, record, status, reason, detail):
    record.to(REPORT, status=status, reason=reason)
    module.events.put(events.OTA, 0, detail)
    module.updates.told = True


async def _proven(module, record):
    """True when the cloud has accepted this version, which is then marked valid; else it restarts
    and does not return."""
    session = module.session
    started = time.ticks_ms()
    why = b"not connected"
    while not session.connected():
        if time.ticks_diff(time.ticks_ms(), started) > _LONGEST_MS:
            why = b"not accepted in 10 minutes: " + why
            log(WARNING, "ota: version on trial:", why)
            record.keep(why=why.decode())
            await module.restart()
        try:
            await session.connect()
        except ConnectError as error:
            why = error.args[0]
            await asyncio.sleep_ms(_PAUSE_MS)
    slots.confirm()
    log(INFO, "ota: version accepted")
    return True
