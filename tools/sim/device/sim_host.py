"""What every stand-in shares: this boot's configuration, the registers, the bus, the disk.

`setup` is called once, by start.py, before any stand-in is imported.
"""

import json
import sys

_path = sys.path
sys.path = ()
try:
    import time as builtin_time
finally:
    sys.path = _path

# Set by setup().
config = None  # dict from boot.json
disk = None  # the state folder, as an unmounted filesystem object
registers = None
_bus = None


def setup(state_disk, state_registers, boot):
    global config, disk, registers, _bus
    config = boot
    disk = state_disk
    registers = state_registers
    _bus = open(boot["bus"], "wb")  # noqa: SIM115


def send(message):
    """Tell the supervisor `message`, a dict; one line of JSON, written at once."""
    _bus.write((json.dumps(message) + "\n").encode())


def halt():
    """Stand still until the supervisor ends this VM."""
    while True:
        try:
            builtin_time.sleep(3600)
        except KeyboardInterrupt:
            pass


def warn(text):
    """A note for the developer, on the console."""
    print("[sim] " + text)
