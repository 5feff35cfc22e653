"""Notices that there is something to do for updates: the part that is always there.

The rest of `ota` is imported when there is work, and dropped from memory after it.
"""

import asyncio
import gc
import sys

from micropython import const

from firmware.borrowed import drop
from firmware.log import ERROR, WARNING, log

# After a lack of memory, or a cloud that did not answer, it is tried again this much later.
_PAUSE_S = const(60)

# What updates use besides their own package.
_LIBRARIES = (
    " lib.cbor lib.http_client lib.x509 lib.der lib.pem lib.p256 lib.rsa"
    " firmware.config.renewal firmware.config.checks firmware.settle "
)
_CLOUD = " firmware.cloud.jobs firmware.cloud.execution "


class Watch:
    """module: the application's parts (`module.Module`).

    record: the job that is being dealt with (`record.Record`), or None. mailbox: the host's image
    while it is being read (`mailbox.Mailbox`). told: something is to be looked into. status: what
    became of the last look, for DIAG INFO (bytes). stopped: the endpoint closes the connection
    when it is asked for jobs, so it is not asked again before a restart. works: it was asked with
    success. trial: the running version is to be proved. connection: the last one in which
    notifications were subscribed to.
    """

    def __init__(self, module):
        self._module = module
        self.record = None
        self.mailbox = None
        self.told = False
        self.stopped = False
        self.status = b""
        self.connection = 0
        self.busy = False
        self.trial = False
        self.works = False
        self._after = 0

    def start(self):
        """Find out what the last start was about. Raises MemoryError, OSError."""
        if not self._module.store.read("ota"):
            return
        from firmware.ota import record

        self.record = record.load(self._module.store)
        if self.record and self.record.phase == record.TRIAL:
            from firmware.ota import trial

            self._begin(trial.settle)

    def notified(self, payload):
        """The cloud says that the list of jobs has changed."""
        self.told = True

    def turn(self):
        """Do what is due; to be called about once a second. Returns at once, does not raise."""
        module = self._module
        session = module.session
        if self.busy or self.stopped or not session.connected() or module.uptime < self._after:
            return
        if self.told or self.connection != session.connections:
            identity = module.identity
            if not identity.on_trial and not identity.doubted:
                self._begin(None)

    def _begin(self, work):
        self.busy = True
        try:
            asyncio.create_task(self._work(work))  # noqa: RUF006
        except MemoryError:
            self.retry(b"no memory")

    async def _work(self, work):
        """Run `work(module)`, or the agent; the one place where its failure ends."""
        self.told = False
        try:
            if work:
                await work(self._module)
            else:
                while await self._round():
                    pass
        except MemoryError:
            self.retry(b"no memory")
        except Exception as error:  # noqa: BLE001
            sys.print_exception(error)
            self.retry(b"internal error, " + type(error).__name__.encode())
        work = None
        try:
            self.drop()
        except MemoryError:
            log(WARNING, "ota: no memory to drop modules with")
        self.busy = False

    async def _round(self):
        """Deal with jobs until one has a file to be loaded, and load it, without the code that
        has dealt with the jobs. True when there may be more to do."""
        from firmware.ota import agent

        if not await agent.run(self._module):
            return False
        agent = None
        self.drop()
        from firmware.ota import loading

        again = await loading.load(self._module)
        loading = None
        self.drop()
        return again

    def drop(self, keep=""):
        """Drop from memory what is not needed now, but for the parts in `keep`: names in this
        package with a space around each. Raises MemoryError."""
        if "agent" not in keep:
            drop(_CLOUD)
        if "download" not in keep:
            drop(_LIBRARIES)
        keep += " watch record " if self.record else " watch "
        if self.mailbox:
            keep += " mailbox area fault "
        for name in list(sys.modules):
            if name.startswith("firmware.ota.") and " " + name[13:] + " " not in keep:
                drop(" " + name + " ")
        gc.collect()

    def retry(self, why):
        """Have it looked into again in a while; `why` (bytes) not now."""
        self.busy = False
        self.status = why
        self.told = True
        self._after = self._module.uptime + _PAUSE_S
        log(ERROR, "ota:", why)
