"""Full jitter, base 1 s, doubling, cap 60 s: D20."""

from firmware.cloud.backoff import Backoff


class Clock:
    now = 0

    def ticks_ms(self):
        return self.now


def make(random):
    clock = Clock()
    return Backoff(clock.ticks_ms, lambda a, b: a - b, random), clock


def test_the_longest_waits():
    backoff, _ = make(lambda n: n - 1)
    assert backoff.remaining() == 0
    waits = []
    for _ in range(9):
        backoff.failed()
        waits.append(backoff.remaining())
    assert waits == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
    backoff.succeeded()
    assert backoff.remaining() == 0
    backoff.failed()
    assert backoff.remaining() == 1000


def test_full_jitter_draws_from_nothing_to_the_longest():
    asked = []
    backoff, _ = make(lambda n: asked.append(n) or 0)
    for _ in range(3):
        backoff.failed()
        assert backoff.remaining() == 0
    assert asked == [1001, 2001, 4001]


def test_time_passes_and_wraps():
    backoff, clock = make(lambda n: n - 1)
    backoff.failed()
    clock.now = 400
    assert backoff.remaining() == 600
    clock.now = 1000
    assert backoff.remaining() == 0
    clock.now = -5
    assert backoff.remaining() == 0
