"""The stage of a transcript: a virtual module, its local cloud, and an operator of the cloud.

A worker keeps one module and one cloud for all its tests, and brings them to the same state before
each: starting a module takes ten times as long.
"""

from __future__ import annotations

import re
import time

from tests_host.conformance import transcript
from tests_host.conformance.certificates import Certificates
from tests_host.system.conftest import Operator
from tools.sim.module import VirtualModule

# How long silence has to last to count as silence.
SILENCE_S = 0.2

_PATIENCE_S = 10
_LONG = re.compile(rb"AT\+(CONNECT|DIAG PING|SUBSCRIBE|UNSUBSCRIBE|SEND)", re.IGNORECASE)
_LONG_S = 130
_RUNNING = "running"


class Mismatch(AssertionError):
    """What came is not what was expected; the text holds the dialogue so far."""


class Stage:
    """cloud: a running `CloudProcess`. folder: where the modules' state goes."""

    def __init__(self, cloud, folder):
        self.cloud = cloud
        self.certificates = Certificates(cloud.state)
        self._folder = folder
        self._count = 0
        self._shared = None
        self._own = []
        self._operator = None
        self._boots = 0
        self._patience = None
        self._asked_at = 0.0
        self.module = None
        self.limit_s = 5.0
        self.took = 0.0
        self.dialogue = []
        # The updates of this test by name: (tests_host.updates.Update, the file).
        self.orders = {}

    # The state before each test.

    def begin(self):
        """Bring everything to the state that a test starts from."""
        self.dialogue = []
        self.orders = {}
        self._patience = None
        self.mend()
        if self._shared is None or self._shared.ended:
            self._replace()
        self.module = self._shared
        self._names = self._shared_names
        self.module.wifi(up=True, rssi=-50, passphrase="sim-passphrase")
        self.module.pin("WAKE", None)
        self.module.power_cut()
        self.module.flush()
        self.module.power_on()
        for line in self._values:
            self._expect_now(line, b"OK")
        self._expect_now(b"AT+EVENT?", b"OK 2 0 STARTUP")
        self._note_boots()

    def _replace(self):
        """Have a new module for this and the following tests."""
        if self._shared is not None:
            self._shared.stop()
        self._shared = self._start()
        self._shared_names = self._known_names(self._shared)
        self._values = self._initial_values(self._shared)

    def _start(self, *options):
        self._count += 1
        folder = self._folder / f"module-{self._count}"
        module = VirtualModule(folder, self.cloud.state, *options)
        module.start()
        return module

    @staticmethod
    def _initial_values(module):
        """Lines that give each persistent key that tests change its value of the beginning."""
        lines = [b"AT+CONF SSID=", b"AT+CONF Passphrase="]
        for key in (b"EndPoint", b"TopicRoot", b"Defender", b"NTPServer"):
            lines.append(b"AT+CONF %s=%s" % (key, module.command(b"AT+CONF? " + key)[3:]))
        return lines

    @staticmethod
    def _known_names(module):
        keys = {"thing": b"ThingName", "endpoint": b"EndPoint", "ntp": b"NTPServer"}
        return {name: module.command(b"AT+CONF? " + key)[3:] for name, key in keys.items()}

    def _expect_now(self, line, expected):
        reply = self.module.command(line)
        if reply != expected:
            raise Mismatch(f"setting the stage: {line!r} was answered {reply!r}")

    def new_module(self, *options):
        """Go on with a module of its own for this test, just made; its STARTUP is taken."""
        self.module = self._start(*options)
        self._own.append(self.module)
        self._names = self._known_names(self.module)
        self._expect_now(b"AT+EVENT?", b"OK 2 0 STARTUP")
        self._note_boots()

    def finish(self):
        """Check that the module has nothing more to say, and answers."""
        if self.module.get("state") == _RUNNING:
            self._patience = None
            # No reply that could be left over looks like this one.
            self.send(b"AT+CONF? TechSpec\n")
            self.expect(b"OK v0.5")
            self.silence(0)

    def end(self):
        """Undo what only this test has set up."""
        if self._operator is not None:
            self._operator.close()
            self._operator = None
        for module in self._own:
            module.stop()
        self._own = []

    def close(self):
        """Stop the module."""
        if self._shared is not None:
            self._shared.stop()

    def mend(self):
        """End all faults of the cloud."""
        self.cloud.control.clear()
        self.cloud.control.sntp(mode="normal", offset=0)

    # The host's side.

    def name(self, name):
        """What a name in braces stands for: thing, endpoint, ntp, or a certificate, escaped."""
        if name.startswith("pem "):
            return self.certificates.pem(name[4:]).replace(b"\n", b"\\A")
        return self._names[name]

    @property
    def thing(self):
        """The module's thing name, as text."""
        return self._names["thing"].decode()

    def send(self, data):
        """Send bytes as they are."""
        self._say(">", data)
        self._note_boots()
        if _LONG.search(data) and self._patience is None:
            self._patience = _LONG_S
        self.module.write(data)
        self._asked_at = time.monotonic()

    def line(self):
        """The module's next line."""
        patience, self._patience = self._patience or _PATIENCE_S, None
        try:
            line = self.module.read_line(patience)
        except TimeoutError as error:
            raise Mismatch(self._told(str(error))) from None
        self.took = time.monotonic() - self._asked_at
        self._say("<", line)
        return line

    def ask(self, line, patience=None):
        """Send a line (bytes) and return the module's next line."""
        self._patience = patience
        self.send(line + b"\n")
        return self.line()

    def must(self, line, expected=b"OK"):
        """Send a line; its reply has to be `expected`."""
        self.send(line + b"\n")
        self.expect(expected)

    def matches(self, pattern, text):
        """`text` is what the regular expression `pattern` says."""
        if re.fullmatch(pattern, text) is None:
            raise Mismatch(self._told(f"expected {pattern}, not {text}"))

    def be_patient(self, seconds):
        """Wait so long for the next line."""
        self._patience = seconds

    def expect(self, expected):
        """The module's next line is `expected`: bytes, or a regular expression of bytes."""
        line = self.line()
        if isinstance(expected, bytes):
            good = line == expected
            shown = expected
        else:
            good = expected.fullmatch(line) is not None
            shown = expected.pattern
        if not good:
            raise Mismatch(self._told(f"expected {_short(shown)}"))

    def silence(self, seconds=SILENCE_S):
        """The module says nothing for so long."""
        data = self.module.read(seconds)
        if data:
            self._say("<", data)
            raise Mismatch(self._told("expected nothing"))

    def _say(self, mark, data):
        self.dialogue.append(f"{mark} {_short(data)}")

    def _told(self, what):
        return "\n".join([*self.dialogue[-12:], what])

    # The board and the cloud.

    def _note_boots(self):
        self._boots = self.module.get("counters")["boots"]

    def until(self, condition, what, seconds=None):
        """Wait until `condition()` is true, `limit_s` unless told."""
        seconds = seconds or self.limit_s
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Mismatch(self._told(f"expected {what} within {seconds} s"))
            time.sleep(0.005)

    def restarted(self, count=1):
        """Wait until the module has started again `count` times since something was sent last."""

        def done():
            boots = self.module.get("counters")["boots"]
            return boots >= self._boots + count and self.module.get("state") == _RUNNING

        self.until(done, f"{count} restart(s)", self.limit_s * count)
        before = self._boots
        self._note_boots()
        if self._boots != before + count:
            raise Mismatch(self._told(f"expected {count} restart(s), there were more"))
        self.dialogue.append("(restarted)")

    def wifi(self):
        """Tell the module the access point."""
        self.must(b"AT+CONF SSID=sim-ap")
        self.must(b"AT+CONF Passphrase=sim-passphrase")

    def connect(self):
        """Tell the module the access point, and connect."""
        self.wifi()
        self.must(b"AT+CONNECT", b"OK 1 CONNECTED")

    @property
    def operator(self):
        """An MQTT client of the cloud that may do everything."""
        if self._operator is None:
            self._operator = Operator(self.cloud.state, self.cloud.mqtt)
        return self._operator


def _short(data):
    shown = data.decode("latin-1").encode("unicode_escape").decode().replace("\\\\", "\\")
    return shown if len(shown) <= 160 else f"{shown[:150]}… ({len(data)} bytes)"


def play(stage, block):
    """Play a block. Raises Mismatch, with the place in the transcript."""
    from tests_host.conformance.directives import direct

    for step in block.steps:
        try:
            if step.mark == ">":
                stage.send(transcript.fill(step.text, stage.name) + b"\n")
            elif step.mark == ">>":
                stage.send(transcript.fill(step.text, stage.name))
            elif step.mark == "<":
                stage.expect(transcript.fill(step.text, stage.name))
            elif step.mark == "<~":
                stage.expect(transcript.fill_pattern(step.text, stage.name))
            elif step.mark == "<-":
                stage.silence()
            else:
                direct(stage, step.text)
        except AssertionError as error:
            raise Mismatch(f"{block.where(step)}: {error}") from None
