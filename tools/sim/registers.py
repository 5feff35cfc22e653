"""The virtual board's registers as the supervisor sees them: a memory-mapped file."""

import mmap
import os
import struct

from tools.sim.device import sim_layout as layout

# What a reset clears; the rest belongs to the supervisor or outlives it.
_RESET = (
    "uart_open",
    "asleep",
    "ap_up",
    "uart_rxbuf",
    "uart_txbuf",
    "uart_baud",
    "wdt_ms",
    "wdt_feeds",
    "uart_received",
    "uart_drained",
    "cpu_hz",
)


class Registers:
    """Fields by name (`sim_layout.FIELDS`) and one byte a pin in each pin table."""

    def __init__(self, path):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, layout.SIZE)
            self._map = mmap.mmap(file, layout.SIZE)
        finally:
            os.close(file)

    def get(self, name):
        offset, code = layout.FIELDS[name]
        return struct.unpack_from("<" + code, self._map, offset)[0]

    def put(self, name, value):
        offset, code = layout.FIELDS[name]
        struct.pack_into("<" + code, self._map, offset, value)

    def get_pin(self, table, pin):
        return self._map[table + pin]

    def put_pin(self, table, pin, value):
        self._map[table + pin] = value

    def reset(self):
        """What a reset of the chip does: peripherals off, every pin an input without pull."""
        for name in _RESET:
            self.put(name, 0)
        for table in (layout.PIN_LEVEL, layout.PIN_MODE, layout.PIN_PULL):
            self._map[table : table + layout.PINS] = bytes(layout.PINS)

    def release_pins(self):
        """Nothing outside drives any pin."""
        start = layout.PIN_DRIVEN
        self._map[start : start + layout.PINS] = bytes([layout.FLOATING]) * layout.PINS

    def output(self, pin):
        """The level that others see on an output pin; a pin that is no output is low."""
        if self.get_pin(layout.PIN_MODE, pin) == layout.MODE_OUT:
            return self.get_pin(layout.PIN_LEVEL, pin)
        return 0

    def close(self):
        self._map.close()
