"""lib/dns: one address for every name, and nothing for what is no question."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.dns import answer

ADDRESS = bytes([192, 168, 4, 1])


def question(
    name=b"captive.apple.com", kind=1, group=1, flags=0x0100, counts=(1, 0, 0, 0), more=b""
):
    """A query as resolvers send it (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(part)]) + part for part in name.split(b".") if part)
    head = struct.pack(">HHHHHH", 0xABCD, flags, *counts)
    return head + labels + b"\0" + struct.pack(">HH", kind, group) + more


def test_an_a_question_gets_the_address():
    query = question()
    assert answer(query, ADDRESS) == (
        b"\xab\xcd\x85\x00\x00\x01\x00\x01\x00\x00\x00\x00"
        + query[12:]
        + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x0a\x00\x04\xc0\xa8\x04\x01"
    )


def test_recursion_is_echoed_and_not_offered():
    assert answer(question(flags=0), ADDRESS)[2:4] == b"\x84\x00"


@pytest.mark.parametrize("kind", [28, 65, 16, 255, 0])
def test_other_types_exist_without_an_answer(kind):
    query = question(kind=kind)
    reply = answer(query, ADDRESS)
    assert reply == b"\xab\xcd\x85\x00\x00\x01\x00\x00\x00\x00\x00\x00" + query[12:]


def test_another_class_has_no_address():
    assert answer(question(group=3), ADDRESS)[6:8] == b"\0\0"


def test_what_follows_the_question_is_left_out():
    edns = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    reply = answer(question(counts=(1, 0, 0, 1), more=edns), ADDRESS)
    assert reply == answer(question(), ADDRESS)


def test_the_root_and_the_longest_name():
    assert answer(question(b""), ADDRESS)
    longest = b".".join([b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61])
    assert answer(question(longest), ADDRESS)
    assert answer(question(longest + b"d"), ADDRESS) is None


@pytest.mark.parametrize(
    "query",
    [
        b"",
        question()[:11],
        question()[:12],
        question()[:-1],
        question()[:-5],
        question(flags=0x8100),  # an answer
        question(flags=0x2800),  # an update
        question(counts=(0, 0, 0, 0)),
        question(counts=(2, 0, 0, 0)),
        question(counts=(1, 1, 0, 0)),
        question(b"")[:12] + b"\xc0\x0c\0\1\0\1",  # a name that points to itself
        question(b"")[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
    ],
)
def test_no_answer(query):
    assert answer(query, ADDRESS) is None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_bring_it_down_or_are_amplified(data):
    for query in (data, question()[:12] + data):
        reply = answer(query, ADDRESS)
        assert reply is None or (len(reply) <= len(query) + 16 and reply[:2] == query[:2])
