"""Starts the wheel's MicroPython in this process, with files mapped into its memory.

Arguments: folder of the wheel, then `name=file` for each image to map (`name=file+` shared and
writable), `--`, and MicroPython's own arguments; `name=address,size` of each is appended.
Run with -I -S: only what it imports here is loaded.
"""

import ctypes
import fcntl
import mmap
import os
import signal
import sys
import termios

_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    # On other systems than Linux the VM of a killed supervisor is left to the user.
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


def _map(name, path):
    shared = path.endswith("+")
    with open(path.rstrip("+"), "r+b" if shared else "rb") as file:
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        area = mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return area, "%s=%d,%d" % (name, address, len(area))


def _take_terminal():
    # Makes Ctrl-C on the REPL's terminal a signal to this process.
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def main():
    _die_with_parent()
    _take_terminal()
    split = sys.argv.index("--")
    sys.path.append(sys.argv[1])
    import micropython_run

    # The supervisor sends this signal to make a waiting poll() look at a pin's interrupt.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    areas = []
    arguments = ["micropython", *sys.argv[split + 1 :]]
    for item in sys.argv[2:split]:
        name, _, path = item.partition("=")
        area, argument = _map(name, path)
        areas.append(area)
        arguments.append(argument)
    sys.exit(micropython_run.run_main(arguments))


main()
