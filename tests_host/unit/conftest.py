"""Lets CPython import the device's pure logic: `micropython.const` is all that is missing."""

import sys
import time
import types

if "micropython" not in sys.modules:
    stub = types.ModuleType("micropython")
    stub.const = lambda value: value
    sys.modules["micropython"] = stub

if not hasattr(time, "ticks_ms"):
    time.ticks_ms = lambda: int(time.monotonic() * 1000)
    time.ticks_us = lambda: int(time.monotonic() * 1000000)
    time.ticks_diff = lambda a, b: a - b
    time.ticks_add = lambda a, b: a + b
