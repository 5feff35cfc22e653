"""The board's REPL on a terminal of its own, so that mpremote finds a board there.

Like the UART's terminal it outlives the VMs: the host's side stays open, each boot gets a new
inner one. A soft reset from the raw REPL comes back in the raw REPL, as on a board.
"""

import contextlib
import os
import pty
import re
import selectors
import termios
import tty

_CTRL_A = b"\x01"
_CTRL_C = b"\x03"
_CTRL_B = b"\x02"
_LONE_LF = re.compile(rb"(?<!\r)\n")


class Repl:
    """path: the terminal's device. Made before the board runs, used by its thread only."""

    def __init__(self, board):
        self._host, self._host_slave = pty.openpty()
        tty.setraw(self._host_slave)
        os.set_blocking(self._host, False)
        self.path = os.ttyname(self._host_slave)
        self._inner = None
        self._raw = False
        self._wants_raw = False
        board.loop.selector.register(self._host, selectors.EVENT_READ, self._from_host)

    def open(self):
        """The terminal of a new boot: (our end, the VM's end)."""
        self._inner, child = pty.openpty()
        tty.setraw(child)
        # Ctrl-C interrupts a script; at its prompt the VM reads it as a character.
        modes = termios.tcgetattr(child)
        modes[3] |= termios.ISIG
        modes[6][termios.VINTR] = _CTRL_C
        termios.tcsetattr(child, termios.TCSANOW, modes)
        os.set_blocking(self._inner, False)
        return self._inner, child

    def close(self):
        """The VM is gone."""
        self._inner = None

    def _from_host(self):
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._host, 4096)
            for byte in data:
                if byte == _CTRL_A[0]:
                    self._raw = True
                elif byte == _CTRL_B[0]:
                    self._raw = False
            if self._inner is not None:
                os.write(self._inner, data)

    def show(self, data):
        """Pass on what the VM prints; a host that does not read loses it."""
        with contextlib.suppress(BlockingIOError):
            # A board ends its lines with CR LF; this VM does so at the prompt only.
            os.write(self._host, _LONE_LF.sub(b"\r\n", data))

    def soft_reset(self):
        """The VM ended at its prompt; returns whether it was the raw one."""
        self.show(b"MPY: soft reboot\r\n")
        self._wants_raw = self._raw
        return self._raw

    def at_prompt(self):
        """The new VM is about to show its prompt."""
        if self._wants_raw:
            self._wants_raw = False
            os.write(self._inner, _CTRL_A)
