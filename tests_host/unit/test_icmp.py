"""ICMP echo: against packets put together by hand, and any garbage."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from lib import icmp

# The example of RFC 1071, section 3: the sum of these is ddf2.
RFC_1071 = bytes.fromhex("0001f203f4f5f6f7")


def reply(request, header=b"\x45" + bytes(19)):
    body = b"\0\0\0\0" + request[4:]
    return header + body[:2] + struct.pack(">H", icmp.checksum(body)) + body[4:]


def test_checksum():
    assert icmp.checksum(RFC_1071) == 0xDDF2 ^ 0xFFFF
    assert icmp.checksum(b"") == 0xFFFF
    assert icmp.checksum(b"\x01") == 0xFEFF


def test_request():
    assert icmp.request(0x1234, 5, b"") == bytes.fromhex("0800e5c612340005")


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=40))
def test_a_request_has_the_right_sum_and_its_reply_is_known(identifier, sequence, payload):
    request = icmp.request(identifier, sequence, payload)
    assert icmp.checksum(request) == 0
    assert icmp.is_reply(reply(request), identifier, sequence)
    with_options = b"\x46" + bytes(23)
    assert icmp.is_reply(reply(request, with_options), identifier, sequence)
    assert not icmp.is_reply(reply(request), identifier ^ 1, sequence)
    assert not icmp.is_reply(reply(request), identifier, sequence ^ 1)
    # The request itself, as a loopback would show it.
    assert not icmp.is_reply(b"\x45" + bytes(19) + request, identifier, sequence)


@given(st.binary(max_size=60))
def test_garbage_is_no_reply(packet):
    assert not icmp.is_reply(packet, 0x1234, 0x5678)


def test_a_flipped_bit_is_noticed():
    good = reply(icmp.request(7, 8))
    for bit in range(20 * 8, len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert not icmp.is_reply(bad, 7, 8)
