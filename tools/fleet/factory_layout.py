"""Where in the flash a module's filesystem lies: known tables, and the one in a firmware file.

MicroPython mounts the partition `vfs`. Newer versions have none in their table and take all that
is behind the last partition, up to the end of the flash that they measure at the start.
"""

import struct
from dataclasses import dataclass

from tools.sim import espimage, flash

MIB = 1024 * 1024

# Where the chip's ROM looks for the bootloader, with which MicroPython's .bin files begin
# (Espressif's esptool documentation, "Flashing a Complete Image").
BOOTLOADER = {"esp32": 0x1000, "esp32s3": 0x0, "esp32c3": 0x0}

# ESP-IDF programming guide, "Partition Tables": address, and an entry of 32 bytes.
_TABLE = 0x8000
_ENTRY = struct.Struct("<HBBLL16sL")
_ENTRY_MAGIC = 0x50AA
_END = 0xFFFF
_DIGEST = 0xEBEB


# The header of an image (tools/sim/espimage.py): its size, where the chip's number is.
_HEADER = 24
_CHIP = 12


class LayoutError(ValueError):
    """The firmware file cannot be used; the text says why."""


@dataclass(frozen=True)
class Layout:
    """The filesystem's place. address, size: bytes. evidence: how we know."""

    name: str
    address: int
    size: int
    evidence: str


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "stock-4MiB",
            0x200000,
            4 * MIB - 0x200000,
            "MicroPython, partitions-4MiBplus.csv: the application ends at 0x200000",
        ),
        Layout(
            "stock-8MiB",
            0x200000,
            8 * MIB - 0x200000,
            "the same table on a chip with 8 MiB",
        ),
        Layout(
            "ota-4MiB",
            0x310000,
            4 * MIB - 0x310000,
            "MicroPython, partitions-4MiB-ota.csv: ota_1 ends at 0x310000",
        ),
        Layout(
            "ota-8MiB",
            0x4F0000,
            8 * MIB - 0x4F0000,
            "MicroPython, partitions-8MiBplus-ota.csv: ota_1 ends at 0x4F0000",
        ),
        Layout(
            "virtual-8MiB",
            flash.find("vfs").address,
            flash.find("vfs").size,
            "the virtual module's own table: ota-8MiB with 1 MiB for host images",
        ),
    )
}

# What a board of that chip most likely has, when nobody says.
USUAL = {"esp32": "stock-4MiB", "esp32s3": "stock-8MiB", "esp32c3": "stock-4MiB"}


def of_firmware(data, chip, flash_size=None):
    """The Layout that MicroPython's `data` (a .bin file with bootloader and table) makes.

    chip: a key of BOOTLOADER. flash_size: bytes of the chip's flash, or None for what the
    bootloader's header says. Raises LayoutError.
    """
    if len(data) < _HEADER or data[0] != espimage.MAGIC:
        raise LayoutError("it does not begin as firmware for an ESP32 does")
    number = int.from_bytes(data[_CHIP : _CHIP + 2], "little")
    if number != espimage.CHIPS[chip]:
        names = {number: name for name, number in espimage.CHIPS.items()}
        raise LayoutError(
            f"it is for {names.get(number, f'chip {number}')}, and the board has {chip}"
        )
    if flash_size is None:
        # ESP-IDF's numbers: 0 is 1 MiB, and each one more twice as much.
        flash_size = MIB << (data[3] >> 4)
    end = _TABLE
    for kind, label, address, size in partitions(data, _TABLE - BOOTLOADER[chip]):
        if label == "vfs":
            return _checked(address, size, flash_size, "the partition vfs in its table")
        if kind == flash.DATA and label == "ffat":
            raise LayoutError("its filesystem is FAT; LittleFS is needed")
        end = max(end, address + size)
    return _checked(end, flash_size - end, flash_size, "behind the last partition of its table")


def _checked(address, size, flash_size, evidence):
    if size <= 0 or address + size > flash_size:
        raise LayoutError(f"its table does not fit into a flash of {flash_size // MIB} MiB")
    return Layout(f"{address:#x}+{size:#x}", address, size, evidence)


def partitions(data, at):
    """[(type, label, address, size)] of the partition table at `at` in a firmware file. Raises
    LayoutError when there is none."""
    found = []
    while at + _ENTRY.size <= len(data):
        magic, kind, _subtype, address, size, label, _flags = _ENTRY.unpack_from(data, at)
        if magic in (_END, _DIGEST):
            break
        if magic != _ENTRY_MAGIC:
            found = []
            break
        found.append((kind, label.rstrip(b"\0").decode("ascii", "replace"), address, size))
        at += _ENTRY.size
    if not found:
        raise LayoutError(
            "there is no partition table in it: take the file that begins with the bootloader,"
            " not the one for updates (.app-bin)"
        )
    return found
