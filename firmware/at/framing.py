"""Bytes from the host cut into lines (guide 3.1 to 3.4, decisions D1, D2, D8).

One buffer serves for everything: the UART is read straight into it, a command is worked on where
it lies, and what arrived behind it stays for the next turn. A line ends with LF; a CR directly
before it is dropped. Where a command starts, and what a line without one gets:

    junk AT+SEND1 hello LF      the command starts at the first `AT+`, in any case
    AT LF, junk AT LF           attention: a line that ends in AT
    ATX LF                      parse error: begins with AT, no AT+
    anything else LF            noise: no answer
    AT+ and too many bytes LF   overflow, once, when the line has ended
"""

from micropython import const

# What `take` says a line is.
COMMAND = const(1)
ATTENTION = const(2)
MALFORMED = const(3)
OVERFLOW = const(4)
NOISE = const(5)

_SPELLINGS = (b"AT+", b"at+", b"At+", b"aT+")

_PLUS = const(0x2B)
_LF = const(10)
_CR = const(13)

# How much of a line without a command is kept: enough for an `AT+` that arrives in pieces and
# for an `AT`, CR at the end.
_TAIL = const(3)


def _is_at(buf, i):
    """True when the two bytes at `i` spell AT in any case."""
    return buf[i] & 0xDF == 0x41 and buf[i + 1] & 0xDF == 0x54


def _find_command(buf, start, end):
    """Position of the first `AT+` that lies in `buf[start:end]`, or -1."""
    if end - start > 2 and _is_at(buf, start) and buf[start + 2] == _PLUS:
        return start
    found = -1
    # Four searches at C's speed, each no further than the one before got.
    for spelling in _SPELLINGS:
        at = buf.find(spelling, start, end)
        if at >= 0:
            found = at
            end = at + 2
    return found


class Framer:
    """Cuts a stream into lines.

    limit: the longest command in bytes, from `AT` to before the CR or LF. buf: a bytearray of
    two bytes more, for the CR and LF.

    Use: read into `room()`, say `filled(n)`, then call `take()` until it returns None; after a
    line has been dealt with, call `release()`. While a COMMAND is being dealt with, its bytes are
    `buf[start:end]` and belong to the caller, who may change them.
    """

    def __init__(self, limit, buf):
        if len(buf) != limit + 2:
            raise ValueError("line buffer")
        self._limit = limit
        self.buf = buf
        self._view = memoryview(self.buf)
        self._line = 0  # where what is kept of the current line begins
        self._scan = 0  # where to go on looking for the line's end
        self._fill = 0  # where the next byte goes
        self._command = -1  # where the command begins, once `AT+` was seen
        self._opens_with_at = False  # of a line whose beginning is no longer kept
        self._trimmed = False  # the beginning of the line is no longer kept
        self._overflow = False
        self._announced = False
        self.start = 0
        self.end = 0
        self._end = 0  # where the line that `take` announced ends, without its line end

    def room(self):
        """A view of the free part of the buffer, never empty, to read the UART into."""
        if self._line == self._fill:
            self._line = self._scan = self._fill = 0
        return self._view[self._fill :]

    def filled(self, count):
        """`count` bytes were read into `room()`."""
        self._fill += count

    def take(self):
        """What the next complete line is (COMMAND … NOISE), or None when none is complete."""
        lf = self.buf.find(b"\n", self._scan, self._fill)
        if lf < 0:
            self._scan = self._fill
            self._make_room()
            return None
        self._scan = lf + 1
        self._announced = True
        return self._judge(lf)

    def line(self):
        """The line that `take` announced, as a view: all of it for a command that reads lines
        which are no commands, its last bytes only when it was an OVERFLOW."""
        return self._view[self._line : self._end]

    def unfinished(self):
        """What has come of a line that has not ended, as a view."""
        return self._view[self._line : self._fill]

    def release(self):
        """The line that `take` announced has been dealt with; nothing happens without one."""
        if not self._announced:
            return
        self._announced = False
        self._line = self._scan
        self._command = -1
        self._opens_with_at = self._trimmed = self._overflow = False

    def _judge(self, lf):
        """Classify the line that ends at `lf`."""
        buf = self.buf
        end = lf
        if end > self._line and buf[end - 1] == _CR:
            end -= 1
        self._end = end
        if not self._overflow and self._command < 0:
            self._command = _find_command(buf, self._line, end)
        if self._overflow or (self._command >= 0 and end - self._command > self._limit):
            return OVERFLOW
        if self._command >= 0:
            self.start = self._command
            self.end = end
            return COMMAND
        length = end - self._line
        if length >= 2 and _is_at(buf, end - 2):
            return ATTENTION
        if self._opens_with_at or (not self._trimmed and length >= 2 and _is_at(buf, self._line)):
            return MALFORMED
        return NOISE

    def _make_room(self):
        """Keep no more of an unfinished line than is needed to judge it later."""
        if self._fill < len(self.buf):
            return
        if self._line:
            self._shift()
            return
        if not self._overflow and self._command < 0:
            self._command = _find_command(self.buf, 0, self._fill)
        if self._overflow or self._command < 0:
            self._trim()
        elif self._command:
            self._line = self._command
            self._shift()
        else:
            # The buffer is full of one command, and its line end is not in it.
            self._overflow = True
            self._trim()

    def _trim(self):
        """Drop all but the last bytes of the unfinished line."""
        if not self._trimmed:
            self._trimmed = True
            self._opens_with_at = _is_at(self.buf, self._line)
        self._line = self._fill - _TAIL
        self._shift()

    def _shift(self):
        """Move what is kept to the front of the buffer."""
        by = self._line
        count = self._fill - by
        self._view[:count] = self._view[by : self._fill]
        self._line = 0
        self._fill = count
        self._scan -= by
        if self._command >= 0:
            self._command -= by
