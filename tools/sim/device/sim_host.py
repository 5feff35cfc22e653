"""What every stand-in shares: this boot's configuration, the registers, the bus, the disk.

`setup` is called once, by start.py, before any stand-in is imported.
"""

import gc
import json
import sys

import vfs

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
# Blocks that stand for what a board needs more memory for (docs/virtual-vs-board.md).
ballast = []
_bus = None
_standins = None


def setup(state_disk, state_registers, boot, standins):
    global config, disk, registers, _bus, _standins
    config = boot
    disk = state_disk
    registers = state_registers
    _standins = standins
    _bus = open(boot["bus"], "wb")  # noqa: SIM115


def load(name):
    """Import the stand-in `name` now: what is seldom used must not lie in the firmware's heap,
    where a board has C code in flash."""
    if name in sys.modules:
        return sys.modules[name]
    gc.collect()
    before = gc.mem_alloc()
    path = list(sys.path)
    vfs.mount(_standins, "/sim", readonly=True)
    sys.path[:] = ["/sim", ".frozen"]
    try:
        return __import__(name)
    finally:
        sys.path[:] = path
        vfs.umount("/sim")
        # So that it takes nothing from the firmware, as long as there is ballast.
        gc.collect()
        taken = gc.mem_alloc() - before
        while ballast and taken >= len(ballast[-1]):
            taken -= len(ballast.pop())


class Later:
    """Stands for the module `name` until something of it is wanted."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        module = sys.modules.get(self._name)
        if module is self or module is None:
            sys.modules.pop(self._name, None)
            try:
                module = load(self._name)
            finally:
                sys.modules.setdefault(self._name, self)
        return getattr(module, attribute)


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
