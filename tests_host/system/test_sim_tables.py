"""The partition tables that a virtual module can be made with: `--partitions`."""

import pytest

from tests_host.system.sim_apps import Remote
from tests_host.system.test_sim_slots import NOW, version
from tests_host.unit.factory_parts import fleet
from tools.sim import partition_table
from tools.sim.module import ModuleError, VirtualModule


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
