"""A virtual module for tests and benches: started, spoken to, broken on purpose, stopped."""

import json
import os
import select
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

from tools.sim import romfs

_START_LIMIT_S = 60


class ModuleError(RuntimeError):
    """The virtual module did not start, ended, or refused a command; the text says why."""


class VirtualModule:
    """`with VirtualModule(state, cloud, "--heap", "96") as module:` runs one till the end.

    state, cloud: folders (cloud may be None with `--identity none`); options: further options
    of `python -m tools.sim`. Times in seconds, lines in bytes without their line end.
    """

    def __init__(self, state, cloud, *options):
        self.state = Path(state)
        self._cloud = cloud
        self._options = [str(option) for option in options]
        self._process = None
        self._tty = None
        self._received = b""
        self._said = threading.Condition()
        self._seen = 0
        self._ended = False
        self._control = None
        # Where the UART's terminal and the control socket are to be found.
        self.link = self.state / "uart"
        self.control_path = self.state / "control"
        self.lines = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    # The process.

    def start(self, timeout=_START_LIMIT_S):
        """Start it, open its terminal and wait for `ready`. Raises ModuleError."""
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tools.sim", "--state", str(self.state)]
        if self._cloud is not None:
            command += ["--cloud", str(self._cloud)]
        command += ["--link", str(self.link), "--control", str(self.control_path)]
        self._errors = open(self.state / "errors.log", "w+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            command + self._options,
            cwd=romfs.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # A Ctrl-C in the terminal is for whoever uses this object, not for the board.
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        try:
            self.wait_ready(timeout)
        except ModuleError:
            self.stop()
            raise
        self._tty = os.open(self.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def stop(self):
        """End it. Does nothing when it has ended already."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None
            self._errors.close()
            if self._tty is not None:
                os.close(self._tty)
                self._tty = None
            if self._control is not None:
                self._control.close()
                self._control = None

    def kill(self):
        """End the supervisor as a crash would; `stop` still has to be called."""
        self._process.kill()

    def _listen(self, stdout):
        with stdout:
            for line in stdout:
                with self._said:
                    self.lines.append(line.decode().rstrip("\n"))
                    self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def wait_line(self, begins, timeout=_START_LIMIT_S):
        """Wait for a line that begins so, after the one waited for last; returns the line."""
        end = time.monotonic() + timeout
        with self._said:
            while True:
                while self._seen < len(self.lines):
                    self._seen += 1
                    if self.lines[self._seen - 1].startswith(begins):
                        return self.lines[self._seen - 1]
                if self._ended:
                    raise ModuleError("the virtual module ended: " + self.last_words())
                if not self._said.wait(max(0.0, end - time.monotonic())):
                    raise ModuleError(f"no {begins!r} within {timeout} s\n{self.console()}")

    def wait_ready(self, timeout=_START_LIMIT_S):
        """Wait for the next `ready`: each boot prints one (that of `power_on` is not counted)."""
        self.wait_line("ready", timeout)

    @property
    def ended(self):
        """Whether it has ended by itself."""
        return self._ended

    def last_words(self):
        """What it wrote on its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def console(self):
        """What the VM wrote on the board's console, since the folder was made."""
        path = self.state / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # The host's UART.

    def write(self, data, timeout=10.0):
        """Send bytes. Raises ModuleError when the terminal does not take them."""
        view = memoryview(data)
        end = time.monotonic() + timeout
        while view:
            _, ready, _ = select.select([], [self._tty], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise ModuleError("the terminal takes no more bytes")
            view = view[os.write(self._tty, view) :]

    def read(self, timeout=0.1):
        """What has come, at least one byte unless the time is over."""
        if not self._received:
            self._more(timeout)
        data, self._received = self._received, b""
        return data

    def _more(self, timeout):
        ready, _, _ = select.select([self._tty], [], [], max(0.0, timeout))
        if ready:
            self._received += os.read(self._tty, 65536)
        return bool(ready)

    def read_line(self, timeout=10.0):
        """The next line without its LF. Raises TimeoutError, keeping what has come."""
        end = time.monotonic() + timeout
        while b"\n" not in self._received:
            left = end - time.monotonic()
            if not self._more(left) and left <= 0:
                raise TimeoutError(f"no line within {timeout} s; so far: {self._received!r}")
        line, self._received = self._received.split(b"\n", 1)
        return line

    def command(self, line, timeout=10.0):
        """Send one line (without its LF) and return the line of the reply."""
        self.write(line + b"\n")
        return self.read_line(timeout)

    def fileno(self):
        """The terminal's descriptor, for select()."""
        return self._tty

    def flush(self):
        """Forget what has come and was not read."""
        termios.tcflush(self._tty, termios.TCIFLUSH)
        self._received = b""

    # The board.

    def control(self, order, timeout=_START_LIMIT_S):
        """Send a command (a dict) to the control socket; returns the answer, errors included."""
        if self._control is None:
            self._control = connect(self.control_path)
        self._control.settimeout(timeout)
        self._control.sendall(json.dumps(order).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            piece = self._control.recv(65536)
            if not piece:
                raise ModuleError("the control socket was closed")
            answer += piece
        return json.loads(answer)

    def order(self, order):
        """As `control`, but an error is raised as ModuleError."""
        answer = self.control(order)
        if "error" in answer:
            raise ModuleError(answer["error"])
        return answer

    def get(self, name):
        """A value of the board: EVENT, state, slot, counters, console, uart, cpu_hz, uid."""
        return self.order({"get": name})[name]

    def event(self):
        """The level of the EVENT pin."""
        return self.get("EVENT")

    def wifi(self, ssid="sim-ap", **change):
        """Change an access point: up=, rssi=, passphrase=."""
        self.order({"wifi": {"ssid": ssid, **change}})

    def pin(self, name, level):
        """Drive RESET, WAKE or GPIO<n> to 0 or 1; None lets go of it."""
        self.order({"pin": name, "level": level})

    def power_cut(self):
        """Cut the power at once."""
        self.order({"power": "cut"})

    def power_on(self):
        """Switch the power on; returns at STARTUP."""
        was_off = self.get("state") == "off"
        self.order({"power": "on"})
        if was_off:
            self.wait_ready()

    def fail_after(self, operations):
        """Let the power die at the n-th flash operation from now; 0 for never."""
        self.order({"flash": {"fail_after": operations}})


def connect(path):
    """A connected socket to the control socket `path`, however long the path is."""
    client = socket.socket(socket.AF_UNIX)
    # A link to a shorter name stands for a name that a socket address has no room for.
    client.connect(os.path.realpath(path))
    return client
