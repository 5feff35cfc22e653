"""An HTTP/1.1 client that downloads a file by ranges (RFC 9110, section 14), over TLS or TCP.

    client = Client(host, port, context)
    if await client.get(path, 0, 4095) in (200, 206):
        while client.left:
            count = await client.readinto(view)
    client.close()

One task at a time uses a client. It waits by looking again every millisecond: nothing is left
waiting on the socket, so that a deadline, or a task that is cancelled, takes no bytes with it.
Only the resolver and the steps of a TLS handshake block. Best ask for all that is missing at once:
a range costs a round trip, a new connection a handshake.

OSError is the network's (its errno is ETIMEDOUT for a deadline); ValueError means that the server
is not to be trusted: HttpError for what it sends, tls's own for its certificate. Both close the
connection, and the next `get` opens another one.
"""

import asyncio
import errno
import select
import socket
import time

from micropython import const

# What the head of a reply may be long, unless the caller's buffer says otherwise.
_HEAD = const(2048)
_HOST_MAX = const(253)
_DIGITS_MAX = const(10)


class HttpError(ValueError):
    """A reply, a URL or a path that is refused; the argument says why."""


def _number(text):
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        raise HttpError("bad number")
    return int(text)


def split_url(url):
    """(whether by TLS, host as str, port, path with its query as bytes) of an absolute URL, bytes.

    Names and IPv4 addresses only, no user, no fragment. HttpError for anything else.
    """
    scheme, mark, rest = url.partition(b"://")
    host, _, path = rest.partition(b"/")
    host, colon, port = host.partition(b":")
    secure = scheme == b"https"
    number = _number(port) if colon else 443 if secure else 80
    good = mark and (secure or scheme == b"http") and 0 < len(host) <= _HOST_MAX
    for c in host:
        good = good and (48 <= c <= 57 or 97 <= c | 32 <= 122 or c in b"-.")
    for c in path:
        good = good and 33 <= c <= 126 and c not in b"#\\"
    if not good or not 0 < number < 65536:
        raise HttpError("bad URL")
    return secure, host.decode(), number, b"/" + path


def parse_head(head):
    """(status, whether the connection may be kept, {name: value}) of a reply's head (bytes), which
    has no empty line at its end (RFC 9112, sections 4 and 5).

    Names are in small letters; a field that comes twice has its values joined with a comma.
    HttpError when it is malformed.
    """
    lines = head.split(b"\r\n")
    line = lines.pop(0)
    status = _number(line[9:12])
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or line[12:13].strip() or status < 100:
        raise HttpError("no HTTP")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # This refuses folded lines too.
        if not colon or not name or b" " in name or b"\t" in name:
            raise HttpError("bad head")
        name = name.lower()
        value = value.strip()
        fields[name] = fields[name] + b"," + value if name in fields else value
    # A lone CR or LF ends a line for some, and for others does not.
    if not len(lines) == head.count(b"\n") == head.count(b"\r") or b"\0" in head:
        raise HttpError("bad head")
    keep = head[7] == 49 and b"close" not in fields.get(b"connection", b"").lower()
    return status, keep, fields


def file_size(status, fields, first, last):
    """Size of the whole file, from a reply 206 or 200 to a request for its bytes `first` to
    `last`; None when the server does not tell.

    HttpError unless the reply brings just these bytes, not encoded. A 200 brings the whole file,
    so that it does if all was asked for.
    """
    if (
        b"transfer-encoding" in fields
        or fields.get(b"content-encoding", b"identity") != b"identity"
    ):
        raise HttpError("coded body")
    length = size = _number(fields.get(b"content-length", b""))
    if status == 206:
        span, _, size = fields.get(b"content-range", b"").partition(b"/")
        size = None if size == b"*" else _number(size)
        if span != b"bytes %d-%d" % (first, last) or (size is not None and size <= last):
            raise HttpError("wrong range")
    elif first:
        raise HttpError("no ranges")
    if length != last - first + 1:
        raise HttpError("wrong length")
    return size


class Client:
    """Connections to one server, one at a time, kept over several requests.

    host: str, the name that the certificate must have. context: a tls.SSLContext that requires
    certificates, or None for plain TCP. timeout_ms: for a `get` as a whole, and for each read.
    buffer: a bytearray for the head of a reply, which has to fit, and for what comes with it. The
    body may be read into the same one, from its beginning.
    """

    def __init__(self, host, port, context=None, timeout_ms=10000, buffer=None):
        self._host = host
        self._port = port
        self._tls = context
        # The Host field has no default port: signed URLs are signed with it.
        self.authority = host.encode()
        if port != (443 if context else 80):
            self.authority += b":%d" % port
        self._timeout = timeout_ms
        self._since = 0  # ticks: when the deadline began to run
        self._raw = self._sock = None
        self._keep = False
        # The head of a reply, and what came with it: bytes _at to _end.
        self._buf = buffer or bytearray(_HEAD)
        self._view = memoryview(self._buf)
        self._at = self._end = 0
        # Of the last reply: bytes still to be read, size of the whole file (None: not told), and
        # where it has moved to (bytes, or None).
        self.left = 0
        self.total = self.location = None

    def close(self):
        """Close the connection, if there is one. A task that waits for it gets an OSError."""
        self.left = 0
        sock = self._sock
        if sock is not None:
            self._sock = None
            sock.close()
            # After a handshake that failed tls does not close what it has wrapped.
            self._raw.close()

    async def get(self, path, first, last):
        """Ask for the bytes `first` to `last` of the file at `path` (bytes, with its query).

        Return the status. With 206 and 200 there are `left` bytes to be read, just those asked
        for. With any other the connection is closed already; redirects are not followed: 3xx has a
        `location`.
        """
        if path[:1] != b"/" or b" " in path or b"\r" in path or b"\n" in path or last < first:
            raise HttpError("bad path")
        self._since = time.ticks_ms()
        kept = self._kept()
        if not kept:
            self.close()
        try:
            if not kept:
                await self._open()
            await self._send(path, first, last)
            status, fields = await self._receive()
            self.location = fields.get(b"location")
            if status in (200, 206):
                self.total = file_size(status, fields, first, last)
                self.left = last - first + 1
        finally:
            if not self.left:
                self.close()
        return status

    async def readinto(self, buffer):
        """Read more of the body into `buffer`; return how many bytes came, at most as many as it
        holds, 0 at the body's end. Each call reads the socket once."""
        left = self.left
        if not left:
            return 0
        view = memoryview(buffer)[:left]
        at = self._at
        count = min(self._end - at, len(view))
        if count:
            view[:count] = self._view[at : at + count]
            self._at = at + count
        else:
            self._since = time.ticks_ms()
            try:
                count = await self._read(view)
            except (OSError, ValueError):
                self.close()
                raise
        self.left = left - count
        return count

    def _kept(self):
        """Whether there is a connection that is open, silent and at the end of a reply."""
        if self._sock is None or not self._keep or self.left or self._at != self._end:
            return False
        try:
            return self._sock.readinto(self._view) is None
        except OSError:
            return False

    async def _open(self):
        error = None
        for address in socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM):
            self.close()
            sock = self._sock = self._raw = socket.socket(address[0], socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                sock.connect(address[-1])
            except OSError as failed:
                error = failed
                if error.errno != errno.EINPROGRESS:
                    continue
            poller = select.poll()
            poller.register(sock, select.POLLOUT | select.POLLERR | select.POLLHUP)
            found = poller.poll(0)
            while not found:
                await self._pause(1)
                found = poller.poll(0)
            if found[0][1] == select.POLLOUT:
                break
            error = OSError(errno.ECONNREFUSED)
        else:
            raise error
        if self._tls:
            # The handshake happens inside the first writes.
            self._sock = self._tls.wrap_socket(
                sock, server_hostname=self._host, do_handshake_on_connect=False
            )
            self._sock.setblocking(False)

    async def _send(self, path, first, last):
        """Write the request: one packet, and one TLS record."""
        left = memoryview(
            b"GET %s HTTP/1.1\r\nHost: %s\r\nRange: bytes=%d-%d\r\n"
            b"Accept-Encoding: identity\r\n\r\n" % (path, self.authority, first, last)
        )
        while True:
            # TLS wants a write that it refused repeated just as it was.
            left = left[self._sock.write(left) or 0 :]
            if not left:
                return
            await self._pause(1)

    async def _receive(self):
        """Read the head of the reply, and interim replies before it."""
        at = self._end = 0
        while True:
            found = self._buf.find(b"\r\n\r\n", at, self._end)
            if found < 0:
                if self._end == len(self._buf):
                    raise HttpError("long head")
                self._end += await self._read(self._view[self._end :])
                continue
            status, self._keep, fields = parse_head(bytes(self._view[at:found]))
            self._at = at = found + 4
            if status >= 200:
                return status, fields

    async def _read(self, view):
        wait = 0
        while True:
            # Also with a fast server the others get their turn.
            await self._pause(wait)
            count = self._sock.readinto(view)
            if count:
                return count
            if count == 0:
                raise OSError(errno.ECONNRESET)
            wait = 1

    async def _pause(self, wait):
        """Let the others work; then go on unless it is too late, or the connection closed."""
        if time.ticks_diff(time.ticks_ms(), self._since) >= self._timeout:
            raise OSError(errno.ETIMEDOUT)
        await asyncio.sleep_ms(wait)
        if self._sock is None:
            raise OSError(errno.ENOTCONN)
