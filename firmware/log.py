"""Log lines for the developer, on the REPL's console and never on the host's UART."""

import time

from micropython import const

ERROR = const(1)
WARNING = const(2)
INFO = const(3)
DEBUG = const(4)

NAMES = ("OFF", "ERROR", "WARN", "INFO", "DEBUG")

level = INFO


def log(severity, *words):
    """Print `words` when `severity` (ERROR … DEBUG) is within `level`.

    Secrets never belong here: not keys, not passphrases, not messages' payloads.
    """
    if severity <= level:
        print("%10d %s" % (time.ticks_ms(), NAMES[severity]), *words)
