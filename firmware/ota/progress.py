"""Tells the cloud how far a download has got, and hears of a job that was cancelled (guide 7.2).

The least of AWS IoT Jobs that does it: there is little memory left while a file is being loaded.
"""

import asyncio

from micropython import const

from firmware.cloud.session import SessionError
from firmware.log import INFO, WARNING, log

# Between two reports: so many looks, each after so long.
_LOOKS = const(20)
_LOOK_MS = const(100)

_BLOCK = const(4096)


def _blocks(size):
    return (size + _BLOCK - 1) // _BLOCK


class Progress:
    """Reports of one job in progress. job: its id (str); version: of its execution.

    `refused`: the cloud does not take them any more. Mostly the job has been cancelled, or has
    timed out; it is for others to find out."""

    def __init__(self, session, thing, job, version):
        self._session = session
        self._topic = b"$aws/things/" + thing + b"/jobs/" + job.encode() + b"/update"
        self._version = version
        self.refused = self._again = False
        session.route(self._topic + b"/accepted", self._accepted)
        session.route(self._topic + b"/rejected", self._rejected)

    def close(self):
        """No longer be there for answers."""
        self._session.route(self._topic + b"/accepted", None)
        self._session.route(self._topic + b"/rejected", None)

    async def run(self, receiver):
        """Report whenever there is something new, until cancelled."""
        told = -1
        while True:
            if receiver.done != told:
                told = receiver.done
                await self.tell(receiver)
            for _ in range(_LOOKS):
                await asyncio.sleep_ms(_LOOK_MS)
                if self._again:
                    # At once: it may tell that the job has been cancelled.
                    self._again = False
                    told = -1
                    break

    async def tell(self, receiver):
        """Report once. Does not raise: the download sees when the connection is lost, and it does
        without reports."""
        blocks = b"%d/%d" % (_blocks(receiver.done), _blocks(receiver.size))
        log(INFO, "ota: received", blocks.decode())
        try:
            await self._session.post(
                self._topic,
                b'{"status":"IN_PROGRESS",%s"statusDetails":{"receive":"%s"}}'
                % (b'"expectedVersion":%d,' % self._version if self._version else b"", blocks),
                0,
            )
        except (SessionError, MemoryError) as error:
            log(WARNING, "ota: not reported:", repr(error))

    def _accepted(self, payload):
        if self._version:
            self._version += 1

    def _rejected(self, payload):
        try:
            text = bytes(payload or b"")
        except MemoryError:
            # The next report will be refused too, if this one was.
            return
        if b"VersionMismatch" in text:
            # An answer has come twice, or not at all: the next report goes without.
            self._version = 0
            self._again = True
        elif b"Throttled" not in text and b"InternalError" not in text:
            self.refused = True
