"""Does the work of updates, with no more in memory than each part of it needs."""

import gc
import sys

from firmware.borrowed import drop as forget
from firmware.log import WARNING, log

# What is used besides the parts of this package.
_LIBRARIES = (
    " lib.cbor lib.http_client lib.x509 lib.der lib.pem lib.p256 lib.rsa"
    " firmware.config.renewal firmware.config.checks firmware.settle "
)
_CLOUD = " firmware.cloud.jobs firmware.cloud.execution "


async def run(module, trial):
    """Find out what has become of a `trial`, or deal with jobs until there is nothing left to do.
    Raises MemoryError, and what nobody has foreseen."""
    try:
        if trial:
            from firmware.ota import trial as trials

            await trials.settle(module)
        else:
            while await _round(module):
                pass
    finally:
        trials = None
        try:
            drop(module.updates)
        except MemoryError:
            log(WARNING, "ota: no memory to drop modules with")


async def _round(module):
    """Deal with jobs until one has a file to be loaded, and load it, without the code that has
    dealt with the jobs. True when there may be more to do."""
    from firmware.ota import agent

    if not await agent.run(module):
        return False
    agent = None
    drop(module.updates)
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
