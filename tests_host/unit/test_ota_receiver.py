"""The receiver of a download: any order, losses, lies, flash that forgets, restarts."""

import asyncio
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.ota.receiver import BLOCK, Failed, Receiver

if not hasattr(asyncio, "sleep_ms"):
    asyncio.sleep_ms = lambda ms: asyncio.sleep(ms / 1000)

SECTOR = 4096


class Area:
    """Flash with the contract of `area.py`, which is enforced."""

    name = b"hota"

    def __init__(self, size=20 * SECTOR, ordered=False):
        self.size = size
        self.ordered = ordered
        self.flash = bytearray(b"\xa5" * size)
        self.blank = set()
        self.written = set()
        self.at = None
        self.fail = None
        self.forget = False
        self.starts = []

    def start(self, at):
        assert at % SECTOR == 0
        self.starts.append(at)
        self.at = at
        self.blank.clear()
        self.written.clear()

    def write(self, offset, data):
        if self.fail:
            raise self.fail
        end = offset + len(data)
        assert self.at is not None and self.at <= offset < end <= self.size
        span = range(offset, end)
        assert not self.written.intersection(span), "written twice"
        if self.ordered:
            assert offset == max(self.written, default=self.at - 1) + 1, "not in order"
        for sector in range(offset // SECTOR, (end - 1) // SECTOR + 1):
            if sector not in self.blank:
                self.blank.add(sector)
                self.flash[sector * SECTOR : (sector + 1) * SECTOR] = b"\xff" * SECTOR
        self.written.update(span)
        self.flash[offset:end] = data
        if self.forget:
            self.flash[offset + len(data) // 2] ^= 1

    def readinto(self, offset, buffer):
        assert offset >= 0 and offset + len(buffer) <= self.size
        buffer[:] = self.flash[offset : offset + len(buffer)]


def blocks(data):
    return [(at, data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]


class Fresh(Receiver):
    """A receiver that is handed a copy of each block: it is written over when it is read back."""

    def put(self, offset, view):
        return super().put(offset, memoryview(bytearray(view)))


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def check_whole(receiver, area, data, skip):
    assert receiver.error is None
    assert receiver.complete and receiver.done == len(data) and receiver.ahead == {}
    assert receiver.digest() == receiver.digest() == hashlib.sha256(data).digest()
    assert area.flash[: len(data) - skip] == data[skip:]
    assert receiver.head == data[:272]


sizes = st.one_of(
    st.integers(257, 70_000), st.integers(1, 16).map(lambda n: n * BLOCK), st.integers(257, 4500)
)


@settings(max_examples=150, deadline=None)
@given(sizes, st.sampled_from((0, 256)), st.booleans(), st.randoms(use_true_random=False))
def test_any_order_with_repeats_and_rubbish(size, skip, ordered, rng):
    data = content(size, rng.random())
    area = Area(ordered=ordered)
    heads = []
    receiver = Fresh(size, area, skip, heads.append)
    pieces = blocks(data)
    rubbish = bytes(BLOCK + 1)
    before = 0
    while not receiver.complete:
        kind = rng.random()
        if kind < 0.7:
            # Mostly what would come next, as a window of blocks does.
            near = receiver.done // BLOCK + rng.randrange(0, 20)
            receiver.put(*pieces[min(near, len(pieces) - 1)])
        elif kind < 0.8:
            at, view = rng.choice(pieces)
            assert not receiver.put(at, view[: len(view) - 1])
            assert not receiver.put(at, rubbish[: len(view) + 1])
        elif kind < 0.9:
            at, view = rng.choice(pieces)
            assert not receiver.put(at + rng.randrange(1, BLOCK), view)
            assert not receiver.put(at - len(pieces) * BLOCK, view)
        else:
            receiver.put(*rng.choice(pieces))
        assert receiver.error is None
        assert receiver.done >= before and receiver.done % BLOCK in (0, size % BLOCK)
        before = receiver.done
    assert heads == [data[:272]]
    check_whole(receiver, area, data, skip)
    assert not receiver.put(*pieces[-1])


@settings(max_examples=100, deadline=None)
@given(sizes, st.sampled_from((0, 256)), st.booleans(), st.randoms(use_true_random=False))
def test_restarts_at_any_time(size, skip, ordered, rng):
    """Each restart knows a `done` of before, and what lies behind it is anything."""
    data = content(size, rng.random())
    area = Area(ordered=ordered)
    pieces = blocks(data)
    done, head = 0, b""
    for _ in range(rng.randrange(1, 6)):
        receiver = Fresh(size, area, skip)
        asyncio.run(receiver.resume(done, head))
        assert max(0, done - 2 * BLOCK) <= receiver.done <= done
        known = [(receiver.done, receiver.head)]
        for _ in range(rng.randrange(0, 30)):
            index = receiver.done // BLOCK + rng.randrange(0, 3)
            receiver.put(*pieces[min(index, len(pieces) - 1)])
            assert receiver.error is None
            known.append((receiver.done, receiver.head))
        # The last note that was synced may be older than what is in flash.
        done, head = rng.choice(known)
        keep = max(0, done - skip)
        torn = min(area.size, keep + 3 * BLOCK)
        area.flash[keep:torn] = content(torn - keep, rng.random())
    receiver = Fresh(size, area, skip)
    asyncio.run(receiver.resume(done, head))
    for piece in pieces:
        receiver.put(*piece)
    check_whole(receiver, area, data, skip)


@pytest.mark.parametrize("skip", [0, 256])
@pytest.mark.parametrize("size", [1, 100, 255, 256, 257, 4095, 4096, 4097])
def test_small_files(size, skip):
    data = content(size)
    area = Area()
    receiver = Fresh(size, area, skip)
    for piece in blocks(data):
        assert receiver.put(*piece)
    assert receiver.complete and receiver.digest() == hashlib.sha256(data).digest()
    assert area.flash[: max(0, size - skip)] == data[skip:]


def test_a_complete_file_is_only_read_again():
    data = content(30_000)
    area = Area()
    first = Fresh(len(data), area, 256)
    for piece in blocks(data):
        first.put(*piece)
    second = Fresh(len(data), area, 256)
    asyncio.run(second.resume(len(data), data[:272]))
    assert second.complete and second.digest() == hashlib.sha256(data).digest()
    assert area.starts == [0]


def test_resumed_without_the_head_it_begins_afresh():
    for head in (b"", b"x" * 255, b"x" * 257):
        receiver = Fresh(30_000, Area(), 256)
        asyncio.run(receiver.resume(8192, head))
        assert receiver.done == 0 and receiver.head == b""
    receiver = Fresh(30_000, Area(), 256)
    asyncio.run(receiver.resume(40_000, b"x" * 272))
    assert receiver.done == 0


def test_nothing_behind_the_first_block_before_it_was_looked_at():
    data = content(20_000)
    area = Area()
    receiver = Fresh(len(data), area)
    pieces = blocks(data)
    assert not receiver.put(*pieces[1])
    assert area.starts == []
    assert receiver.put(*pieces[0]) and receiver.put(*pieces[1])


class Refused(Exception):
    pass


def refuse(head):
    raise Refused(b"not for us")


def test_what_the_look_has_against_it_is_told_as_it_is():
    data = content(20_000)
    area = Area()
    receiver = Fresh(len(data), area, 256, refuse)
    assert not receiver.put(*blocks(data)[0])
    assert isinstance(receiver.error, Refused)
    assert area.starts == [] and not receiver.head
    assert not receiver.put(*blocks(data)[0])
    again = Fresh(len(data), area, 256, refuse)
    with pytest.raises(Refused):
        asyncio.run(again.resume(8192, data[:272]))


class AreaError(Exception):
    pass


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (OSError(5, "x"), b"flash fault, errno 5"),
        (MemoryError(), b"no memory"),
        (AreaError(b"no room"), b"no room"),
        (KeyError("x"), b"internal error, KeyError"),
    ],
)
def test_faults_of_the_area_are_kept(fault, reason):
    data = content(20_000)
    area = Area()
    receiver = Fresh(len(data), area)
    assert receiver.put(*blocks(data)[0])
    area.fail = fault
    assert not receiver.put(*blocks(data)[1])
    assert isinstance(receiver.error, Failed) and receiver.error.args == (reason,)
    area.fail = None
    assert not receiver.put(*blocks(data)[1])
    assert receiver.done == BLOCK


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_flash_that_does_not_hold(ordered, first):
    data = content(20_000)
    area = Area(ordered=ordered)
    receiver = Fresh(len(data), area)
    for index, piece in enumerate(blocks(data)):
        area.forget = index >= first
        receiver.put(*piece)
    assert receiver.error.args == (b"flash does not hold what was written",)
    assert receiver.done == first * BLOCK


def test_sizes_that_cannot_be():
    with pytest.raises(Failed, match="empty"):
        Fresh(0, Area())
    with pytest.raises(Failed, match="too large for hota"):
        Fresh(20 * SECTOR + 1, Area())
    assert not Fresh(20 * SECTOR + 256, Area(), 256).complete


def test_an_ordered_area_is_read_back_in_batches():
    data = content(10 * BLOCK)
    receiver = Fresh(len(data), Area(ordered=True))
    seen = []
    for piece in blocks(data):
        assert receiver.put(*piece)
        seen.append(receiver.done // BLOCK)
    assert seen == [0, 0, 0, 4, 4, 4, 4, 8, 8, 10]
