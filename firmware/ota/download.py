"""Gets the file of a job: by an MQTT stream, or by HTTPS.

What both have in common is here; `stream.py` and `web.py` are loaded when they are needed.
"""

from firmware.log import WARNING, log
from firmware.ota.fault import Fault
from firmware.ota.receiver import Failed


class Broken(Fault):
    """The link to the cloud was lost: what is there stays, and the rest may be fetched later. The
    argument (bytes) says why."""


class Stale(Fault):
    """The URL is no longer good (403): the cloud gives a fresh one with the job's document."""


async def size(module, job):
    """Bytes of the job's file: what the document says, else the file server is asked.

    Raises Broken, Stale, Failed."""
    if job.size is not None:
        return job.size
    if not job.url:
        raise Failed(b"size of the file is not told")
    from firmware.ota import web

    return await web.size(module, job)


async def fetch(module, job, receiver, tick):
    """Have all of the job's file put into `receiver`; returns when it is complete.

    module: its parts, of which session, identity and config are used. tick: function that is
    called after each progress, and a few times a second; what it raises ends the download.

    Raises Broken, Stale, Failed, and what `tick` and the receiver's `check` raise. After Broken
    and Stale it may be called again with the same receiver."""
    if job.stream:
        from firmware.ota import stream

        try:
            return await stream.fetch(module, job, receiver, tick)
        except Failed as error:
            # What is wrong with the file or the flash is so by HTTPS too.
            if not job.url or receiver.error:
                raise
            log(WARNING, "download: by HTTPS instead:", error.args[0])
    from firmware.ota import web

    await web.fetch(module, job, receiver, tick)
