"""Sleep of the virtual chip, and what ends it; loaded when it is first asked for."""

import sim_layout as layout
from sim_host import builtin_time, config, halt, registers, send

# Wake reasons as machine.wake_reason() gives them.
EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4
GPIO_WAKE = 7


class _Wake:
    # What esp32.wake_on_…() set: (pin, level) or (pins, level), None when off.
    def __init__(self):
        self.ext0 = None
        self.ext1 = None
        self.gpio = None


wake = _Wake()
_reason = [config["wake_reason"]]


def wake_sources():
    """The pins that can end deep sleep: [[reason, [pins], level, all of them?], …]."""
    sources = []
    if wake.ext0:
        sources.append([EXT0_WAKE, [wake.ext0[0]], wake.ext0[1], False])
    if wake.ext1:
        # ext1 is "any high" or "all low".
        sources.append([EXT1_WAKE, wake.ext1[0], wake.ext1[1], not wake.ext1[1]])
    if wake.gpio and config["chip"] == "esp32c3":
        sources.append([GPIO_WAKE, wake.gpio[0], wake.gpio[1], False])
    return sources


def _level(pin):
    driven = registers.get_pin(layout.PIN_DRIVEN, pin)
    if driven != layout.FLOATING:
        return driven
    return 1 if registers.get_pin(layout.PIN_PULL, pin) == layout.PULL_UP else 0


def _woken(sources):
    for reason, pins, level, all_of_them in sources:
        hits = [_level(pin) == level for pin in pins]
        if all(hits) if all_of_them else any(hits):
            return reason
    return None


def lightsleep(*time_ms):
    """Stand still until the time is over or a pin wakes; bytes on the UART are lost meanwhile."""
    sources = wake_sources()
    if wake.gpio and config["chip"] != "esp32c3":
        # In light sleep every pin can wake on every chip.
        sources.append([GPIO_WAKE, wake.gpio[0], wake.gpio[1], False])
    start = builtin_time.ticks_ms()
    registers.put("asleep", 1)
    try:
        while True:
            reason = _woken(sources)
            if reason is not None:
                break
            if time_ms and builtin_time.ticks_diff(builtin_time.ticks_ms(), start) >= time_ms[0]:
                reason = TIMER_WAKE
                break
            builtin_time.sleep_ms(2)
    finally:
        registers.put("asleep", 0)
    _reason[0] = reason


def deepsleep(*time_ms):
    """Everything but the RTC is off; the supervisor boots the VM again when something wakes."""
    send({"deepsleep": time_ms[0] if time_ms else None, "wake": wake_sources()})
    halt()


def wake_reason():
    return _reason[0]
