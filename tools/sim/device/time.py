"""Stands for MicroPython's `time` module on ESP32: whole seconds since 2000, a clock that starts
at the year 2000 and is set through machine.RTC. The ticks and the sleeps are the VM's own."""

import sim_rtc as _rtc
from sim_host import builtin_time as _builtin

ticks_ms = _builtin.ticks_ms
ticks_us = _builtin.ticks_us
ticks_cpu = _builtin.ticks_cpu
ticks_add = _builtin.ticks_add
ticks_diff = _builtin.ticks_diff
sleep = _builtin.sleep
sleep_ms = _builtin.sleep_ms
sleep_us = _builtin.sleep_us


def time():
    return _rtc.now_us() // 1000000


def time_ns():
    return _rtc.now_us() * 1000


def gmtime(_secs=None):
    return _rtc.fields_of(time() if _secs is None else int(_secs))


def localtime(_secs=None):
    return gmtime(_secs)


def mktime(_local_time):
    if not 8 <= len(_local_time) <= 9:
        raise TypeError("mktime needs a tuple of length 8 or 9 (%d given)" % len(_local_time))
    return _rtc.seconds_of(*_local_time[:6])
