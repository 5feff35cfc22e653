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
from tests_host.updates import Update
from tools.fleet import ota_order

_LIMIT_S = 120.0

# What the power may be the reason of.
_CUT_SHORT = "restarted before it was accepted"

# Scenarios: what is ordered, and how often in a sample.
_ORDERS = {"good": 5, "denied": 2, "broken": 1, "forged": 1}
_VERSIONS = {"denied": DENIED, "broken": BROKEN, "forged": FORGED}


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
        """All cuts."""
        return sum(self.cuts.values()) + self.at_start + self.in_bootloader

    def __str__(self):
        def listed(of):
            return ", ".join(f"{name} {count}" for name, count in sorted(of.items()))

        return (
            f"{self.count} power cuts in {self.updates} updates and {self.seconds:.0f} s: "
            f"{listed(self.cuts)}; at the start that followed {self.at_start}, in the bootloader "
            f"{self.in_bootloader}; operations of an update without cuts: "
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
        self._settled: set[str] = set()

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
        names = [name for name, often in _ORDERS.items() for _ in range(often)]
        for number in range(count):
            name = names[number % len(names)]
            if name not in self.tally.operations:
                self.update(name)
            last = self.tally.operations[name]
            # What lies near the end is the shorter part, and the one where more is at stake.
            late = self._random.random() < 0.5
            first = max(1, last - 80) if late else 1
            more = [self._random.randint(1, 40) for _ in range(self._random.choice((0, 0, 1, 3)))]
            self.update(name, self._random.randint(first, last), more)
        self.update("good")

    def all(self, share: int = 0, of: int = 1, tell=lambda done: None) -> None:
        """Cuts at every operation of every kind of update; only those with number % of == share,
        for one of several runs at a time. tell: called with a text now and then."""
        for name in _ORDERS:
            self.update(name)
            after = share or of
            while self.update(name, after):
                after += of
                if after // of % 50 == 0:
                    tell(f"{name}: cut at {after} of about {self.tally.operations[name]}")
        self.update("good")

    def update(self, name: str, after: int = 0, more=()) -> bool:
        """One update, the power dying at flash operation `after`, 0 for never, and again as often
        as `more` says, so many operations after it came back. Whether it came to that."""
        board = self._board
        target = self._target(name)
        board.may_run = {self._current} | ({target.version} - {FORGED, BROKEN})
        board.more = list(more)
        board.mark()
        key = self._signer if name != "forged" else self._cloud.state / "operator.key"
        before = board.operations()
        board.module.fail_after(after)
        job = Update(self._cloud, board.thing, ota_order.MODULE, target.data, sign=key)
        cuts = self._host(name, job)
        if not cuts:
            self.tally.operations[name] = board.operations() - before
        self.tally.updates += 1
        try:
            self._judge(name, job.status(), target, cuts)
        except Damage as damage:
            raise Damage(f"{name} cut at {after}, {more}: {damage}") from None
        self._cloud.control.delete_job(job.job, force=True)
        return cuts > 0

    def _target(self, name: str):
        versions = self._board.releases.of
        if name in _VERSIONS:
            return versions[_VERSIONS[name]]
        return versions[GOOD[1] if self._current == GOOD[0] else GOOD[0]]

    def _host(self, name: str, job: Update) -> int:
        """Be the host until all is over; returns how often the power was lost."""
        board = self._board
        end = time.monotonic() + _LIMIT_S
        cuts = 0
        away = False
        while time.monotonic() < end:
            if board.off():
                cuts += 1
                phase = board.phase()
                self.tally.cuts[phase] = self.tally.cuts.get(phase, 0) + 1
                board.power_back()
                continue
            code = (board.ask(b"OTA?") or b"").split()[1:2]
            if code == [b"1"]:
                board.ask(b"OTA ACCEPT")
            elif code == [b"4"]:
                if name == "denied" and not away:
                    away = True
                    board.module.wifi(up=False)
                board.ask(b"OTA APPLY")
            elif away and code == [b"0"]:
                away = False
                board.module.wifi(up=True)
            if not away:
                if (board.ask(b"CONNECT?") or b"").startswith(b"OK 0"):
                    board.ask(b"CONNECT")
                elif code == [b"0"] and job.status()[0] not in ("QUEUED", "IN_PROGRESS"):
                    if self._quiet(job):
                        return cuts
            self._drain()
        raise Damage(f"{name}: no end, {job.status()}\n{board.console()[-5000:]}")

    def _quiet(self, job: Update) -> bool:
        """Whether the module has nothing left to do for the job."""
        board = self._board
        status = board.ask(b"DIAG INFO updates")
        if status is None or job.job.encode() in status or board.off():
            return False
        # The last operation may be the one that is cut.
        board.module.fail_after(0)
        return not board.off()

    def _drain(self) -> None:
        board = self._board
        while not board.off() and board.module.event():
            event = board.ask(b"EVENT?")
            if event is None:
                return

    def _judge(self, name: str, ended, target, cuts: int) -> None:
        """What has to be true when a job is over."""
        board = self._board
        status, reason = ended
        key = f"{name} {status} {reason}"
        for version in board.releases.of:
            key = key.replace(version, "it")
        self.tally.ends[key] = self.tally.ends.get(key, 0) + 1
        if name == "good":
            good = status == "SUCCEEDED" or (cuts and ended == ("FAILED", _CUT_SHORT))
        else:
            good = status == "FAILED"
        if not good:
            raise Damage(f"{cuts} cuts, and the job ended {ended}\n{board.console()[-5000:]}")
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
