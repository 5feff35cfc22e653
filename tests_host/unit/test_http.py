"""HTTP requests: what the parser takes, what it refuses, and that no bytes bring it down."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.http_parser import HttpError, Parser, unquote
from lib.http_server import head

KEEP = (b"origin", b"content-type")


def parse(data, step=None, **limits):
    """The parser when the request is complete, None when it is not; fed `step` bytes a time."""
    parser = Parser(keep=KEEP, **limits)
    at = 0
    while at < len(data):
        room = parser.room()
        count = min(len(room), step or len(data), len(data) - at)
        room[:count] = data[at : at + count]
        at += count
        if parser.filled(count):
            return parser
    return None


def status(data, step=None):
    """The status that refuses `data`, 0 when it is taken, None when more is needed."""
    try:
        return None if parse(data, step) is None else 0
    except HttpError as error:
        return error.args[0]


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, None])
def test_a_request_in_pieces_of_any_size(step):
    data = (
        b"POST /api/join?x=%2 HTTP/1.1\r\nhOST: 192.168.4.1 \r\n"
        b"Content-Type:\tapplication/json\r\nAccept: */*\r\nContent-Length: 11\r\n\r\nhello world"
    )
    request = parse(data, step)
    assert request.method == b"POST"
    assert request.path == b"/api/join"
    assert request.headers == {b"host": b"192.168.4.1", b"content-type": b"application/json"}
    assert bytes(request.body) == b"hello world"
    assert not request.left_over()
    assert parse(data[:-1], step) is None


def test_nothing_is_left_of_a_request():
    request = parse(POST + b"Origin: x\r\nContent-Length: 6\r\n\r\nsecret" + b"more")
    body = request.body
    request.clear()
    assert bytes(body) == bytes(6)
    assert request._buffer == bytes(1536)
    data = HEAD + b"\r\n"
    request.room()[: len(data)] = data
    assert request.filled(len(data))
    assert (request.method, request.headers, bytes(request.body)) == (b"GET", {b"host": b"a"}, b"")


def test_what_comes_after_the_request_is_left_over():
    request = parse(HEAD + b"\r\n" + b"GET /2 HTTP/1.1\r\n\r\n")
    assert (request.path, bytes(request.body)) == (b"/", b"")
    assert request.left_over()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"X: caf\xe9 \t x\r\n\r\n",
        HEAD + b"Empty:\r\n\r\n",
        HEAD + b"Accept: a\r\nAccept: b\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_taken(data):
    assert status(data) == 0
    assert status(data, 1) == 0


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        # The request line.
        (400, b"\r\n\r\n"),
        (400, b"GET /\r\n\r\n"),
        (400, b"GET  / HTTP/1.1\r\n"),
        (400, b"GET / HTTP/1.1 \r\n"),
        (400, b" GET / HTTP/1.1\r\n"),
        (400, b"GET /a b HTTP/1.1\r\n"),
        (400, b"G\x00T / HTTP/1.1\r\n"),
        (400, b"GET /\x00 HTTP/1.1\r\n"),
        (400, b"GET /caf\xc3\xa9 HTTP/1.1\r\n"),
        (400, b"GET\t/ HTTP/1.1\r\n"),
        (400, b"G(T / HTTP/1.1\r\n"),
        (400, b"ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\n"),
        (400, b"GET /#x HTTP/1.1\r\n"),
        (400, b"GET / http/1.1\r\n"),
        (400, b"GET / HTTP/1.10\r\n"),
        (400, b"GET / HTTP/1,1\r\n"),
        (400, b"GET / HTTP/x.1\r\n"),
        (400, b"GET / HTTP/1.\r\n"),
        (505, b"GET / HTTP/2.0\r\n"),
        (505, b"PRI * HTTP/2.0\r\n"),
        (505, b"GET / HTTP/0.9\r\n"),
        (400, b"GET http://a b/ HTTP/1.1\r\n"),
        (400, b"GET http:///x HTTP/1.1\r\n"),
        (400, b"GET http://u@h/x HTTP/1.1\r\n"),
        # Line ends.
        (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        (400, b"\nGET / HTTP/1.1\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
        (400, b"GET / HTTP/1.1\r\r\n"),
        (400, HEAD + b"X: yz\n\r\n"),
        (400, HEAD + b"X: yz\n"),
        # Header lines.
        (400, HEAD + b"NoColon\r\n"),
        (400, HEAD + b": x\r\n"),
        (400, HEAD + b"Na me: x\r\n"),
        (400, HEAD + b"Name : x\r\n"),
        (400, HEAD + b" folded\r\n"),
        (400, HEAD + b"\tfolded: x\r\n"),
        (400, HEAD + b"X: a\x00b\r\n"),
        (400, HEAD + b"X: a\x7fb\r\n"),
        (400, HEAD + b"X: a\rb\r\n"),
        (400, HEAD + b"X\x80: a\r\n"),
        (400, HEAD + b"Origin: a\r\nOrigin: a\r\n"),
        # Host.
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
        (400, HEAD + b"Host: a\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: \r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a b\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a,b\r\n"),
        # The body's length.
        (400, POST + b"Content-Length: \r\n\r\n"),
        (400, POST + b"Content-Length: +1\r\n\r\n"),
        (400, POST + b"Content-Length: -1\r\n\r\n"),
        (400, POST + b"Content-Length: 1 1\r\n\r\n"),
        (400, POST + b"Content-Length: 1,1\r\n\r\n"),
        (400, POST + b"Content-Length: 0x1\r\n\r\n"),
        (400, POST + b"Content-Length: 1\r\nContent-Length: 1\r\n"),
        (413, POST + b"Content-Length: 513\r\n\r\n"),
        (413, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
        (411, POST + b"Transfer-Encoding: chunked\r\n\r\n"),
        (411, POST + b"Transfer-Encoding: Chunked\r\n\r\n"),
        (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
        (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        # Percent-encoding.
        (400, b"GET /% HTTP/1.1\r\n"),
        (400, b"GET /%4 HTTP/1.1\r\n"),
        (400, b"GET /%zz HTTP/1.1\r\n"),
        (400, b"GET /%+1 HTTP/1.1\r\n"),
        (400, b"GET /%00 HTTP/1.1\r\n"),
        (400, b"GET /%0a HTTP/1.1\r\n"),
        (400, b"GET /%7f HTTP/1.1\r\n"),
    ],
)
def test_refused(expected, data):
    assert status(data) == expected
    assert status(data, 1) == expected


def test_a_head_may_have_1024_bytes():
    for size, expected in ((1024, 0), (1025, 431)):
        filler = size - len(HEAD) - len(b"X: \r\n\r\n")
        assert status(HEAD + b"X: " + b"x" * filler + b"\r\n\r\n") == expected
    assert status(b"GET /" + b"x" * 1019) == 431
    assert status(b"GET /" + b"x" * 1019, 1) == 431
    assert status(HEAD + b"X: 1\r\n" * 200) == 431


def test_a_body_may_have_512_bytes():
    head = POST + b"Content-Length: 512\r\n\r\n"
    assert bytes(parse(head + b"y" * 512).body) == b"y" * 512
    # Beside the longest head too.
    filler = b"X: " + b"x" * (1024 - len(head) - 5) + b"\r\n"
    data = POST + filler + b"Content-Length: 512\r\n\r\n" + b"y" * 512
    assert len(data) == 1536
    assert bytes(parse(data, 100).body) == b"y" * 512


def test_a_target_in_absolute_form_names_the_host():
    request = parse(b"GET http://captive.apple.com/a%20b?c HTTP/1.1\r\nHost: other\r\n\r\n")
    assert (request.path, request.headers[b"host"]) == (b"/a b", b"captive.apple.com")
    for target in (b"http://h", b"HTTP://h?q=/x", b"http://h/"):
        request = parse(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (request.path, request.headers[b"host"]) == (b"/", b"h")


def test_unquote():
    assert unquote(b"/plain") == b"/plain"
    assert unquote(b"/%41%62%2F%c3%A9%25") == b"/Ab/\xc3\xa9%"


def test_head_of_a_reply():
    expected = b"HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 3000\r\nX: y\r\n\r\n"
    assert head(200, b"X: y\r\n", 3000) == expected


LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1", b"POST /a%20 HTTP/1.1", b"Host: a", b"Content-Length: 3", b"X: y",
        b"Transfer-Encoding: chunked", b"Origin: null", b"", b"\x00", b"abc", b" x", b"%zz",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(LINES, st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r", b""]))),
    st.integers(1, 50),
)
def test_how_the_bytes_are_cut_makes_no_difference(pieces, step):
    data = b"".join(line + end for line, end in pieces)
    assert status(data, step) == status(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 700))
def test_no_bytes_bring_it_down(data, step):
    assert status(data, step) in (None, 0, 400, 411, 413, 431, 501, 505)
    assert status(HEAD + data, step) in (None, 0, 400, 411, 413, 431, 501, 505)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_unquote_undoes_any_encoding(path):
    quoted = b"".join(b"%%%02x" % c for c in path)
    if any(c < 32 or c == 127 for c in path):
        with pytest.raises(HttpError):
            unquote(quoted)
    else:
        assert unquote(quoted) == path
