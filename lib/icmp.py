"""ICMP echo, the packet that ping sends (RFC 792), for IPv4.

`request` makes one, `is_reply` tells whether what came back on a raw socket answers it.
"""

import struct

from micropython import const

_ECHO_REQUEST = const(8)
_ECHO_REPLY = const(0)

# type, code, checksum, identifier, sequence number
_HEADER = ">BBHHH"
_SIZE = const(8)


def checksum(data):
    """The Internet checksum of `data` (RFC 1071), 0 when it holds the right one already."""
    total = 0
    for i in range(0, len(data) - 1, 2):
        total += data[i] << 8 | data[i + 1]
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def request(identifier, sequence, payload=b"open-expresslink"):
    """An echo request; identifier, sequence: 0 to 65535."""
    head = struct.pack(_HEADER, _ECHO_REQUEST, 0, 0, identifier, sequence)
    total = checksum(head + payload)
    return struct.pack(_HEADER, _ECHO_REQUEST, 0, total, identifier, sequence) + payload


def is_reply(packet, identifier, sequence):
    """True when `packet`, an IPv4 packet as a raw socket gives it, is the echo reply asked for."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return False
    start = (packet[0] & 0x0F) * 4
    body = packet[start:]
    if len(body) < _SIZE or checksum(body):
        return False
    kind, code, _, got_identifier, got_sequence = struct.unpack_from(_HEADER, body)
    return (kind, code, got_identifier, got_sequence) == (_ECHO_REPLY, 0, identifier, sequence)
