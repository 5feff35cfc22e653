"""Throughput quotas: always counted, enforced only by a switch."""

from __future__ import annotations

import time

PUBLISHES_PER_SECOND = 100  # rule `publish-rate`, in and out together
BYTES_PER_SECOND = 512 * 1024  # rule `throughput`, each way
CONNECTS_PER_SECOND = 1  # rule `connect-rate`, for one client id


class Window:
    """How much came in the current second, and how often the limit was passed."""

    def __init__(self, limit: int):
        self.limit = limit
        self.exceeded = 0
        self._second = 0
        self._amount = 0

    def add(self, amount: int, now: float | None = None) -> bool:
        """Count `amount`; False when that passes the limit of this second."""
        second = int(time.monotonic() if now is None else now)
        if second != self._second:
            self._second, self._amount = second, 0
        self._amount += amount
        if self._amount <= self.limit:
            return True
        self.exceeded += 1
        return False


class Meter:
    """The quotas of one connection."""

    def __init__(self):
        self.publishes = Window(PUBLISHES_PER_SECOND)
        self.bytes_in = Window(BYTES_PER_SECOND)
        self.bytes_out = Window(BYTES_PER_SECOND)

    def publish(self, size: int, outgoing: bool) -> str | None:
        """Count one PUBLISH of `size` bytes; the rule that it breaks, or None."""
        within_rate = self.publishes.add(1)
        within_bytes = (self.bytes_out if outgoing else self.bytes_in).add(size)
        if not within_rate:
            return "publish-rate"
        return None if within_bytes else "throughput"

    def exceeded(self) -> dict[str, int]:
        """How often each quota was passed."""
        return {
            "publish-rate": self.publishes.exceeded,
            "throughput": self.bytes_in.exceeded + self.bytes_out.exceeded,
        }
