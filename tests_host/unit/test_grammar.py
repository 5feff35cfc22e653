"""Lines to commands: 3.1, 3.2, D3, D6's query mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.at import grammar
from firmware.at.errors import AtError


def parse(line, max_word=32):
    command = grammar.Command(max_word)
    buf = bytearray(b"junk" + line + b"junk")
    command.parse(buf, 4, 4 + len(line))
    return command.word, command.suffix, command.query, command.text()


def decode(data, steps=1000):
    """All of unescape's turns over `data`."""
    buf = bytearray(b"<" + data + b">")
    end = len(buf) - 1
    source = target = 1
    turns = 0
    while True:
        source, target = grammar.unescape(buf, source, end, target, steps)
        turns += 1
        if source == end:
            return bytes(buf[1:target]), turns


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"AT+CONNECT", (b"CONNECT", None, False, b"")),
        (b"at+connect?", (b"CONNECT?", None, True, b"")),
        (b"AT+SEND2 Hello World", (b"SEND", 2, False, b"Hello World")),
        (b"AT+SEND2  x ", (b"SEND", 2, False, b" x ")),
        (b"AT+SEND2 ", (b"SEND", 2, False, b"")),
        (b"AT+GET0", (b"GET", 0, False, b"")),
        (b"AT+GET007", (b"GET", 7, False, b"")),
        (b"AT+GET12? x", (b"GET?", 12, True, b"x")),
        (b"AT+CONF? SSID", (b"CONF?", None, True, b"SSID")),
        (b"AT+FACTORY_RESET", (b"FACTORY_RESET", None, False, b"")),
        (b"AT+SEND=1 x", (b"SEND=", 1, False, b"x")),
        (b"AT+" + b"W" * 32, (b"W" * 32, None, False, b"")),
    ],
)
def test_commands(line, expected):
    assert parse(line) == expected


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"AT+SEND2x", 2),
        (b"AT+SEND2=x", 2),
        (b"AT+SEND2\tx", 2),
        (b"AT+CONF?x", 2),
        (b"AT+CONF??", 2),
        (b"AT+CONF?1 x", 2),
        (b"AT+", 3),
        (b"AT+ CONNECT", 3),
        (b"AT+?", 3),
        (b"AT+1", 3),
        (b"AT+" + b"W" * 33, 3),
        (b"AT+" + b"W" * 5000, 3),
    ],
)
def test_bad_lines(line, code):
    with pytest.raises(AtError) as caught:
        parse(line)
    assert caught.value.code == code


def test_a_suffix_does_not_grow_without_bound():
    assert parse(b"AT+GET" + b"9" * 5000)[1] == 1000000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (rb"a\Ab", b"a\nb"),
        (rb"\\", b"\\"),
        (rb"\\A", rb"\A"),
        (rb"\\\A", b"\\\n"),
        (rb"\A\A\A", b"\n\n\n"),
        (rb"x\\y\Az", b"x\\y\nz"),
    ],
)
def test_escapes(data, expected):
    assert decode(data)[0] == expected


@pytest.mark.parametrize("data", [b"\\", rb"\a", rb"\n", rb"x\B", rb"\\\ ", rb"\A\\" + b"\\"])
def test_illegal_escapes(data):
    with pytest.raises(AtError) as caught:
        decode(data)
    assert caught.value.code == 5


@given(st.binary(max_size=200), st.integers(1, 5))
def test_decoding_undoes_encoding_in_any_number_of_turns(data, steps):
    encoded = data.replace(b"\\", b"\\\\").replace(b"\n", b"\\A")
    decoded, turns = decode(encoded, steps)
    assert decoded == data
    escapes = data.count(b"\\") + data.count(b"\n")
    assert turns <= escapes // steps + 1
