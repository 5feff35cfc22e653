"""Small values in files that survive a power cut at any moment.

One file a value. A new value is written to a temporary file, closed, and renamed over the old
one: LittleFS commits at close and at rename, so a cut leaves the old or the new value, never a
mixture. Each file carries a checksum, so that a damaged one is noticed and not believed.

    file = magic (2 bytes) | CRC-32 of the value (4 bytes, little endian) | value
"""

import binascii
import os
import struct

from micropython import const

from firmware.log import ERROR, log

_MAGIC = b"\xe1\x01"
_HEADER = const(6)


class Store:
    """Values by name, in one folder.

    folder: made when it is missing. Names must be legal file names. `lost` lists the names whose
    file was damaged; `writes` counts files written, for the defender metrics.
    """

    def __init__(self, folder):
        self._folder = folder
        self.lost = []
        self.writes = 0
        try:
            os.mkdir(folder)
        except OSError as error:
            if error.errno != 17:  # EEXIST
                raise

    def _path(self, name):
        return self._folder + "/" + name

    def read(self, name):
        """The value (bytes), or None when there is none or its file is damaged."""
        try:
            with open(self._path(name), "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno != 2:  # ENOENT
                self._damaged(name, "errno %d" % error.errno)
            return None
        value = data[_HEADER:]
        if data[:2] != _MAGIC or len(data) < _HEADER:
            self._damaged(name, "not a value file")
            return None
        if struct.unpack_from("<I", data, 2)[0] != binascii.crc32(value):
            self._damaged(name, "checksum")
            return None
        return value

    def _damaged(self, name, why):
        log(ERROR, "store: lost", name, why)
        if name not in self.lost:
            self.lost.append(name)

    def write(self, name, value):
        """Keep `value` (bytes) under `name`. Raises OSError when the flash refuses."""
        path = self._path(name)
        part = path + ".new"
        with open(part, "wb") as file:
            file.write(_MAGIC + struct.pack("<I", binascii.crc32(value)))
            file.write(value)
        os.rename(part, path)
        self.writes += 1
        if name in self.lost:
            self.lost.remove(name)
