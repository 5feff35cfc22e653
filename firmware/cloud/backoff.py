"""How long a module that failed to connect stays away (guide 3.6.2, decision D20)."""

from micropython import const

_BASE_MS = const(1000)
_CAP_MS = const(60000)
_STEPS = const(6)  # 1 s doubled six times is over the cap

# A connection that ends this soon after it was accepted counts as a failure: two modules with one
# name, for instance, throw each other out as fast as they can connect.
STABLE_MS = const(30000)


class Backoff:
    """Exponential back-off with full jitter.

    ticks_ms, ticks_diff: as in `time`. random: function of n that returns 0 … n-1.
    """

    def __init__(self, ticks_ms, ticks_diff, random):
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._random = random
        self.failures = 0
        self._since = 0
        self._delay = 0

    def failed(self):
        """A try has failed: draw the time to stay away."""
        limit = min(_CAP_MS, _BASE_MS << min(self.failures, _STEPS))
        self.failures += 1
        self._since = self._ticks_ms()
        self._delay = self._random(limit + 1)

    def succeeded(self):
        """A connection was up long enough, or the host has ended it."""
        self.failures = 0
        self._delay = 0

    def remaining(self):
        """Milliseconds to wait before the next try."""
        waited = self._ticks_diff(self._ticks_ms(), self._since)
        # The ticks wrap after days; then nothing is left to wait for.
        if waited < 0 or waited >= self._delay:
            return 0
        return self._delay - waited
