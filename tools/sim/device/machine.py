"""Stands for MicroPython's `machine` module as far as the module's firmware needs it."""

from sim_host import (
    Later as _Later,
    builtin_time as _time,
    config as _config,
    registers as _registers,
)
from sim_pin import Pin  # noqa: F401
from sim_power import WDT, reset, soft_reset  # noqa: F401
from sim_rtc import RTC  # noqa: F401
from sim_uart import UART  # noqa: F401

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

SLEEP = 2
DEEPSLEEP = 4

PIN_WAKE = 2
EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4
TOUCHPAD_WAKE = 5
ULP_WAKE = 6

_registers.put("cpu_hz", 160000000)
_FREQUENCIES = (20000000, 40000000, 80000000, 160000000, 240000000)


_sleep = _Later("sim_sleep")


def lightsleep(*time_ms):
    _sleep.lightsleep(*time_ms)


def deepsleep(*time_ms):
    _sleep.deepsleep(*time_ms)


def wake_reason():
    return _sleep.wake_reason()


def reset_cause():
    return _config["reset_cause"]


def unique_id():
    from binascii import unhexlify

    return unhexlify(_config["uid"])


def freq(*hz):
    if not hz:
        return _registers.get("cpu_hz")
    if hz[0] not in _FREQUENCIES:
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")
    _registers.put("cpu_hz", hz[0])
    return None


def idle():
    # One tick of the scheduler (10 ms at 100 Hz) at most passes on the chip.
    _time.sleep_ms(1)
