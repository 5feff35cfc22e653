"""Small values in files that survive a power cut at any moment.

One file a value. A new value is written to a temporary file, closed, and renamed over the old
one: LittleFS commits at close and at rename, so a cut leaves the old or the new value, never a
mixture. Each file carries a checksum, so that a damaged one is noticed and not believed.

    file = magic (2 bytes) | CRC-32 of name and value (4 bytes, little endian) | value

The name counts up to its first dot, so that a value on trial can be renamed.
"""

import binascii
import gc
import os
import struct

from micropython import const

from firmware.log import ERROR, log

_MAGIC = b"\xe1\x02"
_HEADER = const(6)

# What is to be changed in one transaction (change.py): while it exists, the work is not done.
CHANGE = "change"

_ENOENT = const(2)
_EEXIST = const(17)


def _checksum(name, value):
    """Over the name too: a file in another one's place is damage, and could give a secret away."""
    return binascii.crc32(value, binascii.crc32(name.split(".")[0].encode()))


class Store:
    """Values by name, in one folder.

    folder: made when it is missing. Names must be legal file names. `lost` lists the names whose
    file was damaged; `writes` counts files written or removed, for the defender metrics; `fault`
    is the errno of the flash when there is no folder to work in, else 0.
    """

    def __init__(self, folder):
        self._folder = folder
        self.lost = []
        self.writes = 0
        self.fault = 0
        # A change has been decided, and was not carried out to its end.
        self.unfinished = False
        try:
            os.mkdir(folder)
        except OSError as error:
            if error.errno != _EEXIST:
                self._faulty(error)
                return
        try:
            if not os.stat(folder)[0] & 0x4000:
                raise OSError(_EEXIST, folder)
            self.unfinished = CHANGE in os.listdir(folder)
            self._finish_change()
        except OSError as error:
            self._faulty(error)

    def _faulty(self, error):
        self.fault = error.errno
        log(ERROR, "store: unusable, errno", error.errno)

    def _path(self, name):
        return self._folder + "/" + name

    def read(self, name):
        """The value (bytes), or None when there is none or its file is damaged."""
        try:
            with open(self._path(name), "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno != _ENOENT:
                self.damaged(name, "errno %d" % error.errno)
            return None
        value = data[_HEADER:]
        if data[:2] != _MAGIC or len(data) < _HEADER:
            self.damaged(name, "not a value file")
            return None
        if struct.unpack_from("<I", data, 2)[0] != _checksum(name, value):
            self.damaged(name, "checksum")
            return None
        return value

    def verify(self):
        """Read all there is, so that `lost` names whatever is damaged."""
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            self._faulty(error)
            return
        for name in names:
            # What a cut has left unfinished was never a value.
            if not name.endswith(".new"):
                self.read(name)

    def damaged(self, name, why):
        """Note that the value `name` cannot be used, because of `why` (text)."""
        log(ERROR, "store: lost", name, why)
        if name not in self.lost:
            self.lost.append(name)

    def write(self, name, value):
        """Keep `value` (bytes) under `name`. Raises OSError when the flash refuses."""
        self._finish_change()
        self.put(name, value)

    def put(self, name, value):
        """As `write`, for change.py, which is in the middle of a change."""
        path = self._path(name)
        part = path + ".new"
        with open(part, "wb") as file:
            file.write(_MAGIC + struct.pack("<I", _checksum(name, value)))
            file.write(value)
        os.rename(part, path)
        self.writes += 1
        if name in self.lost:
            self.lost.remove(name)

    def rename(self, old, new):
        """Keep what was kept under `old` under `new` instead, in one step. Raises OSError."""
        self._finish_change()
        os.rename(self._path(old), self._path(new))
        self.writes += 1
        if new in self.lost:
            self.lost.remove(new)

    def change(self, values):
        """Keep, or with None remove, all of `values` ({name: bytes or None}) or none: a power cut
        in between is made good at the next start. Raises OSError when the flash refuses: nothing
        was changed then, or what could not be is in `lost`."""
        from firmware.config import change

        change.decide(self, values)
        try:
            error = self._finish_change()
        except MemoryError:
            # It is decided. If this fails too, the next thing that is written finishes it.
            gc.collect()
            error = self._finish_change()
        if error:
            raise error

    def _finish_change(self):
        """Do what was decided, if it has not been carried out: nothing else is written before.
        Returns the last OSError of a value."""
        if not self.unfinished:
            return None
        from firmware.config import change

        return change.finish(self)

    def remove(self, name):
        """Remove the value `name` if there is one. Raises OSError."""
        self._finish_change()
        self.drop(name)

    def drop(self, name):
        """As `remove`, for change.py."""
        try:
            os.remove(self._path(name))
        except OSError as error:
            if error.errno != _ENOENT:
                raise
            return
        self.writes += 1
