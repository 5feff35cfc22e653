# Asks a time server once, by SNTP (RFC 4330, RFC 5905), without blocking asyncio's loop.

import asyncio
import os
import socket
from errno import ETIMEDOUT
from time import ticks_diff, ticks_ms

from micropython import const

_PACKET = const(48)
_REQUEST = const(0x23)  # version 4, mode 3: client
_MODE_SERVER = const(4)
_LEAP_UNKNOWN = const(3)
_MAX_STRATUM = const(15)
# Seconds from 1900, where NTP's first era begins, to 1970.
_TO_1970 = const(2208988800)
_FIRST_HALF = const(0x80000000)


async def query(host, port=123, timeout_ms=3000):
    """The time of day by `host`: (seconds since 1970, milliseconds), corrected by half the time
    that the answer took.

    OSError when no answer comes: ETIMEDOUT after `timeout_ms`, or what resolver or network say.
    ValueError, with the cause as text, for an answer that must not be used.
    """
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)
    start = ticks_ms()
    last = len(addresses) - 1
    for i, address in enumerate(addresses):
        left = timeout_ms - ticks_diff(ticks_ms(), start)
        try:
            return await asyncio.wait_for_ms(_ask(address), max(left, 1))
        except asyncio.TimeoutError:
            raise OSError(ETIMEDOUT)
        except OSError:
            if i == last:
                raise


async def _ask(address):
    # A random transmit timestamp, which the server echoes, tells its answer from a forged one
    # and gives nothing away about this clock.
    request = bytearray(_PACKET)
    request[0] = _REQUEST
    request[40:48] = os.urandom(8)
    # Connected, so that the network lets in datagrams from this server only.
    sock = socket.socket(address[0], socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(address[-1])
        sent = ticks_ms()
        sock.send(request)
        while True:
            await _readable(sock)
            answer = sock.recv(_PACKET)
            # Anything else is late or forged: the wait goes on.
            if len(answer) == _PACKET and answer[24:32] == request[40:48]:
                return read_answer(answer, ticks_diff(ticks_ms(), sent))
    finally:
        sock.close()


def _readable(sock):
    # asyncio.core is not in the stubs.
    yield asyncio.core._io_queue.queue_read(sock)  # pyright: ignore[reportAttributeAccessIssue]


def read_answer(answer, took_ms):
    """(seconds since 1970, milliseconds) from a server's 48 bytes that came after `took_ms`.

    ValueError when the server says that its time is not to be used (RFC 4330, section 5).
    """
    if answer[0] & 7 != _MODE_SERVER:
        raise ValueError("not a server's answer")
    stratum = answer[1]
    if not stratum:
        raise ValueError("kiss of death " + _printable(answer[12:16]))
    if answer[0] >> 6 == _LEAP_UNKNOWN or stratum > _MAX_STRATUM:
        raise ValueError("server is not synchronised")
    seconds = int.from_bytes(answer[40:44], "big")
    fraction = int.from_bytes(answer[44:48], "big")
    if not seconds and not fraction:
        raise ValueError("server sent no time")
    # The counter starts anew on 7 February 2036: a small one belongs to the second era.
    if seconds < _FIRST_HALF:
        seconds += 0x100000000
    milliseconds = (fraction * 1000 >> 32) + took_ms // 2
    return seconds - _TO_1970 + milliseconds // 1000, milliseconds % 1000


def _printable(code):
    return "".join(chr(c) for c in code if 32 < c < 127)
