"""What the host says of updates, carried out (guide 7.2; D33 to D37). Imported for one command.

The host's word counts at once, also without a connection: it is written into the record, and the
cloud is told at the next one.
"""

from micropython import const

from firmware.at.errors import NO_IMAGE, OTA, AtError
from firmware.log import WARNING, log

_MODULE = const(101)
_HOST = const(202)

# Codes of 7.2.2.
_NONE = const(0)
_MODULE_OFFERED = const(1)
_HOST_OFFERED = const(2)
_RUNNING = const(3)
_MODULE_READY = const(4)
_HOST_READY = const(5)


def state(module):
    """(code, detail) of `OTA?` (7.2.2)."""
    record = module.updates.record
    if not record:
        return _NONE, b""
    from firmware.ota import record as phases

    data = record.data
    host = record.type == _HOST
    if record.phase == phases.OFFERED:
        return (_HOST_OFFERED if host else _MODULE_OFFERED), data["detail"].encode()
    if record.phase == phases.LOADING:
        return _RUNNING, b""
    if record.phase == phases.READY:
        if host:
            return _HOST_READY, b"%d" % data["size"]
        return _MODULE_READY, data["version"].encode()
    if record.phase == phases.TRIAL:
        return _RUNNING, b"trial " + data["version"].encode()
    return _NONE, b""


def _to(record, phase, **values):
    """Change the record. Raises AtError when the flash refuses: nothing has changed then."""
    try:
        record.to(phase, **values)
    except OSError as error:
        raise AtError(OTA, b"not stored, errno %d" % (error.errno or 0)) from None


def _look(watch):
    """Have the agent look into it, now or at the next connection."""
    watch.after = 0
    watch.notified(None)


def accept(module):
    """OTA ACCEPT (7.2.3): let it be downloaded, now or at the next connection."""
    from firmware.ota import record as phases

    record = module.updates.record
    if not record or record.phase != phases.OFFERED:
        raise AtError(OTA, b"nothing is proposed")
    _to(record, phases.LOADING)
    _look(module.updates)


def mailbox(module):
    """The host's image, ready to be read. AtError when there is none (7.2.4.1)."""
    watch = module.updates
    code, detail = state(module)
    if code != _HOST_READY:
        raise AtError(NO_IMAGE)
    if not watch.mailbox:
        from firmware.ota import mailbox as boxes

        try:
            area = boxes.open(watch.record.data["area"].encode())
        except boxes.AreaError as error:
            raise AtError(NO_IMAGE, error.args[0]) from None
        watch.mailbox = boxes.Mailbox(area, int(detail))
    return watch.mailbox


def empty(module, record):
    """Give back what the image of `record` takes up. A flash that refuses is told in the log: the
    next image overwrites what is left."""
    module.updates.mailbox = None
    name = record.data.get("area")
    if not name:
        return
    try:
        if record.type == _HOST:
            from firmware.ota import mailbox as boxes

            boxes.open(name.encode()).discard()
        else:
            from firmware.ota import slots

            # Installed is only what has been verified.
            slots.forget("slot" in record.data or not record.data["done"])
    except Exception as error:  # noqa: BLE001
        log(WARNING, "ota: not emptied:", repr(error))


def apply(module):
    """OTA APPLY (7.2.6): restart with the new version, for a trial."""
    activate(module)
    module.after_reply(module.restart)


def activate(module):
    """Let the next start be the trial of the new version. Raises AtError."""
    from firmware.ota import record as phases
    from firmware.ota import slots

    watch = module.updates
    record = watch.record
    if state(module)[0] != _MODULE_READY:
        raise AtError(NO_IMAGE)
    if slots.running() == record.data["slot"].encode():
        raise AtError(OTA, b"image damaged")
    # Before it is made bootable: what starts next has to know what it is.
    _to(record, phases.TRIAL, running=slots.running().decode())
    try:
        slots.activate()
    except MemoryError:
        # Nothing has changed yet, and it may work a moment later.
        _to(record, phases.READY)
        raise
    except (slots.ImageError, OSError) as error:
        why = error.args[0] if isinstance(error.args[0], bytes) else b"flash refuses"
        _to(record, phases.REPORT, status="FAILED", reason=why.decode())
        empty(module, record)
        _look(watch)
        raise AtError(OTA, why) from None


def close(module):
    """OTA CLOSE (7.2.7): the host has what it wants."""
    from firmware.ota import record as phases

    record = module.updates.record
    if not record or record.phase == phases.REPORT:
        return
    if record.type != _HOST:
        raise AtError(NO_IMAGE)
    if record.phase != phases.READY:
        return
    _to(record, phases.REPORT, status="SUCCEEDED", reason="closed by the host")
    empty(module, record)
    _look(module.updates)


def flush(module):
    """OTA FLUSH (7.2.8): away with it."""
    from firmware.ota import record as phases

    watch = module.updates
    record = watch.record
    if not record or record.phase == phases.REPORT:
        return
    if record.phase == phases.TRIAL:
        raise AtError(OTA, b"version on trial")
    loading = record.phase == phases.LOADING
    _to(record, phases.REPORT, status="FAILED", reason="flushed by the host")
    if not (loading and watch.busy):
        # Else the download is in it, and empties it when it ends.
        empty(module, record)
    _look(watch)
