"""Certificates over the air (guide 7.5, 7.10, 7.11; D33): loaded into memory, applied at once."""

from firmware.cloud.session import SessionError
from firmware.log import INFO, WARNING, log
from firmware.ota import certificates, download
from firmware.ota.receiver import Receiver

_NAMES = {103: b"OTAcertificate", 107: b"RootCA", 204: b"HOTAcertificate"}


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


async def run(agent, execution, job):
    """Load the certificate of the job `execution`, whose document is `job`, and apply it. Raises
    SessionError when the connection is lost: the next one begins anew; JobError, MemoryError."""
    module = agent.module
    name = _NAMES[job.type]
    why = None
    try:
        if not 0 < (job.size or 0) <= certificates.MAX_BYTES:
            raise certificates.CertificateError(b"no certificate, by its size")
        if execution.status == b"QUEUED":
            await agent.jobs.update(execution, b"IN_PROGRESS", {})
        memory = Memory(job.size)
        await download.fetch(module, job, Receiver(job.size, memory), lambda: None)
        await certificates.apply(module, job.type, bytes(memory.data))
    except download.Broken as error:
        raise SessionError(error.args[0])
    except download.Stale:
        why = b"the URL is refused"
    except (download.Failed, certificates.CertificateError) as error:
        why = error.args[0]
    if why:
        log(WARNING, "ota:", name, "refused:", why)
        await agent.end(execution, b"FAILED", why)
        agent.tell(b"FAILED " + name + b" " + why)
    else:
        log(INFO, "ota: applied", name)
        await agent.end(execution, b"SUCCEEDED", name + b" applied")
        agent.tell(b"APPLIED " + name)
