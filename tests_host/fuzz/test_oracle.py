"""The oracle and the generator themselves: what is expected is written out here by hand."""

import pytest

from tests_host.fuzz import batches, lines, oracle

REPLIES = [
    (b"AT\n", 1),
    (b"at\r\n", 1),
    (b"hello\n\n\r\nA\n", 0),
    (b"ATX\nAT \nxAT\n", 3),
    (b"AT+NOSUCH\nnoise AT+GET\nAT+\n", 3),
    (b"AT+GET AT+GET\n", 1),
    (b"AT+GET" + b"x" * 9000 + b"\n", 1),
    (b"\x00\xff" * 5000 + b"\nAT\n", 1),
    (b"AT+CONF RootCA=pem\njunk\nMIIB\nAT+GET\n", 2),
    (b"AT+CONF rootca=PEM\njunk\nMIIB\nxAT+GET\nAT\n", 3),
]


@pytest.mark.parametrize(("stream", "count"), REPLIES)
def test_how_many_replies(stream, count):
    assert len(oracle.judge_all(stream)) == count


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"AT", {0}),
        (b"AT?", {2}),
        (b"AT+" + b"x" * 5117, {3}),
        (b"AT+" + b"x" * 5118, {1}),
        (b"AT+" + b"x" * 5117 + b"\r", {3}),
        (b"AT+" + b"W" * 33, {3}),
        (b"AT+SHADOW?", {3}),
        (b"AT+EVENT", {3}),
        (b"AT+SEND?", {22}),
        (b"AT+GET1x", {2}),
        (b"AT+CONF?x", {2}),
        (b"noise", set()),
    ],
)
def test_how_a_line_may_end(line, codes):
    assert oracle.judge(line).codes == codes


@pytest.mark.parametrize(
    "reply",
    [b"", b"OKAY", b"ERR4", b"ERR4 ", b"ERR0 x", b"ERR24 x", b"ERR3 PARAMETER ERROR", b"ok",
     b"ERR4 PARAMETER ERROR INTERNAL", b"ERR4 PARAMETER ERROR not OK", b"ERR4 PARAMETER ERRORS"],
)  # fmt: skip
def test_what_is_no_reply(reply):
    with pytest.raises(oracle.ReplyError):
        oracle.reply_code(reply)


def test_certificates_are_one_reply():
    replies = oracle.Replies()
    pem = b"-----BEGIN CERTIFICATE-----\nOKAY\n-----END CERTIFICATE-----\n"
    for byte in b"OK\nOK pem\n" + pem + pem + b"ERR3 COMMAND NOT FOUND\nOK":
        replies.add(bytes([byte]))
    assert replies.lines == [b"OK", b"OK pem", b"ERR3 COMMAND NOT FOUND"]
    assert replies.unfinished == b"OK"


def test_a_reply_that_is_missing_or_wrong_is_found_where_it_is():
    given = [[b"AT\n", b"AT+NOSUCH\n"], [b"AT+GET?\n"]]
    marks = [b"OK", b"OK mark 0", b"OK", b"OK mark 1"]
    good = [b"OK", b"ERR3 COMMAND NOT FOUND", *marks[:2], b"ERR22 INVALID QUERY", *marks[2:]]

    def judged(listed):
        replies = oracle.Replies()
        replies.lines = listed
        return batches.first_wrong(given, replies)

    assert judged(good) == (-1, "")
    assert judged(good[1:])[0] == 0
    assert judged([b"OK", *good])[0] == 0
    assert judged(good[:4] + good[5:])[0] == 1
    assert judged([*good, b"OK"])[0] == 1
    assert judged([*good[:4], b"ERR3 COMMAND NOT FOUND", *marks[2:]])[0] == 1


@pytest.mark.parametrize(
    ("line", "online"),
    [
        (b"AT+RESET", False),
        (b"xat+reset\r", False),
        (b"AT+FACTORY_RESET ", False),
        (b"AT+SLEEP", False),
        (b"AT+SLEEP2 10", False),
        (b"AT+CONNECT", False),
        (b"AT+DIAG scan", False),
        (b"AT+DIAG PING localhost", False),
        (b"AT+CONF RootCA=pem", False),
        (b"AT+CONF rootca= PEM", False),
        (b"AT+DISCONNECT", True),
        (b"AT+SEND /$aws/x y", True),
    ],
)
def test_what_would_end_the_flood_is_left_out(line, online):
    assert not lines.harmless(line + b"\n", online)


def test_the_same_seed_gives_the_same_lines():
    first, second, other = lines.Lines(7), lines.Lines(7), lines.Lines(8)
    batch = first.batch(200)
    assert batch == second.batch(200)
    assert batch != other.batch(200)


def test_shrinking_finds_the_two_that_matter():
    items = [b"%d" % number for number in range(100)]

    def fails(left):
        return b"17" in left and b"80" in left

    assert batches.shrink(items, fails) == [b"17", b"80"]
