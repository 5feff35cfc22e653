"""A name server that gives one address for every name (RFC 1035), for captive portals.

It answers one question a datagram: an A question with the address, any other type with nothing, so
that a client with IPv6 asks for A next. What is malformed, or is no question, gets no answer, and
no answer is more than 16 bytes longer than what was asked.
"""

import asyncio
import gc
import struct

from micropython import const

_HEADER = const(12)
_NAME_MAX = const(255)
_LABEL_MAX = const(63)
# The longest question; what comes after it (EDNS) is not looked at.
_QUERY_MAX = const(12 + 255 + 4)

# In the two bytes of flags: response, kind of query, authoritative, recursion desired.
_QR = const(0x8000)
_OPCODE = const(0x7800)
_AA = const(0x0400)
_RD = const(0x0100)

_A = const(1)
_IN = const(1)

# Clients keep the answer for so many seconds: hardly longer than they stay.
_TTL_S = const(10)

_PAUSE_MS = const(50)


def _question_end(query):
    """Where the one question's name ends, or None when there is no such name."""
    i = _HEADER
    while i < len(query):
        size = query[i]
        i += 1
        if not size:
            return i if i - _HEADER <= _NAME_MAX else None
        if size > _LABEL_MAX:
            # A pointer has nothing to point to yet.
            return None
        i += size
    return None


def answer(query, address):
    """The reply to the datagram `query`, or None when it deserves none; address: four bytes."""
    if len(query) < _HEADER:
        return None
    number, flags, questions, answers = struct.unpack_from(">HHHH", query)
    if flags & (_QR | _OPCODE) or questions != 1 or answers:
        return None
    end = _question_end(query)
    if end is None or len(query) < end + 4:
        return None
    kind, group = struct.unpack_from(">HH", query, end)
    found = kind == _A and group == _IN
    flags = _QR | _AA | flags & _RD
    reply = struct.pack(">HHHHHH", number, flags, 1, 1 if found else 0, 0, 0)
    reply += query[_HEADER : end + 4]
    if found:
        # The name is that of the question, 12 bytes from the start.
        reply += struct.pack(">HHHIH", 0xC000 | _HEADER, _A, _IN, _TTL_S, 4) + address
    return reply


async def serve(sock, address):
    """Answer on the bound, non-blocking UDP socket `sock` until cancelled."""
    while True:
        try:
            await _readable(sock)
            query, peer = sock.recvfrom(_QUERY_MAX)
            reply = answer(query, address)
            if reply:
                sock.sendto(reply, peer)
        except OSError:
            # Nothing there after all, or the client has gone.
            await asyncio.sleep_ms(_PAUSE_MS)
        except MemoryError:
            gc.collect()
            await asyncio.sleep_ms(_PAUSE_MS)


def _readable(sock):
    # asyncio.core is not in the stubs.
    yield asyncio.core._io_queue.queue_read(sock)  # pyright: ignore[reportAttributeAccessIssue]
