"""Where each register of the virtual board is in its file, for the VM and for the supervisor.

A field is `name: (offset, struct code)`, little-endian; the codes used are B, I and q.
"""

SIZE = 512

FIELDS = {
    # Written by the VM.
    "uart_open": (0, "B"),
    "asleep": (1, "B"),
    "ap_up": (2, "B"),
    "uart_rxbuf": (4, "I"),
    "uart_txbuf": (8, "I"),
    "uart_baud": (12, "I"),
    "wdt_ms": (16, "I"),
    "wdt_feeds": (20, "I"),
    "flash_programs": (24, "I"),
    "flash_erases": (28, "I"),
    "standin_heap": (32, "I"),
    "cpu_hz": (60, "I"),
    # Counts down in the VM at each flash operation; 0 is off. Set by the supervisor.
    "flash_fail_after": (36, "I"),
    # Written by the supervisor.
    "wifi_generation": (40, "I"),
    "uart_received": (44, "I"),
    "uart_drained": (48, "I"),
    "uart_paced": (52, "I"),
    "slow": (56, "B"),
    # Added to the PC's clock (microseconds since 1970) it gives the virtual clock (since 2000).
    "clock_offset_us": (64, "q"),
}

# One byte a pin in each of these tables.
PINS = 64
PIN_LEVEL = 128  # output latch, 0 or 1
PIN_MODE = 192  # 0 unused, else the number of the mode (Pin.IN, OUT, OPEN_DRAIN)
PIN_PULL = 256  # 0 none, else the number of the pull
PIN_DRIVEN = 320  # what the outside does to the pin: 0, 1, or 2 for nothing

FLOATING = 2
MODE_IN = 1
MODE_OUT = 3
MODE_OPEN_DRAIN = 7
PULL_DOWN = 1
PULL_UP = 2
