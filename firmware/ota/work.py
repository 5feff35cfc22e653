"""Does the work of updates, with no more in memory than each part of it needs."""

import asyncio
import gc
import sys

from micropython import const

from firmware.borrowed import drop as forget
from firmware.cloud.ending import by_peer
from firmware.events import OTA
from firmware.log import WARNING, log

# Connections that may end by updates, one after the other, before there is a long pause.
_CUTS = const(3)

# Times that there was no memory for a download, before its job has failed.
_LACKS = const(5)

# As in record.py, which is not always there.
_LOADING = const(2)
_REPORT = const(5)

_PAUSE_S = const(3600)
_LONGEST_S = const(86400)

_MOMENT_MS = const(2000)

# What is used besides the parts of this package.
_LIBRARIES = (
    " lib.cbor lib.http_client lib.x509 lib.der lib.pem lib.p256 lib.rsa"
    " firmware.config.renewal firmware.config.checks firmware.settle "
)
_CLOUD = " firmware.cloud.jobs firmware.cloud.execution "


async def run(module, trial):
    """Find out what has become of a `trial`, or deal with jobs until there is nothing left to do.
    Raises MemoryError, and what nobody has foreseen."""
    watch = module.updates
    before = _mark(watch)
    connection = module.session.connections
    try:
        if trial:
            from firmware.ota import trial as trials

            await trials.settle(module)
        else:
            while await _round(module):
                pass
        watch.lacks = 0
    except MemoryError:
        watch.lacks += 1
        record = watch.record
        if record and record.data["force"] and module.messages.give_way():
            # A host that does not fetch its messages is not to hold up a forced update (7.6).
            log(WARNING, "ota: no memory, messages were lost for it")
        if watch.lacks < _LACKS or not record or record.phase != _LOADING:
            raise
        # It would not be otherwise the next time, and other jobs wait.
        watch.lacks = 0
        record.to(_REPORT, status="FAILED", reason="no memory")
        module.events.put(OTA, 0, b"FAILED no memory")
        watch.told = True
    finally:
        trials = None
        try:
            drop(watch)
        except MemoryError:
            log(WARNING, "ota: no memory to drop modules with")
            # Tasks that have just ended hold what they know for a moment longer.
            await asyncio.sleep_ms(_MOMENT_MS)
            gc.collect()
            drop(watch)
        _count(module, connection, before)


def _mark(watch):
    """How far the job has got."""
    record = watch.record
    return record and (record.phase, record.data["done"])


def _count(module, connection, before):
    """Pause where updates cost the host its connection: what a policy forbids is answered by
    closing it, and by nothing else."""
    watch = module.updates
    session = module.session
    # The host may have made another connection by now.
    kept = session.connected() and session.connections == connection
    if kept or _mark(watch) != before:
        watch.cuts = watch.long = 0
    elif by_peer(session.lost):
        watch.cuts += 1
        # The first time that jobs are asked for there is hardly another reason.
        if watch.cuts >= (_CUTS if watch.works else 1):
            log(WARNING, "ota: does the policy allow jobs and streams?")
            pause(watch, module.uptime, b"closed by the endpoint")


def pause(watch, now, why):
    """Ask for nothing for an hour, and for twice as long the next time, up to a day: it costs the
    host its connection. now: uptime in seconds."""
    watch.long = min(2 * watch.long or _PAUSE_S, _LONGEST_S)
    watch.after = now + watch.long
    watch.status = why
    log(WARNING, "ota:", why, "- next in s:", watch.long)


async def _round(module):
    """Deal with jobs until one has a file to be loaded, and load it, without the code that has
    dealt with the jobs. True when there may be more to do."""
    from firmware.ota import agent

    if not await agent.run(module):
        return False
    agent = None
    drop(module.updates)
    if module.updates.renewal:
        from firmware.ota import renew

        again = await renew.run(module)
        renew = None
    else:
        from firmware.ota import loading

        again = await loading.load(module)
        loading = None
    drop(module.updates)
    return again


def drop(watch, keep=""):
    """Drop from memory what is not needed now, but for the parts in `keep`: names in this package
    with a space around each. Raises MemoryError."""
    if "agent" not in keep:
        forget(_CLOUD)
    if "download" not in keep:
        forget(_LIBRARIES)
    keep += " watch work record " if watch.record else " watch work "
    if watch.mailbox:
        keep += " mailbox area fault "
    for name in list(sys.modules):
        if name.startswith("firmware.ota.") and " " + name[13:] + " " not in keep:
            forget(" " + name + " ")
    gc.collect()
