"""A virtual module whose power dies where it is told to, and what it keeps, seen from outside."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests_host.fuzz.tree import tree
from tools.sim import flash
from tools.sim.filesystem import Filesystem
from tools.sim.module import ModuleError, VirtualModule

# Which keys a factory reset clears (Table 2); those that no command can change.
CLEARED = (b"EndPoint", b"TopicRoot", b"Defender", b"HOTAcertificate", b"SSID", b"NTPServer")
_FIXED = (b"About", b"Version", b"ThingName", b"Certificate")
_READABLE = (*_FIXED, *CLEARED, b"OTAcertificate", b"RootCA")


class Damage(AssertionError):
    """Something is not as it was, or as it was to be, after a cut."""


@dataclass
class Kept:
    """What a module keeps. values: what `CONF?` shows. passphrases: those of a given list that
    are in its files, for it cannot be asked."""

    values: dict[bytes, bytes]
    passphrases: set[bytes] = field(default_factory=set)

    def differences(self, other: Kept) -> str:
        """Where another one differs, for people."""
        found = [
            f"{key.decode()} {self.values[key][:60]!r} -> {other.values[key][:60]!r}"
            for key in self.values
            if self.values[key] != other.values[key]
        ]
        if self.passphrases != other.passphrases:
            found.append(f"passphrases {self.passphrases} -> {other.passphrases}")
        return "; ".join(found) or "nothing"


class CutBoard:
    """folder: an empty one. cloud: a CloudProcess. passphrases: all that will ever be given."""

    def __init__(self, folder: Path, cloud, passphrases: list[bytes], *options: str):
        source = tree(folder / "tree", "torn_flash", "import torn_flash\n")
        self.module = VirtualModule(folder / "module", cloud.state, "--source", source, *options)
        self._passphrases = passphrases
        self._said = 0
        # A cut at this flash operation of the start that follows a cut, 0 for none; how many
        # there were.
        self.cut_at_start = 0
        self.cuts_at_start = 0

    def start(self) -> None:
        """Power on for the first time."""
        self.module.start()
        self._check_startup("the first start")

    def ask(self, line: bytes) -> bytes:
        """What a command answers behind its OK; raises Damage for anything else."""
        reply = self.module.command(b"AT+" + line, timeout=60)
        if not reply.startswith(b"OK"):
            raise Damage(f"{line[:80]!r}: {reply!r}")
        return reply[3:]

    def kept(self) -> Kept:
        """All that the module keeps. It has to be idle: its flash is read from outside."""
        values = {key: self.ask(b"CONF? " + key) for key in _READABLE}
        chip = flash.Flash(self.module.state / "flash.bin")
        try:
            filesystem = Filesystem(chip)
            files = [
                filesystem.read("/config/" + name)
                for name in filesystem.names("/config")
                # What a cut write has left behind does not count.
                if not name.endswith(".new")
            ]
        finally:
            chip.close()
        found = {p for p in self._passphrases if any(file.endswith(p) for file in files)}
        return Kept(values, found)

    def operations(self) -> int:
        """Flash operations since the supervisor's start."""
        counters = self.module.get("counters")
        return counters["flash_programs"] + counters["flash_erases"]

    def _boots(self) -> int:
        return sum(line == "ready" for line in self.module.lines)

    def _lost(self) -> bool:
        lines = self.module.lines
        found = any(line.startswith("power lost") for line in lines[self._said :])
        self._said = len(lines)
        return found

    def give(self, line: bytes, after: int, reboots: bool) -> tuple[bytes, bool]:
        """Give a command with the power dying at its flash operation number `after`, 0 for never.

        reboots: OK is followed by a restart, which is waited for. Returns the reply and whether
        the power was lost; it is on again then, and STARTUP was seen, once."""
        module = self.module
        self._said = len(module.lines)
        boots = self._boots()
        module.fail_after(after)
        module.write(b"AT+" + line + b"\n")
        reply = b""
        end = time.monotonic() + 60
        cut = False
        while not cut:
            if select.select([module.fileno()], [], [], 0.002)[0]:
                reply += module.read()
            if reply.endswith(b"\n"):
                if not reboots or not reply.startswith(b"OK") or self._boots() > boots:
                    break
            cut = self._lost()
            if time.monotonic() > end:
                raise Damage(f"{line[:40]!r}: no reply, {reply!r}\n{module.console()[-1500:]}")
        # It may have died just now, after the reply.
        module.fail_after(0)
        cut = cut or module.get("state") == "off" or self._lost()
        if cut:
            self._power_back()
        if cut or reboots:
            self._check_startup(line[:40])
        return reply.rstrip(b"\n"), cut

    def _power_back(self) -> None:
        until = time.monotonic() + 5
        while self.module.get("state") != "off":
            if time.monotonic() > until:
                raise Damage("the power was lost, and the board is not off")
            time.sleep(0.002)
        self.module.flush()
        note = self.module.state / "cut_at_start"
        if self.cut_at_start:
            note.write_text(str(self.cut_at_start))
            try:
                self.module.power_on()
            except ModuleError as error:
                if "power was cut" not in str(error):
                    raise
                self.cuts_at_start += 1
            note.unlink()
            self.module.fail_after(0)
        self.module.power_on()

    def _check_startup(self, after) -> None:
        self.module.flush()
        events = [self.module.command(b"AT+EVENT?") for _ in range(2)]
        if events != [b"OK 2 0 STARTUP", b"OK"]:
            raise Damage(f"events after {after!r}: {events}\n{self.module.console()[-1500:]}")
        for name in (b"lost", b"identity-faults"):
            if told := self.ask(b"DIAG INFO " + name):
                raise Damage(f"after {after!r}: {name.decode()} {told!r}")
