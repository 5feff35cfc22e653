"""The OTA commands on the VM (guide 7.2): from the line to the reply, a host's image in memory."""

import asyncio
import binascii
import sys

from firmware import ota as package
from firmware.at.engine import Engine
from firmware.at.errors import NO_IMAGE, OTA, AtError
from firmware.at.reply import Writer
from firmware.ota.area import AreaError, PartitionArea
from firmware.ota.mailbox import Mailbox
from firmware.profile import V05
from tests_host.vm.nor import Nor, Part
from tests_host.vm.upy_at import Uart

# vm-file: heap=512

_TABLE = {b"OTA": ("ota", "ota", False, True), b"OTA?": ("ota", "ota_query", False, False)}


class Desk:
    """In the place of `ota.desk`: what it was told, and what it says."""

    def __init__(self):
        self.code = 0
        self.detail = b""
        self.box = None
        self.told = []
        self.fault = None
        self.AtError = AtError

    def state(self, module):
        return self.code, self.detail

    def mailbox(self, module):
        if self.fault:
            raise self.fault
        if self.code != 5:
            raise AtError(NO_IMAGE)
        return self.box

    def accept(self, module):
        self.told.append("accept")
        if not self.code:
            raise AtError(OTA, b"nothing is proposed")

    async def apply(self, module):
        self.told.append("apply")
        await asyncio.sleep_ms(1)

    def close(self, module):
        self.told.append("close")

    def flush(self, module):
        self.told.append("flush")


class Context:
    profile = V05


desk = Desk()
package.desk = desk
sys.modules["firmware.ota.desk"] = desk


def _image(size):
    # No period that a power of two divides.
    return bytes([(i * 31 + i // 251) & 0xFF for i in range(size)])


def _arrived(image, sectors=16):
    area = PartitionArea(Part(Nor(sectors), "hota"))
    area.start(0)
    area.write(0, image)
    desk.code = 5
    desk.detail = b"%d" % len(image)
    desk.box = Mailbox(area, len(image))
    return area


async def _ask(*lines, txbuf=4096, writes=None):
    """The replies to `lines`."""
    uart = Uart(True)
    uart.input = b"".join([line + b"\n" for line in lines])
    writer = Writer(uart, txbuf, 86, V05)
    engine = Engine(uart, bytearray(5122), writer, V05, _TABLE, "firmware.commands", "", Context)
    task = asyncio.create_task(engine.run())
    for _ in range(400):
        if uart.output.count(b"\n") == len(lines):
            break
        await asyncio.sleep_ms(5)
    task.cancel()
    if writes is not None:
        writes.extend([size for _, size in uart.writes])
    replies = uart.output.split(b"\n")
    assert len(replies) == len(lines) + 1 and not replies[-1], uart.output
    return replies[:-1]


async def _expect(*dialogue):
    """Pairs of line and reply."""
    replies = await _ask(*[line for line, _ in dialogue])
    for (line, expected), reply in zip(dialogue, replies):
        assert reply == expected, (line, reply)


def _read(reply):
    """The bytes of a READ's reply, its form and checksum looked into."""
    parts = reply.split(b" ")
    assert parts[0] == b"OK" and len(parts) == 4, reply
    data = binascii.unhexlify(parts[2])
    assert parts[1] == b"%02X" % len(data), reply
    assert parts[2] == parts[2].upper()
    assert parts[3] == b"%04X" % (sum(data) % 65536), reply
    return data


async def test_state():
    for code, detail, reply in (
        (0, b"", b"OK 0"),
        (1, b"v2.5.7", b"OK 1 v2.5.7"),
        (2, b"a \\ b", b"OK 2 a \\\\ b"),
        (3, b"", b"OK 3"),
        (5, b"307200", b"OK 5 307200"),
    ):
        desk.code = code
        desk.detail = detail
        await _expect((b"AT+OTA?", reply), (b"at+ota?", reply))
    await _expect((b"AT+OTA? x", b"ERR4 PARAMETER ERROR"))


async def test_what_only_goes_on_to_the_desk():
    desk.code = 1
    await _expect(
        (b"AT+OTA ACCEPT", b"OK"),
        (b"AT+OTA apply", b"OK"),
        (b"AT+OTA  Close ", b"OK"),
        (b"AT+OTA flush", b"OK"),
    )
    assert desk.told == ["accept", "apply", "close", "flush"]
    desk.code = 0
    await _expect((b"AT+OTA ACCEPT", b"ERR21 INVALID OTA UPDATE nothing is proposed"))


async def test_what_is_no_command():
    desk.code = 5
    known = b"ERR4 PARAMETER ERROR known: ACCEPT READ SEEK APPLY CLOSE FLUSH"
    wrong = b"ERR4 PARAMETER ERROR"
    await _expect(
        (b"AT+OTA", known),
        (b"AT+OTA ", known),
        (b"AT+OTA STATE", known),
        (b"AT+OTA MAILBOX", known),
        (b"AT+OTA READ2 4", known),
        (b"AT+OTA ACCEPT now", wrong),
        (b"AT+OTA CLOSE 1", wrong),
        (b"AT+OTA " + b"x" * 400, wrong),
        (b"AT+OTA1 READ 1", wrong),
    )
    assert not desk.told


async def test_nothing_to_be_read():
    for code in range(5):
        desk.code = code
        gone = b"ERR19 HOST IMAGE NOT AVAILABLE"
        await _expect(
            (b"AT+OTA READ 16", gone), (b"AT+OTA SEEK", gone), (b"AT+OTA SEEK 99999999", gone)
        )


async def test_an_image_is_read_to_its_end():
    image = _image(5000)
    _arrived(image)
    found = b""
    for size, expected in ((2, 2), (256, 256), (16, 16), (1024, 1024), (9999, 1024), (512, 512)):
        (reply,) = await _ask(b"AT+OTA READ %d" % size)
        data = _read(reply)
        assert len(data) == expected
        found += data
    for _ in range(2):
        (reply,) = await _ask(b"AT+OTA READ 1024")
        found += _read(reply)
    (reply,) = await _ask(b"AT+OTA READ 1024")
    assert len(_read(reply)) == 5000 - len(found)
    assert found + _read(reply) == image
    # Position at the end: a chunk of no bytes, as often as it is asked for.
    await _expect((b"AT+OTA READ 1", b"OK 00"), (b"AT+OTA READ 1024", b"OK 00"))


async def test_replies_as_the_guide_shows_them():
    _arrived(b"\xab\xab" + b"\x01\x02\x0c" + bytes(9) + b"\xff\xfe")
    await _expect(
        (b"AT+OTA READ 2", b"OK 02 ABAB 0156"),
        (b"AT+OTA READ 12", b"OK 0C 01020C" + b"00" * 9 + b" 000F"),
        (b"AT+OTA READ 16", b"OK 02 FFFE 01FD"),
    )


async def test_a_checksum_is_modulo_65536():
    _arrived(b"\xff" * 1024)
    (reply,) = await _ask(b"AT+OTA READ 1024")
    assert reply[:7] == b"OK 400 " and reply[-5:] == b" FC00", reply[-5:]


async def test_seek():
    image = _image(3000)
    _arrived(image)
    await _expect(
        (b"AT+OTA SEEK 1024", b"OK 400"),
        (b"AT+OTA READ 3", b"OK 03 " + binascii.hexlify(image[1024:1027]).upper()
         + b" %04X" % sum(image[1024:1027])),
        (b"AT+OTA SEEK", b"OK 0"),
        (b"AT+OTA READ 1", b"OK 01 %02X %04X" % (image[0], image[0])),
        (b"AT+OTA SEEK 3000", b"OK BB8"),
        (b"AT+OTA READ 1", b"OK 00"),
        (b"AT+OTA seek 0002999", b"OK BB7"),
        (b"AT+OTA SEEK 3001", b"ERR20 INVALID ADDRESS"),
        (b"AT+OTA SEEK -1", b"ERR20 INVALID ADDRESS"),
        (b"AT+OTA SEEK " + b"9" * 200, b"ERR20 INVALID ADDRESS"),
        # Where it was before.
        (b"AT+OTA READ 9", b"OK 01 %02X %04X" % (image[2999], image[2999])),
    )  # fmt: skip


async def test_numbers_that_are_none():
    _arrived(_image(100))
    wrong = b"ERR4 PARAMETER ERROR"
    for text in (b"", b" ", b"0", b"00", b"-1", b"+1", b"1.0", b"0x10", b"1e2", b"10 10", b"ten"):
        await _expect((b"AT+OTA READ " + text, wrong))
    for text in (b"-", b"--1", b"+1", b"0x10", b"1 1", b"end"):
        await _expect((b"AT+OTA SEEK " + text, wrong))
    assert desk.box.position == 0


async def test_a_flash_that_fails():
    area = _arrived(_image(5000))

    def fail(*_):
        raise OSError(5)

    area._partition.readblocks = fail
    gone = b"ERR19 HOST IMAGE NOT AVAILABLE flash, errno 5"
    await _expect((b"AT+OTA READ 16", gone), (b"AT+OTA SEEK 7", b"OK 7"))
    assert desk.box.position == 7
    desk.fault = OSError(2)
    await _expect((b"AT+OTA SEEK 1", b"ERR19 HOST IMAGE NOT AVAILABLE flash, errno 2"))
    desk.fault = None


async def test_an_image_that_is_replaced_while_it_waits_for_the_uart_is_not_told():
    """The reply is one moment's content, whatever happens before it has gone out."""
    image = _image(1024)
    area = _arrived(image)
    uart = Uart(False)
    uart.input = b"AT+OTA READ 1024\n"
    engine = Engine(
        uart, bytearray(5122), Writer(uart, 512, 86, V05), V05, _TABLE, "firmware.commands", "",
        Context,
    )  # fmt: skip
    task = asyncio.create_task(engine.run())
    while not uart.output:
        await asyncio.sleep_ms(1)
    assert len(uart.output) < 1024
    area.discard()
    for _ in range(100):
        if uart.output.endswith(b"\n"):
            break
        await asyncio.sleep_ms(10)
    task.cancel()
    assert _read(uart.output[:-1]) == image


# vm: heap=96
async def test_a_long_reply_goes_out_in_pieces():
    _arrived(_image(2048), 1)
    writes = []
    (reply,) = await _ask(b"AT+OTA READ 1024", writes=writes)
    assert len(_read(reply)) == 1024
    assert len(writes) > 3 and max(writes) <= 512, writes


def _places(**labels):
    """An `esp32` with these partitions (sectors by label); the first slot runs."""

    class Partition(Part):
        RUNNING = 1

        def __init__(self, label):
            if label == 1:
                label = "ota_0" if "ota_0" in labels else "factory"
            if label not in labels:
                raise OSError(2)
            super().__init__(chips[label], label)
            self._info = (0, 0, sorted(labels).index(label) * 65536, labels[label] * 4096, label)

        def get_next_update(self):
            if "ota_1" in labels:
                return Partition("ota_1")
            if "ota_0" in labels:
                return Partition("ota_0")
            raise OSError(2)

    class Esp32:
        pass

    class Slots:
        ImageError = ValueError
        trial = False
        bundles = False

        def partition():
            if Slots.trial:
                raise ValueError(b"version on trial")
            return None if Slots.bundles else Partition("ota_1")

    chips = {}
    for label, sectors in labels.items():
        chips[label] = Nor(sectors)
    Esp32.Partition = Partition
    sys.modules["esp32"] = Esp32
    sys.modules["firmware.ota.slots"] = package.slots = Slots
    return Slots, chips


def _refused(function, *arguments):
    try:
        function(*arguments)
    except AreaError as error:
        return error.args[0]
    raise AssertionError("not refused")


def _no_files(module, limit):
    """In the place of the file: a filesystem with `limit` bytes to spare."""

    class File:
        name = b"file"
        size = limit

        def __init__(self, path, most):
            assert (path, most) == ("/ota/mail", 1048576)

    module.FileArea = File


def test_where_an_image_is_put():
    from firmware.ota import mailbox

    _no_files(mailbox, 5000)
    slots, _ = _places(hota=4, ota_0=8, ota_1=8)
    assert mailbox.place(16384).name == b"hota"
    # Larger than its own partition: the idle slot has room.
    assert mailbox.place(16385).name == b"ota_1"
    assert _refused(mailbox.place, 32769) == b"too large, at most 28672 bytes"
    slots.trial = True
    assert mailbox.place(16384).name == b"hota"
    assert _refused(mailbox.place, 16385) == b"too large, at most 16384 bytes"
    _places(ota_0=8, ota_1=8)
    assert mailbox.place(1).name == b"ota_1"
    slots, _ = _places(ota_0=8, ota_1=8)
    slots.bundles = True
    assert mailbox.place(1).name == b"ota_1"
    slots, _ = _places(factory=8)
    slots.bundles = True
    assert mailbox.place(5000).name == b"file"
    assert _refused(mailbox.place, 5001) == b"too large, at most 5000 bytes"
    # One slot, which runs.
    slots, _ = _places(ota_0=8)
    slots.bundles = True
    assert mailbox.place(1).name == b"file"


def test_where_an_image_was_put():
    from firmware.ota import mailbox

    _no_files(mailbox, 5000)
    _, chips = _places(hota=4, ota_0=8, ota_1=8)
    for name in (b"hota", b"ota_1", b"file"):
        assert mailbox.open(name).name == name
    assert _refused(mailbox.open, b"ota_7") == b"no such partition"
    # The version that runs is never given up for a host's image.
    assert _refused(mailbox.open, b"ota_0") == b"partition in use"
    mailbox.open(b"ota_1").discard()
    assert (chips["ota_1"].erases, chips["ota_0"].erases) == (1, 0)
