"""The filesystem image, the layout in a firmware file, and how damage is noticed."""

import random

import pytest

from tests_host.unit.factory_parts import entry, firmware
from tools import factory
from tools.cloud import pki
from tools.fleet import factory_image
from tools.fleet.factory_image import BLOCK, ROOM, ImageError
from tools.fleet.factory_layout import LAYOUTS, LayoutError, of_firmware
from tools.sim import flash

SIZE = 64 * BLOCK
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def files():
    """The factory files of a module."""
    root = pki.make_ca("Root", "ec")
    key = pki.make_key()
    device = pki.Issuer(pki.sign_client(root, key.public_key(), "d"), key)
    return factory.factory_files(
        endpoint="e",
        ntp="n",
        board="ESP32-DevKitC",
        roots_pem=root.cert_pem,
        birth=(device.cert_pem, device.key_pem),
    )


def test_the_same_files_make_the_same_image(files):
    image = factory_image.build(files, SIZE)
    assert len(image) == SIZE
    assert factory_image.contents(image) == files
    # LittleFS 2.0, which every MicroPython mounts.
    assert image.count(b"littlefs") == 2
    at = image.index(b"littlefs") + 8 + 4
    assert image[at : at + 4] == b"\0\0\2\0"
    assert factory_image.build(dict(reversed(files.items())), SIZE) == image


def test_an_image_that_leaves_no_room_is_refused():
    most = SIZE - ROOM - 2 * BLOCK
    for size in (most - 4 * BLOCK, most + BLOCK, SIZE, 2 * SIZE):
        files = {"/a/b": bytes(size)}
        if size < most:
            factory_image.build(files, SIZE)
            continue
        with pytest.raises(ImageError, match="do not fit into a filesystem of 256 KiB"):
            factory_image.build(files, SIZE)


@pytest.mark.parametrize("size", [0, -BLOCK, BLOCK + 1])
def test_a_size_that_is_not_whole_blocks(size):
    with pytest.raises(ImageError, match="whole blocks"):
        factory_image.build({}, size)


@pytest.mark.parametrize("name", ["module.json", "roots.der", "cert.der", "key.der", "sums"])
def test_a_damaged_factory_file_is_noticed(files, name):
    path = "/factory/" + name
    damaged = bytearray(files[path])
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(ImageError, match=f"{name} is damaged"):
        factory_image.verify(files | {path: bytes(damaged)})
    for wrong in (b"", files[path] + b"x"):
        with pytest.raises(ImageError, match=f"{name} is damaged"):
            factory_image.verify(files | {path: wrong})
    left = {other: data for other, data in files.items() if other != path}
    with pytest.raises(ImageError, match=r"missing|no factory data"):
        factory_image.verify(left)


def test_a_factory_file_too_many_is_noticed(files):
    with pytest.raises(ImageError, match=r"claim_key.der is damaged or does not belong here"):
        factory_image.verify(files | {"/factory/claim_key.der": b"x"})


def test_flipped_bits_in_an_image_never_change_the_factory_data(files):
    image = factory_image.build(files, SIZE)
    used = [
        block
        for block in range(SIZE // BLOCK)
        if image[block * BLOCK : (block + 1) * BLOCK].strip(b"\xff")
    ]
    chance = random.Random(4)
    refused = 0
    for _ in range(200):
        changed = bytearray(image)
        for _ in range(chance.choice((1, 1, 8))):
            place = chance.choice(used) * BLOCK + chance.randrange(BLOCK)
            changed[place] ^= 1 << chance.randrange(8)
        try:
            found = factory_image.contents(bytes(changed))
            factory_image.verify(found)
        except ImageError:
            refused += 1
            continue
        # What was hit holds nothing.
        assert found == files
    assert refused > 20


@pytest.mark.parametrize("data", [b"", b"x", bytes(4 * BLOCK), b"\xff" * SIZE])
def test_what_is_no_image(data):
    with pytest.raises(ImageError):
        factory_image.contents(data)


def test_layouts_lie_in_their_flash():
    for layout in LAYOUTS.values():
        end = int(layout.name.split("-")[1].removesuffix("MiB")) * MIB
        assert layout.address + layout.size == end
        assert not layout.address % BLOCK
    virtual = flash.find("vfs")
    assert (LAYOUTS["virtual-8MiB"].address, LAYOUTS["virtual-8MiB"].size) == (
        virtual.address,
        virtual.size,
    )


@pytest.mark.parametrize(
    ("name", "end", "flash_mib"),
    [
        ("stock-4MiB", 0x200000, 4),
        ("stock-8MiB", 0x200000, 8),
        ("ota-4MiB", 0x310000, 4),
        ("ota-8MiB", 0x4F0000, 8),
    ],
)
@pytest.mark.parametrize("chip", ["esp32", "esp32s3", "esp32c3"])
def test_the_layout_of_a_firmware_file(chip, name, end, flash_mib):
    found = of_firmware(firmware(chip, end, flash_mib), chip)
    assert (found.address, found.size) == (LAYOUTS[name].address, LAYOUTS[name].size)


def test_a_table_that_has_the_filesystem_itself():
    entries = [
        entry("factory", 0, 0, 0x10000, 0x1F0000),
        entry("vfs", 1, 0x81, 0x200000, 0x180000),
        entry("other", 1, 0x82, 0x380000, 0x80000),
    ]
    found = of_firmware(firmware("esp32", entries=entries), "esp32")
    assert (found.address, found.size) == (0x200000, 0x180000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as firmware"),
        (b"\x7fELF" + bytes(99), "does not begin as firmware"),
        (firmware("esp32s3"), "it is for esp32s3, and the board has esp32"),
        (firmware("esp32")[:0x7000], "no partition table in it"),
        (firmware("esp32", entries=[bytes(32)]), "no partition table in it"),
        (firmware("esp32", entries=[]), "no partition table in it"),
        (firmware("esp32", end=0x400000, flash_mib=4), "does not fit into a flash of 4 MiB"),
        (
            firmware("esp32", entries=[entry("ffat", 1, 0x81, 0x200000, 0x100000)]),
            "its filesystem is FAT",
        ),
    ],
)
def test_firmware_that_cannot_be_used(data, message):
    with pytest.raises(LayoutError, match=message):
        of_firmware(data, "esp32")
