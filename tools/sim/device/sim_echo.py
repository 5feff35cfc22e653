"""A raw ICMP socket over a simulated network: this PC answers pings, everything else is silent.

A real one would need privileges, and would leave the PC.
"""

import errno
import struct

from sim_host import builtin_time

_ICMP = 1
_ROUND_TRIP_MS = 2


def _header(size):
    # An IPv4 header without options, as lwIP hands it over in front of what a raw socket reads.
    local = b"\x7f\x00\x00\x01"
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0, 64, _ICMP, 0) + local + local


def _sum(data):
    total = sum([data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2)])
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Echo:
    """What the stand-in of `socket` needs of a socket."""

    def __init__(self, protocol):
        if protocol != _ICMP:
            raise OSError(errno.EPROTONOSUPPORT if hasattr(errno, "EPROTONOSUPPORT") else 93)
        self._timeout = None
        self._waiting = []

    def setblocking(self, value):
        self._timeout = None if value else 0

    def settimeout(self, value):
        self._timeout = value

    def send(self, host, packet):
        """Send `packet`; an echo request to this PC will be answered, when its sum is right."""
        packet = bytes(packet)
        if host.startswith("127.") and packet[:1] == b"\x08" and not _sum(packet):
            body = b"\x00\x00\x00\x00" + packet[4:]
            body = body[:2] + _sum(body).to_bytes(2, "big") + body[4:]
            due = builtin_time.ticks_add(builtin_time.ticks_ms(), _ROUND_TRIP_MS)
            self._waiting.append((due, _header(len(body)) + body, host))
        return len(packet)

    def recvfrom(self, size):
        started = builtin_time.ticks_ms()
        while True:
            now = builtin_time.ticks_ms()
            if self._waiting and builtin_time.ticks_diff(now, self._waiting[0][0]) >= 0:
                _, packet, host = self._waiting.pop(0)
                return packet[:size], (host, 0)
            if self._timeout == 0:
                raise OSError(errno.EAGAIN)
            if self._timeout is not None:
                if builtin_time.ticks_diff(now, started) > self._timeout * 1000:
                    raise OSError(errno.ETIMEDOUT)
            builtin_time.sleep_ms(1)

    def close(self):
        self._waiting.clear()
