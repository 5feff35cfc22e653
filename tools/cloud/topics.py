"""Topic names and filters under AWS IoT's limits, and which filter matches which name."""

from __future__ import annotations

MAX_BYTES = 256
MAX_SLASHES = 7
_INGEST = "$aws/rules/"


class TopicError(ValueError):
    """A name or filter that is refused; `rule` names the rule in `rules.py`."""

    def __init__(self, rule: str, text: str):
        super().__init__(text)
        self.rule = rule


def _check_limits(text: str) -> None:
    if not text:
        raise TopicError("malformed", "empty topic")
    # The prefix of basic ingest counts neither towards the length nor towards the slashes.
    if text.startswith(_INGEST):
        _, slash, rest = text[len(_INGEST) :].partition("/")
        text = rest if slash else text
    if len(text.encode("utf-8")) > MAX_BYTES:
        raise TopicError("topic-length", "topic over 256 bytes")
    if text.count("/") > MAX_SLASHES:
        raise TopicError("topic-slashes", "topic with more than 7 slashes")


def check_name(topic: str) -> None:
    """Raise TopicError unless `topic` may be published to."""
    if "+" in topic or "#" in topic:
        raise TopicError("malformed", "wildcard in a topic name")
    _check_limits(topic)


def check_filter(pattern: str) -> None:
    """Raise TopicError unless `pattern` is a filter (MQTT 3.1.1 section 4.7.1)."""
    _check_limits(pattern)
    levels = pattern.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            raise TopicError("malformed", "`#` is not the last level")
        if "+" in level and level != "+":
            raise TopicError("malformed", "`+` is not a whole level")


def has_wildcard(pattern: str) -> bool:
    """Whether `pattern` can match more than one name."""
    return "+" in pattern or "#" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Whether the filter takes the name: rules `hash-not-parent` and `dollar-not-wild`."""
    if topic.startswith("$") and not pattern.startswith("$"):
        return False
    levels, names = pattern.split("/"), topic.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return len(names) > index
        if index >= len(names) or (level != "+" and level != names[index]):
            return False
    return len(levels) == len(names)


def overlap(one: str, other: str) -> bool:
    """Whether some name is matched by both filters."""
    if one.startswith("$") != other.startswith("$"):
        return False
    first, second = one.split("/"), other.split("/")
    for index in range(max(len(first), len(second))):
        left = first[index] if index < len(first) else None
        right = second[index] if index < len(second) else None
        if left is None or right is None:
            # One ended: nothing matches both, since `#` here needs at least one more level.
            return False
        if left == "#" or right == "#":
            return True
        if left != right and left != "+" and right != "+":
            return False
    return True
