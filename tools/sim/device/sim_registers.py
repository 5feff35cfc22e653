"""The virtual board's registers as the VM sees them: shared memory or, failing that, a file.

Both kinds may be used from an interrupt handler that runs between two bytecodes of another
user, so neither keeps a position.
"""

import struct

import uctypes

import sim_layout as layout


class Mapped:
    """Registers in memory that the launcher mapped at `address`."""

    def __init__(self, address):
        kinds = {"B": uctypes.UINT8, "I": uctypes.UINT32, "q": uctypes.INT64}
        fields = {name: place[0] | kinds[place[1]] for name, place in layout.FIELDS.items()}
        self._fields = uctypes.struct(address, fields, uctypes.LITTLE_ENDIAN)
        self._bytes = uctypes.bytearray_at(address, layout.SIZE)

    def get(self, name):
        return getattr(self._fields, name)

    def put(self, name, value):
        setattr(self._fields, name, value)

    def get_pin(self, table, pin):
        return self._bytes[table + pin]

    def put_pin(self, table, pin, value):
        self._bytes[table + pin] = value


class Filed:
    """Registers in the file `name` of the filesystem object `fs`, opened afresh at each use."""

    def __init__(self, fs, name):
        self._fs = fs
        self._name = name

    def _read(self, offset, size):
        file = self._fs.open(self._name, "rb")
        file.seek(offset)
        data = file.read(size)
        file.close()
        return data

    def _write(self, offset, data):
        file = self._fs.open(self._name, "r+b")
        file.seek(offset)
        file.write(data)
        file.close()

    def get(self, name):
        offset, code = layout.FIELDS[name]
        return struct.unpack("<" + code, self._read(offset, struct.calcsize("<" + code)))[0]

    def put(self, name, value):
        offset, code = layout.FIELDS[name]
        self._write(offset, struct.pack("<" + code, value))

    def get_pin(self, table, pin):
        return self._read(table + pin, 1)[0]

    def put_pin(self, table, pin, value):
        self._write(table + pin, bytes((value,)))
