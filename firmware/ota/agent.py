"""Takes the jobs that the cloud has for this module, one at a time (guide 7.1 to 7.3, 7.6; D33 to
D35, D39). Imported while there is a connection and something to look into.

Where a job has got to is in its record. What is done here returns when nothing is left to do
until the host, or the cloud, has something new; or when the connection is lost: the next one goes
on from the record.
"""

import gc

from firmware import events
from firmware.cloud.execution import Execution, JobError, detail_text
from firmware.cloud.jobs import Jobs
from firmware.cloud.session import Refused, SessionError
from firmware.log import INFO, WARNING, log
from firmware.ota import record as records
from firmware.ota.fault import Fault
from firmware.ota.record import HOST, LOADING, MODULE, OFFERED, READY, REPORT
from firmware.ota.work import drop, pause

_CERTIFICATES = (103, 107, 204)


async def run(module):
    """Deal with the jobs. True when a file is to be loaded (loading.py, renew.py), after which
    there may be more to do. Raises MemoryError, OSError of the flash; what the network does is
    dealt with."""
    agent = Agent(module)
    watch = module.updates
    try:
        await agent.open()
        while await agent.step():
            gc.collect()
        watch.status = b"ready"
        return bool(watch.renewal or (watch.record and watch.record.phase == LOADING))
    except Refused:
        pause(watch, module.uptime, b"subscription refused")
    except SessionError as error:
        watch.status = b"jobs: " + (error.args[0] or b"connection lost")
    except JobError as error:
        watch.retry(b"jobs: " + error.code)
    finally:
        await agent.close()
    return False


class Agent:
    """Deals with the jobs of one connection."""

    def __init__(self, module):
        self.module = module
        self.topic = b"$aws/things/" + module.identity.thing + b"/jobs/"
        self.jobs = Jobs(module.session, module.identity.thing)
        # The job whose end the cloud has refused to take.
        self._refused = None

    async def open(self):
        """Have the cloud tell of new jobs. Raises SessionError, Refused."""
        watch = self.module.updates
        session = self.module.session
        if watch.connection != session.connections:
            for name in (b"notify", b"notify-next"):
                session.route(self.topic + name, watch.notified)
                await session.subscribe(self.topic + name, 1)
            watch.connection = session.connections

    async def close(self):
        """No longer be there for answers."""
        await self.jobs.close()

    @property
    def record(self):
        """The job that is being dealt with, or None."""
        return self.module.updates.record

    def tell(self, detail):
        """Raise the event that tells the host to look (7.1.1.1)."""
        self.module.events.put(events.OTA, 0, detail)

    async def step(self):
        """Do one thing; False when there is nothing left to do. Raises SessionError, JobError."""
        record = self.record
        if self.module.updates.renewal:
            return await self._renewed()
        if record and record.phase == REPORT:
            await self._report(record)
            return True
        if record and record.phase == records.TRIAL:
            return False
        head = await self.jobs.next()
        self.module.updates.works = True
        if not record:
            return bool(head) and await self._take(head)
        if head is None or head.id != record.job:
            head = await self._find(record.job)
        if self._overtaken(record):
            return True
        if head and head.status == b"QUEUED" and (record.phase == READY or record.data["done"]):
            # Another one under the same id: ours was begun.
            head = None
        if head is None:
            await self._withdrawn(record)
            return True
        if record.phase == LOADING:
            return False
        if record.phase == READY and record.data["force"]:
            return await self._apply()
        return await self._others(record)

    async def _apply(self):
        """Start a forced version: the power was lost when that was to be done."""
        from firmware.at.errors import AtError
        from firmware.ota import desk

        try:
            desk.activate(self.module)
        except AtError as error:
            # The record says already what becomes of it.
            self.tell(b"FAILED " + error.detail)
            return True
        await self.module.restart()
        return False

    def _overtaken(self, record):
        """True when the host has said something about the job of `record` while we waited."""
        return record is not self.record or record.phase in (REPORT, records.TRIAL)

    async def _find(self, job):
        """The execution of `job`, None when it is over for the cloud."""
        try:
            found = await self.jobs.describe(job)
        except JobError as error:
            if error.gone:
                return None
            raise
        return found if found.status in (b"QUEUED", b"IN_PROGRESS") else None

    async def _report(self, record):
        """Tell the cloud how a job has ended (D35)."""
        if not record.job and not await self._found(record):
            # Over for the cloud, and the host has been told.
            await self._empty(record)
            self._forget()
            return
        data = record.data
        reason = detail_text(data["reason"].encode())
        try:
            # Whatever its version is: if it has got this already, before the power was lost, that
            # is no error.
            execution = Execution(record.job)
            await self.jobs.update(execution, data["status"].encode(), {"reason": reason})
        except JobError as error:
            if error.passing and not error.gone:
                raise
            log(WARNING, "ota: report refused:", error.code)
            self.tell(b"REPORT FAILED " + error.code)
        # Again: a power cut may have come between the host's word and this.
        await self._empty(record)
        self._forget()

    async def _found(self, record):
        """Find the job of a trial whose own record was lost. False: there is none."""
        from firmware.ota import resume

        job = await resume.whose(self.jobs, record.data["version"])
        resume = None
        self._tidy()
        if job:
            record.keep(job=job)
        return bool(job)

    async def _empty(self, record):
        """Give back what the image of `record` takes up."""
        from firmware.ota import desk

        desk.empty(self.module, record)
        if record.type == MODULE:
            from firmware.ota import slots

            try:
                await slots.tidy()
            except OSError as error:
                log(WARNING, "ota: not tidied, errno", error.errno)

    def _forget(self):
        self.record.remove()
        self.module.updates.record = None

    async def _withdrawn(self, record):
        """The job was cancelled, has timed out or was deleted in the cloud."""
        await self._empty(record)
        self._forget()
        self.tell(b"CANCELED")

    async def _take(self, execution):
        """Begin with a job. True: go on with the next step."""
        job = await self._examine(execution)
        if job is None:
            return True
        if job.type in _CERTIFICATES:
            await self._renew(execution, job)
            return True
        forced = job.force and job.type == MODULE
        self.module.updates.record = records.begin(
            self.module.store,
            LOADING if forced else OFFERED,
            execution.id,
            job.type,
            job.detail,
            forced,
            job.size or 0,
        )
        self.tell(b"")
        return True

    def _parse(self, execution):
        """The job's document. Raises Fault."""
        if execution.too_long:
            raise Fault(b"job document too long")
        from firmware.ota import document

        return document.parse(execution.document)

    async def _examine(self, execution):
        """The job's document, or None when the job has been ended for what is in it."""
        try:
            job = self._parse(execution)
            # It is large, and so is what has read it.
            execution.document = None
            self._tidy()
            self._possible(job)
            self._tidy()
            return job
        except Fault as error:
            why, status = (error.args + (b"REJECTED",))[:2]
        # Both may be large.
        execution.document = None
        self._tidy()
        log(WARNING, "ota: job refused:", why)
        await self.end(execution, status, why)
        return None

    def _tidy(self):
        drop(self.module.updates, " agent fault ")

    def _possible(self, job):
        """Raise Fault for a job that could only fail."""
        config = self.module.config
        if job.type == MODULE:
            from firmware.ota import slots

            if job.vendor not in (b"", b"open-expresslink"):
                raise Fault(b"another vendor's image")
            if job.model not in (b"", b"any", self.module.board.name.encode()):
                raise Fault(b"image for another model")
            if not job.signature:
                raise Fault(b"module image without a signature")
            if not config.get(b"OTAcertificate"):
                raise Fault(b"no OTAcertificate to verify with")
            if not slots.kind():
                raise Fault(b"this module cannot be updated")
            if job.size:
                slots.place(job.size)[0].close()
        elif job.type == HOST:
            from firmware.ota import mailbox

            mailbox.place(job.size).close()
            if job.signature and not config.get(b"HOTAcertificate"):
                # Not refused: it fails (D34).
                raise Fault(b"no HOTAcertificate to verify with", b"FAILED")
        elif job.type not in _CERTIFICATES:
            raise Fault(b"file type %d not supported" % job.type)

    async def end(self, execution, status, reason):
        """End a job that has no record."""
        try:
            await self.jobs.update(execution, status, {"reason": detail_text(reason)})
        except JobError as error:
            if not error.gone:
                raise
            log(WARNING, "ota: report refused:", error.code)
            if execution.id == self._refused:
                # It goes on listing a job whose end it does not take.
                raise
            self._refused = execution.id

    async def _renew(self, execution, job):
        """A certificate is applied at once (D33), by renew.py."""
        if execution.status == b"QUEUED":
            await self.jobs.update(execution, b"IN_PROGRESS", {})
        self.module.updates.renewal = (execution.id, job)

    async def _renewed(self):
        """Tell the cloud what has become of a certificate. False when it is still to be loaded."""
        watch = self.module.updates
        if len(watch.renewal) == 2:
            return False
        job, status, reason = watch.renewal
        execution = await self._find(job)
        if execution:
            await self.end(execution, status, reason)
        watch.renewal = None
        return True

    async def _others(self, record):
        """Look at jobs behind the one that waits for the host. True when something was done."""
        done = False
        for job in await self.jobs.pending():
            if job == record.job:
                continue
            execution = await self._find(job)
            if self._overtaken(record):
                return True
            if execution is None:
                continue
            done = await self._other(record, execution) or done
            if self._overtaken(record) or self.module.updates.renewal:
                return True
        return done and record.phase != OFFERED

    async def _other(self, record, execution):
        """Deal with a job that stands behind ours. True when something was done."""
        try:
            job = self._parse(execution)
        except Fault:
            job = None
        if job and job.type in _CERTIFICATES:
            job = await self._examine(execution)
            if job:
                await self._renew(execution, job)
            return True
        if job and job.type == MODULE and job.force:
            if await self._examine(execution):
                self._override(record)
            return True
        self._tidy()
        if record.phase == READY:
            log(INFO, "ota: job refused, the mailbox is full")
            await self.end(execution, b"REJECTED", b"busy, the mailbox is full")
            return True
        return False

    def _override(self, record):
        """A forced update takes the place of what waits (7.6)."""
        from firmware.ota import desk

        desk.empty(self.module, record)
        record.to(REPORT, status="FAILED", reason="overridden by a forced update")
        self.tell(b"FAILED overridden by a forced update")
