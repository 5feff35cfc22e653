"""Notices that there is something to do for updates: the part that is always there.

The rest of `ota` is imported when there is work, and dropped from memory after it.
"""

import asyncio
import gc
import sys

from micropython import const

from firmware.borrowed import drop
from firmware.log import ERROR, log

# After a lack of memory, or a cloud that did not answer, it is tried again this much later.
_PAUSE_S = const(60)
_SOON_S = const(5)

# A trial has ended by then, one way or the other.
_LONGEST_S = const(720)

# As in record.py, which is not always there.
_TRIAL = const(4)


class Watch:
    """module: the application's parts (`module.Module`). heap_free: function that returns the
    bytes of heap that are free; need: how many have to be before the rest of `ota` is loaded;
    names: and how many more before it is for the first time.

    record: the job that is being dealt with (`record.Record`), or None. renewal: a certificate's
    job: (id, `job.Job`) to be loaded, then (id, status, reason) to be told. mailbox: the host's
    image while it is being read (`mailbox.Mailbox`). trial: the running version is to be proved.
    status: what became of the last look, for DIAG INFO (bytes).

    told: something is to be looked into. after: not before this uptime (seconds). connection: the
    last one in which notifications were subscribed to. works: jobs were asked for with success.
    cuts: connections that the endpoint has ended at it, one after the other; long: how long the
    last pause for that was (seconds). lacks: times in a row that there was no memory.
    """

    def __init__(self, module, heap_free, need, names):
        self._module = module
        self._heap_free = heap_free
        self._need = need
        self._names = names
        self.record = None
        self.renewal = None
        self.mailbox = None
        self.told = False
        self.long = 0
        self.lacks = 0
        self.status = b""
        self.connection = 0
        self.busy = False
        self.trial = False
        self._unsettled = False
        self.works = False
        self.cuts = 0
        self.after = 0

    def start(self):
        """Find out what the last start was about. Raises MemoryError."""
        store = self._module.store
        if not store.read("ota") and "ota" not in store.lost:
            return
        from firmware.ota import resume

        self.record = resume.find(self._module)
        # Only what an earlier start has begun: an APPLY of this one is for the next.
        self._unsettled = bool(self.record) and self.record.phase == _TRIAL
        self.turn()

    def notified(self, payload):
        """The cloud, or the host, has changed something."""
        self.told = True
        self.turn()

    def turn(self):
        """Do what is due; to be called about once a second. Returns at once, does not raise."""
        module = self._module
        session = module.session
        if self.busy or module.uptime < self.after:
            return
        if self._unsettled:
            self._begin(True)
        if not session.connected():
            return
        if not self.busy and (self.told or self.connection != session.connections):
            identity = module.identity
            if identity.on_trial or identity.doubted:
                return
            gc.collect()
            if self._heap_free() < self._need + (0 if self.works else self._names):
                # The host's messages come first.
                self.retry(b"no memory")
            else:
                self._begin(False)

    def _begin(self, trial):
        self.busy = True
        try:
            asyncio.create_task(self._work(trial))  # noqa: RUF006
        except MemoryError:
            self.busy = False
            self.retry(b"no memory")

    async def _work(self, trial):
        """Do what is to be done; the one place where its failure ends."""
        self.told = False
        try:
            from firmware.ota import work

            await work.run(self._module, trial)
            if trial:
                self._unsettled = False
        except MemoryError:
            # Mostly it is what has just ended that still holds some.
            self.retry(b"no memory", _SOON_S)
        except Exception as error:  # noqa: BLE001
            sys.print_exception(error)
            self.retry(b"internal error, " + type(error).__name__.encode())
        finally:
            # What comes now may find no memory.
            self.busy = False
        work = None
        drop(" firmware.ota.work ")
        if trial and self._unsettled and self._module.uptime > _LONGEST_S:
            version = self.record.data["version"].encode()
            if version == self._module.config.get(b"Version"):
                # On trial, and not even able to give up.
                self._module.board.reset()

    def retry(self, why, pause=_PAUSE_S):
        """Have it looked into again in a while; `why` (bytes) not now."""
        self.status = why
        self.told = True
        self.after = self._module.uptime + pause
        log(ERROR, "ota:", why)
