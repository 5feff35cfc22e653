"""What a virtual module runs: a slot's image or a folder of a stock board, tried, confirmed or
left; the tables that a board can be made with; starts that fail."""

import ast
import shutil
import time

import pytest

from tests_host.system.sim_apps import REMOTE, Remote
from tests_host.unit.factory_parts import fleet
from tools.fleet import image_bundle
from tools.sim import app_record, flash, partition_table, romfs
from tools.sim.filesystem import of_board
from tools.sim.module import ModuleError, VirtualModule


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


# The record that `set_boot` writes: sequence number 2 is the second slot, state new.
def choose_ota_1(module):
    chip = flash.Flash(module.state / "flash.bin")
    from tools.sim import bootloader

    record = bootloader.Record(2, b"\xff" * 20, bootloader.NEW, bootloader.seq_crc(2))
    chip.write("otadata", record.pack())
    chip.close()


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
        choose_ota_1(module)
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
    from tools.sim import espimage

    return len(espimage.parse(payload).segments[0][1])


def test_a_confirmed_slot_stays_over_power_cuts_and_changes_of_the_source(tmp_path, payloads):
    from tools.sim import bootloader

    state = tmp_path / "module"
    with VirtualModule(state, None, "--identity", "none") as module:
        module.power_cut()
        put(module, "ota_1", payloads["slot"])
        record = bootloader.Record(2, b"\xff" * 20, bootloader.VALID, bootloader.seq_crc(2))
        put(module, "otadata", record.pack())
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


# Tables.


def test_the_table_of_a_stock_board_has_no_slots(tmp_path):
    with Remote(tmp_path, "--stock", "--partitions", "plain") as board:
        names = "[p.info()[4] for t in (0, 1) for p in esp32.Partition.find(t)]"
        assert board.value(names) == ["factory", "nvs", "phy_init", "vfs"]
        running = "esp32.Partition(esp32.Partition.RUNNING)"
        assert board.value(f"{running}.info()[:5]") == (0, 0, 0x10000, 0x1F0000, "factory")
        assert board.run(f"{running}.get_next_update()") == "!OSError(2,)"
        assert board.run("esp32.Partition(esp32.Partition.BOOT)") == "!OSError(2,)"
        assert board.run(f"{running}.set_boot()").startswith("!OSError(-261")
        confirm = board.run("esp32.Partition.mark_app_valid_cancel_rollback()")
        assert confirm.startswith("!OSError(-261")
        assert board.get("slot") == {"label": "factory", "state": ""}
        board.run("n = esp32.NVS('x'); n.set_i32('y', 5)")
        board.run("f = open('/kept', 'w'); f.write('abc'); f.close()")
        board.power_cut()
        board.power_on()
        assert board.value("esp32.NVS('x').get_i32('y'), open('/kept').read()") == (5, "abc")


def test_the_shared_table_has_slots_and_no_partition_for_host_images(tmp_path):
    with Remote(tmp_path, "--partitions", "shared") as board:
        assert board.value("esp32.Partition.find(1, label='hota')") == []
        assert board.value("esp32.Partition('vfs').info()[2:4]") == (0x4F0000, 0x310000)
        spare = "esp32.Partition(esp32.Partition.RUNNING).get_next_update().info()[4]"
        assert board.value(spare) == "ota_1"
        # For what is no slot, and behind the last one, it is the first.
        for label in ("ota_1", "vfs"):
            assert (
                board.value(f"esp32.Partition('{label}').get_next_update().info()[4]") == "ota_0"
            )


def test_a_board_keeps_its_table(tmp_path):
    with Remote(tmp_path, "--partitions", "shared"):
        pass
    with Remote(tmp_path) as board:
        assert board.value("esp32.Partition.find(1, label='hota')") == []
        assert "note" not in board.last_words()
    with Remote(tmp_path, "--partitions", "ota") as board:
        assert board.value("esp32.Partition.find(1, label='hota')") == []
        assert "this board exists, with --partitions shared" in board.last_words()


def test_a_board_made_before_tables_were_kept_has_the_usual_one(tmp_path):
    with Remote(tmp_path):
        pass
    with open(tmp_path / "flash.bin", "r+b") as file:
        file.seek(partition_table.ADDRESS)
        file.write(b"\xff" * partition_table.SIZE)
    with Remote(tmp_path) as board:
        assert board.value("len(esp32.Partition.find(1, label='hota'))") == 1


def test_a_board_without_slots_needs_a_stock_image(tmp_path):
    with pytest.raises(ModuleError, match="--partitions plain needs --stock or --blank"):
        Remote(tmp_path, "--partitions", "plain").start()
    with Remote(tmp_path, "--partitions", "plain", "--stock"):
        pass
    with pytest.raises(ModuleError, match="--partitions plain needs --stock or --blank"):
        Remote(tmp_path).start()


@pytest.mark.parametrize(
    ("table", "layout"),
    [("ota", "virtual-8MiB"), ("shared", "ota-8MiB"), ("plain", "stock-8MiB")],
)
def test_a_factory_image_fits_the_table_of_its_layout(cloud, tmp_path, table, layout):
    images = {}
    for name in ("virtual-8MiB", "ota-8MiB", "stock-8MiB"):
        made = fleet(
            *("--cloud", cloud.state, "factory", "make", "--out", tmp_path / name),
            *("--board", "ESP32-DevKitC", "--layout", name, "--serial", f"{table}-{name}"),
        )
        assert made[0] == 0, made[1]
        images[name] = next((tmp_path / name / "images").glob("*.bin"))
    options = ["--partitions", table, "--stock"]
    wrong = next(path for name, path in images.items() if name != layout)
    with pytest.raises(ModuleError, match=f"make it with --layout {layout}"):
        VirtualModule(tmp_path / "wrong", None, *options, "--factory-image", wrong).start()
    with VirtualModule(
        tmp_path / "right", None, *options, "--factory-image", images[layout]
    ) as module:
        assert module.lines[0] == "running /app/a"
        assert version(module) == NOW


# Starts that fail.

_COUNT = "esp32.NVS('expresslink').get_i32('failed')"


@pytest.fixture
def counted(tmp_path):
    """A board that runs the remote application after the module's own boot.py and main.py."""
    app = tmp_path / "app"
    (app / "firmware").mkdir(parents=True)
    (app / "firmware" / "__init__.py").write_text("")
    shutil.copy(romfs.ROOT / "firmware" / "starts.py", app / "firmware")
    shutil.copy(romfs.ROOT / "firmware" / "log.py", app / "firmware")
    remote = (REMOTE / "main.py").read_text()
    (app / "firmware" / "remote.py").write_text(
        remote.replace("asyncio.run(main())\n", "")
        .replace(
            "            return repr(eval(line, globals()))",
            "            if line.startswith('fatal'):\n                raise SystemError\n"
            "            return repr(eval(line, globals()))",
        )
        .replace("    except Exception as e:", "    except (ArithmeticError, OSError) as e:")
    )
    (app / "firmware" / "app.py").write_text(
        "import asyncio\nfrom firmware import remote\n"
        "class Module:\n    def main(self):\n        asyncio.run(remote.main())\n"
        "def make():\n    return Module()\n"
    )
    for name in ("boot.py", "main.py"):
        shutil.copy(romfs.ROOT / name, app)
    with Remote(tmp_path / "board", source=app) as board:
        yield board


def failed(board):
    return board.value("__import__('firmware.starts').starts.failed()")


def test_the_watchdog_and_fatal_errors_are_counted(counted):
    assert failed(counted) == 0
    counted.write(b"machine.WDT(timeout=200) and time.sleep(60)\n")
    counted.wait_ready(10)
    counted.flush()
    assert counted.value("machine.reset_cause()") == 3
    assert failed(counted) == 1
    counted.write(b"fatal\n")
    counted.wait_ready(10)
    counted.flush()
    assert failed(counted) == 2
    # Neither of these counts, and neither clears.
    counted.power_cut()
    counted.power_on()
    counted.pin("RESET", 0)
    counted.pin("RESET", 1)
    counted.wait_ready()
    counted.reboot("machine.reset()")
    counted.reboot("machine.soft_reset()")
    assert failed(counted) == 2
    counted.run("__import__('firmware.starts').starts.clear()")
    counted.power_cut()
    counted.power_on()
    assert failed(counted) == 0


def test_a_start_without_firmware_is_counted(tmp_path):
    """A frozen build whose application is broken: main.py says so, and resets."""
    app = tmp_path / "app"
    (app / "firmware").mkdir(parents=True)
    (app / "firmware" / "__init__.py").write_text("")
    (app / "firmware" / "app.py").write_text(
        "import esp32, machine\n"
        "try:\n"
        f"    count = {_COUNT}\n"
        "except OSError:\n"
        "    count = 0\n"
        "if count < 2:\n"
        "    raise ImportError('broken')\n"
        "machine.Pin(26, machine.Pin.OUT)(1)\n"
        "print('seen', count)\n"
        "import time\n"
        "time.sleep(60)\n"
    )
    for name in ("boot.py", "main.py"):
        shutil.copy(romfs.ROOT / name, app)
    with Remote(tmp_path / "board", source=app) as board:
        assert "seen 2" in board.console()
        assert board.console().count("ImportError: broken") == 2
