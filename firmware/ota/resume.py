"""What a start finds of an update, also when the record of it is lost.

The record may be damaged, or of a form that a new version does not know, when that version has its
first run. Another one takes its place then, so that the trial is settled like any other. Whose job
it was is asked of the cloud, when that is to be told of it.

Imported for single calls.
"""

from firmware.borrowed import drop
from firmware.log import WARNING, log
from firmware.ota import record as records


def find(module):
    """The record in flash, or one for a version on trial that has none; else None. Raises
    MemoryError."""
    found = records.load(module.store) or _trial(module)
    # Nearly every start finds nothing.
    drop(" firmware.ota.slots firmware.ota.partitions firmware.ota.folders ")
    drop(" firmware.ota.header firmware.ota.fault firmware.ota.resume ")
    if not found:
        drop(" firmware.ota.record ")
    return found


def _trial(module):
    """A record of the trial that this start is, without a job; None when it is none."""
    from firmware.ota import slots

    try:
        if not slots.on_trial():
            return None
    except OSError as error:
        log(WARNING, "ota: on trial or not, errno", error.errno)
        return None
    log(WARNING, "ota: on trial without a record")
    slot = slots.running().decode()
    version = module.config.get(b"Version").decode()
    record = records.Record(
        module.store,
        {
            "format": records.FORMAT,
            "phase": records.TRIAL,
            "job": "",
            "type": records.MODULE,
            "detail": version,
            "force": False,
            "size": 0,
            "done": 0,
            "area": slot,
            "slot": slot,
            "version": version,
        },
    )
    try:
        # By it the version before knows what has failed. One of another form, that version itself
        # has written: it stays.
        if module.store.read("ota") is None:
            record.keep()
    except OSError as error:
        log(WARNING, "ota: not stored, errno", error.errno)
    return record


async def whose(jobs, version):
    """The id (str) of the job that `version` (str) came with: a module image that is in progress.
    "" when there is none. Raises JobError, SessionError."""
    from firmware.cloud.execution import IN_PROGRESS, QUEUED, JobError
    from firmware.ota import document
    from firmware.ota.fault import Fault

    try:
        names = await jobs.pending()
    except JobError as error:
        if error.code != b"too long":
            raise
        # Too many to be listed; what is in progress comes first.
        head = await jobs.next()
        names = [head.id] if head else []
    for name in names:
        execution = job = None
        try:
            execution = await jobs.describe(name)
            if execution.status == QUEUED:
                # So are those behind it, and ours was begun.
                break
            if execution.too_long:
                # It may be ours, which there was room for once.
                raise JobError(b"no memory")
            job = document.parse(execution.document)
        except JobError as error:
            if not error.gone:
                raise
            continue
        except Fault:
            continue
        # The version is not in every document.
        suits = job.type == records.MODULE and job.version in (b"", version.encode())
        if suits and execution.status == IN_PROGRESS:
            return name
    return ""
