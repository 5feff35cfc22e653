"""Pins, UART and wake-up features of each supported board.

Nothing else in the firmware touches `machine.Pin` or `machine.UART`: the other parts are
handed the objects that `Board` makes, so they run as well on a PC. The tools read the table too,
under CPython.
"""

# What a host link on every board looks like: 115200 baud, 8 data bits, no parity, 1 stop bit,
# no flow control (guide, chapter 3). None of it can be configured.
BAUD = 115200

# The receive buffer holds the longest legal line beside the one that is being worked on
# (5,120 bytes and CR LF); the driver cannot tell us of an overflow, so it has to be large enough.
RXBUF = 8192

# The driver blocks when this is full. Replies are written in pieces that fit (at.reply).
TXBUF = 4096

# The CPU's clock in a sleep of mode 0. Below 80 MHz the UART's own clock would change.
_IDLE_HZ = 80000000

# One row a board. `uart` is the number of the UART that serves the host (never the one with the
# REPL); `event` is an output, high while an event waits; `wake` is an input, low to wake the
# module, and must be able to end deep sleep on that chip. RESET is the chip's own EN pin.
BOARDS = {
    "ESP32-DevKitC": {"chip": "esp32", "uart": 1, "tx": 17, "rx": 16, "event": 26, "wake": 27},
    "ESP32-S3-DevKitC-1": {
        "chip": "esp32s3",
        "uart": 1,
        "tx": 17,
        "rx": 18,
        "event": 4,
        "wake": 5,
    },
    "ESP32-C3-ExpressLink": {
        "chip": "esp32c3",
        "uart": 1,
        "tx": 19,
        "rx": 18,
        "event": 10,
        "wake": 3,
    },
}


class Board:
    """One board's hardware, made from its row of `BOARDS`.

    name: a key of `BOARDS`.
    """

    def __init__(self, name):
        import machine

        row = BOARDS[name]
        self.name = name
        self.chip = row["chip"]
        self.event = machine.Pin(row["event"], machine.Pin.OUT, value=0)
        self.wake = machine.Pin(row["wake"], machine.Pin.IN, machine.Pin.PULL_UP)
        self.uart = machine.UART(
            row["uart"],
            BAUD,
            tx=row["tx"],
            rx=row["rx"],
            rxbuf=RXBUF,
            txbuf=TXBUF,
            timeout=0,
            timeout_char=0,
        )
        self._work_hz = machine.freq()
        self.reset = machine.reset
        self.reset_cause = machine.reset_cause()

    def slow_down(self, slow):
        """Save power while nothing is to be done (True), or work at the usual speed."""
        import machine

        machine.freq(_IDLE_HZ if slow else self._work_hz)

    def woken(self):
        """True while the WAKE pin is pulled low."""
        return not self.wake()

    def light_sleep(self, ms):
        """Stop the CPU for `ms` at most, or until WAKE is low: True then. Bytes for the UART are
        lost."""
        from firmware import sleeping

        return sleeping.light(self, ms)

    def deep_sleep(self, ms):
        """Switch off all but the clock for `ms` (0: for ever), or until WAKE is low; what follows
        is a start. Does not return."""
        from firmware import sleeping

        sleeping.deep(self, ms)

    def watchdog(self, timeout_ms):
        """Start (or re-arm) the watchdog: the chip resets unless it is fed in `timeout_ms`."""
        import machine

        return machine.WDT(timeout=timeout_ms)
