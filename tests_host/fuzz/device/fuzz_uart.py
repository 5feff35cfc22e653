"""A UART whose host is two files in the board's folder: what comes in, what went out.

Takes the place of machine.UART on the virtual module, so that nothing but the firmware's own time
counts. Without an input file nothing ever comes. When the input has been read and everything in it
answered, the heap in use is written to `fuzz.done`.
"""

import gc
import io
import sys

_POLL = 3
_GET_FILENO = 10
_READ = 1


class FileUart(io.IOBase):
    """Hands the input over in pieces of 1 to 1,024 bytes, sizes from a generator of its own."""

    def __init__(self, *_, **__):
        self._disk = sys.modules["sim_host"].disk
        self._state = 88172645463325252
        self._output = self._disk.open("/fuzz.out", "wb")
        try:
            self._input = self._disk.open("/fuzz.in", "rb")
        except OSError:
            self._input = None

    def _size(self):
        # Xorshift; one read in eight is of single bytes.
        x = self._state
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self._state = x & 0xFFFFFFFF
        return 1 if x & 7 == 0 else 1 + (x >> 8) % 1024

    def readinto(self, buf):
        if self._input is None:
            return None
        view = memoryview(buf)
        got = self._input.readinto(view[: min(len(view), self._size())])
        if not got:
            self._end()
            return None
        return got

    def _end(self):
        self._input.close()
        self._input = None
        self._output.close()
        self._output = None
        gc.collect()
        with self._disk.open("/fuzz.done", "wb") as file:
            file.write(b"%d\n" % gc.mem_alloc())

    def write(self, data):
        if self._output:
            self._output.write(data)
        return len(data)

    def txdone(self):
        return True

    def any(self):
        return 1 if self._input else 0

    def ioctl(self, request, arg):
        if request == _GET_FILENO and self._input:
            # A file is always ready; without a descriptor every look would take a millisecond.
            return self._input.fileno()
        if request == _POLL:
            ready = arg & 4
            if arg & _READ and self._input:
                ready |= _READ
            return ready
        return -1
