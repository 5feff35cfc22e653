"""A small HTTP/1.1 server: strict, one request a connection, in fixed memory.

What a request is, `http_parser` says; this has the sockets. Each connection is closed after its
reply.
"""

import asyncio
import gc
import select
import socket
import time

from micropython import const

from lib.http_parser import BAD_REQUEST, HttpError, Parser

# RFC 9110, section 15.5.9.
_TIMEOUT = const(408)

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
                raise HttpError(_TIMEOUT)
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
