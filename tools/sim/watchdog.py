"""The task watchdog: resets the chip when the firmware does not feed it in time."""

import time


class Watchdog:
    """Looks at the feed counter. A firmware that waits because the host does not read is not
    late: on a board the wire always takes what the UART sends."""

    def __init__(self, registers, wire):
        self._registers = registers
        self._wire = wire
        self.start()

    def start(self):
        """A new boot: not armed."""
        self._feeds = None
        self._fed = 0.0

    def interval(self):
        """Seconds until the next look."""
        ms = self._registers.get("wdt_ms")
        # Not armed: a slow look at whether it is by now.
        return max(0.005, min(0.05, ms / 4000)) if ms else 0.1

    def expired(self):
        """Whether the time has run out; to be called at least every `interval`."""
        ms = self._registers.get("wdt_ms")
        now = time.monotonic()
        feeds = self._registers.get("wdt_feeds")
        if not ms or feeds != self._feeds:
            self._feeds = feeds
            self._fed = now
            return False
        if self._wire.blocked or self._registers.get("asleep"):
            self._fed = now
            return False
        return now - self._fed > ms / 1000
