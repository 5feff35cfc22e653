"""Frames of CONFMODE over Bluetooth LE: whatever happens to them on the way, what comes out is the
message that went in, or nothing (docs/ble.md)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.confmode.frames import FrameError, Receiver, split
from tools.fleet import ble_wire as wire

LIMIT = 2612
INVALID, MISSING, CHECKSUM = 8, 9, 10
MESSAGES = st.binary(min_size=1, max_size=700)
ROOMS = st.sampled_from([20, 21, 61, 182, 244, 512])


def received(frames, receiver=None):
    """(messages that came out, result codes of those that were lost)."""
    receiver = receiver or Receiver(LIMIT)
    messages, codes = [], []
    for frame in frames:
        try:
            message = receiver.take(frame)
        except FrameError as error:
            codes.append(error.args[0])
        else:
            if message is not None:
                messages.append(bytes(message))
    return messages, codes


@given(MESSAGES, st.integers(0, 127), ROOMS)
def test_both_sides_make_and_read_the_same_frames(message, number, room):
    frames = list(split(message, number, room))
    assert frames == wire.frames(message, number, room)
    assert all(len(frame) <= room for frame in frames)
    assert received(frames) == ([message], [])
    assembler = wire.Assembler()
    assert [assembler.take(frame) for frame in frames] == [None] * (len(frames) - 1) + [message]


@pytest.mark.parametrize("size", [1, 12, 13, 30, 31, LIMIT])
def test_sizes_at_the_edges(size):
    message = bytes(i % 251 for i in range(size))
    assert received(split(message, 5, 20)) == ([message], [])


@given(MESSAGES, ROOMS, st.data())
def test_a_lost_frame_is_noticed(message, room, data):
    frames = list(split(message, 1, room))
    lost = data.draw(st.integers(0, len(frames) - 1))
    del frames[lost]
    receiver = Receiver(LIMIT)
    messages, codes = received(frames, receiver)
    assert messages == []
    # The last one is missed by the clock, the others by the next one; told once.
    assert codes == ([] if lost == len(frames) else [MISSING])
    assert receiver.waiting() == (lost == len(frames) and lost > 0)
    assert received(split(message, 2, room), receiver) == ([message], [])


@given(MESSAGES, ROOMS, st.data())
def test_a_frame_that_came_twice_is_taken_once(message, room, data):
    frames = list(split(message, 1, room))
    twice = data.draw(st.integers(0, len(frames) - 1))
    frames.insert(twice, frames[twice])
    messages, codes = received(frames)
    # A message of one frame is itself come twice.
    assert messages == [message] * (2 if len(frames) == 2 else 1)
    assert codes == []


@given(MESSAGES, ROOMS, st.randoms(use_true_random=False))
def test_order_matters(message, room, random):
    frames = list(split(message, 1, room))
    mixed = list(frames)
    random.shuffle(mixed)
    messages, codes = received(mixed)
    assert messages in ([], [message])
    if mixed != frames:
        assert codes or messages == [message]


@given(MESSAGES, ROOMS, st.data())
def test_a_frame_cut_short_gives_no_message(message, room, data):
    frames = list(split(message, 1, room))
    which = data.draw(st.integers(0, len(frames) - 1))
    frames[which] = frames[which][: data.draw(st.integers(0, len(frames[which]) - 1))]
    receiver = Receiver(LIMIT)
    messages, codes = received(frames, receiver)
    assert messages == []
    assert codes or receiver.waiting()


@settings(max_examples=300)
@given(MESSAGES, ROOMS, st.data())
def test_flipped_bits_never_give_another_message(message, room, data):
    frames = [bytearray(frame) for frame in split(message, 1, room)]
    for _ in range(data.draw(st.integers(1, 3))):
        frame = data.draw(st.sampled_from(frames))
        bit = data.draw(st.integers(0, len(frame) * 8 - 1))
        frame[bit // 8] ^= 1 << bit % 8
    receiver = Receiver(LIMIT)
    messages, codes = received([bytes(frame) for frame in frames], receiver)
    # Bits that were turned over twice are as they were, and so is a message whose number alone
    # has changed.
    assert messages in ([], [message])
    assert messages or codes or receiver.waiting()


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_junk_gives_nothing(frames):
    receiver = Receiver(64)
    assert received(frames, receiver)[0] == []
    assert received(split(b"after junk", 3, 20), receiver) == ([b"after junk"], [])


@given(st.lists(st.tuples(MESSAGES, st.booleans()), max_size=6), ROOMS)
def test_messages_that_are_broken_off_leave_the_others_alone(sent, room):
    frames, whole = [], []
    for number, (message, complete) in enumerate(sent):
        pieces = list(split(message, number, room))
        if complete:
            whole.append(message)
        else:
            pieces.pop()
        frames += pieces
    assert received(frames)[0] == whole


def head(size, crc=0):
    return b"\x80\x00" + size.to_bytes(2, "little") + crc.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("frames", "codes"),
    [
        ([b""], [INVALID]),
        ([b"\x80\x00"], [INVALID]),
        ([head(0) + b"x"], [INVALID]),
        ([head(LIMIT + 1) + b"x"], [INVALID]),
        ([head(65535) + b"x"], [INVALID]),
        ([head(4)], [INVALID]),
        ([b"\x80\x01" + head(4)[2:] + b"x"], [INVALID]),
        ([head(2) + b"xyz"], [INVALID]),
        ([head(4) + b"xyz", b"\x00\x01ab"], [INVALID]),
        ([head(4) + b"abcd"], [CHECKSUM]),
        ([b"\x07\x00abc"], [MISSING]),
        ([b"\x07\x01abc", b"\x07\x02abc"], [MISSING]),
        ([head(9) + b"a", b"\x00\x02b", b"\x00\x03c"], [MISSING]),
        ([head(9) + b"a", b"\x01\x01b"], [MISSING]),
        ([head(9) + b"a", b"\x00\x01"], [INVALID]),
    ],
)
def test_what_is_told(frames, codes):
    assert received(frames) == ([], codes)


def test_a_large_length_takes_no_memory_beyond_the_limit():
    receiver = Receiver(100)
    with pytest.raises(FrameError):
        receiver.take(head(101) + b"x")
    assert not receiver.waiting()


def test_more_frames_than_an_index_can_count():
    receiver = Receiver(1000)
    receiver.take(head(999) + b"x")
    for index in range(1, 256):
        assert receiver.take(bytes([0, index]) + b"x") is None
    with pytest.raises(FrameError) as caught:
        receiver.take(b"\x00\x00x")
    assert caught.value.args[0] == MISSING
