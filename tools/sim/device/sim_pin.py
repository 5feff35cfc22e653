"""machine.Pin over the board's pin registers; interrupts come from the supervisor by a pipe."""

import sim_layout as layout
from sim_host import config, load, registers, send

_INVALID = {"esp32": (20, 24, 28, 29, 30, 31)}
_COUNT = {"esp32": 40, "esp32s3": 49, "esp32c3": 22}
_FIRST_INPUT_ONLY = {"esp32": 34}


class Pin:
    IN = layout.MODE_IN
    OUT = layout.MODE_OUT
    OPEN_DRAIN = layout.MODE_OPEN_DRAIN
    PULL_DOWN = layout.PULL_DOWN
    PULL_UP = layout.PULL_UP
    IRQ_RISING = 1
    IRQ_FALLING = 2
    WAKE_LOW = 4
    WAKE_HIGH = 5
    DRIVE_0 = 0
    DRIVE_1 = 1
    DRIVE_2 = 2
    DRIVE_3 = 3

    def __init__(self, _id, mode=-1, pull=-1, *, value=None, drive=None):
        if isinstance(_id, Pin):
            _id = _id._id
        chip = config["chip"]
        if (
            not isinstance(_id, int)
            or not 0 <= _id < _COUNT[chip]
            or _id in _INVALID.get(chip, ())
        ):
            raise ValueError("invalid pin")
        self._id = _id
        if mode != -1 or pull != -1 or value is not None or drive is not None:
            self.init(mode, pull, value=value, drive=drive)

    def __repr__(self):
        return "Pin(%d)" % self._id

    def __eq__(self, other):
        return isinstance(other, Pin) and other._id == self._id

    def __hash__(self):
        return self._id

    def init(self, mode=-1, pull=-1, *, value=None, drive=None):
        if mode not in (-1, None, Pin.IN, Pin.OUT, Pin.OPEN_DRAIN):
            raise ValueError("invalid mode")
        if drive is not None and drive not in (0, 1, 2, 3):
            raise ValueError("invalid drive")
        if pull != -1:
            registers.put_pin(layout.PIN_PULL, self._id, 0 if pull is None else pull)
        if value is not None:
            # The latch is set before the mode, so that the pin never shows another level.
            self._latch(1 if value else 0)
        if mode != -1:
            if mode in (Pin.OUT, Pin.OPEN_DRAIN):
                if self._id >= _FIRST_INPUT_ONLY.get(config["chip"], 99):
                    raise ValueError("pin can only be input")
            registers.put_pin(layout.PIN_MODE, self._id, 0 if mode is None else mode)
            if value is not None and mode in (Pin.OUT, Pin.OPEN_DRAIN):
                send({"pin": self._id, "level": self._level()})

    def _latch(self, level):
        registers.put_pin(layout.PIN_LEVEL, self._id, level)

    def _level(self):
        mode = registers.get_pin(layout.PIN_MODE, self._id)
        latch = registers.get_pin(layout.PIN_LEVEL, self._id)
        if mode == Pin.OUT or (mode == Pin.OPEN_DRAIN and not latch):
            return latch
        if mode == 0:
            return 0
        driven = registers.get_pin(layout.PIN_DRIVEN, self._id)
        if driven != layout.FLOATING:
            return driven
        return 1 if registers.get_pin(layout.PIN_PULL, self._id) == Pin.PULL_UP else 0

    def value(self, *x):
        if not x:
            return self._level()
        if len(x) > 1:
            raise TypeError("function takes at most 2 positional arguments")
        level = 1 if x[0] else 0
        if registers.get_pin(layout.PIN_LEVEL, self._id) != level:
            self._latch(level)
            if registers.get_pin(layout.PIN_MODE, self._id) in (Pin.OUT, Pin.OPEN_DRAIN):
                send({"pin": self._id, "level": level})
        return None

    def __call__(self, *x):
        return self.value(*x)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(not registers.get_pin(layout.PIN_LEVEL, self._id))

    def irq(self, handler=None, trigger=3, *, wake=None):
        if wake is not None:
            # Waking by Pin.irq is set up with esp32.wake_on_ext0 and its like instead.
            raise ValueError("no resources")
        if trigger & ~3:
            raise ValueError("unsupported trigger")
        return load("sim_pin_irq").make(self, handler, trigger)
