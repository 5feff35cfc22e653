"""The topic list and the queue of received messages (guide 4.1, decisions D26 to D31)."""

import sys
from collections import deque

from micropython import const

from firmware import events

# Bytes of topics and payloads that wait for the host at most, messages at most (their bookkeeping
# costs memory too), and the largest message that is accepted at all.
QUEUE_BYTES = const(8192)
QUEUE_MESSAGES = const(128)
MESSAGE_BYTES = const(5000)

# Messages leave this much of the heap to everything else, even if the queue then holds less: the
# features that are imported when they are needed. 768 words, of 4 bytes on a board.
RESERVE = 768 * (8 if sys.maxsize >> 31 else 4)

# What AWS IoT Core lets pass: bytes of a topic and slashes in it.
_TOPIC_BYTES = const(256)
_SLASHES = const(7)

# What the cloud sends of itself to a thing.
_OWN = b"$aws/things/"


class TopicError(ValueError):
    """A topic that the cloud would not accept."""


def resolve(name, root):
    """The topic that `name` stands for (4.1.2): behind `root`, or as it is after a leading `/`."""
    if name.startswith(b"/"):
        return name[1:]
    return root + b"/" + name


def shorten(topic, root):
    """The reverse of `resolve`: what the host must write for `topic` (D27)."""
    size = len(root)
    if topic.startswith(root) and topic[size : size + 1] == b"/" and len(topic) > size + 1:
        # A rest with a leading slash would be read as a complete topic.
        if topic[size + 1] != 0x2F:
            return topic[size + 1 :]
    return b"/" + topic


def _allowed(topic):
    """Raise TopicError for what no topic or filter may be."""
    if not topic:
        raise TopicError("empty topic")
    if len(topic) > _TOPIC_BYTES:
        raise TopicError("topic over 256 bytes")
    # The rule counts what follows `$aws/rules/<name>/` when that is the beginning.
    slashes = topic.count(b"/")
    if topic.startswith(b"$aws/rules/"):
        slashes -= 3
    if slashes > _SLASHES:
        raise TopicError("topic with over 7 slashes")
    if b"\0" in topic:
        raise TopicError("NUL in topic")
    try:
        topic.decode()
    except UnicodeError:
        raise TopicError("topic is not UTF-8")


def check_topic(topic):
    """Raise TopicError unless a message may be published on `topic`."""
    _allowed(topic)
    if b"+" in topic or b"#" in topic:
        raise TopicError("wildcard in topic")


def check_filter(topic):
    """Raise TopicError unless `topic` may be subscribed to: wildcards stand alone on a level, and
    `#` on the last one (MQTT 3.1.1, 4.7.1)."""
    _allowed(topic)
    levels = topic.split(b"/")
    for i, level in enumerate(levels):
        if level == b"#":
            if i != len(levels) - 1:
                raise TopicError("# before the last level")
        elif b"#" in level or (b"+" in level and level != b"+"):
            raise TopicError("wildcard inside a level")


def matches(pattern, topic):
    """True when a message on `topic` is one that the filter `pattern` asks for.

    As AWS IoT Core has it: `a/#` does not match `a`, and wildcards at the beginning do not match
    topics that begin with `$`.
    """
    if pattern == topic:
        return True
    if b"+" not in pattern and b"#" not in pattern:
        return False
    if topic.startswith(b"$") != pattern.startswith(b"$"):
        return False
    wanted = pattern.split(b"/")
    levels = topic.split(b"/")
    for i, level in enumerate(wanted):
        if level == b"#":
            return len(levels) > i
        if i >= len(levels) or (level != b"+" and level != levels[i]):
            return False
    return len(levels) == len(wanted)


class Messages:
    """Topics by index, and the messages that arrived on them.

    root: function that returns the TopicRoot. queue: `events.Events`. free: function that returns
    the bytes of heap that are free.
    """

    def __init__(self, max_topic, root, queue, free):
        # Item 0 is never assigned: index 0 stands for messages of no topic in the list.
        self.topics = [b""] * (max_topic + 1)
        self._filters = {}
        self._root = root
        self._events = queue
        self._free = free
        # Made at its full length, so that a message needs no more than its own memory.
        self._waiting: deque = deque((), QUEUE_MESSAGES)
        self._bytes = 0
        self.overflow = False
        self.received = 0
        self.lost = 0

    def subscribed(self, index, pattern):
        """Topic<index> is subscribed to with the filter `pattern`, or with none (None)."""
        if pattern is None:
            self._filters.pop(index, None)
        else:
            self._filters[index] = pattern

    def shared(self, index, pattern):
        """True when another index than `index` is subscribed to with `pattern`."""
        for other, used in self._filters.items():
            if other != index and used == pattern:
                return True
        return False

    def filter_of(self, index):
        """The filter that was sent when Topic<index> was subscribed to, or None (D28)."""
        return self._filters.get(index)

    def forget_subscriptions(self):
        """The session has ended, and its subscriptions with it (D17)."""
        self._filters.clear()

    def _index_of(self, topic):
        """The lowest subscribed index whose filter matches, or 0 (D28)."""
        for index in sorted(self._filters):
            if matches(self._filters[index], topic):
                return index
        return 0

    def arrived(self, topic, payload):
        """Queue a message. topic: bytes; payload: bytes or a view, copied here."""
        index = self._index_of(topic)
        if not index and topic.startswith(_OWN):
            # An answer that came too late for those parts of the module that have asked.
            return
        size = len(topic) + len(payload)
        if len(payload) > MESSAGE_BYTES or len(topic) > _TOPIC_BYTES:
            self.discarded(topic[:_TOPIC_BYTES], len(payload))
            return
        self.received += 1
        while self._full(size):
            self._lose_oldest()
        payload = self._copy(payload)
        if payload is None:
            self._lose(topic)
            return
        self._waiting.append((index, topic, payload))
        self._bytes += size
        self._events.put(events.MSG, index)

    def _copy(self, payload):
        """The payload as bytes of its own, made room for by older messages; None when even
        without them the heap has no hole that is large enough."""
        while True:
            try:
                return bytes(payload)
            except MemoryError:
                if not self._waiting:
                    return None
                self._lose_oldest()
                self._free()

    def _lose_oldest(self):
        self._lose(self._taken(self._waiting.popleft())[1])

    def _full(self, size):
        """True while the oldest message has to go before one of `size` bytes may come in."""
        if not self._waiting:
            return False
        if self._bytes + size > QUEUE_BYTES or len(self._waiting) >= QUEUE_MESSAGES:
            return True
        return self._free() < RESERVE + size

    def take_overflow(self):
        """True when a message was lost since this was last asked (D16)."""
        overflow = self.overflow
        self.overflow = False
        return overflow

    def give_way(self):
        """Lose the older half of the messages, for something that needs their memory more. False
        when there are none."""
        if not self._waiting:
            return False
        for _ in range((len(self._waiting) + 1) // 2):
            self._lose_oldest()
        return True

    def discarded(self, topic, size):
        """A message of `size` bytes was too large to be received at all (D31)."""
        self._lose(topic)

    def _lose(self, topic):
        self.lost += 1
        self.overflow = True
        self._events.put(events.OVERRUN, 0, shorten(topic, self._root()))

    def _taken(self, message):
        self._bytes -= len(message[1]) + len(message[2])
        return message

    def get(self):
        """The oldest message as (topic as the host would write it, payload), or None."""
        if not self._waiting:
            return None
        _, topic, payload = self._taken(self._waiting.popleft())
        return shorten(topic, self._root()), payload

    def get_from(self, index):
        """The oldest message of Topic<index>, or of no topic in the list when index is 0: as
        (topic, payload), or None."""
        waiting = self._waiting
        found = None
        # Once round: all others keep their order.
        for _ in range(len(waiting)):
            message = waiting.popleft()
            if found is None and message[0] == index:
                found = message
            else:
                waiting.append(message)
        if found is None:
            return None
        _, topic, payload = self._taken(found)
        return shorten(topic, self._root()), payload

    def __len__(self):
        return len(self._waiting)
