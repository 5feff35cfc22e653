"""Partition tables: those that a virtual board can be made with, and their form in flash.

A table lies at 0x8000 of the flash: an entry of 32 bytes for each partition, then one with the MD5
of these, the rest erased (ESP-IDF programming guide, "Partition Tables").
"""

import hashlib
import struct
from dataclasses import dataclass

FLASH_SIZE = 8 * 1024 * 1024
ADDRESS = 0x8000
SIZE = 0xC00

APP = 0
DATA = 1
# Subtypes of APP: the only application of a board without updates, the first slot of one with.
FACTORY = 0x00
OTA_0 = 0x10

_ENTRY = struct.Struct("<HBBLL16sL")
_MAGIC = 0x50AA
_DIGEST = 0xEBEB


@dataclass(frozen=True)
class Partition:
    """type: APP or DATA; subtype: ESP-IDF's number; address and size in bytes."""

    label: str
    type: int
    subtype: int
    address: int
    size: int


_NVS = Partition("nvs", DATA, 0x02, 0x9000, 0x4000)
_OTADATA = Partition("otadata", DATA, 0x00, 0xD000, 0x2000)
_PHY = Partition("phy_init", DATA, 0x01, 0xF000, 0x1000)
_SLOTS = (
    Partition("ota_0", APP, OTA_0, 0x10000, 0x270000),
    Partition("ota_1", APP, OTA_0 + 1, 0x280000, 0x270000),
)


def _vfs(address):
    # MicroPython's filesystem takes the rest; its tables leave it to be found at the start.
    return Partition("vfs", DATA, 0x81, address, FLASH_SIZE - address)


TABLES = {
    # MicroPython's 8 MiB OTA table, with 1 MiB for host images taken from the filesystem.
    "ota": (
        _NVS,
        _OTADATA,
        _PHY,
        *_SLOTS,
        Partition("hota", DATA, 0x06, 0x4F0000, 0x100000),
        _vfs(0x5F0000),
    ),
    # That table as it is: partitions-8MiBplus-ota.csv.
    "shared": (_NVS, _OTADATA, _PHY, *_SLOTS, _vfs(0x4F0000)),
    # What nearly every board with a stock image has, partitions-4MiBplus.csv: no slots.
    "plain": (
        Partition("nvs", DATA, 0x02, 0x9000, 0x6000),
        _PHY,
        Partition("factory", APP, FACTORY, 0x10000, 0x1F0000),
        _vfs(0x200000),
    ),
}


def name_of(table):
    """The key of TABLES for `table`, or "another"."""
    for name, known in TABLES.items():
        if table == known:
            return name
    return "another"


def find(table, label):
    """The partition of that label; KeyError when there is none."""
    for partition in table:
        if partition.label == label:
            return partition
    raise KeyError(label)


def slots(table):
    """The OTA slots of a table in the order of their numbers."""
    found = [p for p in table if p.type == APP and p.subtype >= OTA_0]
    return sorted(found, key=lambda p: p.subtype)


def pack(table):
    """The bytes of `table` in flash, without the erased rest."""
    entries = b"".join(
        _ENTRY.pack(_MAGIC, p.type, p.subtype, p.address, p.size, p.label.encode(), 0)
        for p in table
    )
    digest = _DIGEST.to_bytes(2, "little") + b"\xff" * 14 + hashlib.md5(entries).digest()
    return entries + digest


def parse(data):
    """The table at the beginning of `data`; empty when there is none, or a damaged one."""
    found = []
    for at in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, address, size, label, _flags = _ENTRY.unpack_from(data, at)
        if magic == _DIGEST:
            good = data[at + 16 : at + 32] == hashlib.md5(data[:at]).digest()
            return tuple(found) if good else ()
        if magic != _MAGIC:
            return ()
        name = label.rstrip(b"\0").decode("ascii", "replace")
        found.append(Partition(name, kind, subtype, address, size))
    return ()
