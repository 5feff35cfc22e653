"""Where images lie: pieces of any size, in any order, into a partition or a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.ota.area import AreaError, FileArea, PartitionArea
from firmware.ota.mailbox import Mailbox

SECTOR = 4096
SECTORS = 5
OLD = 0x5A


class Chip:
    """An `esp32.Partition` of NOR flash that notes how often each sector was erased."""

    def __init__(self):
        self.data = bytearray([OLD]) * (SECTORS * SECTOR)
        self.erased = [0] * SECTORS

    def info(self):
        return 1, 6, 0x4F0000, len(self.data), "hota", False

    def readblocks(self, block, buf, offset):
        at = block * SECTOR + offset
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, offset):
        at = block * SECTOR + offset
        assert at + len(buf) <= len(self.data)
        for i, value in enumerate(bytes(buf)):
            self.data[at + i] &= value

    def ioctl(self, op, sector):
        assert op == 6
        self.erased[sector] += 1
        self.data[sector * SECTOR : (sector + 1) * SECTOR] = b"\xff" * SECTOR


@st.composite
def _pieces(draw):
    """(first sector, content behind it, [(start, end)] of all of it in some order)."""
    first = draw(st.integers(0, SECTORS - 1))
    size = draw(st.integers(1, (SECTORS - first) * SECTOR))
    cuts = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=12))})
    pieces = draw(st.permutations(list(zip(cuts, cuts[1:], strict=False))))
    content = draw(st.randoms(use_true_random=False)).randbytes(size)
    return first, content, pieces


def _fill(area, first, content, pieces):
    area.start(first * SECTOR)
    for start, end in pieces:
        area.write(first * SECTOR + start, memoryview(content)[start:end])
    area.sync()
    found = bytearray(len(content))
    area.readinto(first * SECTOR, found)
    assert found == content


@given(_pieces())
def test_a_partition_holds_what_was_written_and_nothing_else_is_touched(drawn):
    first, content, pieces = drawn
    chip = Chip()
    _fill(PartitionArea(chip), first, content, pieces)
    last = first + (len(content) - 1) // SECTOR
    assert chip.erased == [int(first <= n <= last) for n in range(SECTORS)]
    end = first * SECTOR + len(content)
    assert set(chip.data[: first * SECTOR]) <= {OLD}
    assert set(chip.data[end : (last + 1) * SECTOR]) <= {0xFF}
    assert set(chip.data[(last + 1) * SECTOR :]) <= {OLD}


@given(_pieces(), st.integers(0, SECTORS * SECTOR))
def test_a_file_holds_what_was_written(tmp_path_factory, drawn, longer):
    first, content, pieces = drawn
    path = tmp_path_factory.mktemp("area") / "ota" / "mail"
    area = FileArea(str(path), SECTORS * SECTOR)
    if first:
        area.start(0)
        # What was written behind the place where it is resumed does not count.
        area.write(0, bytes([OLD]) * max(first * SECTOR, longer))
    _fill(area, first, content, pieces)
    before = bytearray(first * SECTOR)
    area.readinto(0, before)
    assert set(before) <= {OLD}
    area.close()


def test_a_started_file_is_empty(tmp_path):
    area = FileArea(str(tmp_path / "ota" / "mail"), 9000)
    area.start(0)
    area.write(0, b"old" * 100)
    area.start(0)
    area.write(0, b"new")
    area.close()
    assert (tmp_path / "ota" / "mail").read_bytes() == b"new"


@pytest.mark.parametrize("end", [9001, 20000])
def test_beyond_the_limit(tmp_path, end):
    area = FileArea(str(tmp_path / "ota" / "mail"), 9000)
    area.start(0)
    area.write(8990, bytes(10))
    with pytest.raises(AreaError, match="no room, at most 9000 bytes"):
        area.write(end - 5, bytes(5))
    area.close()


def test_less_than_no_room(tmp_path, monkeypatch):
    """LittleFS may count more blocks as used than there are."""
    monkeypatch.setattr("os.statvfs", lambda _: (4096, 4096, 100, 2**32 - 3))
    area = FileArea(str(tmp_path / "ota" / "mail"), 9000)
    assert area.size == 0
    with pytest.raises(AreaError):
        area.write(0, b"x")


@given(
    st.integers(0, SECTORS * SECTOR),
    st.lists(st.one_of(st.integers(1, 3000), st.tuples(st.integers(0, 25000))), max_size=40),
)
def test_a_mailbox_reads_what_a_file_would(size, steps):
    """Each step reads so many bytes, or moves to an address."""
    from firmware.at.errors import ADDRESS, AtError

    chip = Chip()
    for i in range(size):
        chip.data[i] = (i * 37 + (i >> 8)) & 0xFF
    image = bytes(chip.data[:size])
    mailbox = Mailbox(PartitionArea(chip), size)
    position = 0
    for step in steps:
        if isinstance(step, tuple):
            if step[0] > size:
                with pytest.raises(AtError) as refused:
                    mailbox.seek(step[0])
                assert refused.value.code == ADDRESS
            else:
                mailbox.seek(step[0])
                position = step[0]
        else:
            expected = image[position : position + min(step, 1024)]
            assert mailbox.read(step) == expected
            position += len(expected)
        assert mailbox.position == position
