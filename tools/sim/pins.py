"""The board's pins from outside: what drives them, and what that does to a sleeping chip."""

from tools.sim.device import sim_layout as layout


class Pins:
    """registers: the board's; row: its row of `BOARDS` in firmware/board.py."""

    def __init__(self, registers, row):
        self._registers = registers
        self._row = row

    def number(self, name):
        """The number of an input, `WAKE` or `GPIO<n>`. Raises ValueError."""
        if name == "WAKE":
            return self._row["wake"]
        if name == "EVENT":
            raise ValueError("EVENT is an output of the module")
        if name.startswith("GPIO") and name[4:].isdigit() and int(name[4:]) < layout.PINS:
            return int(name[4:])
        raise ValueError(f"no pin is called {name!r}; known: RESET, WAKE, GPIO<n>")

    def event(self):
        """The level of the EVENT pin."""
        return self._registers.output(self._row["event"])

    def is_event(self, pin):
        """Whether `pin` is the number of the EVENT pin."""
        return pin == self._row["event"]

    def drive(self, pin, level):
        """Drive an input to 0 or 1, or let go of it (None); returns whether that is an edge."""
        before = self.level(pin)
        driven = layout.FLOATING if level is None else level
        self._registers.put_pin(layout.PIN_DRIVEN, pin, driven)
        return self.level(pin) != before

    def level(self, pin):
        """What an input reads: what drives it, else its pull."""
        driven = self._registers.get_pin(layout.PIN_DRIVEN, pin)
        if driven != layout.FLOATING:
            return driven
        return 1 if self._registers.get_pin(layout.PIN_PULL, pin) == layout.PULL_UP else 0

    def pulls(self, sources):
        """{pin: pull} of the pins of wake `sources`: those are the RTC's, and outlive the VM."""
        pins = [pin for source in sources for pin in source[1]]
        return {pin: self._registers.get_pin(layout.PIN_PULL, pin) for pin in pins}

    def set_pulls(self, pulls):
        """Put back what `pulls` gave."""
        for pin, pull in pulls.items():
            self._registers.put_pin(layout.PIN_PULL, pin, pull)

    def woken(self, sources):
        """The reason of the first of `sources` whose condition holds, or None.

        A source is [reason, pins, level, all], with `all` true when every pin has to have it.
        """
        for reason, pins, level, all_of_them in sources:
            hits = [self.level(pin) == level for pin in pins]
            if all(hits) if all_of_them else any(hits):
                return reason
        return None
