"""The clock: set by SNTP, kept over sleep by the chip, with a floor from flash (decision D25)."""

import struct
import time

from micropython import const

from firmware import version
from firmware.log import INFO, WARNING, log

# Seconds from 1970, the epoch of SNTP's answers here, to 2000.
_TO_2000 = const(946684800)

# A fix is good for this long, and is renewed at a CONNECT after this long.
_RECENT_S = const(86400)
_RENEW_S = const(3600)

# What the chip's RTC memory holds while its clock goes on, over resets and deep sleep: this, and
# the time of the last fix.
_KEPT = "<4sI"
_MARK = b"fix1"

# The last good time is written to flash this often at most.
_KEEP_S = const(86400)

_NTP_PORT = const(123)
_TRIES = const(2)
_TRY_MS = const(3000)


class ClockError(Exception):
    """There is no time; the argument (bytes) says why."""


class Clock:
    """The module's time of day.

    rtc: `machine.RTC()`. store: keeps the last good time. server: function that returns the key
    NTPServer.
    """

    def __init__(self, rtc, store, server):
        self._rtc = rtc
        self._store = store
        self._server = server
        # time.time() counts from 2000 on a board.
        self._to_1970 = _TO_2000 if time.gmtime(0)[0] == 2000 else 0
        self._fixed_at = None
        self._source = b"SNTP"
        self._recall()

    def _recall(self):
        """Know again of a fix from before the last reset or deep sleep."""
        kept = self._rtc.memory()
        if len(kept) >= 8:
            mark, fixed_at = struct.unpack_from(_KEPT, kept)
            if mark == _MARK and 0 <= self.now() - fixed_at < _RECENT_S:
                self._fixed_at = fixed_at
                self._source = b"RTC"

    def now(self):
        """Seconds since 1970, whatever they are worth."""
        return int(time.time()) + self._to_1970

    def recent(self):
        """True when the time was fixed by SNTP in the last day."""
        return self._fixed_at is not None and 0 <= self.now() - self._fixed_at < _RECENT_S

    async def ensure(self):
        """Have a time that certificates can be checked with.

        A recent fix is kept; otherwise SNTP is asked; when that fails an old fix or the last good
        time from flash must do. Raises ClockError when there is none of them."""
        if self._fixed_at is not None and 0 <= self.now() - self._fixed_at < _RENEW_S:
            return
        # Needed once an hour at most.
        from firmware.config.checks import split_host
        from lib import sntp

        host, port = split_host(self._server(), _NTP_PORT)
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
            self._set(seconds, milliseconds)
            self._fixed_at = seconds
            self._source = b"SNTP"
            self._rtc.memory(struct.pack(_KEPT, _MARK, seconds))
            self._keep(seconds)
            log(INFO, "clock: set by SNTP")
            return
        if self._fixed_at is not None:
            return
        floor = self._floor()
        if not floor:
            raise ClockError(b"no time: " + _cause(failure))
        if self.now() < floor:
            self._set(floor, 0)
            log(WARNING, "clock: the last good time from flash must do")

    def _set(self, seconds, milliseconds):
        year, month, day, hour, minute, second, weekday, _ = time.gmtime(seconds - self._to_1970)[
            :8
        ]
        self._rtc.datetime((year, month, day, weekday, hour, minute, second, milliseconds * 1000))

    def _floor(self):
        kept = self._store.read("time")
        return int(kept) if kept and kept.isdigit() else 0

    def _keep(self, seconds):
        """Remember a good time, seldom enough for the flash."""
        floor = self._floor()
        if not 0 <= seconds - floor < _KEEP_S:
            try:
                self._store.write("time", b"%d" % seconds)
            except OSError as error:
                log(WARNING, "clock: last good time not stored, errno", error.errno)

    def show(self):
        """The time as `TIME?` shows it, or None when it was not fixed recently.

        The source is RTC when the chip's clock, which is coarse, has carried the fix over a reset
        or a deep sleep."""
        if not self.recent():
            return None
        year, month, day, _, hour, minute, second, micros = self._rtc.datetime()
        return b"date %04d/%02d/%02d time %02d:%02d:%02d.%02d %s" % (
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros // 10000,
            self._source,
        )


def _cause(error):
    if isinstance(error, OSError) and error.errno:
        return b"SNTP errno %d" % error.errno
    return str(error).encode()
