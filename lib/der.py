"""Reads DER, the distinguished encoding of ASN.1 (X.690), from bytes."""

from micropython import const

BOOLEAN = const(0x01)
INTEGER = const(0x02)
BIT_STRING = const(0x03)
OCTET_STRING = const(0x04)
OID = const(0x06)
UTC_TIME = const(0x17)
GENERALIZED_TIME = const(0x18)
SEQUENCE = const(0x30)
SET = const(0x31)

_MULTI_BYTE_TAG = const(0x1F)
_LONG = const(0x80)
# Bytes of a length: no value here comes near 16 MiB.
_MAX_LENGTH_BYTES = const(3)
# Bytes of an object identifier that are made a text: long numbers take long.
_MAX_DOTTED = const(40)


class DerError(ValueError):
    """What was read is not DER, or not the value that was expected; the text says which."""


class Reader:
    """Reads values one after the other from `data[start:end]`; nothing outside is looked at.

    Every method raises DerError and then the reader must not be used any more.
    """

    def __init__(self, data, start=0, end=None):
        self.data = data
        self.at = start
        self.stop = len(data) if end is None else end

    def peek(self):
        """The tag of the next value, -1 at the end."""
        return self.data[self.at] if self.at < self.stop else -1

    def end(self):
        """Fails unless everything was read."""
        if self.at != self.stop:
            raise DerError("something follows")

    def _header(self, tag):
        # Steps behind the header of a value with this tag (None: any) and returns its end.
        data = self.data
        at = self.at
        stop = self.stop
        if stop - at < 2:
            raise DerError("cut short")
        if tag is not None and data[at] != tag:
            raise DerError("tag %02x instead of %02x" % (data[at], tag))
        if data[at] & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
            raise DerError("tag of several bytes")
        size = data[at + 1]
        at += 2
        if size & _LONG:
            # The form without a length (0x80) and lengths that need fewer bytes are BER only;
            # one that is cut short has nothing behind it, which shows below.
            count = size ^ _LONG
            if not 0 < count <= _MAX_LENGTH_BYTES:
                raise DerError("length")
            size = int.from_bytes(data[at : at + count], "big")
            at += count
            if size < _LONG or not data[at - count]:
                raise DerError("length is not minimal")
        if stop - at < size:
            raise DerError("cut short")
        self.at = at
        return at + size

    def enter(self, tag):
        """A reader of what is in the next value, which must have this tag."""
        end = self._header(tag)
        start = self.at
        self.at = end
        return Reader(self.data, start, end)

    def content(self, tag=None):
        """What is in the next value, as it is in `data` (a slice)."""
        end = self._header(tag)
        start = self.at
        self.at = end
        return self.data[start:end]

    def value(self, tag=None):
        """The whole next value with its header."""
        start = self.at
        end = self._header(tag)
        self.at = end
        return self.data[start:end]

    def integer(self):
        """The next value, an integer."""
        content = self.content(INTEGER)
        size = len(content)
        # As short as can be: nine equal bits at the top are one byte too many.
        if not size or (size > 1 and (content[0] << 8 | content[1]) >> 7 in (0, 0x1FF)):
            raise DerError("integer")
        value = int.from_bytes(content, "big")
        return value - (1 << 8 * size) if content[0] & 0x80 else value

    def unsigned(self):
        """The next value, an integer that must not be negative."""
        value = self.integer()
        if value < 0:
            raise DerError("negative")
        return value

    def boolean(self):
        """The next value, a boolean."""
        content = self.content(BOOLEAN)
        if len(content) != 1 or content[0] not in (0, 0xFF):
            raise DerError("boolean")
        return content[0] != 0

    def bits(self):
        """(bytes, number of unused bits in the last one) of the next value, a bit string."""
        content = self.content(BIT_STRING)
        unused = content[0] if content else 8
        if unused > 7 or (unused and (len(content) == 1 or content[-1] & ((1 << unused) - 1))):
            raise DerError("bit string")
        return content[1:], unused

    def octets(self):
        """The next value, a bit string that is a whole number of bytes."""
        content, unused = self.bits()
        if unused:
            raise DerError("bit string is not bytes")
        return content

    def oid(self):
        """The next value, an object identifier, as its encoded bytes."""
        content = bytes(self.content(OID))
        start = True
        for byte in content:
            if start and byte == 0x80:
                raise DerError("object identifier")
            start = not byte & 0x80
        if not content or not start:
            raise DerError("object identifier")
        return content


def dotted(oid):
    """An object identifier's text, as 1.2.840.10045.3.1.7; of a very long one the beginning."""
    arcs = []
    arc = 0
    for byte in oid[:_MAX_DOTTED]:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            if not arcs:
                arcs.append(min(arc // 40, 2))
                arc -= arcs[0] * 40
            arcs.append(arc)
            arc = 0
    return ".".join(map(str, arcs))
