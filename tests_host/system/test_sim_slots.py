"""What a virtual module runs: a slot's image or a folder of a stock board, tried, confirmed or
left."""

import ast
import shutil
import time

import pytest

from tests_host.unit.factory_parts import fleet
from tools.fleet import image_bundle
from tools.sim import app_record, bootloader, espimage, flash, romfs
from tools.sim.filesystem import of_board
from tools.sim.module import VirtualModule


@pytest.fixture(scope="module")
def payloads(tmp_path_factory):
    """{kind: payload} of the source tree's images with version 7.8.9."""
    folder = tmp_path_factory.mktemp("images")
    made = {}
    for kind in ("slot", "bundle"):
        code, said = fleet("image", kind, "--out", folder / kind, "--version", "7.8.9")
        assert code == 0, said
        made[kind] = (folder / kind).read_bytes()[256:]
    return made


def version(module):
    """What CONF? Version answers."""
    reply = module.command(b"AT+CONF? Version")
    assert reply.startswith(b"OK "), reply
    return reply[3:].decode()


NOW = ast.literal_eval(
    (romfs.ROOT / "firmware" / "version.py").read_text().split("VERSION = ")[1].splitlines()[0]
).decode()


def choose_ota_1(module, state):
    """Write the record that `set_boot` leaves: sequence number 2 is the second slot."""
    record = bootloader.Record(2, b"\xff" * 20, state, bootloader.seq_crc(2))
    put(module, "otadata", record.pack())


def put(module, label, data):
    """Write a partition while the power is off."""
    chip = flash.Flash(module.state / "flash.bin")
    chip.write(label, data)
    chip.close()


# Slots, with the module's own firmware in them.


@pytest.mark.parametrize("options", [[], ["--heap", "96"]], ids=["plenty", "heap 96"])
def test_a_slot_image_is_tried_once_and_left_when_nobody_confirms_it(tmp_path, payloads, options):
    state = tmp_path / "module"
    with VirtualModule(state, None, "--identity", "none", *options) as module:
        assert module.lines == ["running source tree", "ready"]
        assert module.get("slot") == {"label": "ota_0", "state": ""}
        module.power_cut()
        put(module, "ota_1", payloads["slot"])
        choose_ota_1(module, bootloader.NEW)
        module.power_on()
        assert module.lines[-2:] == [f"running ota_1, {rom_size(payloads['slot'])} bytes", "ready"]
        assert module.get("slot") == {"label": "ota_1", "state": "pending verify"}
        assert version(module) == "7.8.9"
        module.power_cut()
        module.power_on()
        assert module.lines[-2:] == ["running source tree", "ready"]
        assert module.get("slot")["label"] == "ota_0"
        assert version(module) == NOW


def rom_size(payload):
    """How many bytes the application in a slot image has."""
    return len(espimage.parse(payload).segments[0][1])


def test_a_confirmed_slot_stays_over_power_cuts_and_changes_of_the_source(tmp_path, payloads):
    state = tmp_path / "module"
    with VirtualModule(state, None, "--identity", "none") as module:
        module.power_cut()
        put(module, "ota_1", payloads["slot"])
        choose_ota_1(module, bootloader.VALID)
        module.power_on()
        assert version(module) == "7.8.9"
        module.power_cut()
        module.power_on()
        assert module.get("slot") == {"label": "ota_1", "state": "valid"}
    tree = source_with_version(tmp_path / "tree", "9.9.9")
    with VirtualModule(state, None, "--source", tree) as module:
        assert module.lines[0].startswith("running ota_1, ")
        assert version(module) == "7.8.9"


def source_with_version(folder, text):
    """A copy of the source tree that says another version."""
    for part in ("firmware", "lib"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(romfs.ROOT / part, folder / part, ignore=ignore)
    for part in ("boot.py", "main.py"):
        shutil.copy(romfs.ROOT / part, folder)
    path = folder / "firmware" / "version.py"
    path.write_text(path.read_text().replace(f'VERSION = b"{NOW}"', f'VERSION = b"{text}"'))
    return folder


def test_files_on_the_filesystem_do_not_shadow_frozen_code(tmp_path):
    # What earlier lives may have left: a package in the root, in /lib, in /app/a.
    with VirtualModule(tmp_path, None, "--identity", "none", "--heap", "96") as module:
        module.power_cut()
        with of_board(tmp_path) as filesystem:
            for folder in ("", "/lib", "/app/a"):
                filesystem.write(folder + "/firmware/__init__.py", b"raise ValueError('old')")
                filesystem.write(folder + "/lib/__init__.py", b"raise ValueError('old')")
        module.power_on()
        assert version(module) == NOW


# Folders of a stock board.


@pytest.fixture
def stock(tmp_path, payloads):
    """A stock board without slots, with version 7.8.9 in /app/b; function that sets the record
    and starts it again."""
    made = Stock(tmp_path / "module")
    with made:
        made.fill_b(payloads["bundle"])
        yield made


class Stock(VirtualModule):
    """A stock board without slots."""

    def __init__(self, state, *options):
        super().__init__(
            state, None, "--identity", "none", "--stock", "--partitions", "plain", *options
        )

    def fill_b(self, payload):
        """Put a bundle's files into /app/b."""
        self.power_cut()
        with of_board(self.state) as filesystem:
            for name, data in image_bundle.unpack(payload).items():
                filesystem.write("/app/b/" + name, data)
        self.power_on()

    def record(self, data):
        """Write /app/record while the power is off, and switch it on again."""
        self.power_cut()
        with of_board(self.state) as filesystem:
            filesystem.write("/app/record", data)
        self.power_on()

    def runs(self):
        """(the folder last announced, record's state of it, version)."""
        slot = self.get("slot")
        assert [line for line in self.lines if line.startswith("running")][-1] == (
            "running " + slot["label"]
        )
        return slot["label"], slot["state"], version(self)

    def restart(self):
        self.power_cut()
        self.power_on()


def test_a_bundle_is_tried_once_and_left_when_nobody_confirms_it(stock):
    assert stock.lines[0] == "running /app/a"
    assert stock.runs() == ("/app/a", "", NOW)
    stock.record(app_record.pack("b", "n"))
    assert stock.runs() == ("/app/b", "pending verify", "7.8.9")
    stock.restart()
    assert stock.runs() == ("/app/a", "valid", NOW)
    stock.restart()
    assert stock.runs() == ("/app/a", "valid", NOW)


def test_a_confirmed_bundle_stays_until_the_source_is_installed_anew(stock, tmp_path):
    stock.record(app_record.pack("b", "v"))
    for _ in range(2):
        assert stock.runs() == ("/app/b", "valid", "7.8.9")
        stock.restart()
    stock.stop()
    tree = source_with_version(tmp_path / "tree", "9.9.9")
    with Stock(stock.state, "--source", tree) as again:
        # As a slot does, it stays when the source changes.
        assert again.runs() == ("/app/b", "valid", "7.8.9")
        assert "an update runs on this board" in again.last_words()
        # Back to /app/a, as it was installed: now the source may replace it.
        again.record(app_record.pack("a", "v"))
        assert again.runs() == ("/app/a", "valid", NOW)
    with Stock(stock.state, "--source", tree) as again:
        assert again.runs() == ("/app/a", "", "9.9.9")


def test_a_power_cut_at_every_operation_of_the_choice(stock):
    """The board starts with a record that wants a choice; the power dies at the n-th operation."""
    ended = set()
    for letter, state in (("b", "n"), ("b", "p"), ("a", "n")):
        for step in range(1, 12):
            stock.power_cut()
            with of_board(stock.state) as filesystem:
                filesystem.write("/app/record", app_record.pack(letter, state))
            # Power events end the countdown, so the board is held in RESET before the start.
            stock.pin("RESET", 0)
            assert "RESET is held low" in stock.control({"power": "on"})["error"]
            stock.order({"flash": {"fail_after": step}})
            stock.pin("RESET", 1)
            cut = waits_for_cut(stock)
            if not cut:
                break
            with of_board(stock.state) as filesystem:
                found = app_record.read(filesystem)
            stock.power_on()
            label, now, _ = stock.runs()
            ended.add((letter, state, found))
            assert (label, now) == after(found)
        assert step > 2
    assert ("b", "n", ("b", "n")) in ended
    assert ("b", "p", ("b", "p")) in ended


def after(found):
    """Where a start with the record `found` leads."""
    letter, state = found
    other = "b" if letter == "a" else "a"
    if state == "n":
        return "/app/" + letter, "pending verify"
    return "/app/" + (other if state == "p" else letter), "valid"


def waits_for_cut(module):
    """True when the power died, False when the module got to STARTUP."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        state = module.get("state")
        if state in ("off", "running"):
            return state == "off"
        time.sleep(0.02)
    raise AssertionError(module.console())


def test_a_half_broken_record_or_folder_is_survived(stock):
    good = app_record.pack("b", "v")
    for data in (
        b"",
        b"OXB",
        good[:-1],
        good + b"x",
        bytes([good[0] ^ 1]) + good[1:],
        b"\xff" * 9,
    ):
        stock.record(data)
        assert stock.runs()[0] == "/app/a"
    stock.record(good)
    assert stock.runs()[0] == "/app/b"
    # The folder is gone.
    stock.power_cut()
    with of_board(stock.state) as filesystem:
        filesystem.remove("/app/b")
    stock.power_on()
    assert stock.runs() == ("/app/a", "valid", NOW)
