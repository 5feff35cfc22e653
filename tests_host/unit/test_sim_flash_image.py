"""The flash file, ESP images and the bootloader's choice, without a VM."""

import subprocess
import sys

import pytest

from tools.sim import bootloader, espimage, flash
from tools.sim.bootloader import ABORTED, INVALID, NEW, PENDING_VERIFY, VALID

IMAGE = espimage.build([(espimage.DROM["esp32"], b"application")])


@pytest.fixture
def chip(tmp_path):
    made = flash.Flash.create(tmp_path / "flash.bin")
    made.write("ota_0", IMAGE)
    made.write("ota_1", IMAGE)
    yield made
    made.close()


def record(seq, state, crc=None):
    crc = bootloader.seq_crc(seq) if crc is None else crc
    return bootloader.Record(seq, b"\xff" * 20, state, crc)


def put(chip, first=None, second=None):
    for i, one in enumerate((first, second)):
        if one is not None:
            chip.write("otadata", one.pack(), i * flash.SECTOR)


def states(chip):
    return [r.state for r in bootloader.records(chip)]


def test_partitions_follow_one_another_to_the_end_of_the_chip():
    end = 0x9000
    for part in flash.TABLE:
        assert part.address == end
        assert part.size % flash.SECTOR == 0
        end += part.size
    assert end == flash.SIZE


def test_a_new_chip_is_blank_and_partitions_keep_apart(chip):
    assert chip.read("nvs") == b"\xff" * 0x4000
    chip.write("hota", b"abc", 4096)
    assert chip.read("hota", 4096, 8) == b"abc" + b"\xff" * 5
    with pytest.raises(ValueError, match="do not fit"):
        chip.write("nvs", bytes(0x4001))
    with pytest.raises(ValueError, match="outside"):
        chip.read("nvs", 0x4000, 1)


def test_the_crc_is_espressifs():
    # The first record of every ESP-IDF otadata image: sequence number 1.
    assert bootloader.seq_crc(1) == 0x4743989A


def test_an_image_is_read_back(tmp_path):
    segments = [(0x3F400020, b"a" * 1000), (0x40080000, b"code" * 77)]
    data = espimage.build(segments)
    assert espimage.parse(data + b"\xff" * 100).segments == segments
    assert espimage.parse(data, "esp32").size == len(data)
    assert len(data) % 16 == 0


@pytest.mark.parametrize("chip_name", espimage.CHIPS)
def test_esptool_agrees_that_the_image_is_good(tmp_path, chip_name):
    data = espimage.build([(espimage.DROM[chip_name], b"x" * 5000)], chip_name)
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "esptool", "--chip", chip_name, "image-info", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("(valid)") == 2, done.stdout


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda d: d[:10], "shorter than"),
        (lambda d: b"\xe8" + d[1:], "magic"),
        (lambda d: b"\xe9\x00" + d[2:], "0 segments"),
        (lambda d: b"\xe9\x63" + d[2:], "99 segments"),
        (lambda d: d[:40], "does not fit"),
        (lambda d: d[:33] + bytes([d[33] ^ 1]) + d[34:], "checksum"),
        (lambda d: d[:-1] + bytes([d[-1] ^ 1]), "SHA-256"),
        (lambda d: d[:24] + bytes([d[24] ^ 1]) + d[25:], "SHA-256"),
    ],
)
def test_a_damaged_image_is_refused(spoil, text):
    with pytest.raises(espimage.ImageError, match=text):
        espimage.parse(spoil(IMAGE))


def test_an_image_for_another_chip_is_refused():
    with pytest.raises(espimage.ImageError, match="not for esp32c3"):
        espimage.parse(IMAGE, "esp32c3")


@pytest.mark.parametrize("cut", range(0, len(IMAGE), 7))
def test_a_cut_image_never_passes(cut):
    with pytest.raises(espimage.ImageError):
        espimage.parse(IMAGE[:cut])


def test_blank_otadata_boots_the_first_slot_and_stays_blank(chip):
    assert bootloader.select(chip)[0] == "ota_0"
    assert chip.read("otadata") == b"\xff" * 0x2000


@pytest.mark.parametrize(
    ("first", "second", "slot", "after"),
    [
        # Sequence numbers 1, 2, 3 … are slots 0, 1, 0 …; the higher one rules.
        (record(1, VALID), None, "ota_0", [VALID, 0xFFFFFFFF]),
        (record(1, VALID), record(2, VALID), "ota_1", [VALID, VALID]),
        (record(3, VALID), record(2, VALID), "ota_0", [VALID, VALID]),
        # The first boot of a new version is its trial.
        (record(1, VALID), record(2, NEW), "ota_1", [VALID, PENDING_VERIFY]),
        # A trial that nobody confirmed is over, and the other one rules.
        (record(1, VALID), record(2, PENDING_VERIFY), "ota_0", [VALID, ABORTED]),
        (record(2, PENDING_VERIFY), None, "ota_0", [ABORTED, 0xFFFFFFFF]),
        (record(1, VALID), record(2, ABORTED), "ota_0", [VALID, ABORTED]),
        (record(1, VALID), record(2, INVALID), "ota_0", [VALID, INVALID]),
        # A record with a wrong CRC was torn by a power cut.
        (record(1, VALID), record(2, NEW, crc=5), "ota_0", [VALID, NEW]),
        # Equal numbers: the first.
        (record(2, VALID), record(2, NEW), "ota_1", [VALID, NEW]),
    ],
)
def test_the_bootloader_chooses_and_settles_the_states(chip, first, second, slot, after):
    put(chip, first, second)
    assert bootloader.select(chip)[0] == slot
    assert states(chip) == after


def test_a_bad_image_is_passed_over(chip):
    put(chip, record(2, VALID))
    chip.write("ota_1", b"\0" * 100)
    assert bootloader.select(chip)[0] == "ota_0"
    put(chip, record(1, VALID))
    chip.write("ota_1", IMAGE)
    chip.write("ota_0", b"\0" * 100)
    assert bootloader.select(chip)[0] == "ota_1"


def test_no_good_image_at_all(chip):
    chip.write("ota_0", b"\0")
    chip.write("ota_1", b"\0")
    with pytest.raises(bootloader.NothingBootable):
        bootloader.select(chip)
