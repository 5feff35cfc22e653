"""A virtual module that is updated while its power dies, and what has to be true of it."""

from __future__ import annotations

import json
import random
import select
import time
from dataclasses import replace
from pathlib import Path

from tests_host.fuzz.cut_board import Damage
from tests_host.fuzz.releases import FORGED, Release, Releases
from tools.sim import bootloader, espimage, flash
from tools.sim.filesystem import Filesystem
from tools.sim.module import ModuleError, VirtualModule

_KEPT = (b"SSID", b"EndPoint", b"TopicRoot", b"ThingName", b"Certificate", b"RootCA")
_KEPT += (b"OTAcertificate", b"Defender", b"Topic1")
_PHASES = ("", "accept", "download", "apply", "trial", "report")
# Writes that were cut: the next one to the same place puts an end to them.
_SMALL = {"/app/record.new", "/config/ota.new", "/config/time.new"}
_LIMIT_S = 60.0


class UpdateBoard:
    """folder: an empty one. cloud: a CloudProcess. kind: "slot" or "bundle"; options: of
    `python -m tools.sim`."""

    def __init__(self, folder: Path, cloud, kind: str, chance: random.Random, *options: str):
        self.releases = Releases(folder, kind)
        stock = ("--stock",) if kind == "bundle" else ()
        source = ("--source", str(self.releases.source))
        self.module = VirtualModule(folder / "module", cloud.state, *source, *stock, *options)
        self._chance = chance
        self._kept: dict[bytes, bytes] = {}
        self._said = 0
        self._step = 0
        # What lies on the filesystem besides the versions after an update.
        self._usual: set[str] = set()
        self.thing = ""
        # Versions that may answer at the terminal.
        self.may_run: set[str] = set()
        # Where the next cuts are to be, after the power is back; how many came at a start, and
        # how many in the bootloader.
        self.more: list[int] = []
        # A state that is not wholly written is not to be: a version that does not start would
        # stay for ever then, since the bootloader believes in what is none of its states.
        self.whole_states = False
        # The bootloader's write has been cut already.
        self._torn = False
        self.at_start = 0
        self.in_bootloader = 0

    def start(self) -> None:
        """Power on for the first time, and configure it."""
        self.module.start()
        for line in (b"SSID=sim-ap", b"Passphrase=sim-passphrase", b"TopicRoot=tests"):
            self.must(b"CONF " + line)
        self._kept = {key: self.must(b"CONF? " + key) for key in _KEPT}
        self.must(b"CONNECT")
        self.thing = self._kept[b"ThingName"].decode()
        self.may_run = {self.version()}
        self._usual = self.paths() | {"/app/record", "/config/time"}
        self.check_start()

    def stop(self) -> None:
        """End it."""
        self.module.stop()

    # The terminal.

    def ask(self, line: bytes, timeout: float = _LIMIT_S) -> bytes | None:
        """The reply, or None when the power was lost or the module has restarted meanwhile."""
        module = self.module
        boots = self.boots()
        module.write(b"AT+" + line + b"\n")
        end = time.monotonic() + timeout
        reply = b""
        while not reply.endswith(b"\n"):
            if select.select([module.fileno()], [], [], 0.005)[0]:
                reply += module.read()
            elif self.off():
                return None
            elif self.boots() > boots:
                return self._find_step()
            elif time.monotonic() > end:
                raise Damage(f"{line[:40]!r}: no reply, {reply!r}\n{self.console()[-3000:]}")
        return reply.rstrip(b"\n")

    def _find_step(self) -> None:
        """After a restart nobody knows whether a command was lost or is being answered: take what
        comes up to the answer to a question that was never asked before."""
        end = time.monotonic() + _LIMIT_S
        boots = -1
        reply = mark = b""
        while not mark or not reply.endswith(mark):
            if self.off():
                return
            if self.boots() > boots:
                boots = self.boots()
                self._step += 1
                mark = b"OK step %d\n" % self._step
                ask = b"AT+CONF Topic16=step %d\nAT+CONF? Topic16\n" % self._step
                self.module.write(ask)
            if select.select([self.module.fileno()], [], [], 0.005)[0]:
                reply += self.module.read()
            elif time.monotonic() > end:
                raise Damage(f"no reply after a restart, {reply!r}\n{self.console()[-3000:]}")

    def must(self, line: bytes) -> bytes:
        """What stands behind the OK; Damage for anything else."""
        reply = self.ask(line)
        if reply is None and not self.off():
            # Its start was told late.
            reply = self.ask(line)
        if reply is None or not reply.startswith(b"OK"):
            raise Damage(f"{line[:40]!r}: {reply!r}\n{self.console()[-3000:]}")
        return reply[3:]

    def version(self) -> str:
        """What runs."""
        return self.must(b"CONF? Version").decode()

    def console(self) -> str:
        """What the module has written on its console since `mark`."""
        return self.module.console()[self._said :]

    def mark(self) -> None:
        """`console` begins here."""
        self._said = len(self.module.console())

    # Power.

    def boots(self) -> int:
        """Starts so far."""
        return sum(line == "ready" for line in self.module.lines)

    def off(self) -> bool:
        """Whether the power was lost."""
        return self.module.get("state") == "off"

    def operations(self) -> int:
        """Flash operations since the supervisor's start."""
        counters = self.module.get("counters")
        return counters["flash_programs"] + counters["flash_erases"]

    def phase(self) -> str:
        """What the cut that has just come was in the middle of."""
        console = self.console()
        found = 0
        name = None
        with self._filesystem() as filesystem:
            if "ota" in filesystem.names("/config"):
                data = filesystem.read("/config/ota")
                found = json.loads(data[6:])["phase"]
        if found == 0:
            name = "report" if " report " in console else "offer"
        elif found == 2 and "signature verified" in console:
            name = "install"
        elif found == 4 and "module: ready" in console.partition(" trial ")[2]:
            name = "confirm" if "session: up" in console.partition(" trial ")[2] else "first start"
        return name or _PHASES[found]

    def power_back(self) -> None:
        """Switch on again; with `more`, cut it again there. Damage when it does not start."""
        if not self._torn:
            self._cut_bootloader()
        self._torn = False
        self.module.flush()
        note = self.module.state / "cut_at_start"
        note.unlink(missing_ok=True)
        if self.more:
            note.write_text(str(self.more.pop()))
        try:
            self.module.power_on()
        except ModuleError as error:
            if "power was cut" not in str(error):
                raise Damage(f"it does not start: {error}") from None
            self.at_start += 1
            note.unlink(missing_ok=True)
            self.module.power_on()
        note.unlink(missing_ok=True)
        self.check_start()

    def check_start(self) -> None:
        """What has to be so after every start."""
        if (version := self.ask(b"CONF? Version")) is None:
            return
        version = version[3:].decode()
        if version not in self.may_run:
            raise Damage(f"{version} runs, and only {self.may_run} may")
        for name in (b"lost", b"identity-faults"):
            if told := self.ask(b"DIAG INFO " + name):
                if told != b"OK":
                    raise Damage(f"{name.decode()}: {told!r}\n{self.console()[-3000:]}")
        for key, value in self._kept.items():
            now = self.ask(b"CONF? " + key)
            if now not in (None, b"OK " + value, b"OK" + value):
                raise Damage(f"{key.decode()} was {value[:60]!r}, and is {now[:60]!r}")

    def cut_in_bootloader(self, boots: int) -> None:
        """Cut the power while the bootloader notes that a new version has its trial, as soon as
        there were more than `boots` starts. The radio should be off: else it may be settled."""
        end = time.monotonic() + _LIMIT_S
        while self.boots() <= boots and not self.off():
            if time.monotonic() > end:
                raise Damage(f"no restart for the trial\n{self.console()[-3000:]}")
            time.sleep(0.005)
        self.module.power_cut()
        chip = flash.Flash(self.module.state / "flash.bin")
        try:
            found = bootloader.records(chip)
            ruling = bootloader.active(found)
            if ruling is not None and found[ruling].state == bootloader.PENDING_VERIFY:
                self._tear(chip, ruling, found[ruling])
        finally:
            chip.close()

    def _cut_bootloader(self) -> None:
        """What the bootloader is about to write into otadata may be cut too."""
        chip = flash.Flash(self.module.state / "flash.bin")
        try:
            if not any(part.label == "otadata" for part in chip.table):
                return
            old = chip.read("otadata")
            before = bootloader.records(chip)
            bootloader.select(chip)
            after = bootloader.records(chip)
            chip.write("otadata", old)
            for index in (0, 1):
                if before[index] != after[index] and self._chance.random() < 0.5:
                    self._tear(chip, index, after[index])
                    break
        finally:
            chip.close()

    def _tear(self, chip, index: int, record: bootloader.Record) -> None:
        # Erased; or only the first bytes written again; or all but some bits of the state, which
        # the checksum does not cover.
        self.in_bootloader += 1
        self._torn = True
        count = self._chance.choice((0, 4, 28) if self.whole_states else (0, 4, 28, 32))
        if count == 32:
            record = replace(record, state=record.state | self._chance.getrandbits(32))
        data = record.pack()[:count].ljust(flash.SECTOR, b"\xff")
        chip.write("otadata", data, index * flash.SECTOR)

    # What is in flash.

    def _filesystem(self):
        return _Opened(self.module.state / "flash.bin")

    def paths(self) -> set[str]:
        """All files on the filesystem but those of the two versions."""
        with self._filesystem() as filesystem:
            found = set()
            for folder, _, names in filesystem.fs.walk("/"):
                found |= {folder.rstrip("/") + "/" + name for name in names}
            return {path for path in found if not path.startswith(("/app/a/", "/app/b/"))}

    def check_content(self, release: Release) -> None:
        """Damage unless what runs is, to the last byte, `release`. The power has to be off."""
        label = self._label
        if release.files:
            with self._filesystem() as filesystem:
                for name, data in release.files.items():
                    if filesystem.read(f"{label}/{name}") != data:
                        raise Damage(f"{label}/{name} is not what was signed")
            return
        chip = flash.Flash(self.module.state / "flash.bin")
        try:
            if chip.read(label, 0, len(release.payload)) != release.payload:
                raise Damage(f"{label} is not what was signed")
        finally:
            chip.close()

    def check_left(self) -> None:
        """Damage when an update has left something that takes up space, or a slot with an image
        that nobody has signed. The power has to be off."""
        left = self.paths() - self._usual - _SMALL
        if left:
            raise Damage(f"{len(left)} files are left: {sorted(left)[:5]}")
        chip = flash.Flash(self.module.state / "flash.bin")
        try:
            for part in chip.table:
                if part.label.startswith("ota_"):
                    self._check_slot(chip, part.label)
        finally:
            chip.close()

    def _check_slot(self, chip, label: str) -> None:
        try:
            bootloader.load(chip, label)
        except espimage.ImageError:
            return
        lies = chip.read(label)
        forged = self.releases.of[FORGED].payload
        if forged and lies.startswith(forged):
            raise Damage(f"{label} could be booted, and nobody has signed what is in it")

    def note_slot(self) -> None:
        """Damage unless what runs is settled."""
        slot = self.module.get("slot")
        self._label = slot["label"]
        if slot["state"] not in ("valid", ""):
            raise Damage(f"the job is over, and the slot is {slot}")


class _Opened:
    """`with`: the filesystem in a flash file, to be read."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> Filesystem:
        self._chip = flash.Flash(self._path)
        return Filesystem(self._chip)

    def __exit__(self, *_) -> None:
        self._chip.close()
