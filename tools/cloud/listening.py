"""Sockets on both loopback addresses with one port number."""

from __future__ import annotations

import errno
import logging
import socket

log = logging.getLogger("cloud")

_TRIES = 20


class PortTaken(OSError):
    """Another process listens on the port that was asked for."""


def _bind(family: int, kind: int, address: str, port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only for sockets that name their protocol; with it,
    # the second message of an answer waits 40 ms for the acknowledgement of the first.
    sock = socket.socket(family, kind, socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else 0)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def loopback(port: int, kind: int = socket.SOCK_STREAM) -> tuple[int, list[socket.socket]]:
    """Bind 127.0.0.1 and ::1 to one port (0: a free one); returns the port and the sockets.

    A machine without IPv6 gets one socket. Raises PortTaken when the port is in use.
    """
    for attempt in range(_TRIES):
        try:
            first = _bind(socket.AF_INET, kind, "127.0.0.1", port)
        except OSError as error:
            raise _explain(error, port) from error
        chosen = first.getsockname()[1]
        try:
            return chosen, [first, _bind(socket.AF_INET6, kind, "::1", chosen)]
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                log.info("no IPv6 here: port %d only on 127.0.0.1", chosen)
                return chosen, [first]
            first.close()
            # A free port on one family may be taken on the other; another draw may do better.
            if port or attempt == _TRIES - 1:
                raise _explain(error, port) from error
    raise AssertionError("the loop returns or raises")


def _explain(error: OSError, port: int) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(f"port {port} is taken by another process")
    return error
