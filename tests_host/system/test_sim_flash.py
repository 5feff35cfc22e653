"""The virtual flash chip: partitions, power loss, NVS, and the slots with rollback."""

import pytest

from tests_host.system.sim_apps import REMOTE, Remote
from tools.sim import bootloader, espimage, flash, romfs


@pytest.fixture
def board(tmp_path):
    with Remote(tmp_path / "board") as remote:
        yield remote


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Remote(tmp_path_factory.mktemp("shared")) as remote:
        yield remote


def chip_of(board):
    return flash.Flash(board.state / "flash.bin")


def test_the_partition_table_is_what_esp32_shows(shared):
    assert shared.value("[p.info() for p in esp32.Partition.find(0)]") == [
        (0, 0x10, 0x10000, 0x270000, "ota_0", False),
        (0, 0x11, 0x280000, 0x270000, "ota_1", False),
    ]
    assert shared.value("[p.info()[4] for p in esp32.Partition.find(1)]") == [
        "nvs",
        "otadata",
        "phy_init",
        "hota",
        "vfs",
    ]
    assert shared.value("esp32.Partition('vfs').info()[3]") == 0x800000 - 0x5F0000
    assert shared.value("esp32.Partition.find(1, label='hota')[0].ioctl(4, 0)") == 256
    assert shared.value("esp32.Partition(esp32.Partition.RUNNING).info()[4]") == "ota_0"
    assert shared.value("esp32.Partition(esp32.Partition.BOOT).info()[4]") == "ota_0"
    assert shared.run("esp32.Partition('nope')") == "!OSError(2,)"


def test_programming_only_clears_bits(shared):
    shared.run("p = esp32.Partition('hota'); b = bytearray(4)")
    shared.run("p.ioctl(6, 3)")
    shared.run("p.writeblocks(3, b'\\xf0\\xff\\x0f\\xaa', 8)")
    shared.run("p.writeblocks(3, b'\\x3c\\x12\\xff\\x55', 8)")
    shared.run("p.readblocks(3, b, 8)")
    assert shared.value("b") == bytearray(b"\x30\x12\x0f\x00")
    # Whole blocks are erased first.
    shared.run("p.writeblocks(3, b'\\xa5' * 4096)")
    shared.run("p.readblocks(3, b, 8)")
    assert shared.value("b") == bytearray(b"\xa5" * 4)
    assert shared.run("p.writeblocks(3, b'abc')").startswith("!OSError(-260")
    assert shared.run("p.readblocks(256, b)").startswith("!OSError(-260")


def test_the_power_dies_in_the_operation_that_was_set(board):
    board.run("p = esp32.Partition('hota')")
    board.run("p.ioctl(6, 0)")
    board.fail_after(2)
    board.run("p.writeblocks(0, b'first', 0)")
    board.write(b"p.writeblocks(0, b'\\x00' * 16, 16)\n")
    board.wait_line("power lost")
    assert board.get("state") == "off"
    board.power_on()
    board.run("p = esp32.Partition('hota'); b = bytearray(40); p.readblocks(0, b, 0)")
    # The first one is there, of the last one half is.
    want = b"first" + b"\xff" * 11 + b"\x00" * 8 + b"\xff" * 16
    assert board.value("b") == bytearray(want)
    # A power event ends the countdown.
    board.run("p.writeblocks(0, b'x', 100)")
    board.run("p.writeblocks(0, b'x', 101)")
    assert board.get("state") == "running"


def test_an_erase_may_be_the_last_operation(board):
    board.run("p = esp32.Partition('hota'); p.writeblocks(0, b'\\x00' * 4096)")
    board.fail_after(1)
    board.write(b"p.ioctl(6, 0)\n")
    board.wait_line("power lost")
    assert chip_of(board).read("hota", 0, 4096) == b"\xff" * 2048 + b"\x00" * 2048


def test_a_file_survives_a_power_loss_at_every_step_of_its_replacement(board):
    board.run("def put(n, d): f = open(n, 'w'); f.write(d); f.close()")
    board.run("put('/kept', 'old')")
    seen = set()
    for step in range(1, 40):
        board.run("def put(n, d): f = open(n, 'w'); f.write(d); f.close()")
        board.fail_after(step)
        board.write(b"put('/new', 'new'), os.rename('/new', '/kept')\n")
        try:
            assert board.read_line(0.3) == b"(None, None)"
        except TimeoutError:
            assert board.get("state") == "off"
            board.power_on()
            seen.add(board.value("open('/kept').read()"))
        else:
            break
    assert step > 3
    assert seen <= {"old", "new"}
    assert "old" in seen
    assert board.value("open('/kept').read()") == "new"


def test_files_outlive_resets_and_power_cuts(board):
    board.run("f = open('/x', 'w'); f.write('abc'); f.close()")
    board.reboot("machine.reset()")
    assert board.value("open('/x').read()") == "abc"
    board.power_cut()
    board.power_on()
    assert board.value("open('/x').read()") == "abc"
    assert board.get("counters")["flash_programs"] > 0


def test_nvs_keeps_integers_and_blobs(board):
    board.run("n = esp32.NVS('app')")
    assert board.run("n.get_i32('count')").startswith("!OSError(-4354")
    board.run("n.set_i32('count', -7); n.set_blob('blob', b'xyz'); n.commit()")
    board.reboot("machine.reset()")
    board.run("n = esp32.NVS('app'); b = bytearray(8)")
    assert board.value("n.get_i32('count'), n.get_blob('blob', b), bytes(b[:3])") == (
        -7,
        3,
        b"xyz",
    )
    assert board.run("n.get_blob('blob', bytearray(2))").startswith("!OSError(-4364")
    assert board.run("n.get_i32('blob')").startswith("!OSError(-4354")
    assert board.run("esp32.NVS('other').get_i32('count')").startswith("!OSError(-4354")
    assert board.run("n.set_i32('a_name_too_long_', 1)").startswith("!OSError(-4361")
    board.run("n.erase_key('count')")
    assert board.run("n.get_i32('count')").startswith("!OSError(-4354")


def test_nvs_moves_when_a_bank_is_full_and_says_when_there_is_no_room(board):
    board.run("n = esp32.NVS('app'); n.set_i32('first', 1)")
    board.run("for i in range(1000): n.set_i32('count', i)")
    board.run("n.set_blob('big', b'\\x05' * 6000)")
    assert board.run("n.set_blob('more', b'\\x06' * 3000)").startswith("!OSError(-4357")
    board.reboot("machine.reset()")
    board.run("n = esp32.NVS('app')")
    assert board.value("n.get_i32('first'), n.get_i32('count')") == (1, 999)
    assert board.value("n.get_blob('big', bytearray(6000))") == 6000


def test_nvs_forgets_a_value_that_was_half_written(board):
    read = "(n.get_blob('b', b := bytearray(200)), bytes(b))"
    board.run("n = esp32.NVS('app')")
    board.fail_after(1)
    board.write(b"n.set_blob('b', b'z' * 200)\n")
    board.wait_line("power lost")
    board.power_on()
    board.run("n = esp32.NVS('app')")
    assert board.run(read).startswith("!OSError(-4354")
    board.run("n.set_blob('b', b'z' * 200)")
    board.reboot("machine.reset()")
    board.run("n = esp32.NVS('app')")
    assert board.value(read) == (200, b"z" * 200)


def test_nvs_has_the_old_value_or_the_new_after_any_power_loss(board):
    seen = set()
    board.run("n = esp32.NVS('app'); n.set_i32('v', 1)")
    board.run("while n._store._at < n._store._end - 100: n.set_i32('fill', 0)")
    for step in range(1, 14):
        board.fail_after(step)
        board.write(
            b"n.set_i32('v', 2), n.set_blob('a', b'z' * 200), n.set_blob('b', b'z' * 200)\n"
        )
        try:
            assert board.read_line(0.3) == b"(None, None, None)"
            break
        except TimeoutError:
            board.power_on()
            board.run("n = esp32.NVS('app')")
            seen.add(board.value("n.get_i32('v')"))
            assert board.value("n.get_i32('fill')") == 0
            for name in "ab":
                blob = board.run(f"(n.get_blob('{name}', b := bytearray(200)), bytes(b))")
                assert blob == str((200, b"z" * 200)) or blob.startswith("!OSError(-4354")
    assert board.value("n.get_i32('v')") == 2
    assert seen == {1, 2}
    assert step > 3


# Slots.


def slot_image(tmp_path, name):
    """An image whose application is `remote` with a name of its own."""
    app = tmp_path / name
    app.mkdir()
    (app / "main.py").write_text((REMOTE / "main.py").read_text())
    (app / "boot.py").write_text(f"import extra.name\nNAME = extra.name.NAME\nSLOT = {name!r}\n")
    (app / "extra").mkdir()
    (app / "extra" / "name.py").write_text(f"NAME = {name!r}\n")
    data = romfs.image(romfs.compiled(romfs.application(app)))
    return espimage.build([(espimage.DROM["esp32"], data)])


def put_image(board, image, slot):
    """Write an image into a slot while the power is off, as an update would have."""
    board.power_cut()
    chip = chip_of(board)
    chip.write(slot, image)
    chip.close()
    board.power_on()


def slots(board):
    """(running slot, states of the two otadata records)."""
    chip = chip_of(board)
    states = [r.state for r in bootloader.records(chip)]
    chip.close()
    return board.value("esp32.Partition(esp32.Partition.RUNNING).info()[4]"), states


BLANK = bootloader.UNDEFINED


def test_an_update_that_is_confirmed_stays(board, tmp_path):
    put_image(board, slot_image(tmp_path, "two"), "ota_1")
    board.run("p = esp32.Partition(esp32.Partition.RUNNING).get_next_update(); p.set_boot()")
    assert slots(board) == ("ota_0", [bootloader.NEW, BLANK])
    assert board.value("esp32.Partition(esp32.Partition.BOOT).info()[4]") == "ota_1"
    board.reboot("machine.reset()")
    assert any(line.startswith("running ota_1") for line in board.lines)
    assert slots(board) == ("ota_1", [bootloader.PENDING_VERIFY, BLANK])
    assert board.value("NAME, SLOT") == ("two", "two")
    board.run("esp32.Partition.mark_app_valid_cancel_rollback()")
    board.reboot("machine.reset()")
    assert slots(board) == ("ota_1", [bootloader.VALID, BLANK])
    # And back again, to the source tree.
    board.run("p = esp32.Partition(esp32.Partition.RUNNING).get_next_update(); p.set_boot()")
    board.reboot("machine.reset()")
    assert slots(board) == ("ota_0", [bootloader.VALID, bootloader.PENDING_VERIFY])
    assert board.lines[-2] == "running source tree"


def test_an_update_that_is_not_confirmed_is_rolled_back(board, tmp_path):
    put_image(board, slot_image(tmp_path, "two"), "ota_1")
    board.run("esp32.Partition('ota_1').set_boot()")
    board.reboot("machine.reset()")
    assert slots(board)[0] == "ota_1"
    board.reboot("machine.reset()")
    assert slots(board) == ("ota_0", [bootloader.ABORTED, BLANK])
    board.reboot("machine.reset()")
    assert slots(board)[0] == "ota_0"


def test_a_power_cut_during_the_trial_rolls_back_and_deep_sleep_does_not(board, tmp_path):
    put_image(board, slot_image(tmp_path, "two"), "ota_1")
    board.run("esp32.Partition('ota_1').set_boot()")
    board.reboot("machine.reset()")
    board.reboot("machine.deepsleep(10)")
    assert slots(board) == ("ota_1", [bootloader.PENDING_VERIFY, BLANK])
    board.power_cut()
    board.power_on()
    assert slots(board)[0] == "ota_0"


@pytest.mark.parametrize("places", [(100,), (100, 101)])
def test_set_boot_refuses_a_damaged_image(board, tmp_path, places):
    # Two flips of the same bit leave the checksum as it was; the digest tells.
    image = bytearray(slot_image(tmp_path, "two"))
    for place in places:
        image[place] ^= 1
    put_image(board, image, "ota_1")
    assert board.run("esp32.Partition('ota_1').set_boot()") == (
        "!OSError(-5379, 'ESP_ERR_OTA_VALIDATE_FAILED')"
    )
    assert slots(board) == ("ota_0", [BLANK, BLANK])
    assert board.run("esp32.Partition('vfs').set_boot()").startswith("!OSError(-258")
    assert board.run("esp32.Partition.mark_app_valid_cancel_rollback()").startswith("!OSError(-1")


def test_an_image_that_spoils_later_is_passed_over_at_boot(board, tmp_path):
    put_image(board, slot_image(tmp_path, "two"), "ota_1")
    board.run("esp32.Partition('ota_1').set_boot()")
    board.reboot("machine.reset()")
    board.run("esp32.Partition.mark_app_valid_cancel_rollback()")
    board.run("esp32.Partition('ota_1').writeblocks(0, b'\\0' * 4, 64)")
    board.reboot("machine.reset()")
    assert slots(board)[0] == "ota_0"


def test_without_a_good_image_it_does_not_boot(board):
    board.power_cut()
    chip = chip_of(board)
    chip.write("ota_0", b"")
    chip.write("ota_0", b"\0" * 4096)
    chip.close()
    answer = board.control({"power": "on"})
    assert "no bootable slot" in answer["error"]
    assert board.get("state") == "stuck"
