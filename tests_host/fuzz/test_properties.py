"""Framing, grammar and replies under CPython, against the oracle: any bytes in any pieces."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

# Puts MicroPython's names where the device's files look for them.
import tests_host.unit.conftest  # noqa: F401
from firmware.at import framing, grammar, reply
from firmware.at.errors import AtError
from firmware.profile import V05
from tests_host.fuzz import oracle

_LIMIT = 5120

_token = st.sampled_from(
    [b"AT+", b"at+", b"AT", b"\n", b"\r\n", b"\r", b" ", b"?", b"=", b"\\", b"\\A", b"\\\\",
     b"SEND", b"CONF", b"EVENT", b"get", b"NOSUCH", b"0", b"1", b"17", b"\x00", b"\xff", b"x" * 40,
     b"y" * 5100]
)  # fmt: skip
_stream = st.lists(st.one_of(_token, st.binary(max_size=6)), max_size=60).map(b"".join)


def _kinds(stream, pieces):
    """What the firmware makes of `stream`, read in `pieces`: for each line that gets a reply its
    error number, or None when that is for the command to say."""
    framer = framing.Framer(_LIMIT, bytearray(_LIMIT + 2))
    command = grammar.Command(V05.max_word)
    found = []
    sizes = iter(pieces)
    while True:
        kind = framer.take()
        if kind is None:
            if not stream:
                return found
            room = framer.room()
            count = min(len(room), len(stream), next(sizes, 5000))
            room[:count] = stream[:count]
            framer.filled(count)
            stream = stream[count:]
            continue
        if kind == framing.COMMAND:
            try:
                command.parse(framer.buf, framer.start, framer.end)
                found.append(command.word)
            except AtError as error:
                found.append(error.code)
        elif kind != framing.NOISE:
            found.append({framing.ATTENTION: 0, framing.MALFORMED: 2, framing.OVERFLOW: 1}[kind])
        framer.release()


@settings(max_examples=300, deadline=None)
@given(_stream, st.lists(st.integers(1, 300), max_size=40))
def test_any_stream_gets_the_replies_that_the_guide_says(stream, pieces):
    stream += b"\n"
    # Pastes are a matter of the command.
    expected = [
        judged for line in stream.split(b"\n")[:-1] if (judged := oracle.judge(line)).codes
    ]
    found = _kinds(stream, pieces)
    assert len(found) == len(expected)
    for got, judged in zip(found, expected, strict=True):
        if isinstance(got, bytes):
            # Parsed: neither too long nor malformed, and the word is the one that was meant.
            assert got == judged.word
            assert not judged.codes <= {1, 2}
        else:
            assert got in judged.codes


class _Uart:
    """Takes everything at once, and remembers it."""

    def __init__(self):
        self.output = b""
        self.largest = 0

    def write(self, data):
        self.output += bytes(data)
        self.largest = max(self.largest, len(data))
        return len(data)

    def txdone(self):
        return True


async def _no_sleep(_):
    return None


def _written(call):
    had = hasattr(asyncio, "sleep_ms")
    if not had:
        asyncio.sleep_ms = _no_sleep
    try:
        uart = _Uart()
        asyncio.run(call(reply.Writer(uart, 4096, 86, V05)))
    finally:
        if not had:
            del asyncio.sleep_ms
    return uart


def _escaped(data):
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\A")


_detail = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=1200),
    st.lists(
        st.sampled_from([b"\\", b"\n", b"a", b"\r", b"\xff"]), min_size=450, max_size=1100
    ).map(b"".join),
)


@settings(max_examples=300, deadline=None)
@given(_detail)
def test_any_detail_is_one_line_that_reads_back(detail):
    uart = _written(lambda writer: writer.ok(detail))
    assert uart.output == b"OK " + _escaped(detail) + b"\n"
    assert uart.largest <= 512
    assert oracle.reply_code(uart.output[:-1]) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(_detail, min_size=1, max_size=4))
def test_any_parts_are_one_line(parts):
    uart = _written(lambda writer: writer.ok(tuple(parts)))
    assert uart.output == b"OK " + b"".join(map(_escaped, parts)) + b"\n"
    assert uart.largest <= 512


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 23), _detail)
def test_any_error_has_its_text_and_one_line(code, detail):
    uart = _written(lambda writer: writer.error(code, detail))
    line = b"ERR%d %s" % (code, oracle.ERRORS[code])
    assert uart.output == line + (b" " + _escaped(detail) if detail else b"") + b"\n"


def test_replies_one_behind_the_other_do_not_touch():
    async def several(writer):
        for size in (0, 1, 479, 480, 481, 508, 509, 510, 511, 512, 513, 1024):
            await writer.ok(b"x" * size)
            await writer.error(4)
            await writer.ok()

    lines = _written(several).output.split(b"\n")[:-1]
    sizes = [len(line) - 3 for line in lines[::3]]
    assert sizes == [0, 1, 479, 480, 481, 508, 509, 510, 511, 512, 513, 1024]
    assert set(lines[1::3]) == {b"ERR4 PARAMETER ERROR"}
    assert set(lines[2::3]) == {b"OK"}
