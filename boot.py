"""Runs before main.py: finds the application, and stands back for maintenance.

The application is frozen into the image, or lies in /app/a as `make flash` puts it there. Frozen
code is asked for first, so that files left behind by an earlier life cannot shadow it.
"""

import os
import sys


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# `make flash` leaves this flag while it works, so that neither the application nor its watchdog
# gets in its way, whatever happens in between.
MAINTENANCE = _exists("/maintenance")

try:
    import firmware  # noqa: F401
except ImportError:
    sys.path.insert(0, "/app/a")
