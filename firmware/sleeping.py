"""How a board sleeps, and what wakes it: a part of board.py that is imported for one sleep."""

import esp32
import machine


def _arm(board):
    """Let WAKE end the sleep that follows."""
    if board.chip == "esp32c3":
        # Newer than MicroPython 1.26: without it time and RESET are what ends a sleep.
        if hasattr(esp32, "wake_on_gpio"):
            esp32.wake_on_gpio((board.wake,), esp32.WAKEUP_ALL_LOW)
    else:
        esp32.wake_on_ext0(board.wake, esp32.WAKEUP_ALL_LOW)


def light(board, ms):
    """See `board.Board.light_sleep`."""
    _arm(board)
    machine.lightsleep(ms)
    # Sleep has made an RTC pin of it, which would read as 0.
    board.wake.init(machine.Pin.IN, machine.Pin.PULL_UP)
    # Not the level: a pulse may be over by now.
    return machine.wake_reason() != machine.TIMER_WAKE


def deep(board, ms):
    """See `board.Board.deep_sleep`."""
    _arm(board)
    if ms:
        machine.deepsleep(ms)
    else:
        machine.deepsleep()
