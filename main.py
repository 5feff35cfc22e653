"""Runs the module. A fatal error is told on the console, counted, and ends in a reset."""

import sys
import time

import machine

try:
    # Set by boot.py, which runs before in the same namespace.
    if not MAINTENANCE:  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
        from firmware import app

        module = app.make()
        # Nothing of it is needed again.
        del app
        module.main()
except Exception as error:  # noqa: BLE001
    sys.print_exception(error)
    # Slow enough to be interrupted with Ctrl-C when this happens at every start.
    time.sleep(2)
    try:
        failed()  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
    finally:
        machine.reset()
