r"""How many replies a stream of bytes gets, and what may stand in them: from the guide alone.

Written without a look at the firmware, from chapters 3.1 to 3.5 and the decisions D1 to D9:

    line ends with LF, a CR directly before it is dropped
    `AT+` anywhere, any case     one reply
    else ends in AT              OK
    else begins with AT          ERR2
    else                         no reply

A `CONF <certificate>=pem` swallows the lines that follow, up to the end of the PEM text or to the
next command line; the command itself and that line get a reply each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIMIT = 5120
MAX_WORD = 32

# Every error of Table 1: the text that has to follow the number.
ERRORS = (
    None,
    b"OVERFLOW",
    b"PARSE ERROR",
    b"COMMAND NOT FOUND",
    b"PARAMETER ERROR",
    b"INVALID ESCAPE",
    b"NO CONNECTION",
    b"TOPIC OUT OF RANGE",
    b"TOPIC UNDEFINED",
    b"INVALID KEY LENGTH",
    b"INVALID KEY NAME",
    b"UNKNOWN KEY",
    b"KEY READONLY",
    b"KEY WRITEONLY",
    b"UNABLE TO CONNECT",
    b"TIME NOT AVAILABLE",
    b"LOCATION NOT AVAILABLE",
    b"MODE NOT AVAILABLE",
    b"ACTIVE CONNECTION",
    b"HOST IMAGE NOT AVAILABLE",
    b"INVALID ADDRESS",
    b"INVALID OTA UPDATE",
    b"INVALID QUERY",
    b"INVALID SIGNATURE",
)

# Words with a command, words with a query, and those that later revisions of the module may have.
COMMANDS = {
    b"CONNECT", b"DISCONNECT", b"SLEEP", b"RESET", b"FACTORY_RESET", b"CONFMODE",
    b"SEND", b"GET", b"SUBSCRIBE", b"UNSUBSCRIBE", b"CONF", b"DIAG",
}  # fmt: skip
QUERIES = {b"CONNECT", b"CONF", b"EVENT", b"STAT", b"TIME", b"WHERE"}
LATER = {b"OTA"}

ANY_ERROR = frozenset(range(1, len(ERRORS)))
OK = 0
# What a command that is known and well formed may end in; it is none of the line's own errors.
_KNOWN = frozenset({OK, *ANY_ERROR}) - {1, 2, 3, 22}

_SPLIT = re.compile(rb"([^0-9? ]*)([0-9]*)(\??)(.*)", re.DOTALL)
_PASTE = re.compile(rb"CONF\s+(OTACERTIFICATE|HOTACERTIFICATE|ROOTCA)\s*=\s*PEM", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One line as the host may see it. codes: how its reply may end, 0 for OK; empty: no reply.

    word: the command's word in capitals, with `?` for a query; b"" when there is none.
    rest: what follows the word, suffix and `?`.
    """

    codes: frozenset
    word: bytes = b""
    suffix: bytes = b""
    rest: bytes = b""


def judge(line: bytes) -> Line:
    """What one line (without its LF) gets."""
    if line.endswith(b"\r"):
        line = line[:-1]
    capitals = line.upper()
    at = capitals.find(b"AT+")
    if at < 0:
        if capitals.endswith(b"AT"):
            return Line(frozenset({OK}))
        return Line(frozenset({2}) if capitals.startswith(b"AT") else frozenset())
    if len(line) - at > LIMIT:
        return Line(frozenset({1}))
    word, suffix, query, rest = _SPLIT.fullmatch(line[at + 3 :]).groups()
    word = word.upper()
    if not 0 < len(word) <= MAX_WORD:
        return Line(frozenset({3}))
    shown = word + query
    malformed = bool(rest) and not rest.startswith(b" ")
    if word in LATER:
        codes = ANY_ERROR | {OK}
    elif malformed:
        # Whether the word or what follows it is looked at first is nobody's business.
        known = word in QUERIES if query else word in COMMANDS
        codes = frozenset({2}) if known else frozenset({2, 3, 22})
    elif query:
        codes = _KNOWN if word in QUERIES else frozenset({22 if word in COMMANDS else 3})
    else:
        codes = _KNOWN if word in COMMANDS else frozenset({3})
    return Line(codes, shown, suffix, rest)


def pastes(line: bytes) -> bool:
    """True when the line may begin a paste: then what follows is not judged line by line."""
    return _PASTE.search(line.replace(b"\\A", b"").replace(b"\\\\", b"")) is not None


def judge_all(stream: bytes) -> list[tuple[bytes, Line]]:
    """The lines of `stream` that get a reply, each with what it gets, in the order of replies.

    A paste has to be ended by a command line in the stream, as the generator has it.
    """
    found = []
    pasting = False
    *lines, rest = stream.split(b"\n")
    if rest:
        raise ValueError("the stream does not end with a line end")
    for line in lines:
        command = b"AT+" in line.upper()
        if pasting and not command:
            continue
        pasting = command and pastes(line)
        judged = Line(_KNOWN, b"CONF") if pasting else judge(line)
        if judged.codes:
            found.append((line, judged))
    return found


_ERR = re.compile(rb"ERR([1-9][0-9]?) (.*)", re.DOTALL)
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


class ReplyError(AssertionError):
    """Bytes from the module that are no reply."""


def reply_code(line: bytes) -> int:
    """How the reply `line` (without LF) ends: 0 or an error's number. Raises ReplyError."""
    if line == b"OK" or line.startswith(b"OK "):
        return OK
    match = _ERR.fullmatch(line)
    if match is None or int(match[1]) not in ANY_ERROR:
        raise ReplyError(f"not a reply: {line[:120]!r}")
    code, text = int(match[1]), match[2]
    if not (text == ERRORS[code] or text.startswith(ERRORS[code] + b" ")):
        raise ReplyError(f"another text than Table 1's: {line[:120]!r}")
    if b"OK" in text:
        raise ReplyError(f"an error that says OK: {line[:120]!r}")
    if text.endswith(b"INTERNAL"):
        raise ReplyError(f"a defect: {line[:120]!r}")
    return code


class Replies:
    """Cuts what the module sends into replies: certificates in PEM form take several lines.

    Feed it with `add`; the replies so far are in `lines`, as their first lines.
    """

    def __init__(self):
        self.lines: list[bytes] = []
        self._rest = b""
        self._pem = False  # inside a `pem` reply
        self._inside = False  # between BEGIN and END

    def add(self, data: bytes) -> None:
        """Take bytes from the module."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._pem:
                if line == _BEGIN:
                    self._inside = True
                    continue
                if self._inside:
                    self._inside = line != _END
                    continue
                self._pem = False
            self._pem = line == b"OK pem"
            self.lines.append(line)

    @property
    def unfinished(self) -> bytes:
        """What has come of a line that has not ended yet."""
        return self._rest


def disagreement(expected: list, replies: list[bytes]) -> str:
    """The first place where the replies are not what `judge_all` expects, or "" when all are."""
    for number, ((line, judged), reply) in enumerate(zip(expected, replies, strict=False)):
        try:
            code = reply_code(reply)
        except ReplyError as error:
            return f"reply {number} to {line[:80]!r}: {error}"
        if code not in judged.codes:
            wanted = "/".join(map(str, sorted(judged.codes)))
            return f"reply {number} to {line[:80]!r}: {reply[:80]!r}, expected code {wanted}"
    if len(expected) != len(replies):
        return f"{len(replies)} replies, expected {len(expected)}"
    return ""
