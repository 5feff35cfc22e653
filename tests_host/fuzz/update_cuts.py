"""Power cuts in the middle of updates: at any flash operation from the job's offer to its report.

One board and one cloud, one job after the other: an update is begun, the power is lost at its n-th
program or erase operation and comes back, and the host goes on as a host would, until the cloud
has been told how the job has ended. So each update is also the proof that a retry works after the
one before. What has to be true is said in `UpdateCuts._judge`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests_host.fuzz.cut_board import Damage
from tests_host.fuzz.releases import BROKEN, DENIED, FORGED, GOOD
from tests_host.fuzz.update_board import UpdateBoard
from tests_host.fuzz.update_host import Host
from tests_host.updates import Update
from tools.fleet import ota_order

# What a board updates, with options of `python -m tools.sim`: bundles where there are no slots.
KINDS = {"slot": (), "bundle": ("--partitions", "plain")}

# What the power may be the reason of.
_CUT_SHORT = "restarted before it was accepted"

# What a sample orders, again and again.
_ORDERS = ("good", "denied", "good", "broken", "good", "forged", "good")
_VERSIONS = {"denied": DENIED, "broken": BROKEN, "forged": FORGED, "torn-denied": DENIED}
# Those that come to an APPLY.
_LATER = ("good", "denied", "broken")
# Where the power goes while the bootloader writes.
_TORN = ("torn", "torn-denied")
# So many operations at least are behind an APPLY, and are left of an image that is refused when
# its last block has come.
_LATE = 20


@dataclass
class Tally:
    """Updates and cuts, and how they ended."""

    updates: int = 0
    cuts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    at_start: int = 0
    in_bootloader: int = 0
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All cuts. Those in the bootloader's writes are made of others, by what they leave."""
        return sum(self.cuts.values()) + self.at_start

    def add(self, cuts: dict[str, int]) -> None:
        """Count an update, and the cuts in it."""
        self.updates += 1
        for phase, count in cuts.items():
            self.cuts[phase] = self.cuts.get(phase, 0) + count

    def __str__(self):
        def listed(of):
            return ", ".join(f"{name} {count}" for name, count in sorted(of.items()))

        return (
            f"{self.count} power cuts in {self.updates} updates and {self.seconds:.0f} s: "
            f"{listed(self.cuts)}; at the start that followed {self.at_start}; of all these "
            f"{self.in_bootloader} in the bootloader's write; operations without cuts: "
            f"{listed(self.operations)}; jobs: {listed(self.ends)}"
        )


class UpdateCuts:
    """folder: an empty one; cloud: a CloudProcess; kind: "slot" or "bundle"; options: of
    `python -m tools.sim`."""

    def __init__(self, folder: Path, cloud, seed: int, kind: str, *options: str):
        folder.mkdir(exist_ok=True)
        self._random = random.Random(seed)
        self._cloud = cloud
        self._signer = cloud.state / "signer.key"
        self.tally = Tally()
        self._board = UpdateBoard(folder, cloud, kind, self._random, *options)
        self._slots = kind == "slot"

    def __enter__(self) -> UpdateCuts:
        self._started = time.monotonic()
        self._board.start()
        self._current = self._board.version()
        # Twice without a cut: both places have a version that was updated to.
        for _ in GOOD:
            self.update("good")
        return self

    def __exit__(self, *_) -> None:
        self.tally.seconds = time.monotonic() - self._started
        self.tally.at_start = self._board.at_start
        self.tally.in_bootloader = self._board.in_bootloader
        self._board.stop()

    def sample(self, count: int) -> None:
        """`count` updates with cuts at places chosen by the seed; then one without."""
        names = _ORDERS + (_TORN if self._slots else ())
        operations = self.tally.operations
        for number in range(count):
            name = names[number % len(names)]
            if name in _TORN:
                self.update(name)
                continue
            if name == "forged" and name not in operations:
                self.update(name)
            # What comes with APPLY is the shorter part, and the one where more is at stake.
            late = name != "forged" and self._random.random() < 0.5
            last = _LATE if late else operations.get(name, operations["good"])
            more = [self._random.randint(1, 40) for _ in range(self._random.choice((0, 0, 1, 3)))]
            self.update(name, self._random.randint(1, last), more, late)
        self.update("good")

    def all(self, share: int = 0, of: int = 1, tell=lambda done: None) -> None:
        """A cut at every operation of an update, then at every one from its APPLY on, also where
        the version is rolled back, and of an image that is refused near its end; only every
        `of`-th, the `share`-th of them, for one of several runs at a time. tell: called with a
        text now and then."""
        for name, late in (*((name, True) for name in _LATER), ("forged", False), ("good", False)):
            self.update(name)
            first = max(1, self.tally.operations[name] - _LATE) if name == "forged" else 1
            after = first + (share - first) % of
            while self.update(name, after, (), late):
                after += of
                if after // of % 25 == 0:
                    tell(f"{name}: cut at {after}; {self.tally.count} cuts")
        for _ in range(16 if self._slots else 0):
            for name in _TORN:
                self.update(name)
        self.update("good")

    def update(self, name: str, after: int = 0, more=(), late=False) -> bool:
        """One update, the power dying at flash operation `after`, 0 for never, counted from the
        first APPLY on if `late`; and again as often as `more` says, so many operations after it
        came back. Whether it came to that."""
        board = self._board
        target = self._target(name)
        board.may_run = {self._current} | ({target.version} - {FORGED, BROKEN})
        board.more = list(more)
        board.whole_states = target.version == BROKEN
        board.mark()
        key = self._signer if name != "forged" else self._cloud.state / "operator.key"
        before = board.operations()
        board.module.fail_after(0 if late else after)
        job = Update(self._cloud, board.thing, ota_order.MODULE, target.data, sign=key)
        denied = target.version == DENIED
        host = Host(board, job, after if late else 0, denied, name in _TORN)
        try:
            host.follow()
            if not host.cuts:
                self.tally.operations[name] = board.operations() - before
            self._judge(name, job.status(), target, bool(host.cuts))
        except Damage as damage:
            raise Damage(f"{name} cut at {after}, {more}, late {late}: {damage}") from None
        self.tally.add(host.cuts)
        self._cloud.control.delete_job(job.job, force=True)
        return bool(host.cuts)

    def _target(self, name: str):
        versions = self._board.releases.of
        if name in _VERSIONS:
            return versions[_VERSIONS[name]]
        return versions[GOOD[1] if self._current == GOOD[0] else GOOD[0]]

    def _judge(self, name: str, ended, target, cut: bool) -> None:
        """What has to be true when a job is over."""
        board = self._board
        status, reason = ended
        key = f"{name} {status} {reason}"
        for version in board.releases.of:
            key = key.replace(version, "it")
        self.tally.ends[key] = self.tally.ends.get(key, 0) + 1
        if name in ("good", "torn"):
            good = status == "SUCCEEDED" or (cut and ended == ("FAILED", _CUT_SHORT))
        else:
            good = status == "FAILED"
        if not good:
            raise Damage(f"the job ended {ended}\n{board.console()[-5000:]}")
        if status == "SUCCEEDED":
            self._current = target.version
        # Nothing but the version that the cloud believes in, for good.
        board.may_run = {self._current}
        board.check_start()
        board.note_slot()
        board.module.power_cut()
        release = board.releases.of.get(self._current)
        if release:
            board.check_content(release)
        board.check_left()
        board.more = []
        board.power_back()
        board.must(b"CONNECT")
