"""What a host does while its module is updated, and the power is lost again and again.

After a start it connects; when `OTA?` says that an image is proposed it accepts it, and when it
says that one is ready it applies it.
"""

from __future__ import annotations

import time

from tests_host.fuzz.cut_board import Damage
from tests_host.fuzz.update_board import UpdateBoard
from tests_host.updates import Update

_LIMIT_S = 120.0
# A module that is asked without a pause gets to nothing else.
_PAUSE_S = 0.02


class Host:
    """For one job. late: flash operations from the first APPLY on after which the power is lost.
    denied: the access point is gone during the trial. torn: the power is lost in the bootloader
    that begins it.

    cuts: how often the power was lost, by what the job was in the middle of.
    """

    def __init__(self, board: UpdateBoard, job: Update, late: int, denied: bool, torn: bool):
        self._board = board
        self._job = job
        self._late = late
        self._denied = denied
        self._torn = torn
        # The access point is gone.
        self._away = False
        self.cuts: dict[str, int] = {}

    def follow(self) -> None:
        """Until all is over. Damage when that does not come."""
        board = self._board
        end = time.monotonic() + _LIMIT_S
        while time.monotonic() < end:
            if board.off():
                self._lost(board.phase())
                continue
            time.sleep(_PAUSE_S)
            code = (board.ask(b"OTA?") or b"").split()[1:2]
            if code == [b"1"]:
                board.ask(b"OTA ACCEPT")
            elif code == [b"4"]:
                self._apply()
            elif self._away and code == [b"0"]:
                self._radio(True)
            if not self._away:
                if (board.ask(b"CONNECT?") or b"").startswith(b"OK 0"):
                    board.ask(b"CONNECT")
                elif code == [b"0"] and self._over():
                    return
            self._drain()
        raise Damage(f"no end, {self._job.status()}\n{board.console()[-5000:]}")

    def _lost(self, phase: str) -> None:
        self.cuts[phase] = self.cuts.get(phase, 0) + 1
        self._board.power_back()

    def _radio(self, up: bool) -> None:
        self._board.module.wifi(up=up)
        self._away = not up

    def _apply(self) -> None:
        board = self._board
        if self._denied or self._torn:
            self._radio(False)
        if self._late:
            board.module.fail_after(self._late)
            self._late = 0
        boots = board.boots()
        if board.ask(b"OTA APPLY") == b"OK" and self._torn:
            self._torn = False
            board.cut_in_bootloader(boots)
            if not self._denied:
                self._radio(True)
            self._lost("trial")

    def _over(self) -> bool:
        """Whether the job has ended, and the module has nothing left to do for it."""
        board = self._board
        if self._job.status()[0] in ("QUEUED", "IN_PROGRESS"):
            return False
        status = board.ask(b"DIAG INFO updates")
        if status is None or self._job.job.encode() in status:
            return False
        # The last operation may be the one that is cut.
        board.module.fail_after(0)
        if board.off():
            return False
        self._drain()
        return True

    def _drain(self) -> None:
        """Take the events; none may say that a report failed."""
        board = self._board
        while not board.off() and board.module.event():
            event = board.ask(b"EVENT?")
            if event is None:
                return
            if b"REPORT FAILED" in event:
                raise Damage(f"{event!r}\n{board.console()[-5000:]}")
