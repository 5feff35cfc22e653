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
from firmware.cloud.session import SessionError
from firmware.events import OTA
from firmware.log import INFO, WARNING, log
from firmware.ota.fault import Fault
from firmware.ota.record import LOADING, MODULE, READY, REPORT
from firmware.ota.work import drop

# Bytes between two notes of how far it has got: each costs a write to flash.
_NOTE = const(65536)

# Fresh URLs that are asked for without anything having arrived by the last.
_STALE = const(3)

_BLOCK = const(4096)


class Stopped(Exception):
    """The host or the cloud wants no more of it."""


class Interrupted(Exception):
    """The connection was lost; the argument (bytes) says how."""


async def load(module):
    """Load the file of the job that `module.updates.record` is about, as far as this connection
    goes. True when there may be more to do. Raises MemoryError; what the network does is dealt
    with."""
    if module.mode.state == modes.NORMAL:
        module.mode.to(modes.OTA)
    loader = Loader(module)
    try:
        await loader.run()
        return True
    except (Interrupted, SessionError) as error:
        log(WARNING, "ota: interrupted:", error.args[0])
    finally:
        loader.close()
        if module.mode.state == modes.OTA:
            module.mode.to(modes.NORMAL)
            module.review()
    return False


class Loader:
    """One file on its way."""

    def __init__(self, module):
        self._module = module
        self._record = module.updates.record
        self._job = None
        self._version = 0
        self._progress = None
        self._kind = 0
        self._area = None
        self._receiver = None
        self._head = self._digest = b""
        self._size = 0

    async def run(self):
        """Do all that is left to be done. Raises Interrupted, SessionError, MemoryError."""
        record = self._record
        try:
            await self._begin()
            await self._place()
            await self._fetch()
            await self._prove()
            if record.type == MODULE:
                await self._install()
            else:
                self._ready()
            # With a connection the agent starts it, unless it was cancelled meanwhile.
            if record.data["force"] and not self._module.session.connected():
                from firmware.ota import desk

                desk.activate(self._module)
                await self._module.restart()
        except Stopped:
            log(INFO, "ota: download stopped")
            if record.phase != LOADING:
                self._empty()
        except Fault as error:
            self._fail(*error.args)
        except AtError as error:
            # The record says already what becomes of it.
            self._tell(b"FAILED " + error.detail)
        except OSError as error:
            self._fail(b"flash refuses, errno %d" % (error.errno or 0))

    def close(self):
        """Release what is open."""
        if self._area:
            self._area.close()

    def _tell(self, detail):
        """Raise the event that tells the host to look (7.1.1.1)."""
        self._module.events.put(OTA, 0, detail)

    def _tidy(self, keep=""):
        """Drop what the last step has needed; `keep`: names with a space around each."""
        drop(self._module.updates, " loading fault job " + keep)

    def _empty(self):
        from firmware.ota import desk

        desk.empty(self._module, self._record)

    def _still(self):
        """Raise Stopped when the job is no longer to be loaded."""
        record = self._record
        if (
            (self._progress and self._progress.refused)
            or self._module.updates.record is not record
            or record.phase != LOADING
        ):
            raise Stopped()

    def _fail(self, why, status=b"FAILED"):
        record = self._record
        log(WARNING, "ota: failed:", why)
        # First: after a power cut nobody would know any more.
        if record.phase == LOADING:
            record.to(REPORT, status=status.decode(), reason=why.decode())
            self._tell(b"FAILED " + why)
        self._empty()

    async def _begin(self):
        """Read the document, and tell the cloud that the job is being worked on. The document is
        asked for each time, since a URL in it expires."""
        from firmware.cloud import execution as executions
        from firmware.cloud.jobs import Jobs

        module = self._module
        jobs = Jobs(module.session, module.identity.thing)
        try:
            execution = await jobs.describe(self._record.job)
            from firmware.ota import document

            job = document.parse(execution.document)
            if job.type != self._record.type:
                raise Fault(b"another job document")
            if execution.status == executions.QUEUED:
                await jobs.update(execution, executions.IN_PROGRESS, {})
        except executions.JobError as error:
            if not error.gone:
                module.updates.retry(b"jobs: " + error.code)
                raise Interrupted(error.code)
            # The agent looks what has become of it.
            raise Stopped()
        finally:
            await jobs.close()
        job.size = job.size or self._record.data["size"] or None
        self._job = job
        self._version = execution.version
        jobs = execution = executions = document = None
        self._tidy()
        self._still()

    async def _learn_size(self):
        """Ask the file's server for the size that the document does not tell."""
        from firmware.ota import download

        try:
            self._job.size = await download.size(self._module, self._job)
        except download.Broken as error:
            raise Interrupted(error.args[0])
        except download.Stale:
            raise Fault(b"the URL is refused")

    async def _place(self):
        """Have a receiver, with what has arrived in earlier connections."""
        record = self._record
        job = self._job
        if job.size is None:
            await self._learn_size()
        size = job.size
        skip = 0
        check = None
        if record.type == MODULE:
            from firmware.ota import slots

            self._kind = slots.kind()
            self._area, skip = slots.place(size)
            check = self._check
        else:
            from firmware.ota import mailbox

            self._area = mailbox.place(size)
        self._tidy(" area ")
        from firmware.ota.receiver import Receiver

        self._size = size
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
        from firmware.ota import header

        found = header.parse(self._head)
        board = self._module.board
        header.refuse(found, self._kind, board.name, board.chip, version.SECURITY, self._size)
        promised = self._job.version
        if promised and promised != found.version:
            raise Fault(b"another version than the job says")
        return found

    def _check(self, head):
        """Look at the header as soon as it is there."""
        self._head = head
        self._header()
        self._tidy(" area download stream web receiver progress ")

    async def _fetch(self):
        """Get the bytes."""
        stale = 0
        while True:
            before = self._receiver.done
            try:
                if await self._get():
                    break
            except Exception:
                # What comes now, the host's information above all, needs the room.
                self._receiver = None
                await self._leave(" area ")
                raise
            # The URL has expired.
            await self._leave(" area receiver ")
            stale = 0 if self._receiver.done > before else stale + 1
            if stale >= _STALE:
                raise Fault(b"the URL is refused")
            await self._begin()
            if self._job.size not in (None, self._size):
                raise Fault(b"another job document")
        # Not to be loaded again for what is cut from here on, and to be made unbootable unless it
        # is verified.
        self._note()
        self._digest = self._receiver.digest()
        self._receiver = None
        await self._leave(" area ")
        self._still()

    async def _leave(self, keep):
        """Tidy up behind a download, which has had tasks of its own: all that it was made of is in
        memory until they are given back."""
        from firmware.settle import rest

        await rest()
        self._tidy(keep)

    async def _get(self):
        """Get the bytes as far as this URL goes: True when all are there."""
        from firmware.ota import download
        from firmware.ota.progress import Progress

        module = self._module
        progress = self._progress = Progress(
            module.session, module.identity.thing, self._record.job, self._version
        )
        teller = asyncio.create_task(progress.run(self._receiver))
        try:
            await download.fetch(module, self._job, self._receiver, self._tick)
            await progress.tell(self._receiver)
            return True
        except download.Broken as error:
            self._note()
            raise Interrupted(error.args[0])
        except download.Stale:
            return False
        except Stopped:
            if self._record.phase == LOADING:
                self._note()
            raise
        finally:
            self._progress = None
            teller.cancel()
            progress.close()

    def _tick(self):
        """Called by the download: go on, or not."""
        self._still()
        if self._receiver.done - self._record.data["done"] >= _NOTE:
            self._note()

    def _note(self):
        """Write down how far it has got."""
        receiver = self._receiver
        self._area.sync()
        if self._record.data["done"] == receiver.done // _BLOCK * _BLOCK:
            return
        head = binascii.b2a_base64(receiver.head).decode().strip()
        self._record.keep(done=receiver.done // _BLOCK * _BLOCK, head=head)

    async def _prove(self):
        """Check the signature of what lies in flash (7.4, 7.9)."""
        job = self._job
        module = self._record.type == MODULE
        # A host's image may do without one, a module's never.
        if module or job.signature:
            from firmware.ota import signature

            found = self._module.config.get(b"OTAcertificate" if module else b"HOTAcertificate")
            await signature.verify(
                found[0] if found else b"", job.algorithm, self._digest, job.signature
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
            slot=slots.idle().decode(),
            version=header.version.decode(),
        )

    def _ready(self, **values):
        """Tell the host that it is there."""
        self._still()
        self._record.to(READY, size=self._size, done=self._size, **values)
        self._tell(b"")
