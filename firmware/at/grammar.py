r"""A line taken apart (guide 3.1 to 3.3, decision D3).

    command   = "AT+" word [ suffix ] [ "?" ] [ " " parameter ]
    word      = 1*32( any byte but a digit, "?", space )        letters in any case
    suffix    = 1*DIGIT
    parameter = *( any byte but LF and "\" / "\A" / "\\" )      "\A" is LF, "\\" is "\"

What follows the suffix or the `?` must be a space, else ERR2. The parameter is decoded by a
function of its own, later and in steps: it may be 5 KB, and unknown commands need not decode it.
"""

from micropython import const

from firmware.at.errors import ESCAPE, NOT_FOUND, PARAMETER, PARSE, AtError

_SPACE = const(0x20)
_QUERY = const(0x3F)
_ZERO = const(0x30)
_NINE = const(0x39)
_BACKSLASH = const(0x5C)
_LF = const(0x0A)
_ESCAPED_LF = const(0x41)

_PREFIX = const(3)  # the length of `AT+`

# A key, a host's name, a few words.
_BRIEF = const(300)

# A suffix is never near this; larger ones are cut to it so that no number grows without bound.
_SUFFIX_MAX = const(1000000)


class Command:
    """One command line, in the framer's buffer.

    word: upper case, with a `?` behind it when this is a query. suffix: int or None.
    buf[start:end]: the parameter. has_parameter: there was a separator.
    """

    def __init__(self, max_word):
        self._max_word = max_word
        self.word = b""
        self.query = False
        self.suffix = None
        self.has_parameter = False
        self.buf = bytearray(0)
        self.start = 0
        self.end = 0

    def parse(self, buf, start, end):
        """Take apart `buf[start:end]`, which begins with `AT+`.

        Raises AtError: ERR3 for a word that is too long or empty, ERR2 when something other than
        a space follows the suffix or the `?`.
        """
        i = start + _PREFIX
        stop = min(end, i + self._max_word + 1)
        while i < stop:
            c = buf[i]
            if c == _SPACE or c == _QUERY or _ZERO <= c <= _NINE:
                break
            i += 1
        length = i - start - _PREFIX
        if length > self._max_word or not length:
            raise AtError(NOT_FOUND)
        word = bytes(memoryview(buf)[start + _PREFIX : i]).upper()
        suffix = None
        while i < end and _ZERO <= buf[i] <= _NINE:
            suffix = min((suffix or 0) * 10 + buf[i] - _ZERO, _SUFFIX_MAX)
            i += 1
        self.query = i < end and buf[i] == _QUERY
        if self.query:
            i += 1
            word += b"?"
        self.has_parameter = i < end
        if self.has_parameter:
            if buf[i] != _SPACE:
                raise AtError(PARSE)
            i += 1
        self.word = word
        self.suffix = suffix
        self.buf = buf
        self.start = i
        self.end = end

    def data(self):
        """The parameter as a view of the line buffer, valid until the command ends."""
        return memoryview(self.buf)[self.start : self.end]

    def text(self):
        """The parameter as bytes of its own."""
        return bytes(self.data())

    def brief(self, code=PARAMETER):
        """`text` of a command whose parameter is short: error `code` for one that is not, before
        memory is spent on it."""
        if self.end - self.start > _BRIEF:
            raise AtError(code)
        return self.text()


def unescape(buf, source, end, target, steps):
    """Decode escapes of `buf[source:end]` in place; the result grows at `target`.

    Works on at most `steps` escapes and returns (source, target) to go on from; all is done when
    source equals end, and the decoded bytes then end at target. At the first call target equals
    source. Raises AtError ERR5 for an illegal escape (3.2.2.1).
    """
    view = memoryview(buf)
    while source < end:
        mark = buf.find(b"\\", source, end)
        if mark < 0:
            mark = end
        count = mark - source
        if count and source != target:
            view[target : target + count] = view[source:mark]
        target += count
        source = mark
        if source == end:
            break
        if not steps:
            break
        steps -= 1
        escaped = buf[source + 1] if source + 1 < end else -1
        if escaped == _ESCAPED_LF:
            buf[target] = _LF
        elif escaped == _BACKSLASH:
            buf[target] = _BACKSLASH
        else:
            raise AtError(ESCAPE)
        target += 1
        source += 2
    return source, target
