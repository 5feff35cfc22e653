"""The module's filesystem from outside, while its power is off: repairs, damage.

with of_board(state) as fs:
    fs.write("/config/SSID", b"...")
"""

import os
from contextlib import contextmanager
from pathlib import Path

import littlefs

from tools.sim import flash


class Filesystem:
    """The LittleFS in the partition `vfs` of a `flash.Flash`; `save` writes it back.

    Paths are absolute. `fs` is littlefs-python's own object, for what has no method here.
    """

    def __init__(self, chip):
        self._chip = chip
        place = chip.find("vfs")
        self.fs = littlefs.LittleFS(
            block_size=flash.SECTOR,
            block_count=place.size // flash.SECTOR,
            name_max=255,
            mount=False,
        )
        self.fs.context.buffer[:] = chip.read("vfs")
        self.fs.mount()

    def save(self):
        """Put the filesystem into the chip."""
        self._chip.write("vfs", self.fs.context.buffer)

    def read(self, path):
        """A file's bytes."""
        with self.fs.open(path, "rb") as file:
            return file.read()

    def write(self, path, data):
        """Make `data` the contents of a file; its folder is made when it is missing."""
        self.fs.makedirs(os.path.dirname(path), exist_ok=True)
        with self.fs.open(path, "wb") as file:
            file.write(data)

    def remove(self, path):
        """Remove a file, or a folder with all that is in it."""
        self.fs.remove(path, recursive=True)

    def names(self, folder):
        """What is in a folder, sorted."""
        return sorted(self.fs.listdir(folder))


@contextmanager
def of_board(state):
    """The filesystem of the board in the folder `state`, saved when the block ends well."""
    chip = flash.Flash(Path(state) / "flash.bin")
    try:
        filesystem = Filesystem(chip)
        yield filesystem
        filesystem.save()
    finally:
        chip.close()
