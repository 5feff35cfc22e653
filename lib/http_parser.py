"""A request of HTTP/1.1, taken from bytes in fixed memory; knows no sockets.

What is not understood is refused (RFC 9112, section 11: request smuggling lives on leniency) with
a status of 4xx or 5xx.
"""

from binascii import unhexlify

from micropython import const

# RFC 9110, section 15.5 and 15.6.
BAD_REQUEST = const(400)
_LENGTH_REQUIRED = const(411)
_CONTENT_TOO_LARGE = const(413)
_HEAD_TOO_LARGE = const(431)
_NOT_IMPLEMENTED = const(501)
_VERSION_NOT_SUPPORTED = const(505)

_CR = const(13)
_METHOD_MAX = const(16)

# Characters of a token beside letters and digits (RFC 9110, section 5.6.2), and of a host.
_TOKEN = b"!#$%&'*+-.^_`|~"
_HOST = b"-._:[]"

# Headers that decide what the request is.
_OURS = (b"host", b"content-length", b"transfer-encoding")


class HttpError(Exception):
    """The request cannot be served; the argument is the status to answer with."""


def _only(text, others):
    """True when `text` has nothing but letters, digits and `others`, and is not empty."""
    for c in text:
        if not (48 <= c <= 57 or 97 <= c | 32 <= 122 or c in others):
            return False
    return len(text) > 0


def unquote(path):
    """`path` (bytes) with its percent-encoding undone (RFC 3986, section 2.1).

    Raises HttpError for a broken encoding, and for one that hides a control character."""
    if b"%" not in path:
        return path
    parts = path.split(b"%")
    for i in range(1, len(parts)):
        part = parts[i]
        try:
            byte = unhexlify(part[:2])
        except ValueError:
            raise HttpError(BAD_REQUEST)
        if len(part) < 2 or byte < b" " or byte == b"\x7f":
            raise HttpError(BAD_REQUEST)
        parts[i] = byte + part[2:]
    return b"".join(parts)


class Parser:
    """One request, byte by byte.

    head, body: how many bytes each may have. keep: names of headers, in small letters, that are
    kept beside `host`; none of them may come twice.

    `room()` is where the next bytes go, `filled(count)` tells how many came and returns True when
    the request is complete. Then: `method`, `path` (decoded, without the query), `headers`
    {name: value} and `body`, a memoryview that ends with the parser. All are bytes.
    """

    def __init__(self, head=1024, body=512, keep=()):
        self._buffer = bytearray(head + body)
        self._view = memoryview(self._buffer)
        self._keep = keep
        self._head = head
        self._most = body
        self._end = 0
        self.clear()

    def clear(self):
        """Begin anew. Nothing is left of the request before, which may have held a secret."""
        for i in range(self._end):
            self._buffer[i] = 0
        self._end = 0  # of what has come
        self._line = 0  # where the present line begins
        self._need = None  # where the request ends, once the head is complete
        self._modern = False  # HTTP/1.1
        self._host = None  # of a target in absolute form
        self.method = b""
        self.path = b""
        self.headers = {}
        self.body = b""

    def room(self):
        """Where the next bytes go, a memoryview that is never empty."""
        return self._view[self._end :]

    def begun(self):
        """True once any byte has come."""
        return self._end > 0

    def filled(self, count):
        """`count` bytes have come. True when the request is complete; what comes after it is
        not looked at. Raises HttpError."""
        self._end += count
        while self._need is None:
            end = self._buffer.find(b"\n", self._line, self._end)
            if max(end, self._end if end < 0 else 0) >= self._head:
                raise HttpError(_HEAD_TOO_LARGE)
            if end < 0:
                return False
            if end == self._line or self._buffer[end - 1] != _CR:
                # Taken for a line's end elsewhere, perhaps, and perhaps not.
                raise HttpError(BAD_REQUEST)
            line = bytes(self._view[self._line : end - 1])
            self._line = end + 1
            self._take(line)
        if self._end < self._need:
            return False
        self.body = self._view[self._line : self._need]
        return True

    def left_over(self):
        """True when the client has sent more than its request."""
        return self._need is None or self._end > self._need

    def _take(self, line):
        """One line of the head, without its end."""
        for c in line:
            if (c < 32 and c != 9) or c == 127:
                raise HttpError(BAD_REQUEST)
        if not self.method:
            # An empty line before the request is left over from the one before (RFC 9112, 2.2).
            if line or self._line > 2:
                self._take_request(line)
        elif line:
            self._take_header(line)
        else:
            self._take_end()

    def _take_request(self, line):
        parts = line.split(b" ")
        if len(parts) != 3:
            raise HttpError(BAD_REQUEST)
        method, target, version = parts
        if len(method) > _METHOD_MAX or not _only(method, _TOKEN):
            raise HttpError(BAD_REQUEST)
        if version[:5] != b"HTTP/" or len(version) != 8 or version[6:7] != b".":
            raise HttpError(BAD_REQUEST)
        if not version[5:6].isdigit() or not version[7:].isdigit():
            raise HttpError(BAD_REQUEST)
        if version[5:6] != b"1":
            raise HttpError(_VERSION_NOT_SUPPORTED)
        self._modern = version[7:] != b"0"
        self._take_target(target)
        self.method = method

    def _take_target(self, target):
        """Origin form or absolute form, or the `*` and `host:port` of methods that few serve
        (RFC 9112, section 3.2)."""
        for c in target:
            if not 33 <= c <= 126 or c == 35:
                raise HttpError(BAD_REQUEST)
        if target[:7].lower() == b"http://":
            # This host counts, whatever the header says.
            host, _, rest = target[7:].partition(b"/")
            host, mark, _ = host.partition(b"?")
            if not _only(host, _HOST):
                raise HttpError(BAD_REQUEST)
            self._host = host
            target = b"/" if mark else b"/" + rest
        self.path = unquote(target.partition(b"?")[0])

    def _take_header(self, line):
        name, colon, value = line.partition(b":")
        # This refuses a folded line too, and a space before the colon (RFC 9112, section 5).
        if not colon or not _only(name, _TOKEN):
            raise HttpError(BAD_REQUEST)
        name = name.lower()
        value = value.strip(b" \t")
        if name in _OURS or name in self._keep:
            if name in self.headers:
                raise HttpError(BAD_REQUEST)
            self.headers[name] = value
        if name == b"host" and not _only(value, _HOST):
            raise HttpError(BAD_REQUEST)

    def _take_end(self):
        """The empty line: how long is the body (RFC 9112, section 6.3)?"""
        headers = self.headers
        length = headers.pop(b"content-length", b"0")
        coding = headers.pop(b"transfer-encoding", None)
        if self._modern and b"host" not in headers:
            raise HttpError(BAD_REQUEST)
        if self._host:
            headers[b"host"] = self._host
        if coding is not None:
            if not self._modern or length != b"0":
                raise HttpError(BAD_REQUEST)
            raise HttpError(_LENGTH_REQUIRED if coding.lower() == b"chunked" else _NOT_IMPLEMENTED)
        if not length.isdigit():
            raise HttpError(BAD_REQUEST)
        if len(length) > 6 or int(length) > self._most:
            raise HttpError(_CONTENT_TOO_LARGE)
        self._need = self._line + int(length)
