"""Messages in pieces that fit a Bluetooth LE packet (docs/ble.md, "Frames").

    first frame = 0x80 | number, 0, length (2 bytes), CRC-32 (4 bytes), data
    next frames = number, index, data

Little endian. `number` (0 to 127) is the sender's, another one for each message; `index` counts
the frames of a message from 0. A message is whole when `length` bytes have come, and believed when
the checksum fits.
"""

import struct
from binascii import crc32

from micropython import const

# Result codes, as they go over the air (intake.py has the others). A name that only this file sees
# costs no memory.
_INVALID = const(8)
_MISSING = const(9)
_CHECKSUM = const(10)

_FIRST = const(0x80)
_HEAD = const(8)
_NEXT_HEAD = const(2)


class FrameError(ValueError):
    """A message is lost; the arguments are the result code and the reason (text)."""


def split(message, number, room):
    """Yield the frames of `message` (bytes), none longer than `room` bytes (9 or more)."""
    head = struct.pack("<BBHI", _FIRST | number, 0, len(message), crc32(message))
    view = memoryview(message)
    at = room - _HEAD
    yield head + bytes(view[:at])
    index = 0
    while at < len(message):
        index += 1
        end = at + room - _NEXT_HEAD
        yield bytes((number, index)) + bytes(view[at:end])
        at = end


class Receiver:
    """Puts the messages of one characteristic together; none has over `limit` bytes."""

    def __init__(self, limit):
        self.limit = limit
        self._number = -1
        self._message = bytearray()
        self._left = 0  # bytes of the message that have not come; 0: no message has begun
        self._crc = 0
        self._index = 0

    def waiting(self):
        """Whether a message has begun and is not whole."""
        return self._left > 0

    def drop(self):
        """Forget what has come of a message; the rest of it will be passed over."""
        self._left = 0
        self._message = bytearray()

    def take(self, frame):
        """Take a frame (bytes); returns the message (a bytearray) that it completes, or None.

        FrameError when a message is lost with it: once for each message."""
        if len(frame) <= _NEXT_HEAD:
            raise self._lost(_INVALID, "frame too short")
        number = frame[0]
        if number & _FIRST:
            start = self._begin(frame)
        elif number == self._number and (not self._left or frame[1] == self._index):
            # The rest of a message that is lost, or sent again by a central that saw no answer.
            return None
        elif number != self._number or frame[1] != self._index + 1:
            self._number = number
            raise self._lost(_MISSING, "frame missing")
        else:
            self._index += 1
            start = _NEXT_HEAD
        message = self._message
        at = len(message) - self._left
        self._left -= len(frame) - start
        if self._left < 0:
            raise self._lost(_INVALID, "more than the length says")
        message[at : at + len(frame) - start] = memoryview(frame)[start:]
        if self._left:
            return None
        self._message = bytearray()
        if crc32(message) != self._crc:
            raise FrameError(_CHECKSUM, "checksum")
        return message

    def _begin(self, frame):
        self.drop()
        self._number = frame[0] ^ _FIRST
        if len(frame) <= _HEAD or frame[1]:
            raise FrameError(_INVALID, "no first frame")
        size, self._crc = struct.unpack_from("<HI", frame, _NEXT_HEAD)
        if not 0 < size <= self.limit:
            raise FrameError(_INVALID, "length")
        self._message = bytearray(size)
        self._left = size
        self._index = 0
        return _HEAD

    def _lost(self, code, reason):
        self.drop()
        return FrameError(code, reason)
