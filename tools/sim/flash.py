"""The flash chip from outside: one file, its partition table, and access by partition."""

import os
from dataclasses import dataclass

SIZE = 8 * 1024 * 1024
SECTOR = 4096

APP = 0
DATA = 1


@dataclass(frozen=True)
class Partition:
    """type: APP or DATA; subtype: ESP-IDF's number; address and size in bytes."""

    label: str
    type: int
    subtype: int
    address: int
    size: int


# MicroPython's 8 MiB OTA table, with 1 MiB for host images taken from the filesystem.
TABLE = (
    Partition("nvs", DATA, 0x02, 0x9000, 0x4000),
    Partition("otadata", DATA, 0x00, 0xD000, 0x2000),
    Partition("phy_init", DATA, 0x01, 0xF000, 0x1000),
    Partition("ota_0", APP, 0x10, 0x10000, 0x270000),
    Partition("ota_1", APP, 0x11, 0x280000, 0x270000),
    Partition("hota", DATA, 0x06, 0x4F0000, 0x100000),
    Partition("vfs", DATA, 0x81, 0x5F0000, SIZE - 0x5F0000),
)


def find(label):
    """The partition of that label; KeyError when there is none."""
    for partition in TABLE:
        if partition.label == label:
            return partition
    raise KeyError(label)


class Flash:
    """The file `path` as a flash chip. `create` makes a blank one."""

    def __init__(self, path):
        self._file = os.open(path, os.O_RDWR)

    @classmethod
    def create(cls, path):
        """A blank chip (every byte 0xFF) in the new file `path`."""
        with open(path, "xb") as file:
            file.write(b"\xff" * SIZE)
        return cls(path)

    def read(self, label, offset=0, size=None):
        """Bytes of the partition `label`; the whole of it by default."""
        place = find(label)
        size = place.size - offset if size is None else size
        if offset < 0 or offset + size > place.size:
            raise ValueError(f"outside of partition {label}")
        return os.pread(self._file, size, place.address + offset)

    def write(self, label, data, offset=0):
        """Erase the sectors that `data` touches and program it; offset in whole sectors."""
        place = find(label)
        if offset % SECTOR or offset + len(data) > place.size:
            raise ValueError(f"{len(data)} bytes at {offset:#x} do not fit in {label}")
        data = bytes(data) + b"\xff" * (-len(data) % SECTOR)
        os.pwrite(self._file, data, place.address + offset)

    def close(self):
        os.close(self._file)
