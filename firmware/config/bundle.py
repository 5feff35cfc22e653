"""Certificates as they are kept: DER, one behind the other."""

from micropython import const

_SEQUENCE = const(0x30)
_LONG = const(0x80)


def split(data):
    """The DER sequences that stand one behind the other in `data` (bytes), as a list of bytes.

    Raises ValueError when something else stands there or a length does not fit.
    """
    values = []
    start = 0
    while start < len(data):
        if len(data) - start < 4 or data[start] != _SEQUENCE:
            raise ValueError("not DER")
        size = data[start + 1]
        head = 2
        if size & _LONG:
            count = size ^ _LONG
            if not 0 < count <= 3:
                raise ValueError("DER length")
            head += count
            size = int.from_bytes(data[start + 2 : start + head], "big")
        end = start + head + size
        if end > len(data):
            raise ValueError("DER cut short")
        values.append(data[start:end])
        start = end
    return values
