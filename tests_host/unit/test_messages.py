"""Topics and the message queue: 4.1, D26 to D31."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import events, messages
from firmware.profile import V05


class Pin:
    def __call__(self, level):
        pass


@pytest.fixture
def queue():
    return events.Events(Pin(), V05)


@pytest.fixture
def box(queue):
    return messages.Messages(16, lambda: b"root", queue, lambda: 1 << 20)


def drain(queue):
    found = []
    while len(queue):
        found.append(queue.get())
    return found


@pytest.mark.parametrize(
    ("name", "topic"),
    [(b"data", b"root/data"), (b"/data", b"data"), (b"//data", b"/data"), (b"/$aws/x", b"$aws/x")],
)
def test_resolve_and_back(name, topic):
    assert messages.resolve(name, b"root") == topic
    assert messages.shorten(topic, b"root") == name


@given(st.binary(min_size=1, max_size=30), st.sampled_from([b"root", b"a/b", b"/"]))
def test_what_is_shown_can_be_sent_to(topic, root):
    assert messages.resolve(messages.shorten(topic, root), root) == topic


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        (b"a/b", b"a/b", True),
        (b"a/+", b"a/b", True),
        (b"a/+", b"a/b/c", False),
        (b"a/#", b"a/b/c", True),
        (b"a/#", b"a", False),
        (b"#", b"a/b", True),
        (b"#", b"$aws/x", False),
        (b"+/x", b"$aws/x", False),
        (b"$aws/#", b"$aws/x", True),
        (b"+", b"", True),
        (b"a/+/c", b"a//c", True),
        (b"a", b"b", False),
    ],
)
def test_matches(pattern, topic, expected):
    assert messages.matches(pattern, topic) is expected


@pytest.mark.parametrize(
    "topic",
    [b"", b"x" * 257, b"/".join([b"x"] * 9), b"a\0b", b"\xff", b"a/+", b"a/#"],
)
def test_topics_that_may_not_be_published_on(topic):
    with pytest.raises(messages.TopicError):
        messages.check_topic(topic)


@pytest.mark.parametrize(
    "topic", [b"x" * 256, b"/".join([b"x"] * 8), b"$aws/rules/r/a/b/c/d/e/f/g/h"]
)
def test_topics_at_the_limit(topic):
    messages.check_topic(topic)


@pytest.mark.parametrize("pattern", [b"a+", b"a/b#", b"#/a", b"a/#/b", b""])
def test_filters_that_are_malformed(pattern):
    with pytest.raises(messages.TopicError):
        messages.check_filter(pattern)


@pytest.mark.parametrize("pattern", [b"#", b"+", b"a/+/b", b"a/#"])
def test_filters(pattern):
    messages.check_filter(pattern)


def test_lowest_subscribed_index_wins(box, queue):
    box.subscribed(5, b"root/#")
    box.subscribed(3, b"root/a")
    box.arrived(b"root/a", b"1")
    box.arrived(b"root/b", b"2")
    box.arrived(b"other", b"3")
    assert drain(queue) == [b"1 3 MSG", b"1 5 MSG", b"1 0 MSG"]
    assert box.get_from(5) == (b"b", b"2")
    assert box.get_from(5) is None
    assert box.get_from(0) == (b"/other", b"3")
    assert box.get() == (b"a", b"1")
    assert box.get() is None


def test_a_filter_that_two_indices_share(box):
    box.subscribed(1, b"a")
    assert not box.shared(1, b"a")
    box.subscribed(2, b"a")
    assert box.shared(1, b"a")
    box.subscribed(1, None)
    assert box.filter_of(1) is None
    assert not box.shared(2, b"a")


def test_a_payload_that_no_hole_in_the_heap_is_large_enough_for(box, queue):
    class Payload:
        refusals = 0

        def __len__(self):
            return 10

        def __bytes__(self):
            if self.refusals:
                self.refusals -= 1
                raise MemoryError
            return bytes([120] * 10)

    payload = Payload()
    for name in (b"a", b"b", b"c"):
        box.arrived(name, payload)
    payload.refusals = 2
    box.arrived(b"d", payload)
    # Two older ones made room.
    assert [box.get()[0], box.get()[0], box.get()] == [b"/c", b"/d", None]
    payload.refusals = 1
    box.arrived(b"e", payload)
    assert drain(queue)[-1] == b"4 0 OVERRUN /e"


def test_the_payload_is_copied(box):
    payload = bytearray(b"abc")
    box.arrived(b"t", memoryview(payload))
    payload[:] = b"xyz"
    assert box.get() == (b"/t", b"abc")


def test_overflow_loses_the_oldest_and_says_which(box, queue):
    for number in range(9):
        box.arrived(b"root/t%d" % number, b"x" * 1000)
    # 8 x 1,007 bytes fit into 8,192.
    assert box.overflow
    assert len(box) == 8
    shown = drain(queue)
    assert shown.count(b"1 0 MSG") == 9
    assert shown[8] == b"4 0 OVERRUN t0"
    assert box.get()[0] == b"t1"


def test_one_message_too_large_is_dropped_whole(box, queue):
    box.arrived(b"root/t", b"x" * 5000)
    box.arrived(b"root/u", b"x" * 5001)
    assert drain(queue) == [b"1 0 MSG", b"4 0 OVERRUN u"]
    assert len(box.get()[1]) == 5000


def test_many_small_messages_are_bounded_too(box):
    for _ in range(1000):
        box.arrived(b"t", b"")
    assert len(box) == messages.QUEUE_MESSAGES
    assert box.lost == 1000 - messages.QUEUE_MESSAGES


def test_messages_leave_memory_to_the_rest(queue):
    free = [30000]
    box = messages.Messages(16, lambda: b"root", queue, lambda: free[0] - box._bytes)
    for number in range(6):
        box.arrived(b"root/t%d" % number, b"x" * 1000)
    assert len(box) == 6
    # Room for what must be left, and for four messages.
    free[0] = messages.RESERVE + 4100
    box.arrived(b"root/t6", b"x" * 1000)
    # The oldest make room, and the new message is kept whatever is left.
    assert (len(box), box.lost) == (4, 3)
    assert box.get()[0] == b"t3"


def test_bytes_are_counted_down_again(box):
    for _ in range(50):
        box.arrived(b"root/t", b"x" * 4000)
        box.get()
    assert not box.overflow
