"""Bytes to lines: D1, D2, D8, 3.4.2."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.at import framing

LIMIT = 5120
NAMES = {
    framing.COMMAND: "command",
    framing.ATTENTION: "attention",
    framing.MALFORMED: "malformed",
    framing.OVERFLOW: "overflow",
    framing.NOISE: "noise",
}


def cut(data, limit=LIMIT, pieces=None):
    """What a Framer makes of `data`, fed as much at a time as there is room, or in `pieces`."""
    framer = framing.Framer(limit, bytearray(limit + 2))
    found = []
    sizes = iter(pieces or ())
    while True:
        kind = framer.take()
        if kind is not None:
            line = bytes(framer.buf[framer.start : framer.end])
            found.append((NAMES[kind], line) if kind == framing.COMMAND else NAMES[kind])
            framer.release()
            continue
        if not data:
            return found
        room = framer.room()
        assert len(room) > 0
        count = min(len(room), len(data), next(sizes, len(data)))
        room[:count] = data[:count]
        framer.filled(count)
        data = data[count:]


def model(data, limit=LIMIT):
    """The same by the letter of the decisions, the slow and plain way."""
    found = []
    *lines, _ = data.split(b"\n")
    for line in lines:
        if line.endswith(b"\r"):
            line = line[:-1]
        at = line.upper().find(b"AT+")
        if at >= 0:
            command = line[at:]
            found.append("overflow" if len(command) > limit else ("command", command))
        elif line.upper().endswith(b"AT"):
            found.append("attention")
        elif line.upper().startswith(b"AT"):
            found.append("malformed")
        else:
            found.append("noise")
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"AT\n", ["attention"]),
        (b"at\r\n", ["attention"]),
        (b"\x00\xffAT\n", ["attention"]),
        (b"ATX\n", ["malformed"]),
        (b"AT \n", ["malformed"]),
        (b"hello\n", ["noise"]),
        (b"\n", ["noise"]),
        (b"A\n", ["noise"]),
        (b"AT+CONNECT\n", [("command", b"AT+CONNECT")]),
        (b"noise at+connect\r\n", [("command", b"at+connect")]),
        (b"AT+SEND1 a\rb\n", [("command", b"AT+SEND1 a\rb")]),
        (b"AT+SEND1 a\r\r\n", [("command", b"AT+SEND1 a\r")]),
        (b"AT+A AT+B\n", [("command", b"AT+A AT+B")]),
        (b"+AT+A\n", [("command", b"AT+A")]),
        (b"A+T+\n", ["noise"]),
        (b"AT\nAT+X\nAT", ["attention", ("command", b"AT+X")]),
    ],
)
def test_lines(data, expected):
    assert cut(data) == expected
    assert cut(data, pieces=[1] * len(data)) == expected


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("junk", [b"", b"x" * 3, b"x" * 20000])
def test_the_longest_line_and_one_byte_more(ending, junk):
    longest = b"AT+SEND1 " + b"x" * (LIMIT - 9)
    assert cut(junk + longest + ending) == [("command", longest)]
    assert cut(junk + longest + b"y" + ending) == ["overflow"]
    after = b"AT+NEXT" + ending
    assert cut(junk + longest + b"y" * 100000 + ending + after) == [
        "overflow",
        ("command", b"AT+NEXT"),
    ]


def test_no_overflow_without_a_command():
    assert cut(b"z" * 100000 + b"\nAT\n") == ["noise", "attention"]
    assert cut(b"AT" + b"z" * 100000 + b"\n") == ["malformed"]
    assert cut(b"z" * 100000 + b"AT\r\n") == ["attention"]


def test_lines_behind_a_command_wait():
    framer = framing.Framer(LIMIT, bytearray(LIMIT + 2))
    data = b"AT+ONE\nAT+TWO x\n"
    framer.room()[: len(data)] = data
    framer.filled(len(data))
    assert framer.take() == framing.COMMAND
    assert bytes(framer.buf[framer.start : framer.end]) == b"AT+ONE"
    framer.release()
    assert framer.take() == framing.COMMAND
    assert bytes(framer.buf[framer.start : framer.end]) == b"AT+TWO x"


alphabet = st.sampled_from([b"A", b"T", b"a", b"t", b"+", b"\n", b"\r", b"x", b"AT+", b"\x00"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(alphabet, max_size=80).map(b"".join),
    st.integers(8, 20),
    st.lists(st.integers(1, 9), max_size=60),
)
def test_any_stream_in_any_pieces(data, limit, pieces):
    data += b"\n"
    assert cut(data, limit, pieces) == model(data, limit)


def test_a_line_that_is_no_command_can_be_read_as_it_is():
    framer = framing.Framer(16, bytearray(18))
    seen = []
    data = b"-----BEGIN\r\nMIIB\nAT+X\nrest"
    framer.room()[: len(data[:18])] = data[:18]
    framer.filled(18)
    assert framer.take() == framing.NOISE
    seen.append(bytes(framer.line()))
    framer.release()
    assert framer.take() == framing.NOISE
    seen.append(bytes(framer.line()))
    framer.release()
    assert framer.take() is None
    assert bytes(framer.unfinished()) == b"A"
    framer.room()[:8] = data[18:]
    framer.filled(8)
    assert framer.take() == framing.COMMAND
    seen.append(bytes(framer.line()))
    framer.release()
    assert framer.take() is None
    assert bytes(framer.unfinished()) == b"rest"
    assert seen == [b"-----BEGIN", b"MIIB", b"AT+X"]
