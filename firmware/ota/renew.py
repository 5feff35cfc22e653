"""Certificates over the air (guide 7.5, 7.10, 7.11; D33): loaded into memory, applied at once.

Runs without the agent, and each half without the other: there is little memory.
"""

from firmware.cloud.session import SessionError
from firmware.events import OTA
from firmware.log import INFO, WARNING, log
from firmware.ota.fault import Fault
from firmware.ota.work import drop


class Memory:
    """An area in memory (area.py)."""

    name = b"memory"

    def __init__(self, size):
        self.size = size
        self.data = bytearray(size)

    def start(self, at):
        """There is nothing to be erased."""

    def write(self, offset, data):
        """Put `data` at `offset`."""
        self.data[offset : offset + len(data)] = data

    def readinto(self, offset, buffer):
        """Fill `buffer` from `offset` on."""
        buffer[:] = memoryview(self.data)[offset : offset + len(buffer)]

    def sync(self):
        """Memory does not outlive a power cut."""

    def close(self):
        """There is nothing open."""


async def run(module):
    """Load the certificate of the job in `module.updates.renewal`, apply it, and leave there what
    the cloud is to be told. False when the connection was lost: the next one begins anew."""
    watch = module.updates
    job_id, job = watch.renewal
    watch.renewal = None
    from firmware.ota import certificates
    from firmware.settle import rest

    name = certificates.key(job.type)
    status = b"FAILED"
    try:
        memory = await _load(module, job)
        # The room that the download has taken up is needed now.
        await rest()
        rest = None
        drop(watch, " renew certificates fault job ")
        # The file is not held while it is being judged.
        await certificates.apply(module, job.type, memory.pop())
        status = b"SUCCEEDED"
        # New roots still have to make a connection (D13).
        why = name + (b" taken, on trial" if name == b"RootCA" else b" applied")
    except Fault as error:
        why = error.args[0]
    except MemoryError:
        # It would not be better the next time.
        why = b"no memory"
    except SessionError as error:
        log(WARNING, "ota: interrupted:", error.args[0])
        return False
    if status == b"FAILED":
        log(WARNING, "ota:", name, "refused:", why)
        module.events.put(OTA, 0, b"FAILED " + name + b" " + why)
    else:
        log(INFO, "ota: applied", name)
        module.events.put(OTA, 0, b"APPLIED " + name)
    watch.renewal = (job_id, status, why)
    return True


async def _load(module, job):
    """A list with the file of `job`. Raises Fault, SessionError."""
    from firmware.ota import certificates, download
    from firmware.ota.receiver import Receiver

    if not 0 < (job.size or 0) <= certificates.MAX_BYTES:
        raise Fault(b"no certificate, by its size")
    memory = Memory(job.size)
    try:
        await download.fetch(module, job, Receiver(job.size, memory), lambda: None)
    except download.Broken as error:
        raise SessionError(error.args[0])
    except download.Stale:
        raise Fault(b"the URL is refused")
    return [memory.data]
