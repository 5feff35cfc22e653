"""Batches of hostile lines with a mark behind each, so that a wrong count is found where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests_host.fuzz import oracle


def mark(number: int) -> bytes:
    """Two commands that show that the port is in step: a value, and the question for it."""
    return b"AT+CONF Topic16=mark %d\nAT+CONF? Topic16\n" % number


def stream_of(batches: Iterable[list[bytes]]) -> bytes:
    """All batches one behind the other, each with its mark."""
    return b"".join(b"".join(batch) + mark(number) for number, batch in enumerate(batches))


def lines_in(batches: Iterable[list[bytes]]) -> int:
    """How many lines the batches have, without the marks."""
    return sum(item.count(b"\n") for batch in batches for item in batch)


def first_wrong(
    batches: list[list[bytes]], replies: oracle.Replies, first: int = 0
) -> tuple[int, str]:
    """(number of the first batch whose replies are not what they have to be, why), or (-1, "").

    first: the number of the first batch's mark."""
    got = replies.lines
    at = 0
    for number, batch in enumerate(batches):
        shown = b"OK mark %d" % (first + number)
        try:
            end = got.index(shown, at)
        except ValueError:
            return number, f"the mark is not answered; last reply {got[-1:]!r}"
        expected = oracle.judge_all(b"".join(batch) + mark(first + number))
        why = oracle.disagreement(expected, got[at : end + 1])
        if why:
            return number, why
        at = end + 1
    if at != len(got) or replies.unfinished:
        return len(batches) - 1, f"more than was asked for: {got[at : at + 3]!r}"
    return -1, ""


def shrink(items: list[bytes], fails: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The items that are needed to make `fails` true: what can be left out is left out."""
    size = max(1, len(items) // 2)
    while True:
        start = 0
        while start < len(items) and len(items) > 1:
            fewer = items[:start] + items[start + size :]
            if fewer and fails(fewer):
                items = fewer
            else:
                start += size
        if size == 1:
            return items
        size = max(1, size // 2)
