"""esp32.NVS in the `nvs` partition: a log of records in one of two banks of two sectors.

The layout is our own (Espressif's is larger). What it promises is the same: a value that was
set is there after any later loss of power, and a set that the power interrupts leaves the old
value or the new one. A full bank is copied, living records only, into the other one, which
counts from the moment its header is written.

Bank: `<LL` generation and its CRC, then records. Record: `<BBBxHxxL` kind, length of namespace,
of key and of value, CRC of all the rest; namespace, key, value, padded to 4. Kind 0xFF: the end.
"""

import binascii
import struct

import sim_flash as flash
from sim_host import config

_HEAD = "<BBBxHxxL"
_HEAD_SIZE = 12
_I32 = 1
_BLOB = 2
_ERASED = 3
_BLANK = 0xFFFFFFFF
_BANK = 2 * flash.SECTOR


def _error(code, name):
    return OSError(code, "ESP_ERR_NVS_" + name)


def _padded(size):
    return (size + 3) // 4 * 4


class _Log:
    # index: (namespace, key) -> (kind, address of the value, its length). Values stay in flash.
    def __init__(self, base):
        self._base = base
        self.index = {}
        generations = [self._generation(bank) for bank in (0, 1)]
        self._bank = 0 if generations[0] >= generations[1] else 1
        self._number = generations[self._bank]
        if self._number:
            self._load()
        else:
            self._open_bank(0, 1)
            self._seal()

    def _address(self, bank):
        return self._base + bank * _BANK

    def _generation(self, bank):
        head = bytearray(8)
        flash.read(self._address(bank), head)
        number, crc = struct.unpack("<LL", head)
        # A blank bank would pass: the CRC of four bytes 0xFF is all ones too.
        if number == _BLANK or crc != binascii.crc32(memoryview(head)[:4]):
            return 0
        return number

    def _open_bank(self, bank, number):
        address = self._address(bank)
        flash.erase(address)
        flash.erase(address + flash.SECTOR)
        self._bank = bank
        self._number = number
        self._at = address + 8
        self._end = address + _BANK

    def _seal(self):
        number = struct.pack("<L", self._number)
        head = number + struct.pack("<L", binascii.crc32(number))
        flash.program(self._address(self._bank), head)

    def _load(self):
        self._at = self._address(self._bank) + 8
        self._end = self._address(self._bank) + _BANK
        head = bytearray(_HEAD_SIZE)
        while self._at + _HEAD_SIZE <= self._end:
            flash.read(self._at, head)
            kind, ns_len, key_len, length, crc = struct.unpack(_HEAD, head)
            if kind == 0xFF and head == b"\xff" * _HEAD_SIZE:
                return
            at = self._at + _HEAD_SIZE
            size = ns_len + key_len + length
            if at + _padded(size) > self._end:
                break
            body = bytearray(size)
            flash.read(at, body)
            if crc != binascii.crc32(bytes(head[:8]) + body):
                break
            name = bytes(body[: ns_len + key_len])
            key = (name[:ns_len], name[ns_len:])
            if kind == _ERASED:
                self.index.pop(key, None)
            else:
                self.index[key] = (kind, at + ns_len + key_len, length)
            self._at = at + _padded(size)
        else:
            return
        # The power died in the middle of this record: nothing can be written behind it.
        self._at = self._end

    def value(self, key):
        _, address, length = self.index[key]
        data = bytearray(length)
        flash.read(address, data)
        return data

    def _write(self, key, kind, data):
        head = struct.pack("<BBBxHxx", kind, len(key[0]), len(key[1]), len(data))
        body = key[0] + key[1] + data
        record = head + struct.pack("<L", binascii.crc32(head + body)) + body
        flash.program(self._at, record)
        if kind != _ERASED:
            self.index[key] = (kind, self._at + _HEAD_SIZE + len(key[0]) + len(key[1]), len(data))
        self._at += _padded(len(record))

    def _move(self):
        # Copies what lives into the other bank; until it is sealed the old one counts.
        old = self.index
        values = {key: (entry[0], self.value(key)) for key, entry in old.items()}
        self.index = {}
        self._open_bank(1 - self._bank, self._number + 1)
        for key, (kind, data) in values.items():
            self._write(key, kind, data)
        self._seal()

    def put(self, key, kind, data):
        size = _HEAD_SIZE + _padded(len(key[0]) + len(key[1]) + len(data))
        if self._at + size > self._end:
            living = 8 + size
            for other, entry in self.index.items():
                living += _HEAD_SIZE + _padded(len(other[0]) + len(other[1]) + entry[2])
            if living > _BANK:
                raise _error(-4357, "NOT_ENOUGH_SPACE")
            self._move()
        self._write(key, kind, data)
        if kind == _ERASED:
            del self.index[key]


_log = None


def _open_log():
    global _log
    if _log is None:
        for name, _, _, address, _ in config["partitions"]:
            if name == "nvs":
                _log = _Log(address)
    return _log


class NVS:
    def __init__(self, _namespace):
        if len(_namespace) > 15:
            raise _error(-4361, "KEY_TOO_LONG")
        self._namespace = _namespace.encode()
        self._store = _open_log()

    def _key(self, key):
        if len(key) > 15:
            raise _error(-4361, "KEY_TOO_LONG")
        return (self._namespace, key.encode())

    def _find(self, key, kind):
        key = self._key(key)
        entry = self._store.index.get(key)
        if entry is None or entry[0] != kind:
            raise _error(-4354, "NOT_FOUND")
        return self._store.value(key)

    def set_i32(self, _key, _value):
        self._store.put(self._key(_key), _I32, struct.pack("<l", _value))

    def get_i32(self, _key):
        return struct.unpack("<l", self._find(_key, _I32))[0]

    def set_blob(self, _key, _value):
        self._store.put(self._key(_key), _BLOB, bytes(_value))

    def get_blob(self, _key, _buffer):
        data = self._find(_key, _BLOB)
        if len(data) > len(_buffer):
            raise _error(-4364, "INVALID_LENGTH")
        _buffer[: len(data)] = data
        return len(data)

    def erase_key(self, _key):
        _key = self._key(_key)
        if _key not in self._store.index:
            raise _error(-4354, "NOT_FOUND")
        self._store.put(_key, _ERASED, b"")

    def commit(self):
        # Each set is in flash when it returns; the driver's commit has nothing left to do.
        return None
