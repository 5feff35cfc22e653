"""Power cuts in the middle of everything that writes to the flash.

One board, one process: a command is given while the power is set to die at its n-th program or
erase operation (which is done half, not at all, wholly, or with some of its bits:
`device/torn_flash.py`); then the power comes back, and all that the module keeps is compared with
what it kept before: the old value or the new one, for FACTORY_RESET all old or all cleared, and
everything else as it was.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests_host.fuzz.certificates import Certificates
from tests_host.fuzz.cut_board import CLEARED, CutBoard, Damage, Kept

_PASSPHRASES = [b"sim-passphrase", b"p" * 63, b"quite another one"]
_DAYS = 86400


@dataclass
class Change:
    """A command that changes what is kept: `CONF key=value`, or another one by its name."""

    name: str
    values: list[bytes] = field(default_factory=list)
    turn: int = 0
    operations: int = 12  # flash operations of the last one that was not cut

    def next(self) -> bytes:
        """The value to be given now."""
        self.turn += 1
        return self.values[self.turn % len(self.values)]


@dataclass
class Tally:
    """Cuts by command, and how they ended."""

    cuts: dict[str, int] = field(default_factory=dict)
    old: int = 0
    new: int = 0
    at_start: int = 0
    ways: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All cuts."""
        return sum(self.cuts.values())

    def add(self, name: str, new: bool) -> None:
        """Count one."""
        self.cuts[name] = self.cuts.get(name, 0) + 1
        self.new += new
        self.old += not new

    def __str__(self):
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.cuts.items()))
        return (
            f"{self.count} power cuts in {self.seconds:.0f} s, {self.old} left the old state and "
            f"{self.new} the new one: {kinds}; {self.at_start} more cuts in "
            f"the start that followed; operations done half, not, wholly, with some of "
            f"their bits: {', '.join(map(str, self.ways))}"
        )


_RESET = "FACTORY_RESET"
_CONNECT = "CONNECT"


class Cuts:
    """folder: an empty one; cloud: a CloudProcess; options: of `python -m tools.sim`."""

    def __init__(self, folder: Path, cloud, seed: int, *options: str):
        self._random = random.Random(seed)
        self._cloud = cloud
        made = Certificates(cloud.state)
        self._endpoint = b"localhost:%d" % cloud.mqtt
        self._server = b"localhost:%d" % cloud.sntp
        self.keys = [
            Change("SSID", [b"sim-ap", b"x" * 32, b"other"]),
            Change("Passphrase", _PASSPHRASES),
            Change("EndPoint", [self._endpoint, b"h" * 253 + b":65535"]),
            Change("TopicRoot", [b"root", b"r" * 256]),
            Change("Defender", [b"0", b"86400"]),
            Change("NTPServer", [self._server, b"t" * 200]),
            Change("OTAcertificate", made.signers),
            Change("HOTAcertificate", made.hosts),
            Change("RootCA", made.roots),
        ]
        self.changes = [*self.keys, Change(_RESET), Change(_CONNECT)]
        self.tally = Tally()
        self._ahead = False
        self._board = CutBoard(folder, cloud, _PASSPHRASES, *options)
        self._board.start()
        self._fresh = self._board.kept()
        self._now = self._fresh

    def __enter__(self) -> Cuts:
        self._started = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.tally.seconds = time.monotonic() - self._started
        console = self._board.module.console()
        self.tally.at_start = self._board.cuts_at_start
        self.tally.ways = [console.count(f"torn: way {way}\n") for way in range(4)]
        self._board.module.stop()
        self._cloud.control.sntp(offset=0)

    def sample(self, count: int) -> None:
        """`count` cuts at places chosen by the seed, on a filesystem that ages meanwhile."""
        while self.tally.count < count:
            for _ in range(self._random.randint(0, 3)):
                self._conf(self._random.choice(self.keys), 0)
            change = self._random.choice(self.changes)
            self.give(change, self._random.randint(1, change.operations))

    def all(self, rounds: int = 3) -> None:
        """For each command a cut at every operation it has, `rounds` times over: what a command
        does to the flash depends on how full the filesystem's logs are."""
        for _ in range(rounds):
            for change in self.changes:
                after = 1
                while self.give(change, after):
                    after += 1
            for _ in range(self._random.randint(1, 7)):
                self._conf(self._random.choice(self.keys), 0)

    def give(self, change: Change, after: int) -> bool:
        """One command with a cut at operation `after`; whether it came to that. Raises Damage."""
        if change.name == _RESET:
            return self._reset(change, after)
        if change.name == _CONNECT:
            return self._connect(change, after)
        return self._conf(change, after)

    def _run(self, change: Change, line: bytes, after: int, reboots: bool = False):
        """(reply, cut, what was kept before, and what after)."""
        before = self._now
        # The start after a cut may be cut too, where it has work to do.
        self._board.cut_at_start = self._random.choice((0, 0, 1, 2, 3, 5))
        counted = self._board.operations()
        reply, cut = self._board.give(line, after, reboots)
        if not cut:
            change.operations = max(1, self._board.operations() - counted)
        if reply and not reply.startswith(b"OK"):
            raise Damage(f"{line[:80]!r}: {reply[:200]!r}")
        self._now = self._board.kept()
        return reply, cut, before, self._now

    def _judge(self, change: Change, cut: bool, replied: bool, done: bool) -> bool:
        if not done and not cut:
            raise Damage(f"{change.name} was answered OK and nothing has changed")
        if not done and replied:
            raise Damage(f"{change.name} was answered OK, and the cut has undone it")
        if cut:
            self.tally.add(change.name, done)
        return cut

    def _conf(self, change: Change, after: int) -> bool:
        key = change.name.encode()
        new = self._now
        while new == self._now:
            # What is there already would not be written, and nothing could be cut.
            value = change.next()
            new = Kept(dict(self._now.values), set(self._now.passphrases))
            if key == b"Passphrase":
                new.passphrases = {value}
            else:
                new.values[key] = value
        reply, cut, before, now = self._run(change, b"CONF " + key + b"=" + value, after)
        if now not in (before, new):
            raise Damage(f"{change.name} cut at {after}: {before.differences(now)}")
        return self._judge(change, cut, bool(reply), now == new)

    def _reset(self, change: Change, after: int) -> bool:
        # There has to be something to clear.
        for key in self.keys:
            if key.name.encode() in CLEARED or key.name == "Passphrase":
                self._conf(key, 0)
        cleared = Kept(dict(self._now.values), set())
        cleared.values.update({key: self._fresh.values[key] for key in CLEARED})
        reply, cut, before, now = self._run(change, b"FACTORY_RESET", after, reboots=True)
        if now not in (before, cleared):
            raise Damage(f"{change.name} cut at {after}: {before.differences(now)}")
        return self._judge(change, cut, bool(reply), now == cleared)

    def _connect(self, change: Change, after: int) -> bool:
        """CONNECT keeps the time, when a day has gone since it last did, and roots that have
        proven themselves."""
        for line in (
            b"SSID=sim-ap",
            b"Passphrase=sim-passphrase",
            b"EndPoint=" + self._endpoint,
            b"NTPServer=" + self._server,
        ):
            self._board.ask(b"CONF " + line)
        self._now = self._board.kept()
        roots = next(key for key in self.keys if key.name == "RootCA")
        self._conf(roots, 0)
        self._ahead = not self._ahead
        self._cloud.control.sntp(offset=3 * _DAYS if self._ahead else 0)
        _, cut, before, now = self._run(change, b"CONNECT", after)
        if now != before:
            raise Damage(f"{change.name} cut at {after}: {before.differences(now)}")
        if not cut:
            self._board.ask(b"DISCONNECT")
        return self._judge(change, cut, False, True)
