"""lib/http_client: URLs, heads of replies and ranges, each a pure function."""

import http.client
import io
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.http_client import Client, HttpError, file_size, parse_head, split_url

BASE = b"HTTP/1.1 206 Partial Content"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (b"https://host/a/b?c=d&e=%20", (True, "host", 443, b"/a/b?c=d&e=%20")),
        (b"http://host:8080/", (False, "host", 8080, b"/")),
        (b"https://h-1.example.COM:65535/x", (True, "h-1.example.COM", 65535, b"/x")),
        (b"http://127.0.0.1", (False, "127.0.0.1", 80, b"/")),
        (b"http://h/a://b:9/@", (False, "h", 80, b"/a://b:9/@")),
    ],
)
def test_urls(url, parts):
    assert split_url(url) == parts


BAD_URLS = [
    b"",
    b"https",
    b"https:/host/",
    b"https:///x",
    b"ftp://host/",
    b"xhttp://host/",
    b"HTTPS//host/",
    b"https://user@host/",
    b"https://user:secret@host/",
    b"https://host:/",
    b"https://host:0/",
    b"https://host:65536/",
    b"https://host:+1/",
    b"https://host:1x/",
    b"https://host:1:2/",
    b"https://[::1]/",
    b"https://host?x/",
    b"https://ho st/",
    b"https://h\xc3\xa9/",
    b"https://host/a b",
    b"https://host/a\r\nX: y",
    b"https://host/\x7f",
    b"https://host/\xe9",
    b"https://host/a#b",
    b"https://host/a\\b",
    b"https://" + b"h" * 254 + b"/",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_refused(url):
    with pytest.raises(HttpError):
        split_url(url)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60) | st.from_regex(rb"\Ahttps?://[a-z.@:0-9/?#]*\Z"))
def test_a_url_is_refused_or_means_what_others_read(url):
    try:
        secure, host, port, path = split_url(url)
    except HttpError:
        return
    parts = urlsplit(url.decode())
    assert (parts.scheme == "https", parts.hostname) == (secure, host.lower())
    assert (parts.port or (443 if secure else 80)) == port
    assert ((parts.path or "/") + url.decode()[len(url) :]).encode() == path.partition(b"?")[0]


def head(*lines):
    return b"\r\n".join(lines)


def test_a_head():
    status, keep, fields = parse_head(
        head(
            BASE,
            b"Content-Length: 4096",
            b"CONTENT-range:\t bytes 0-4095/9 ",
            b"x-Other: a: b",
            b"Empty:",
        )
    )
    assert (status, keep) == (206, True)
    assert fields == {
        b"content-length": b"4096",
        b"content-range": b"bytes 0-4095/9",
        b"x-other": b"a: b",
        b"empty": b"",
    }


@pytest.mark.parametrize(
    ("lines", "keep"),
    [
        ([b"HTTP/1.1 200 OK"], True),
        ([b"HTTP/1.1 200"], True),
        ([b"HTTP/1.1 200 "], True),
        ([b"HTTP/1.0 200 OK"], False),
        ([b"HTTP/1.0 200 OK", b"Connection: keep-alive"], False),
        ([b"HTTP/1.1 200 OK", b"Connection: keep-alive"], True),
        ([b"HTTP/1.1 200 OK", b"Connection: Close"], False),
        ([b"HTTP/1.1 200 OK", b"Connection: x", b"Connection: close"], False),
        ([b"HTTP/1.1 200 OK", b"Connection: close", b"Connection: x"], False),
    ],
)
def test_whether_the_connection_is_kept(lines, keep):
    assert parse_head(head(*lines))[:2] == (200, keep)


BAD_HEADS = [
    b"",
    b"HTTP/1.1",
    b"HTTP/1.1 20",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 2x0 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.2 200 OK",
    b"http/1.1 200 OK",
    b" HTTP/1.1 200 OK",
    b"ICY 200 OK",
    b"SSH-2.0-x",
    head(BASE, b""),
    head(BASE, b"no colon"),
    head(BASE, b": no name"),
    head(BASE, b"Content-Length : 5"),
    head(BASE, b" Content-Length: 5"),
    head(BASE, b"\tContent-Length: 5"),
    head(BASE, b"X: a", b" Content-Length: 5"),
    BASE + b"\nContent-Length: 5",
    BASE + b"\r\nX: a\nContent-Length: 5",
    BASE + b"\r\nX: a\rContent-Length: 5",
    BASE + b"\r\nX: a\n\rY: b",
    head(BASE, b"X: a\0b"),
]


@pytest.mark.parametrize("text", BAD_HEADS)
def test_heads_refused(text):
    with pytest.raises(HttpError):
        parse_head(text)


def test_fields_that_come_twice():
    two = [b"Content-Length: 5", b"X: y", b"content-length: 6"]
    assert parse_head(head(BASE, *two))[2][b"content-length"] == b"5,6"


@settings(max_examples=600, deadline=None)
@given(
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            [BASE, b"HTTP/1.1 200 OK", b"Content-Length: 5", b"X: y", b"\r", b"\n", b" ", b"\0"]
        )
        | st.binary(max_size=9),
        max_size=6,
    ).map(b"\r\n".join)
)
@example(b"HTTP/1.1 200 OK\r\nX:y")
def test_a_head_is_refused_or_means_what_others_read(text):
    try:
        status, _, fields = parse_head(text)
    except HttpError:
        return

    class Sock:
        def makefile(self, _):
            return io.BytesIO(text + b"\r\n\r\n")

    reply = http.client.HTTPResponse(Sock())
    reply._method = "GET"
    reply.begin()
    assert reply.status == status or status < 200
    if status >= 200:
        length = reply.headers.get_all("content-length", [])
        got = fields.get(b"content-length", b"").decode("latin-1")
        assert ",".join(value.strip() for value in length) == got


def size(status=206, first=100, last=199, **fields):
    given_fields = {b"content-length": b"100", b"content-range": b"bytes 100-199/1000"}
    for name, value in fields.items():
        name = name.encode().replace(b"_", b"-")
        given_fields[name] = value
        if value is None:
            del given_fields[name]
    return file_size(status, given_fields, first, last)


def test_the_size_of_the_file():
    assert size() == 1000
    assert size(content_range=b"bytes 100-199/200") == 200
    assert size(content_range=b"bytes 100-199/*") is None
    assert size(content_encoding=b"identity") == 1000
    assert size(200, 0, 99, content_range=None) == 100


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"content_length": None}, "number"),
        ({"content_length": b""}, "number"),
        ({"content_length": b"-100"}, "number"),
        ({"content_length": b"+100"}, "number"),
        ({"content_length": b"1e2"}, "number"),
        ({"content_length": b"100,100"}, "number"),
        ({"content_length": b"00000000100"}, "number"),
        ({"content_length": b"99"}, "length"),
        ({"content_length": b"101"}, "length"),
        ({"content_length": b"9999999999"}, "length"),
        ({"content_range": None}, "number"),
        ({"content_range": b"bytes */1000"}, "range"),
        ({"content_range": b"bytes 100-199"}, "number"),
        ({"content_range": b"bytes 100-199/"}, "number"),
        ({"content_range": b"bytes 100-199/x"}, "number"),
        ({"content_range": b"bytes 100-199/199"}, "range"),
        ({"content_range": b"bytes 100-199/0"}, "range"),
        ({"content_range": b"bytes 99-198/1000"}, "range"),
        ({"content_range": b"bytes 0-99/1000"}, "range"),
        ({"content_range": b"bytes 100-198/1000"}, "range"),
        ({"content_range": b"bytes 100-200/1000"}, "range"),
        ({"content_range": b"bytes 199-100/1000"}, "range"),
        ({"content_range": b"items 100-199/1000"}, "range"),
        ({"content_range": b"bytes 100-199/1000,bytes 100-199/1000"}, "number"),
        ({"transfer_encoding": b"chunked"}, "coded"),
        ({"transfer_encoding": b"identity"}, "coded"),
        ({"content_encoding": b"gzip"}, "coded"),
        ({"status": 200}, "ranges"),
        ({"status": 200, "first": 0, "last": 98}, "length"),
        ({"status": 200, "first": 0, "last": 100}, "length"),
    ],
)
def test_replies_that_bring_something_else(fields, reason):
    with pytest.raises(HttpError, match=reason):
        size(**fields)


@pytest.mark.parametrize(
    ("port", "context", "name"),
    [
        (443, object(), b"h.example"),
        (80, None, b"h.example"),
        (443, None, b"h.example:443"),
        (80, object(), b"h.example:80"),
        (8443, object(), b"h.example:8443"),
    ],
)
def test_the_host_field(port, context, name):
    """With a default port a signed URL would not be what was signed."""
    assert Client("h.example", port, context).authority == name
