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


def gmtime(secs=None):
    return _rtc.fields_of(time() if secs is None else int(secs))


def localtime(secs=None):
    return gmtime(secs)


def mktime(local_time):
    if not 8 <= len(local_time) <= 9:
        raise TypeError("mktime needs a tuple of length 8 or 9 (%d given)" % len(local_time))
    return _rtc.seconds_of(*local_time[:6])
