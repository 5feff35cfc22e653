"""How many starts in a row have ended by the watchdog or a fatal error.

boot.py and main.py count them, in NVS. Neither a loss of power nor the RESET pin counts, and
neither clears the count: that is for the first command that is answered.
"""

from micropython import const

from firmware.log import ERROR, log

# From this many on the module serves its AT port and nothing else (safe mode).
SAFE = const(3)

_KEY = "failed"


def _nvs():
    import esp32

    return esp32.NVS("expresslink")


def failed():
    """The count; 0 also when NVS is out of order, which is no reason to do less."""
    try:
        return _nvs().get_i32(_KEY)
    except OSError:
        # Mostly: nothing has been counted yet.
        return 0


def clear():
    """Begin at 0 again. Nothing is written when nothing was counted."""
    if not failed():
        return
    try:
        nvs = _nvs()
        nvs.set_i32(_KEY, 0)
        nvs.commit()
    except OSError as e:
        log(ERROR, "starts: cannot clear the count,", e)
