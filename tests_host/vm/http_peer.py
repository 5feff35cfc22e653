"""Scripted HTTP servers, over TCP and TLS, for tests and the bench of lib.http_client."""

import re
import ssl

from tests_host.vm.scripted import ScriptedServer

_REQUEST = re.compile(
    rb"GET (/[^ ]*) HTTP/1\.1\r\nHost: ([^\r\n]+)\r\nRange: bytes=(\d+)-(\d+)\r\n"
    rb"Accept-Encoding: identity\r\n\r\n"
)


def head(status: int, *fields: str) -> bytes:
    """The head of a reply."""
    return "\r\n".join([f"HTTP/1.1 {status} phrase", *fields, "", ""]).encode()


def part(data: bytes, first: int, last: int) -> bytes:
    """A reply 206 with these bytes of `data`, head and body."""
    body = data[first : last + 1]
    span = f"Content-Range: bytes {first}-{last}/{len(data)}"
    return head(206, span, f"Content-Length: {len(body)}") + body


class Peer:
    """One accepted connection, seen from the server's side."""

    def __init__(self, sock):
        self.sock = sock

    def request(self):
        """Receive one request, which must be all there is: (path, host, first, last)."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            piece = self.sock.recv(4096)
            if not piece:
                raise EOFError(f"client closed after {data!r}")
            data += piece
        found = _REQUEST.fullmatch(data)
        assert found, data
        path, host, first, last = found.groups()
        return path, host, int(first), int(last)

    def send(self, data: bytes):
        self.sock.sendall(data)

    def serve(self, data: bytes, count: int = 1):
        """Answer `count` requests from `data`, as they ask."""
        for _ in range(count):
            _, _, first, last = self.request()
            self.send(part(data, first, last))

    def expect_close(self):
        """Wait until the client has closed; it must not send anything."""
        try:
            assert self.sock.recv(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            # MicroPython ends a TLS connection without a word.
            return


class HttpPeer(ScriptedServer):
    """A server of HTTP; context: an ssl.SSLContext, for TLS."""

    def __init__(self, *scripts, context=None):
        super().__init__(Peer, scripts, context)
