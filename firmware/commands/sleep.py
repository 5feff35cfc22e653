"""SLEEP# (guide 3.6.4; decisions D22, D24). Imported for one command.

mode 0    radio off, CPU slow; the port stays, and so does all that is in memory
mode 1    light sleep: the CPU stands still, bytes for the UART are lost, memory stays
mode 2 …  deep sleep: all is off but the clock; what follows is a start
"""

import asyncio
import time

from micropython import const

from firmware.at.errors import ACTIVE, MODE, PARAMETER, AtError
from firmware.events import STARTUP

_IDLE = const(0)
_LIGHT = const(1)

# What MicroPython's deepsleep() takes: milliseconds in a signed number of 32 bits.
_LONGEST_S = const(2147483)

# How often mode 0 looks at the WAKE pin, and mode 1 wakes for a moment to feed the watchdog.
_LOOK_MS = const(100)
_SLICE_MS = const(20000)


def sleep(module, command):
    """SLEEP# [seconds]: answer, then sleep."""
    duration = _duration(command.brief())
    if module.session.connected():
        raise AtError(ACTIVE)
    if module.confmode:
        raise AtError(MODE, b"in CONFMODE")
    if module.updates.trial:
        # A sleep would end it, or keep it from connecting.
        raise AtError(ACTIVE, b"version on trial")
    mode = command.suffix or _IDLE

    async def fall_asleep():
        module.wake()
        module.events.clear()
        module.wifi.leave()
        if mode == _IDLE:
            module.board.slow_down(True)
            module.nap = asyncio.create_task(_nap(module, duration))
        elif mode == _LIGHT:
            _light(module, duration)
        else:
            module.board.deep_sleep(duration * 1000)

    module.after_reply(fall_asleep)


def _duration(text):
    """Seconds; 0 stands for no limit."""
    if not text:
        return 0
    if not text.isdigit() or len(text) > 7 or not 0 < int(text) <= _LONGEST_S:
        raise AtError(PARAMETER, b"seconds, 1 to %d" % _LONGEST_S)
    return int(text)


class _Clock:
    """Time that has passed, also where the ticks would wrap."""

    def __init__(self, seconds):
        self._endless = not seconds
        self._left = seconds * 1000
        self._last = time.ticks_ms()

    def left(self, most):
        """Milliseconds that are left, at most `most`; 0 when the time is over."""
        now = time.ticks_ms()
        if not self._endless:
            self._left -= time.ticks_diff(now, self._last)
        self._last = now
        return most if self._endless else max(0, min(most, self._left))


async def _nap(module, duration):
    """Mode 0, until the time is over, WAKE is low, or CONNECT cancels it."""
    clock = _Clock(duration)
    while True:
        wait = clock.left(_LOOK_MS)
        if not wait or module.board.woken():
            break
        await asyncio.sleep_ms(wait)
    # Not cancelled any more.
    module.nap = None
    module.board.slow_down(False)


def _light(module, duration):
    """Mode 1, until the time is over or WAKE is low."""
    clock = _Clock(duration)
    while True:
        module.watchdog.feed()
        wait = clock.left(_SLICE_MS)
        if not wait or module.board.light_sleep(wait):
            break
        module.count()
    # The host cannot know otherwise that it is heard again.
    module.events.put(STARTUP)
