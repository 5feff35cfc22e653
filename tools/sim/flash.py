"""The flash chip from outside: one file, its partition table, and access by partition."""

import os

from tools.sim import partition_table
from tools.sim.partition_table import APP, DATA, FLASH_SIZE, Partition
from tools.sim.partition_table import find as find_in

__all__ = ["APP", "DATA", "SECTOR", "SIZE", "TABLE", "Flash", "Partition", "find"]

SIZE = FLASH_SIZE
SECTOR = 4096

# The table of a board that was made without a word about it.
TABLE = partition_table.TABLES["ota"]


def find(label):
    """The partition of that label in the usual table; KeyError when there is none."""
    return find_in(TABLE, label)


class Flash:
    """The file `path` as a flash chip, with the table that is in it. `create` makes a blank
    one."""

    def __init__(self, path):
        self._file = os.open(path, os.O_RDWR)
        raw = os.pread(self._file, partition_table.SIZE, partition_table.ADDRESS)
        # Chips that older versions of the virtual module have made hold none.
        self.table = partition_table.parse(raw) or TABLE

    @classmethod
    def create(cls, path, table=TABLE):
        """A chip without contents (every byte 0xFF) in the new file `path`."""
        with open(path, "xb") as file:
            file.write(b"\xff" * SIZE)
            file.seek(partition_table.ADDRESS)
            file.write(partition_table.pack(table))
        return cls(path)

    def find(self, label):
        """The partition of that label; KeyError when there is none."""
        return find_in(self.table, label)

    def read(self, label, offset=0, size=None):
        """Bytes of the partition `label`; the whole of it by default."""
        place = self.find(label)
        size = place.size - offset if size is None else size
        if offset < 0 or offset + size > place.size:
            raise ValueError(f"outside of partition {label}")
        return os.pread(self._file, size, place.address + offset)

    def write(self, label, data, offset=0):
        """Erase the sectors that `data` touches and program it; offset in whole sectors."""
        place = self.find(label)
        if offset % SECTOR or offset + len(data) > place.size:
            raise ValueError(f"{len(data)} bytes at {offset:#x} do not fit in {label}")
        data = bytes(data) + b"\xff" * (-len(data) % SECTOR)
        os.pwrite(self._file, data, place.address + offset)

    def close(self):
        os.close(self._file)
