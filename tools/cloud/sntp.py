"""An SNTP server (RFC 4330) on the loopback, with faults for the module's clock."""

from __future__ import annotations

import asyncio
import logging
import struct
import time

log = logging.getLogger("cloud")

# Flags, stratum, poll, precision, root delay, root dispersion, reference id, four timestamps.
_PACKET = struct.Struct("!BBbbII4s8s8s8s8s")
_UNIX_TO_NTP = 2_208_988_800  # seconds from 1900 to 1970
_CLIENT, _SERVER = 3, 4
MODES = ("normal", "silent", "kiss-of-death", "unsynchronised", "bad-stratum", "wrong-origin")


def timestamp(unix: float) -> bytes:
    """Seconds since 1970 as NTP's 64 bits; era 1 begins in 2036 and wraps by itself."""
    whole = int(unix)
    fraction = int((unix - whole) * (1 << 32))
    return struct.pack("!II", (whole + _UNIX_TO_NTP) & 0xFFFFFFFF, fraction)


def answer(request: bytes, now: float, mode: str = "normal") -> bytes | None:
    """The reply to a client's packet at the time `now` (unix seconds), None when there is none."""
    if len(request) < _PACKET.size or request[0] & 7 != _CLIENT or mode == "silent":
        return None
    version = request[0] & 0x38
    leap, stratum, reference = 0, 2, b"LOCL"
    origin = request[40:48]
    if mode == "kiss-of-death":
        leap, stratum, reference = 3, 0, b"DENY"
    elif mode == "unsynchronised":
        leap = 3
    elif mode == "bad-stratum":
        stratum = 16
    elif mode == "wrong-origin":
        origin = bytes(8)
    stamp = timestamp(now)
    first = leap << 6 | version | _SERVER
    return _PACKET.pack(
        first, stratum, 4, -20, 0, 1 << 8, reference, timestamp(now - 16), origin, stamp, stamp
    )


class SntpServer:
    """Answers on every socket that it is bound to. `mode` is one of MODES; `offset` in seconds."""

    def __init__(self):
        self.mode = "normal"
        self.offset = 0.0
        self.requests = 0
        self._transports: list[asyncio.DatagramTransport] = []

    async def start(self, sockets: list) -> None:
        """Serve on these bound UDP sockets."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Endpoint(self), sock=sock)
            self._transports.append(transport)

    def stop(self) -> None:
        """Close the sockets."""
        for transport in self._transports:
            transport.close()

    def change(self, values: dict) -> None:
        """Set `mode` and `offset`; ValueError for a bad one."""
        unknown = set(values) - {"mode", "offset"}
        if unknown:
            raise ValueError(f"sntp has no {', '.join(sorted(unknown))}")
        mode, offset = values.get("mode", self.mode), values.get("offset", self.offset)
        if mode not in MODES:
            raise ValueError(f"sntp mode is one of {', '.join(MODES)}")
        if isinstance(offset, bool) or not isinstance(offset, (int, float)):
            raise ValueError("sntp offset is a number of seconds")
        self.mode, self.offset = mode, float(offset)


class _Endpoint(asyncio.DatagramProtocol):
    """One socket of the server."""

    def __init__(self, server: SntpServer):
        self._server = server
        self._transport = None

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        server = self._server
        server.requests += 1
        reply = answer(data, time.time() + server.offset, server.mode)
        log.debug("sntp: request from %s", address[0])
        if reply is not None:
            self._transport.sendto(reply, address)
