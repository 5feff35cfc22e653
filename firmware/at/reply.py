r"""Replies on their way to the host (guide 3.5.1, decisions D4, D7, D31).

    OK [ " " detail ] LF
    ERR code " " text [ " " detail ] LF

In a detail LF becomes `\A` and a backslash becomes `\\`; every other byte goes out as it is.
"""

import asyncio
import time

from micropython import const

# Replies are put together in pieces of this size: one `write` for nearly every reply, and a long
# one gives the other tasks a turn at each piece.
_PIECE = const(512)

_LF = const(0x0A)
_BACKSLASH = const(0x5C)
_ESCAPED_LF = const(0x41)

# The reply to a command that came to grief in a way that nobody had thought of, made beforehand
# because there may be no memory.
_LAST_RESORT = b"ERR4 PARAMETER ERROR INTERNAL\n"


# What fits into a piece together with the rest of a reply.
_SHORT = const(480)


def _special(data):
    """True when something in `data` has to be escaped."""
    return data.find(b"\n") >= 0 or data.find(b"\\") >= 0


class Writer:
    """Writes replies to a UART without ever filling its transmit buffer.

    The driver's `write` blocks while the buffer is full, and says it is ready when it is not. So
    the time at which the buffer will be empty is reckoned from the line's speed, and a piece that
    would not fit waits its turn.

    txbuf: bytes the driver buffers. byte_us: time of one byte on the wire, in microseconds.
    """

    def __init__(self, uart, txbuf, byte_us, profile):
        self._uart = uart
        self._txbuf = txbuf
        self._byte_us = byte_us
        self._profile = profile
        self._piece = bytearray(_PIECE)
        self._view = memoryview(self._piece)
        self._count = 0
        self._drained_at = time.ticks_us()
        self._begun = False  # something of the present reply has been sent
        self.replies = 0

    async def ok(self, detail=None):
        """Answer success.

        detail: None for none, bytes, a tuple of bytes, or an object with an async method
        `write_to(writer)` that puts out its own lines."""
        self._begin()
        self._add(b"OK")
        if detail is not None:
            self._add(b" ")
            if isinstance(detail, bytes):
                if len(detail) < _SHORT and not _special(detail):
                    # Nearly every reply: straight into the piece.
                    self._add(detail)
                else:
                    await self.escaped(detail)
            elif isinstance(detail, tuple):
                for part in detail:
                    await self.escaped(part)
            else:
                await detail.write_to(self)
                await self._flush()
                self._begun = False
                return
        await self._end()

    def _begin(self):
        self.replies += 1
        self._begun = False

    async def error(self, code, detail=b""):
        """Answer failure `code` of Table 1, always with its text."""
        self._begin()
        self._add(b"ERR%d " % code)
        self._add(self._text(code))
        if detail:
            self._add(b" ")
            await self.escaped(detail)
        await self._end()

    def _text(self, code):
        """The text of Table 1 for `code`; the others are not made, for lack of memory may be what
        is told."""
        texts = self._profile.errors
        start = 0
        for _ in range(code):
            start = texts.find(b"|", start) + 1
        end = texts.find(b"|", start)
        return texts[start : end if end >= 0 else len(texts)]

    async def escaped(self, data):
        """Put out `data` (bytes) with the escapes of a reply's detail."""
        if not _special(data):
            await self.raw(data)
            return
        start = 0
        while start < len(data):
            start = self._add_escaped(data, start)
            if self._count > _PIECE - 2:
                await self._flush()
                await asyncio.sleep_ms(0)

    def _add_escaped(self, data, start):
        """Append `data` from `start` as far as the piece has room; where it got to."""
        piece = self._piece
        count = self._count
        end = len(data)
        # An escape takes two bytes.
        while start < end and count <= _PIECE - 2:
            c = data[start]
            start += 1
            if c == _LF:
                piece[count] = _BACKSLASH
                c = _ESCAPED_LF
                count += 1
            elif c == _BACKSLASH:
                piece[count] = _BACKSLASH
                count += 1
            piece[count] = c
            count += 1
        self._count = count
        return start

    async def raw(self, data):
        """Put out `data` as it is."""
        size = len(data)
        if size <= _PIECE - self._count:
            self._add(data)
            return
        view = memoryview(data)
        start = 0
        while start < size:
            count = min(size - start, _PIECE - self._count)
            if not count:
                await self._flush()
                # Other tasks get a turn at every piece.
                await asyncio.sleep_ms(0)
                continue
            self._add(view[start : start + count])
            start += count

    def _add(self, data):
        """Append to the piece; the caller knows that it fits."""
        end = self._count + len(data)
        self._view[self._count : end] = data
        self._count = end

    async def _end(self):
        if self._count == _PIECE:
            await self._flush()
        self._add(self._profile.eol)
        if self._hand_over() > 0:
            await self._flush()
        self._begun = False

    async def _flush(self):
        """Hand the piece to the driver once it fits into its buffer."""
        while True:
            wait = self._hand_over()
            if wait <= 0:
                return
            # At most 20 ms at a time: the reckoning is coarse, and a faster line is noticed.
            await asyncio.sleep_ms(min(20, wait // 1000 + 1))

    def _hand_over(self):
        """Hand the piece to the driver if it fits; else how long it has to wait, in us."""
        count = self._count
        if not count:
            return 0
        now = time.ticks_us()
        backlog = time.ticks_diff(self._drained_at, now)
        if backlog > 0:
            wait = backlog + (count - self._txbuf) * self._byte_us
            # The question is also the way out when the ticks have wrapped since the last reply.
            if wait > 0 and not self._uart.txdone():
                return wait
            if wait > 0:
                backlog = 0
        else:
            backlog = 0
        self._drained_at = time.ticks_add(now, backlog + count * self._byte_us)
        self._count = 0
        self._begun = True
        self._uart.write(self._view[:count])
        return 0

    def give_up(self):
        """End the reply that an exception has cut short: with an error when nothing of it has
        been sent, with the end of the line when something has. Allocates nothing."""
        self._count = 0
        self._uart.write(self._profile.eol if self._begun else _LAST_RESORT)
        self._begun = False

    async def drained(self):
        """Return when the driver has sent everything: before a restart, for instance."""
        while not self._uart.txdone():
            await asyncio.sleep_ms(5)
