"""The AT port on the VM: bytes in, bytes out, through a UART in memory."""

import asyncio
import io
import time

from firmware.at.engine import Engine
from firmware.at.errors import NO_CONNECTION, AtError
from firmware.at.reply import Writer
from firmware.profile import V05


class Uart(io.IOBase):
    """A UART whose wire is two byte strings; the transmit buffer empties at once or never."""

    def __init__(self, drained=True):
        self.input = b""
        self.output = b""
        self.writes = []
        self.drained = drained

    def readinto(self, buf):
        if not self.input:
            return None
        count = min(len(buf), len(self.input))
        buf[:count] = self.input[:count]
        self.input = self.input[count:]
        return count

    def write(self, data):
        self.writes.append((time.ticks_us(), len(data)))
        self.output += bytes(data)
        return len(data)

    def txdone(self):
        return self.drained

    def ioctl(self, op, arg):
        if op == 3:
            return arg & (4 | (1 if self.input else 0))
        return -1


class Raw:
    async def write_to(self, writer):
        await writer.raw(b"pem\nline\n")


class Half:
    async def write_to(self, writer):
        await writer.raw(b"h" * 600)
        raise MemoryError("not enough")


class Context:
    """What the commands of this test see; they are its own."""

    log = []


def echo(context, command):
    return command.text()


def suffix(context, command):
    return b"%d" % command.suffix if command.suffix is not None else b"none"


async def slow(context, command):
    context.log.append("begin")
    await asyncio.sleep_ms(30)
    context.log.append("end")
    return b"slow"


def nothing(context, command):
    return None


def empty(context, command):
    return b""


def parts(context, command):
    return (b"a\nb", b" ", b"c\\d")


def raw(context, command):
    return Raw()


def half(context, command):
    return Half()


def fails(context, command):
    raise AtError(NO_CONNECTION, b"why\nso")


def breaks(context, command):
    return 1 // 0


_PACKAGE = "tests_host.vm"
_TABLE = {
    b"ECHO": ("upy_at", "echo", False, True),
    b"SUFFIX": ("upy_at", "suffix", True, False),
    b"SLOW": ("upy_at", "slow", False, False),
    b"NOTHING": ("upy_at", "nothing", False, False),
    b"EMPTY": ("upy_at", "empty", False, False),
    b"PARTS": ("upy_at", "parts", False, False),
    b"RAW": ("upy_at", "raw", False, False),
    b"HALF": ("upy_at", "half", False, False),
    b"FAILS": ("upy_at", "fails", False, False),
    b"BREAKS": ("upy_at", "breaks", False, False),
    b"ASK?": ("upy_at", "echo", False, True),
}


async def _talk(data, milliseconds=60, drained=True):
    uart = Uart(drained)
    uart.input = data
    engine = Engine(
        uart, bytearray(5122), Writer(uart, 4096, 86, V05), V05, _TABLE, _PACKAGE, "", Context
    )
    task = asyncio.create_task(engine.run())
    await asyncio.sleep_ms(milliseconds)
    task.cancel()
    return uart, engine


async def _expect(data, output, **options):
    uart, _ = await _talk(data, **options)
    assert uart.output == output, (data[:80], uart.output[:200])


async def test_replies():
    for data, output in (
        (b"AT\n", b"OK\n"),
        (b"AT+NOTHING\r\n", b"OK\n"),
        (b"AT+EMPTY\n", b"OK \n"),
        (b"at+echo x\n", b"OK x\n"),
        (b"AT+ECHO a\\Ab\\\\c\n", b"OK a\\Ab\\\\c\n"),
        (b"AT+ECHO \x00\xff\r.\n", b"OK \x00\xff\r.\n"),
        (b"AT+PARTS\n", b"OK a\\Ab c\\\\d\n"),
        (b"AT+RAW\n", b"OK pem\nline\n"),
        (b"AT+SUFFIX\n", b"OK none\n"),
        (b"AT+SUFFIX0\n", b"OK 0\n"),
        (b"AT+ASK? me\n", b"OK me\n"),
    ):
        await _expect(data, output)


async def test_errors():
    for data, output in (
        (b"AT+UNKNOWN\n", b"ERR3 COMMAND NOT FOUND\n"),
        (b"AT+UNKNOWN \\q\n", b"ERR3 COMMAND NOT FOUND\n"),
        (b"AT+ECHO1 x\n", b"ERR4 PARAMETER ERROR\n"),
        (b"AT+NOTHING x\n", b"ERR4 PARAMETER ERROR\n"),
        (b"AT+ECHO \\q\n", b"ERR5 INVALID ESCAPE\n"),
        (b"AT+ECHO?\n", b"ERR22 INVALID QUERY\n"),
        (b"AT+ASK\n", b"ERR3 COMMAND NOT FOUND\n"),
        (b"AT+ECHO?x\n", b"ERR2 PARSE ERROR\n"),
        (b"ATX\n", b"ERR2 PARSE ERROR\n"),
        (b"AT+FAILS\n", b"ERR6 NO CONNECTION why\\Aso\n"),
        (b"AT+ECHO " + b"x" * 5113 + b"\n", b"ERR1 OVERFLOW\n"),
        (b"noise\n", b""),
    ):
        await _expect(data, output)
        await _expect(data + b"AT\n", output + b"OK\n")


async def test_a_defect_in_a_command_ends_in_a_reply_and_the_port_goes_on():
    await _expect(b"AT+BREAKS\nAT+ECHO on\n", b"ERR4 PARAMETER ERROR INTERNAL\nOK on\n")


async def test_a_reply_that_fails_half_way_ends_its_line_and_the_port_goes_on():
    await _expect(b"AT+HALF\nAT+ECHO on\n", b"OK " + b"h" * 509 + b"\nOK on\n", milliseconds=120)


async def test_other_tasks_get_turns_while_a_long_reply_goes_out():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(0)

    counter = asyncio.create_task(count())
    for data in (b"x" * 5000, b"\\\\" * 2500):
        uart = Uart()
        writer = Writer(uart, 65536, 86, V05)
        before = turns
        await writer.ok(data)
        assert turns - before >= 8, turns - before
    counter.cancel()


async def test_one_command_at_a_time_in_order():
    Context.log = []
    await _expect(b"AT+SLOW\nAT+ECHO next\nAT\n", b"OK slow\nOK next\nOK\n", milliseconds=120)
    assert Context.log == ["begin", "end"]


async def test_long_replies_go_out_in_pieces():
    data = bytes(range(256)).replace(b"\n", b"").replace(b"\\", b"").replace(b"\r", b"") * 18
    uart, _ = await _talk(b"AT+ECHO " + data + b"\n")
    assert uart.output == b"OK " + data + b"\n"
    assert max(size for _, size in uart.writes) <= 512


async def test_escapes_cross_the_pieces():
    data = b"\\A\\\\x" * 1000
    await _expect(b"AT+ECHO " + data + b"\n", b"OK " + data + b"\n", milliseconds=200)


# vm: timeout=20
async def test_the_transmit_buffer_is_never_filled_by_reckoning():
    # A line that never says it is empty: what is written is never over what the wire can have
    # taken since the beginning, plus the buffer.
    data = b"y" * 5000
    started = time.ticks_us()
    uart, _ = await _talk((b"AT+ECHO " + data + b"\n") * 2, milliseconds=700, drained=False)
    assert uart.output == (b"OK " + data + b"\n") * 2
    sent = 0
    for at, size in uart.writes:
        sent += size
        assert sent <= 4096 + time.ticks_diff(at, started) / 86 + 512


async def test_a_5_kb_line_in_small_reads():
    data = b"AT+ECHO " + b"z" * 5112 + b"\n"
    await _expect(b"junk" + data, b"OK " + b"z" * 5112 + b"\n")


async def test_after_reply_runs_once_the_reply_is_out():
    uart = Uart()
    uart.input = b"AT+NOTHING\nAT\n"
    engine = Engine(
        uart, bytearray(5122), Writer(uart, 4096, 86, V05), V05, _TABLE, _PACKAGE, "", Context
    )
    seen = []

    async def action():
        seen.append(uart.output)

    engine.after_reply = action
    task = asyncio.create_task(engine.run())
    await asyncio.sleep_ms(30)
    task.cancel()
    assert seen == [b"OK\n"]
    assert uart.output == b"OK\nOK\n"
