"""Loads a file, checks what it is, and makes it ready (guide 7, 7.4, 7.9; D34, D40).

    document -> place -> download -> signature -> installation -> READY

The file goes straight to where it is to lie. How far it has got is written down now and then, so
that a lost connection, a reset or a power cut costs no more than the last pieces. Between two of
these steps what the one has needed is dropped from memory: on a board with a stock image there is
not room for all of it at once.
"""

import asyncio
import binascii

from micropython import const

from firmware import mode as modes
from firmware.at.errors import AtError
from firmware.cloud.execution import JobError
from firmware.cloud.session import SessionError
from firmware.log import INFO, WARNING, log
from firmware.ota.fault import Fault
from firmware.ota.record import LOADING, MODULE, READY, REPORT

# Bytes between two notes of how far it has got: each costs a write to flash.
_NOTE = const(65536)

# How often the cloud is told how far it has got, and hears so of a job that was cancelled.
_TELL_MS = const(2000)

# Fresh URLs that are asked for without anything having arrived by the last.
_STALE = const(3)

_BLOCK = const(4096)


class Stopped(Exception):
    """The host or the cloud wants no more of it."""


class Interrupted(Exception):
    """The connection was lost; the argument (bytes) says how."""


def _blocks(size):
    return (size + _BLOCK - 1) // _BLOCK


async def load(agent, execution):
    """Load the file of the job `execution` as far as this connection goes. False when to wait for
    the next one. Raises SessionError, JobError, MemoryError."""
    module = agent.module
    if module.mode.state == modes.NORMAL:
        module.mode.to(modes.OTA)
    try:
        return await Loader(agent, execution).run()
    finally:
        if module.mode.state == modes.OTA:
            module.mode.to(modes.NORMAL)
            module.review()


class Loader:
    """One file on its way."""

    def __init__(self, agent, execution):
        self._agent = agent
        self._module = agent.module
        self._execution = execution
        self._record = agent.record
        self._job = None
        self._area = None
        self._receiver = None
        self._head = b""
        self._withdrawn = False

    async def run(self):
        """See `load`."""
        agent = self._agent
        record = self._record
        try:
            await self._begin()
            await self._place()
            await self._fetch()
            await self._prove()
            if record.type == MODULE:
                await self._install()
            else:
                self._ready(size=self._receiver.size)
            if record.data["force"]:
                from firmware.ota import desk

                desk.activate(self._module)
                await self._module.restart()
        except Interrupted as error:
            log(WARNING, "ota: interrupted:", error.args[0])
            return False
        except Stopped:
            log(INFO, "ota: download stopped")
            self._empty()
            if self._withdrawn:
                agent.withdrawn(record)
        except Fault as error:
            self._fail(error.args[0])
        except AtError as error:
            # The record says already what becomes of it.
            agent.tell(b"FAILED " + error.detail)
        except OSError as error:
            self._fail(b"flash refuses, errno %d" % (error.errno or 0))
        finally:
            if self._area:
                self._area.close()
        return True

    def _tidy(self, keep=""):
        """Drop what the last step has needed; `keep`: names with a space around each."""
        self._module.updates.drop(" agent loading fault " + keep)

    def _empty(self):
        from firmware.ota import desk

        desk.empty(self._module, self._record)

    def _still(self):
        """Raise Stopped when the job is no longer to be loaded."""
        record = self._record
        if self._withdrawn or self._agent.record is not record or record.phase != LOADING:
            raise Stopped()

    def _fail(self, why):
        record = self._record
        log(WARNING, "ota: failed:", why)
        self._empty()
        if record.phase == LOADING:
            record.to(REPORT, status="FAILED", reason=why.decode())
            self._agent.tell(b"FAILED " + why)

    async def _begin(self):
        """Read the document, and tell the cloud that the job is being worked on."""
        self._job = self._read(self._execution)
        if self._job.type != self._record.type:
            raise Fault(b"another job document")
        if self._execution.status == b"QUEUED":
            await self._agent.jobs.update(self._execution, b"IN_PROGRESS", {})

    def _read(self, execution):
        from firmware.ota import document

        job = document.parse(execution.document)
        # It is large.
        execution.document = None
        document = None
        self._tidy()
        return job

    async def _size(self):
        """The size of a file whose document does not tell."""
        from firmware.ota import download

        if self._record.data["size"]:
            return self._record.data["size"]
        for _ in range(_STALE):
            try:
                return await download.size(self._module, self._job)
            except download.Broken as error:
                raise Interrupted(error.args[0])
            except download.Stale:
                await self._renew_url()
        raise Fault(b"the URL is refused")

    async def _renew_url(self):
        """Take the URL in the job's document as it is now: it is made when the document is asked
        for, and expires."""
        fresh = await self._agent.jobs.describe(self._record.job)
        self._execution.stand((fresh.status, fresh.version, fresh.details))
        self._job.url = self._read(fresh).url

    async def _place(self):
        """Have a receiver, with what has arrived in earlier connections."""
        record = self._record
        job = self._job
        if job.size is None:
            job.size = await self._size()
        size = job.size
        skip = 0
        check = None
        if record.type == MODULE:
            from firmware.ota import slots

            self._area, skip = slots.place(size)
            check = self._check
        else:
            from firmware.ota import mailbox

            self._area = mailbox.place(size)
        self._tidy(" area ")
        from firmware.ota.receiver import Receiver

        receiver = self._receiver = Receiver(size, self._area, skip, check)
        data = record.data
        name = self._area.name.decode()
        if data["done"] and data["area"] == name and data["size"] == size:
            await receiver.resume(data["done"], binascii.a2b_base64(data["head"]))
            log(INFO, "ota: goes on at", receiver.done)
        else:
            record.keep(done=0, area=name, size=size)

    def _header(self):
        """The header of the module image, which suits this module. Raises ImageError (D40)."""
        from firmware import version
        from firmware.ota import header, slots

        found = header.parse(self._head)
        board = self._module.board
        header.refuse(
            found, slots.kind(), board.name, board.chip, version.SECURITY, self._job.size
        )
        promised = self._job.version
        if promised and promised != found.version:
            raise Fault(b"another version than the job says")
        return found

    def _check(self, head):
        """Look at the header as soon as it is there."""
        self._head = head
        self._header()
        self._tidy(" area download stream web receiver ")

    async def _fetch(self):
        """Get the bytes."""
        from firmware.ota import download

        receiver = self._receiver
        teller = asyncio.create_task(self._tell())
        stale = 0
        try:
            while True:
                before = receiver.done
                try:
                    await download.fetch(self._module, self._job, receiver, self._tick)
                    break
                except download.Broken as error:
                    self._note()
                    raise Interrupted(error.args[0])
                except download.Stale:
                    stale = 0 if receiver.done > before else stale + 1
                    if stale >= _STALE:
                        raise Fault(b"the URL is refused")
                    await self._renew_url()
        finally:
            teller.cancel()
            # So that it does not hold the jobs while we ask.
            await asyncio.sleep_ms(0)
        download = None
        self._area.sync()
        self._tidy(" area ")

    def _tick(self):
        """Called by the download: go on, or not."""
        self._still()
        if self._receiver.done - self._record.data["done"] >= _NOTE:
            self._note()

    def _note(self):
        """Write down how far it has got."""
        receiver = self._receiver
        self._area.sync()
        head = binascii.b2a_base64(receiver.head).decode().strip()
        self._record.keep(done=receiver.done // _BLOCK * _BLOCK, head=head)

    async def _tell(self):
        """Tell the cloud how far it has got, and hear of a job that was cancelled."""
        told = -1
        receiver = self._receiver
        while True:
            if receiver.done != told:
                told = receiver.done
                blocks = "%d/%d" % (_blocks(told), _blocks(receiver.size))
                try:
                    await self._agent.jobs.progress(self._execution, {"receive": blocks})
                except SessionError:
                    # The download sees it too.
                    return
                except JobError:
                    # It takes no more updates.
                    self._withdrawn = True
                    return
                log(INFO, "ota: received", blocks)
            await asyncio.sleep_ms(_TELL_MS)

    async def _prove(self):
        """Check the signature of what lies in flash (7.4, 7.9)."""
        job = self._job
        module = self._record.type == MODULE
        # A host's image may do without one, a module's never.
        if module or job.signature:
            from firmware.ota import signature

            found = self._module.config.get(b"OTAcertificate" if module else b"HOTAcertificate")
            await signature.verify(
                found[0] if found else b"", job.algorithm, self._receiver.digest(), job.signature
            )
            log(INFO, "ota: signature verified")
            signature = None
            self._tidy(" area ")

    async def _install(self):
        """Make the module's image ready to be started."""
        from firmware.ota import slots

        header = self._header()
        await slots.install(self._area, header)
        self._ready(
            size=self._receiver.size,
            slot=slots.idle().decode(),
            version=header.version.decode(),
        )

    def _ready(self, **values):
        """Tell the host that it is there."""
        self._still()
        self._record.to(READY, done=values["size"], **values)
        self._agent.tell(b"")
