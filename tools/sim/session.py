"""One boot's VM from start to end, and the pipes between it and the board."""

import contextlib
import json
import os
import selectors
import signal

from tools.sim.uart import Channel

# A poll() that waits in the VM is woken this long after an interrupt was put into its pipe.
NUDGES_S = (0.0, 0.002, 0.01)
# The longest line that device/bluetooth.py takes.
_AIR = 2048


class Session:
    """Starts the VM of `boot` with `vm` (a process.Vm).

    on_message: called with each message (a dict) while the session is the board's; it returns
    False when it ended the session. on_output: called with what the VM prints. on_end: called
    when the VM has ended by itself, with its exit code.
    """

    def __init__(self, vm, boot, selector, repl, on_message, on_output, on_end):
        self._selector = selector
        self._on_message = on_message
        self._on_output = on_output
        self._on_end = on_end
        self._repl = repl
        self._rest = b""
        self.channel = Channel()
        self._bus, bus = os.pipe()
        irq, self._irq = os.pipe()
        radio, self._radio = os.pipe()
        os.set_blocking(self._bus, False)
        os.set_blocking(self._irq, False)
        os.set_blocking(self._radio, False)
        stdin, stdout = self._open_console()
        try:
            self._process = vm.start(boot, self.channel, bus, irq, radio, stdin, stdout)
        finally:
            for fd in {bus, irq, radio, stdin, stdout}:
                os.close(fd)
        selector.register(self._bus, selectors.EVENT_READ, self._read_bus)
        selector.register(self._output, selectors.EVENT_READ, self.read_output)

    def _open_console(self):
        # Returns the VM's ends: a terminal for a REPL, otherwise nothing in and a pipe out.
        if self._repl is not None:
            self._output, child = self._repl.open()
            return child, child
        self._output, child = os.pipe()
        os.set_blocking(self._output, False)
        return os.open(os.devnull, os.O_RDONLY), child

    def wait(self, timeout):
        """Wait for the VM to end by itself; returns its exit code."""
        return self._process.wait(timeout)

    def _read_bus(self):
        try:
            data = os.read(self._bus, 65536)
        except BlockingIOError:
            return
        if not data:
            self._on_end(self._process.wait())
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            # What a VM said after the message that ended it is of no use.
            if not self._on_message(json.loads(line)):
                return

    def read_output(self):
        """Take over what the VM has printed."""
        while True:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                return
            except OSError:
                # A terminal whose other end is closed.
                data = b""
            if not data:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._output)
                return
            self._on_output(data)

    def interrupt(self, pin, level):
        """Tell the VM that an input has changed."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._irq, bytes([pin | (level << 6)]))

    def air(self, message):
        """Tell the VM what a central of Bluetooth does; returns whether it took the message."""
        line = json.dumps(message).encode() + b"\n"
        try:
            # A pipe takes up to 4,096 bytes whole or not at all; the VM has room for fewer.
            return len(line) <= _AIR and os.write(self._radio, line) == len(line)
        except (BlockingIOError, BrokenPipeError):
            return False

    def nudge(self):
        """Make a poll() of the VM return early; vm.py has a handler for the signal."""
        self._process.send_signal(signal.SIGUSR1)

    def end(self):
        """Stop the VM at once, in the middle of whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.read_output()
        if self._repl is not None:
            self._repl.close()
        for fd in (self._bus, self._output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)
        os.close(self._irq)
        os.close(self._radio)
        self.channel.close()
