r"""The language of the transcripts, and its parser.

A file is a row of blocks; each is one test. A head names the clauses and says what is shown:

    ## 4.1.4.3, D5: an index over the end of the list

A block begins with a module that has just been switched on: no SSID, no topics, its STARTUP event
taken; the cloud has no faults. One step a line:

    > AT+SEND99 hi    the host sends this and LF
    >> AT+SE          … without LF
    < ERR7 TOPIC …    the next line from the module is exactly this
    <~ OK \d+         … or matches this regular expression
    <-                nothing comes for 0.2 s
    @name words       something that is not on the UART: see `directives.py`
    # words           a comment; so are all lines before the first head

In what is sent and what is expected stand for something else:

    {0D}              the byte with this hexadecimal number
    {x*5000}          5000 times the character x
    {thing}           a name that the stage knows: thing, endpoint, ntp, pem NAME (see `stage.py`)

Any other brace is itself, and so is every backslash. In a regular expression only names are
replaced. At the end the module has nothing more to say, and answers one more
command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CLAUSE = r"(?:D\d+|Table \d|[3-9](?:\.\d+)*)"
_HEAD = re.compile(rf"## ({_CLAUSE}(?:, {_CLAUSE})*): (\S.*)")
_NAME = r"thing|endpoint|ntp|pem [a-z0-9-]+"
_PLACE = re.compile(rf"\{{(?:([0-9A-F]{{2}})|(.)\*(\d+)|({_NAME}))\}}")
_NAME_PLACE = re.compile(rf"\{{({_NAME})\}}")

# Longest mark first.
MARKS = (">> ", "> ", "<~ ", "<-", "< ", "@")


# Directives that can fail because of what the module does.
_CHECKS = ("arrives", "quiet", "event", "state", "took", "client", "restarted", "job", "image")


class TranscriptError(ValueError):
    """A transcript that cannot be read; the text says where and why."""


@dataclass(frozen=True)
class Step:
    """One line: its mark (stripped), what follows, and its number in the file."""

    mark: str
    text: str
    line: int


@dataclass(frozen=True)
class Block:
    """One test: the clauses that it shows, a title, steps."""

    path: Path
    line: int
    clauses: tuple[str, ...]
    title: str
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        """Its name as a test."""
        return f"{','.join(self.clauses)} {self.title}"

    def where(self, step: Step) -> str:
        """File and line of a step."""
        return f"{self.path.name}:{step.line}"


def _step(path: Path, number: int, text: str) -> Step:
    # A mark alone is an empty line of the host or of the module.
    padded = text + " " if text in (">", "<") else text
    for mark in MARKS:
        if padded.startswith(mark):
            rest = padded[len(mark) :]
            if mark == "<-" and rest:
                break
            return Step(mark.strip(), rest, number)
    raise TranscriptError(f"{path.name}:{number}: not a step: {text}")


def _expects(step: Step) -> bool:
    return step.mark.startswith("<") or (step.mark == "@" and step.text.split()[0] in _CHECKS)


def parse(path: Path) -> list[Block]:
    """The blocks of a file. Raises TranscriptError."""
    blocks: list[tuple] = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith("##"):
            head = _HEAD.fullmatch(text)
            if head is None:
                raise TranscriptError(f"{path.name}:{number}: not a head: {text}")
            blocks.append((number, tuple(head[1].split(", ")), head[2], []))
        elif blocks and text.strip() and not text.startswith("#"):
            blocks[-1][3].append(_step(path, number, text))
    made = [Block(path, *block[:3], tuple(block[3])) for block in blocks]
    for block in made:
        if not any(_expects(step) for step in block.steps):
            raise TranscriptError(f"{path.name}:{block.line}: expects nothing: it cannot fail")
    return made


def fill(text: str, name) -> bytes:
    """What a line stands for. name: function from a name to its bytes; KeyError when unknown."""

    def one(found: re.Match) -> bytes:
        if found[1]:
            return bytes([int(found[1], 16)])
        if found[2]:
            return found[2].encode() * int(found[3])
        return name(found[4])

    out, at = b"", 0
    for found in _PLACE.finditer(text):
        out += text[at : found.start()].encode() + one(found)
        at = found.end()
    return out + text[at:].encode()


def fill_pattern(text: str, name) -> re.Pattern:
    """The regular expression (of bytes) that a line stands for, its names replaced."""
    out, at = b"", 0
    for found in _NAME_PLACE.finditer(text):
        out += text[at : found.start()].encode() + re.escape(name(found[1]))
        at = found.end()
    return re.compile(out + text[at:].encode(), re.DOTALL)
