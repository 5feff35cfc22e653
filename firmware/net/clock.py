"""The clock: set by SNTP, kept over sleep by the chip, with a floor from flash (decision D25)."""

import struct
import time

from micropython import const

# Seconds from 1970, the epoch of SNTP's answers here, to 2000.
_TO_2000 = const(946684800)

# A fix is good for this long, and is renewed at a CONNECT after this long.
_RECENT_S = const(86400)
_RENEW_S = const(3600)

# What the chip's RTC memory holds while its clock goes on, over resets and deep sleep: this, and
# the time of the last fix.
_KEPT = "<4sI"
_MARK = b"fix1"


class ClockError(Exception):
    """There is no time; the argument (bytes) says why."""


class Clock:
    """The module's time of day.

    rtc: `machine.RTC()`. store: keeps the last good time. server: function that returns the key
    NTPServer. `fixed_at`: when SNTP has last told the time (seconds since 1970), or None.
    """

    def __init__(self, rtc, store, server):
        self._rtc = rtc
        self.store = store
        self.server = server
        # time.time() counts from 2000 on a board.
        self._to_1970 = _TO_2000 if time.gmtime(0)[0] == 2000 else 0
        self.fixed_at = None
        self._source = b"SNTP"
        self._recall()

    def _recall(self):
        """Know again of a fix from before the last reset or deep sleep."""
        kept = self._rtc.memory()
        if len(kept) >= 8:
            mark, fixed_at = struct.unpack_from(_KEPT, kept)
            if mark == _MARK and 0 <= self.now() - fixed_at < _RECENT_S:
                self.fixed_at = fixed_at
                self._source = b"RTC"

    def now(self):
        """Seconds since 1970, whatever they are worth."""
        return int(time.time()) + self._to_1970

    def recent(self):
        """True when the time was fixed by SNTP in the last day."""
        return self.fixed_at is not None and 0 <= self.now() - self.fixed_at < _RECENT_S

    async def ensure(self):
        """Have a time that certificates can be checked with.

        A recent fix is kept; otherwise SNTP is asked; when that fails an old fix or the last good
        time from flash must do. Raises ClockError when there is none of them."""
        if self.fixed_at is not None and 0 <= self.now() - self.fixed_at < _RENEW_S:
            return
        # Needed once an hour at most.
        from firmware.net import fix

        await fix.get(self)

    def fixed(self, seconds):
        """The clock has been set to a time that SNTP has told: `seconds` since 1970."""
        self.fixed_at = seconds
        self._source = b"SNTP"
        self._rtc.memory(struct.pack(_KEPT, _MARK, seconds))

    def set(self, seconds, milliseconds):
        """Set the chip's clock."""
        year, month, day, hour, minute, second, weekday, _ = time.gmtime(seconds - self._to_1970)[
            :8
        ]
        self._rtc.datetime((year, month, day, weekday, hour, minute, second, milliseconds * 1000))

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
