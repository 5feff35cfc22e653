"""Small applications for the virtual module, and the host's side of them."""

import ast
import time
from pathlib import Path

from tools.sim.module import VirtualModule

HERE = Path(__file__).parent
REMOTE = HERE / "remote"


class Remote(VirtualModule):
    """A virtual module that runs Python lines; no cloud, no identity."""

    def __init__(self, state, *options, source=REMOTE):
        super().__init__(state, None, "--identity", "none", "--source", source, *options)

    def run(self, line, timeout=10.0):
        """The answer to one Python line as text."""
        return self.command(line.encode(), timeout).decode()

    def value(self, line, timeout=10.0):
        """The value of one Python expression, read back as a literal."""
        text = self.run(line, timeout)
        assert not text.startswith("!"), text
        # Only a literal is read back, but for a bytearray around one.
        if text.startswith("bytearray(") and text.endswith(")"):
            return bytearray(ast.literal_eval(text[len("bytearray(") : -1]))
        return ast.literal_eval(text)

    def until(self, line, wanted, timeout=5.0):
        """Ask again and again until the value is `wanted`; fails with the last one."""
        end = time.monotonic() + timeout
        while True:
            value = self.value(line)
            if value == wanted:
                return
            assert time.monotonic() < end, f"{line} is {value!r}, not {wanted!r}"
            time.sleep(0.01)

    def reboot(self, line):
        """Run a line after which the board boots again, and wait for that."""
        self.write(line.encode() + b"\n")
        self.wait_ready()
        self.flush()
