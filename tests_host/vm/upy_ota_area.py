"""Where images lie, on the VM: LittleFS and a partition, with the power cut at every operation."""

import os

from firmware.ota.area import AreaError, FileArea, PartitionArea
from tests_host.vm.nor import Cut, Nor, Part, formatted, mount

# vm-file: heap=1024 timeout=120

_BLOCK = 4096
_PATH = "/flash/ota/mail"


def _block(number, size=_BLOCK):
    return bytes([(number * 7 + i // 16) & 0xFF for i in range(size)])


def _fill(area, numbers, sync_each=1):
    for number in numbers:
        area.write(number * _BLOCK, _block(number))
        if number % sync_each == sync_each - 1:
            area.sync()


def _check(area, numbers):
    found = bytearray(_BLOCK)
    for number in numbers:
        area.readinto(number * _BLOCK, found)
        assert found == _block(number), number


def _raises(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_partition_takes_pieces_in_any_order_and_erases_each_sector_once():
    chip = Nor(8)
    for i in range(len(chip.data)):
        chip.data[i] = 0x55
    area = PartitionArea(Part(chip, "hota"))
    assert (area.name, area.size) == (b"hota", 8 * _BLOCK)
    area.start(2 * _BLOCK)
    _fill(area, (5, 2, 4, 3, 6))
    assert chip.erases == 5
    _check(area, (2, 3, 4, 5, 6))
    # What lies before, and what has not been reached, is as it was.
    assert set(chip.data[: 2 * _BLOCK]) == {0x55}
    assert set(chip.data[7 * _BLOCK :]) == {0x55}


def test_a_partition_takes_pieces_that_straddle_sectors():
    chip = Nor(4, bytearray(4 * _BLOCK))
    area = PartitionArea(Part(chip, "ota_1"))
    area.start(0)
    whole = _block(1, 3 * _BLOCK - 100)
    for start in range(0, len(whole), 1000):
        area.write(start, memoryview(whole)[start : start + 1000])
    found = bytearray(len(whole))
    area.readinto(0, found)
    assert found == whole
    assert chip.erases == 3


def test_a_partition_keeps_its_first_sectors_blank():
    chip = Nor(4, bytearray(4 * _BLOCK))
    area = PartitionArea(Part(chip, "ota_1"), 1)
    assert area.size == 3 * _BLOCK
    area.start(0)
    whole = b"\xe9" * (3 * _BLOCK)
    area.write(0, whole)
    assert set(chip.data[:_BLOCK]) == {0xFF}
    assert chip.data[_BLOCK:] == whole
    found = bytearray(16)
    area.readinto(3 * _BLOCK - 16, found)
    assert found == whole[:16]
    # What arrived before a restart stays.
    area.start(2 * _BLOCK)
    assert chip.data[_BLOCK : 3 * _BLOCK] == whole[: 2 * _BLOCK]
    area.discard()
    assert set(chip.data[: 2 * _BLOCK]) == {0xFF}


def test_a_partition_that_is_too_small_says_so():
    area = PartitionArea(Part(Nor(2), "hota"))
    area.start(0)
    error = _raises(AreaError, area.write, 8000, bytes(200))
    assert error.args[0] == b"no room, at most 8192 bytes", error.args
    _raises(AreaError, area.start, 3 * _BLOCK)


def test_discarding_a_partition_erases_its_beginning():
    chip = Nor(2)
    area = PartitionArea(Part(chip, "hota"))
    area.start(0)
    _fill(area, (0, 1))
    area.discard()
    assert bytes(chip.data[:_BLOCK]) == b"\xff" * _BLOCK


def test_a_partition_is_resumed_after_a_cut_at_any_operation():
    for way in range(4):
        for cut_at in range(1, 13):
            chip = Nor(6, bytearray(6 * _BLOCK))
            chip.cut_at = cut_at
            chip.way = way
            area = PartitionArea(Part(chip, "hota"))
            area.start(0)
            done = 0
            try:
                for number in range(6):
                    area.write(number * _BLOCK, _block(number))
                    done = number + 1
            except Cut:
                pass
            assert done < 6
            area = PartitionArea(Part(chip.again(), "hota"))
            _check(area, range(done))
            area.start(done * _BLOCK)
            _fill(area, range(done, 6))
            _check(area, range(6))


def test_a_file_is_written_read_and_removed():
    formatted(64)
    area = FileArea(_PATH, 100000)
    assert (area.name, area.size) == (b"file", 100000)
    area.start(0)
    _fill(area, range(10))
    _check(area, (9, 0, 5))
    area.close()
    _check(FileArea(_PATH, 100000), range(10))
    area.discard()
    assert "mail" not in os.listdir("/flash/ota")
    area.discard()
    assert _raises(OSError, area.readinto, 0, bytearray(1)).errno == 2


def test_a_file_takes_pieces_out_of_order():
    formatted(64)
    area = FileArea(_PATH, 100000)
    area.start(0)
    _fill(area, (0, 3, 2, 1, 7, 4, 6, 5))
    _check(area, range(8))


def test_a_file_leaves_room_for_the_rest():
    formatted(40)
    area = FileArea(_PATH, 1000000)
    assert area.size == os.statvfs("/flash")[3] * _BLOCK - 65536
    area.start(0)
    blocks = area.size // _BLOCK
    _fill(area, range(blocks), 8)
    area.close()
    assert os.statvfs("/flash")[3] * _BLOCK >= 65536 - 2 * _BLOCK
    # What it takes itself counts as free for the next image.
    assert 0 <= FileArea(_PATH, 1000000).size - blocks * _BLOCK <= 2 * _BLOCK
    _raises(AreaError, area.write, area.size, b"x")
    _raises(AreaError, area.start, (blocks + 1) * _BLOCK)


def test_no_room_at_all():
    formatted(12)
    area = FileArea(_PATH, 1000000)
    assert area.size == 0
    _raises(AreaError, area.start, _BLOCK)


def test_a_full_filesystem():
    formatted(40)
    os.mkdir("/flash/ota")
    blocks = os.statvfs("/flash")[3]
    for number in range(blocks):
        try:
            with open("/flash/ota/%d" % number, "w") as file:
                file.write(bytes(_BLOCK))
        except OSError as error:
            assert error.errno == 28
            break
        size = FileArea(_PATH, 1000000).size
        assert size == max(0, os.statvfs("/flash")[3] * _BLOCK - 65536)
    assert size == 0


def test_a_new_file_frees_the_old_ones_blocks():
    formatted(64)
    # Less one for the chain.
    blocks = FileArea(_PATH, 1000000).size // _BLOCK - 1
    for _ in range(3):
        area = FileArea(_PATH, 1000000)
        area.start(0)
        _fill(area, range(blocks), 1000)
        area.close()
    _check(area, range(blocks))


def test_a_file_that_is_shorter_than_it_should_be():
    formatted(40)
    area = FileArea(_PATH, 50000)
    area.start(0)
    _fill(area, range(3))
    area.close()
    _raises(AreaError, area.start, 4 * _BLOCK)
    assert _raises(OSError, area.readinto, 2 * _BLOCK + 1, bytearray(_BLOCK)).errno == 5


def test_a_file_is_resumed_behind_what_was_synced_though_more_was():
    formatted(64)
    area = FileArea(_PATH, 100000)
    area.start(0)
    _fill(area, range(8))
    area.close()
    area = FileArea(_PATH, 100000)
    area.start(3 * _BLOCK)
    for number in range(3, 6):
        area.write(number * _BLOCK, _block(number + 40))
    area.close()
    _check(area, range(3))
    found = bytearray(_BLOCK)
    for number in range(3, 6):
        area.readinto(number * _BLOCK, found)
        assert found == _block(number + 40), number


def _download(area, first, last, sync_each, synced):
    """As a receiver does it: write, read back, sync now and then. synced[0]: blocks that are."""
    found = bytearray(_BLOCK)
    for number in range(first, last):
        area.write(number * _BLOCK, _block(number))
        area.readinto(number * _BLOCK, found)
        assert found == _block(number), number
        if number % sync_each == sync_each - 1:
            area.sync()
            synced[0] = number + 1


def _cut_file(cut_at, way):
    """One power cut in the download of a file; False when it came to its end before."""
    blocks = 6
    chip = formatted(40)
    with open("/flash/other", "w") as file:
        file.write("kept")
    chip.operations = 0
    chip.cut_at = cut_at
    chip.way = way
    synced = [0]
    cut = False
    area = None
    try:
        area = FileArea(_PATH, 60000)
        area.start(0)
        _download(area, 0, blocks, 2, synced)
        area.close()
    except Cut:
        cut = True
    chip = chip.again()
    try:
        # Else it is closed when it is collected.
        if area:
            area.close()
    except OSError:
        # The old chip takes nothing any more.
        pass
    mount(chip)
    with open("/flash/other") as file:
        assert file.read() == "kept"
    area = FileArea(_PATH, 60000)
    area.start(synced[0] * _BLOCK)
    _check(area, range(synced[0]))
    _download(area, synced[0], blocks, 2, synced)
    _check(area, range(blocks))
    area.close()
    return cut


def test_a_file_is_resumed_after_a_cut_at_any_operation():
    cuts = 0
    # The ways take turns; all of them with each operation would take a minute.
    while _cut_file(cuts + 1, cuts & 3):
        cuts += 1
    print("cuts:", cuts)
    assert cuts > 150


def test_what_out_of_order_costs_in_a_file():
    chip = formatted(64)
    area = FileArea(_PATH, 200000)
    area.start(0)
    worst = 0
    found = bytearray(_BLOCK)
    for number in range(20):
        before = chip.erases
        area.write(number * _BLOCK, _block(number))
        area.readinto(number * _BLOCK, found)
        worst = max(worst, chip.erases - before)
    area.close()
    print("in order: worst", worst, "erases a block")
    # The docstring's figure: a sector's erase blocks a chip for 40 ms.
    assert worst <= 2
