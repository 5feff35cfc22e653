"""Writes DER, the distinguished encoding of ASN.1 (X.690); lib.der has the tags, and reads it."""

from micropython import const

_INTEGER = const(0x02)
_LONG = const(0x80)


def value(tag, *parts):
    """A value with this tag (one byte) whose contents are `parts`, one behind the other."""
    content = b"".join(parts)
    size = len(content)
    length = _octets(size)
    # The size itself up to 127, else how many bytes it has and then the size (X.690, 8.1.3).
    if size < _LONG:
        length = b""
    else:
        size = _LONG | len(length)
    return bytes((tag, size)) + length + content


def unsigned(number):
    """An INTEGER; ValueError for a negative one."""
    if number < 0:
        raise ValueError("negative")
    content = _octets(number)
    # As short as can be, but with room for the sign.
    if not content or content[0] & 0x80:
        content = b"\x00" + content
    return value(_INTEGER, content)


def _octets(number):
    # As few bytes as can be, the highest first; none for 0.
    data = b""
    while number:
        data = bytes((number & 0xFF,)) + data
        number >>= 8
    return data
