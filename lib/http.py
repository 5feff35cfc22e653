"""A small HTTP/1.1 server: strict, one request a connection, in fixed memory.

`Parser` takes bytes and knows no sockets; `Server` is asyncio's side of it. What is not understood
is refused (RFC 9112, section 11: request smuggling lives on leniency) with a status of 4xx or 5xx,
and each connection is closed after its reply.
"""

import asyncio
import gc
import select
import socket
import time
from binascii import unhexlify

from micropython import const

# RFC 9110, section 15.5 and 15.6.
BAD_REQUEST = const(400)
TIMEOUT = const(408)
_LENGTH_REQUIRED = const(411)
_CONTENT_TOO_LARGE = const(413)
_HEAD_TOO_LARGE = const(431)
_NOT_IMPLEMENTED = const(501)
_VERSION_NOT_SUPPORTED = const(505)

_LF = const(10)
_CR = const(13)
_METHOD_MAX = const(16)

# Characters of a token beside letters and digits (RFC 9110, section 5.6.2), and of a host.
_TOKEN = b"!#$%&'*+-.^_`|~"
_HOST = b"-._:[]"

# Headers that decide what the request is.
_OURS = (b"host", b"content-length", b"transfer-encoding")

# A reply is written in pieces of this size, so that a large one costs no large buffer.
_PIECE = const(512)

# How long what a refused client goes on sending is taken in: closed at once, the connection would
# be reset, and the client might not see why it was refused.
_LINGER_MS = const(200)

# How long somebody may be silent while another one waits for a parser: browsers open connections
# that they may never use.
_SILENT_MS = const(500)

# How often somebody new is looked for, and somebody slow.
_TURN_MS = const(20)


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


def head(status, fields, length):
    """The head of a reply with a body of `length` bytes; fields: header lines, each with its
    CR LF."""
    # The phrase may be empty (RFC 9112, section 4).
    start = b"HTTP/1.1 %d \r\nConnection: close\r\nContent-Length: %d\r\n" % (status, length)
    return start + fields + b"\r\n"


class Server:
    """Serves one address.

    answer: coroutine function that is given the `Parser` of a complete request and returns
    (status, header lines, body). Raises it HttpError, that status is the answer. connections: how
    many are served at a time, each with a buffer that is made now; others wait until one ends or,
    silent for half a second, is cut for them.
    timeout_ms: for a request to come, and again for its reply to be taken. keep: see `Parser`.
    """

    def __init__(self, answer, connections=4, timeout_ms=5000, keep=()):
        self._answer = answer
        self._timeout_ms = timeout_ms
        self._free = [Parser(keep=keep) for _ in range(connections)]
        # [socket, parser, ticks until when, task, ticks of the last byte or None when none is
        # waited for] of each connection.
        self._served = []
        self._cut = None  # the last of them that had to make room
        self._listener = None

    def open(self, host, port=80):
        """Listen at the address `host` (str). Raises OSError."""
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(socket.getaddrinfo(host, port)[0][-1])
        self._listener.listen(len(self._free))

    def close(self):
        """Stop listening, and cut the connections there are. Whoever runs `serve` ends it."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for served in list(self._served):
            if served[3]:
                served[3].cancel()
            # A task that has not begun yet would not do it.
            self._leave(served)

    async def serve(self):
        """Serve until cancelled."""
        while True:
            try:
                while self._free:
                    self._accept()
                self._make_room()
            except OSError:
                # Nobody there, or gone again; no sockets left for another one, perhaps.
                pass
            except MemoryError:
                gc.collect()
            for served in self._served:
                if time.ticks_diff(served[2], time.ticks_ms()) >= 0:
                    continue
                if served[3].done():
                    # Cancelled before it had begun, so that it has tidied up nothing.
                    self._leave(served)
                    break
                served[3].cancel()
            await asyncio.sleep_ms(_TURN_MS)

    def _accept(self):
        client = self._listener.accept()[0]
        served = None
        try:
            client.setblocking(False)
            served = [client, self._free.pop(), 0, None, time.ticks_ms()]
            self._allow(served, self._timeout_ms)
            self._served.append(served)
            served[3] = asyncio.create_task(self._serve(served))
        except MemoryError:
            if served:
                self._leave(served)
            client.close()
            raise

    def _make_room(self):
        """Let the time of the one that has been silent the longest be over, if somebody waits for
        its parser."""
        if self._cut in self._served or not _ready(self._listener):
            return
        now = time.ticks_ms()
        longest = _SILENT_MS
        self._cut = None
        for served in self._served:
            if served[4] is None:
                continue
            silent = time.ticks_diff(now, served[4])
            # What has come while everything stood still, in a scan for instance, counts as well.
            if silent >= longest and not _ready(served[0]):
                longest = silent
                self._cut = served
        if self._cut:
            self._cut[2] = time.ticks_add(now, -1)

    def _allow(self, served, time_ms):
        served[2] = time.ticks_add(time.ticks_ms(), time_ms)

    def _leave(self, served):
        served[0].close()
        if served in self._served:
            self._served.remove(served)
            served[1].clear()
            self._free.append(served[1])

    async def _serve(self, served):
        """One connection, from its first byte to its end."""
        begun = False
        try:
            stream = asyncio.StreamReader(served[0])
            start, body = await self._reply(stream, served)
            served[4] = None
            if start:
                begun = True
                self._allow(served, self._timeout_ms)
                await _send(stream, start, body)
                if served[1].begun() and served[1].left_over():
                    self._allow(served, _LINGER_MS)
                    await _discard(stream)
        except OSError:
            # The client has gone.
            pass
        except MemoryError:
            gc.collect()
            if not begun:
                _refuse(served[0])
        finally:
            self._leave(served)

    async def _reply(self, stream, served):
        """(head, body) of the reply to one request; empty when nobody asked."""
        parser = served[1]
        try:
            try:
                if not await _receive(stream, served):
                    return b"", b""
            except asyncio.CancelledError:
                if self._listener is None:
                    raise
                # It took too long.
                raise HttpError(TIMEOUT)
            served[4] = None
            status, fields, body = await self._answer(parser)
            start = head(status, fields, len(body))
            return start, b"" if parser.method == b"HEAD" else body
        except HttpError as error:
            return head(error.args[0], b"", 0), b""


def _ready(sock):
    """True when a client waits at a listener, or bytes at a connection."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


async def _receive(stream, served):
    """True when there is a request, False when the client has closed before it began."""
    parser = served[1]
    while True:
        count = await stream.readinto(parser.room())
        if count:
            served[4] = time.ticks_ms()
            if parser.filled(count):
                return True
        elif count == 0:
            if not parser.begun():
                return False
            raise HttpError(BAD_REQUEST)


async def _send(stream, start, body):
    """Both in one piece if possible: the network likes few large ones."""
    body = memoryview(body)
    first = _PIECE - len(start) % _PIECE
    stream.write(start + body[:first])
    await stream.drain()
    while first < len(body):
        stream.write(body[first : first + _PIECE])
        await stream.drain()
        first += _PIECE


async def _discard(stream):
    """Take in what comes until the client closes."""
    room = memoryview(bytearray(64))
    while await stream.readinto(room) != 0:
        pass


def _refuse(client):
    """Say that there is no memory, if that is possible without any."""
    try:
        client.write(b"HTTP/1.1 503 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    except (OSError, MemoryError):
        # Then the client sees the connection close, and no more.
        return
