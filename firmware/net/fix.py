"""Asks for the time (decision D25). Imported when a CONNECT needs it."""

import time

from micropython import const

from firmware import version
from firmware.config.checks import split_host
from firmware.log import INFO, WARNING, log
from firmware.net.clock import ClockError
from lib import sntp

# The last good time is written to flash this often at most.
_KEEP_S = const(86400)

_NTP_PORT = const(123)
_TRIES = const(2)
_TRY_MS = const(3000)


async def get(clock):
    """Set `clock` by SNTP; when that fails an old fix or the last good time from flash must do.
    Raises ClockError when there is none of them."""
    host, port = split_host(clock.server(), _NTP_PORT)
    failure = None
    started = time.ticks_ms()
    for _ in range(_TRIES):
        if time.ticks_diff(time.ticks_ms(), started) > _TRY_MS * _TRIES:
            # The resolver has taken it all.
            break
        try:
            seconds, milliseconds = await sntp.query(host.decode(), port, _TRY_MS)
        except (OSError, ValueError) as error:
            failure = error
            log(WARNING, "clock: SNTP failed:", error)
            continue
        if seconds < version.RELEASED:
            # It would make certificates valid again that have expired.
            failure = ValueError("SNTP answer from the past")
            log(WARNING, "clock: SNTP answer from before this release:", seconds)
            continue
        clock.set(seconds, milliseconds)
        clock.fixed(seconds)
        _keep(clock.store, seconds)
        log(INFO, "clock: set by SNTP")
        return
    if clock.fixed_at is not None:
        return
    floor = _floor(clock.store)
    if not floor:
        raise ClockError(b"no time: " + _cause(failure))
    if clock.now() < floor:
        clock.set(floor, 0)
        log(WARNING, "clock: the last good time from flash must do")


def _floor(store):
    kept = store.read("time")
    return int(kept) if kept and kept.isdigit() else 0


def _keep(store, seconds):
    """Remember a good time, seldom enough for the flash."""
    if not 0 <= seconds - _floor(store) < _KEEP_S:
        try:
            store.write("time", b"%d" % seconds)
        except OSError as error:
            log(WARNING, "clock: last good time not stored, errno", error.errno)


def _cause(error):
    if isinstance(error, OSError) and error.errno:
        return b"SNTP errno %d" % error.errno
    return str(error).encode()
