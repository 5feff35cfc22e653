"""CBOR (RFC 8949) for small messages: what a device sends, and any answer, within limits.

Byte strings are not copied: a decoded one is a memoryview of the input, and lives as long as that
stays as it is.
"""

from micropython import const

# Major types (section 3.1), as the three upper bits of an item's first byte.
_UNSIGNED = const(0)
_NEGATIVE = const(1)
_BYTES = const(2)
_TEXT = const(3)
_ARRAY = const(4)
_MAP = const(5)
_TAG = const(6)

# Values of the lower five bits (section 3), and what major type 7 makes of some (section 3.3).
_ONE_BYTE = const(24)
_EIGHT_BYTES = const(27)
_INDEFINITE = const(31)
_FALSE = const(20)
_TRUE = const(21)


class CborError(ValueError):
    """What cannot be encoded, or is not what this decoder takes; the argument says why."""


def _head(out, major, number):
    if number < _ONE_BYTE:
        out.append(major << 5 | number)
        return
    size = 0
    while number >> (8 << size):
        size += 1
    if size > 3:
        raise CborError("too much")
    out.append(major << 5 | _ONE_BYTE + size)
    out.extend(number.to_bytes(1 << size, "big"))


def _put(out, value):
    if isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        if value < 0:
            _head(out, _NEGATIVE, -1 - value)
        else:
            _head(out, _UNSIGNED, value)
    elif isinstance(value, str):
        value = value.encode()
        _head(out, _TEXT, len(value))
        out.extend(value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _head(out, _BYTES, len(value))
        out.extend(value)
    elif isinstance(value, dict):
        _head(out, _MAP, len(value))
        for key in value:
            if not isinstance(key, str):
                raise CborError("bad key")
            _put(out, key)
            _put(out, value[key])
    else:
        raise CborError("bad type")


def encode(value):
    """`value` as bytes: an int of at most 64 bits, a bool, a str, bytes (or a buffer), or a dict
    of such with keys of type str, each in its shortest form. CborError for anything else."""
    out = bytearray()
    _put(out, value)
    return bytes(out)


class _Decoder:
    def __init__(self, data, items):
        self.data = memoryview(data)
        self.at = 0
        # How many more items may come: they cost memory, each much more than its byte.
        self.items = items

    def take(self, size):
        start = self.at
        end = start + size
        if end > len(self.data):
            raise CborError("cut short")
        self.at = end
        return self.data[start:end]

    def item(self, depth):
        self.items -= 1
        if self.items < 0:
            raise CborError("too much")
        at = self.at
        if at >= len(self.data):
            raise CborError("cut short")
        self.at = at + 1
        first = self.data[at]
        major = first >> 5
        number = kind = first & 31
        if kind >= _ONE_BYTE:
            if kind == _INDEFINITE:
                raise CborError("indefinite length")
            if kind > _EIGHT_BYTES:
                raise CborError("reserved")
            number = int.from_bytes(self.take(1 << kind - _ONE_BYTE), "big")
        if major == _UNSIGNED:
            return number
        if major == _NEGATIVE:
            return -1 - number
        if major == _BYTES:
            return self.take(number)
        if major == _TEXT:
            try:
                return str(self.take(number), "utf-8")
            except UnicodeError:
                raise CborError("bad text")
        if major > _TAG:
            if kind in (_FALSE, _TRUE):
                return kind == _TRUE
            if kind > _TRUE and kind != _ONE_BYTE:
                # Null, undefined; a float has been skipped.
                return None
        if major >= _TAG:
            raise CborError("tag or simple value")
        # A length that cannot come is refused before memory is given to it.
        if not depth or number > self.items:
            raise CborError("too much")
        if major == _ARRAY:
            return [self.item(depth - 1) for _ in range(number)]
        result = {}
        for _ in range(number):
            key = self.item(0)
            if type(key) not in (str, int) or key in result:
                raise CborError("bad key")
            result[key] = self.item(depth - 1)
        return result


def decode(data, depth=4, items=64):
    """The one item that the buffer `data` holds, whole: int, bool, None, str, memoryview, list, or
    dict with keys of type str or int. Floats are skipped: one comes out as None, as null does.

    depth: how many arrays and maps may be inside each other. items: how many values there may be
    in all. CborError for tags, indefinite lengths, keys that come twice, what is not CBOR, and
    texts that are not UTF-8, as far as MicroPython looks.
    """
    decoder = _Decoder(data, items)
    value = decoder.item(depth)
    if decoder.at != len(decoder.data):
        raise CborError("more behind it")
    return value
