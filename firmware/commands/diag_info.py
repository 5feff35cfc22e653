"""DIAG INFO: what the module knows of itself. Imported for one command."""

from firmware.at.errors import PARAMETER, AtError

_RESET_CAUSES = {1: b"power-on", 2: b"hard", 3: b"watchdog", 4: b"deep-sleep", 5: b"soft"}


def _words(names):
    return " ".join(names).encode()


def _wifi(module):
    if not module.wifi.linked():
        return b"down"
    return b"up %d dB %s" % (module.wifi.rssi(), module.wifi.address())


def _lost(module):
    module.store.verify()
    return _words(module.store.lost)


def _cause(module):
    return _RESET_CAUSES.get(module.board.reset_cause, b"unknown")


def _roots(module):
    return b"trial" if module.config.trial_roots() else b"proven"


def _defender(module):
    if module.defender:
        return module.defender.status
    return b"off" if module.config.get(b"Defender") == b"0" else b"not started"


def _identity(module):
    identity = module.identity
    if identity.certified:
        return b"trial" if identity.on_trial else b"ready"
    return b"claim" if identity.claim()[0] else b"none"


def _confmode(module):
    return module.confmode.status() if module.confmode else module.conf_result


def _slot(module):
    from firmware.ota import slots

    return slots.running() + (b" trial" if slots.on_trial() else b"")


def _updates(module):
    record = module.updates.record
    status = module.updates.status
    if record:
        shown = b"%s %s" % (record.job.encode() or b"?", record.name())
        return shown if status in (b"", b"ready") else shown + b", " + status
    return status


# In the order in which they are shown.
_LINES = (
    (b"mode", lambda m: m.mode.name()),
    (b"reason", lambda m: m.mode.reason),
    (b"version", lambda m: m.config.get(b"Version")),
    (b"board", lambda m: m.board.name.encode()),
    (b"slot", _slot),
    (b"failed-starts", lambda m: b"%d" % m.failed),
    (b"uptime", lambda m: b"%d" % m.uptime),
    (b"reset-cause", _cause),
    (b"wifi", _wifi),
    (b"connections", lambda m: b"%d" % m.session.connections),
    (b"last-failure", lambda m: m.session.last_failure),
    (b"replies", lambda m: b"%d" % m.writer.replies),
    (b"noise", lambda m: b"%d" % m.engine.noise),
    (b"overflows", lambda m: b"%d" % m.engine.overflows),
    (b"events-dropped", lambda m: b"%d" % m.events.dropped),
    (b"messages-received", lambda m: b"%d" % m.messages.received),
    (b"messages-lost", lambda m: b"%d" % m.messages.lost),
    (b"flash-writes", lambda m: b"%d" % m.store.writes),
    (b"lost", _lost),
    (b"identity-faults", lambda m: _words(m.identity.faults)),
    (b"root-ca", _roots),
    (b"defender", _defender),
    (b"identity", _identity),
    (b"confmode", _confmode),
    (b"updates", _updates),
)


def info(module, parameter):
    """DIAG INFO [name]: all lines `name value`, or one value."""
    if parameter:
        wanted = parameter.lower()
        for name, value in _LINES:
            if name == wanted:
                return value(module) or None
        raise AtError(PARAMETER, b"no such name")
    lines = []
    for name, value in _LINES:
        lines.append((name + b" " + value(module)).rstrip())
    return b"\n".join(lines)
