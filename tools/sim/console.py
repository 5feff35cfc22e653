"""`python -m tools.sim.console`: cloud and module in one command, and a terminal to type AT in."""

import contextlib
import json
import os
import queue
import readline
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click

from tools.sim import romfs
from tools.sim.module import ModuleError, VirtualModule

_PROMPT = "> "
_CLOUD_LIMIT_S = 60
# After the last line of a pipe, replies may take as long as CONNECT may.
_REPLY_LIMIT_S = 125
# How long `CONF key=pem` may take to be refused before its certificate is sent.
_REFUSAL_S = 0.5
_EVENT_POLL_S = 0.05


class ConsoleError(RuntimeError):
    """The cloud or the module did not start; the text says why."""


@contextlib.contextmanager
def _cloud(state, port, http_port):
    """The local cloud on `state`, until the end of the `with`."""
    state.mkdir(parents=True, exist_ok=True)
    log = state / "cloud.log"
    command = [sys.executable, "-m", "tools.cloud", "--state", str(state)]
    command += ["--port", str(port), "--http-port", str(http_port)]
    with open(log, "wb") as errors:
        # Its own session: Ctrl-C in this terminal is for the console alone.
        process = subprocess.Popen(
            command,
            cwd=romfs.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        said = queue.Queue()
        threading.Thread(target=_drain, args=(process.stdout, said), daemon=True).start()
        _await_ready(said, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _drain(stream, said):
    for line in stream:
        said.put(line.strip())
    said.put(None)


def _await_ready(said, log):
    end = time.monotonic() + _CLOUD_LIMIT_S
    while True:
        try:
            line = said.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise ConsoleError(f"the local cloud is not ready after {_CLOUD_LIMIT_S} s") from None
        if line == b"ready":
            return
        if line is None:
            last = log.read_text(errors="replace").strip().splitlines()[-8:]
            raise ConsoleError("the local cloud did not start:\n" + "\n".join(last))


class Console:
    """Lines from the keyboard to the module, its replies and its EVENT pin to the screen."""

    def __init__(self, module):
        self._module = module
        self._editing = sys.stdin.isatty()
        self._event = None
        self._told = len(module.lines)
        self._running = module.lines[0]
        self._waiting = 0
        self._pasting = False
        self._lines = queue.Queue()
        self._bell, self._ring = os.pipe()

    def run(self):
        """Until the end of the input, or Ctrl-C."""
        self._look_at_event()
        threading.Thread(target=self._read_input, daemon=True).start()
        ended = False
        last = time.monotonic()
        while True:
            if self._module.ended:
                raise ConsoleError(self._module.last_words() or "the virtual module ended")
            # Piped lines go one by one, each after the reply to the one before.
            if not ended and (self._editing or not self._waiting):
                ended, sent = self._pass_on()
                last = time.monotonic() if sent else last
            if ended and (self._editing or not self._waiting):
                return
            if self._waiting and self._pasting and time.monotonic() - last > _REFUSAL_S:
                self._waiting = 0
            if self._waiting and time.monotonic() - last > _REPLY_LIMIT_S:
                self._show("(no reply)")
                self._waiting = 0
            self._listen()
            # What a start says comes before its event.
            self._look_at_lines()
            self._look_at_event()

    def _read_input(self):
        while True:
            try:
                line = input(_PROMPT if self._editing else "")
            except EOFError:
                line = None
            self._lines.put(line)
            os.write(self._ring, b"!")
            if line is None:
                return

    def _pass_on(self):
        # Returns (whether the input ended, whether a line was sent).
        try:
            line = self._lines.get_nowait()
        except queue.Empty:
            return False, False
        if line is None:
            return True, False
        if not self._editing:
            print(_PROMPT + line, flush=True)
        self._module.write(line.encode(errors="surrogateescape") + b"\n")
        self._waiting = 1 if self._asks(line.upper().strip()) else 0
        return False, True

    def _asks(self, line):
        # Whether to wait for a reply: not after a line without AT; for a moment after
        # `CONF key=pem`, which is answered when the certificate has ended, unless it is refused.
        if line.endswith("=PEM") and "AT+CONF " in line:
            self._pasting = True
            return True
        elif self._pasting and line == "-----END CERTIFICATE-----":
            self._pasting = False
            return True
        return not self._pasting and "AT" in line

    def _listen(self):
        select.select([self._bell, self._module.fileno()], [], [], _EVENT_POLL_S)
        ready, _, _ = select.select([self._bell], [], [], 0)
        if ready:
            os.read(self._bell, 64)
        while True:
            try:
                line = self._module.read_line(0)
            except TimeoutError:
                return
            self._waiting = 0
            if line.startswith((b"OK", b"ERR")):
                # Answered: a certificate that was refused before it was pasted, for instance.
                self._pasting = False
            self._show(line.decode(errors="replace"))

    def _look_at_event(self):
        level = self._module.event()
        if level != self._event:
            self._event = level
            self._show(f"[EVENT pin {'high' if level else 'low'}]")

    def _look_at_lines(self):
        # Where a browser finds CONFMODE's page, and what runs when that has changed.
        while self._told < len(self._module.lines):
            line = self._module.lines[self._told]
            self._told += 1
            changed = line.startswith("running ") and line != self._running
            if changed:
                self._running = line
            if changed or line.startswith("portal http"):
                self._show(f"[{line}]")

    def _show(self, text):
        if not self._editing:
            print(text, flush=True)
            return
        # The line that is being typed is taken off the screen and put back behind the text.
        typed = readline.get_line_buffer()
        sys.stdout.write("\r\033[K" + text + "\n" + _PROMPT + typed)
        sys.stdout.flush()


def _stop(*_):
    raise KeyboardInterrupt


@click.command()
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--port", default=28883, show_default=True, help="MQTT port of the cloud.")
@click.option("--http-port", default=28443, show_default=True, help="HTTPS port of the cloud.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(state, port, http_port, options):
    """Start the local cloud and the virtual module, and type AT commands. Ctrl-D leaves.

    OPTIONS behind `--` are given to the virtual module.
    """
    # Ctrl-C too: a shell that starts this in the background has it ignored.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    state = state.resolve()
    try:
        with _cloud(state / "cloud", port, http_port):
            module = VirtualModule(state / "module", state / "cloud", *options)
            module.link = state / "uart"
            module.control_path = state / "control"
            with module:
                _welcome(state, module)
                Console(module).run()
    except KeyboardInterrupt:
        click.echo()
    except (ConsoleError, ModuleError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _shown(path):
    """A path as a person would write it: relative when it lies below this folder."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.startswith("..") else relative


def _welcome(state, module):
    port = json.loads((state / "cloud" / "cloud.json").read_text())["mqtt"]
    cloud = _shown(state / "cloud")
    click.echo(f"virtual module: {module.lines[0]}; its UART is {_shown(module.link)}")
    click.echo(f"control socket: {_shown(module.control_path)}")
    click.echo(
        "all messages:   mosquitto_sub -h localhost -p %d --cafile %s/ca.pem "
        "--cert %s/operator.pem --key %s/operator.key -t '#' -v" % (port, cloud, cloud, cloud)
    )
    click.echo("access point:   sim-ap, passphrase sim-passphrase. Ctrl-D leaves.")


if __name__ == "__main__":
    main()
