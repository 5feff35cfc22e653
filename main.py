"""Runs the module. What ends it is told on the console, counted, and followed by a reset."""

import sys
import time

import machine

try:
    # Set by boot.py, which runs before in the same namespace.
    if not MAINTENANCE:  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
        # A version that hangs before it has one of its own is ended too.
        machine.WDT(timeout=60000)
        from firmware import app

        module = app.make()
        # Nothing of it is needed again.
        del app
        if not module.main():
            raise RuntimeError("the module has ended")
except KeyboardInterrupt:
    # A person takes over; nobody can stop the watchdog, so it waits a day.
    machine.WDT(timeout=86400000)
    raise
except BaseException as error:  # noqa: BLE001
    sys.print_exception(error)
    # Slow enough to be interrupted with Ctrl-C when this happens at every start.
    time.sleep(2)
    try:
        failed()  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
    finally:
        machine.reset()
