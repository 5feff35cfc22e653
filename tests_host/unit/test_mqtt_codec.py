"""lib.mqtt_codec on CPython: it reads what it builds, and the worked bytes of the standard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import mqtt_codec as codec
from lib.mqtt_codec import MQTTException
from lib.mqtt_options import connect_options

topics = st.binary(min_size=1, max_size=300)
packet_ids = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("length", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2097151, "ffff7f"),
        (2097152, "80808001"),
        (268435455, "ffffff7f"),
    ],
)
def test_remaining_length_as_in_the_standards_table(length, wire):
    buf = bytearray(6)
    end = codec.put_length(buf, 1, length)
    assert buf[1:end].hex() == wire
    assert codec.get_length(buf, 1, end) == (length, end)


@given(st.integers(0, 268435455), st.integers(0, 3))
def test_remaining_length_round_trip_and_missing_bytes(length, at):
    buf = bytearray(at + 4)
    end = codec.put_length(buf, at, length)
    assert codec.get_length(buf, at, len(buf)) == (length, end)
    for cut in range(at, end):
        assert codec.get_length(buf, at, cut) is None


def test_remaining_length_out_of_range():
    with pytest.raises(ValueError, match="packet too long"):
        codec.put_length(bytearray(8), 0, 268435456)
    with pytest.raises(MQTTException) as caught:
        codec.get_length(bytes.fromhex("8080808001"), 0, 5)
    assert caught.value.code == codec.PROTOCOL


@given(topics, st.binary(max_size=40_000), st.booleans(), st.integers(0, 65535))
def test_publish_round_trip(topic, message, retain, packet_id):
    first = 0x30 | retain | (2 if packet_id else 0)
    buf = bytearray(len(topic) + len(message) + 9)
    at = codec.put_publish(buf, first, topic, packet_id, len(message))
    end = at + len(message)
    buf[at:end] = message
    assert buf[0] == first
    length, body = codec.get_length(buf, 1, end)
    assert body + length == end
    topic_end, got_id, start = codec.publish_layout(buf, first, body, end)
    assert bytes(buf[body + 2 : topic_end]) == topic
    assert got_id == packet_id
    assert bytes(buf[start:end]) == message


def test_publish_worked_example():
    """Section 3.3.2.3 of the standard: topic a/b, packet id 10."""
    buf = bytearray(32)
    assert codec.put_publish(buf, 0x33, b"a/b", 10, 2) == 9
    assert buf[:9].hex(" ") == "33 09 00 03 61 2f 62 00 0a"


@pytest.mark.parametrize("size", [0, 65536])
def test_publish_topic_length(size):
    with pytest.raises(ValueError, match="topic length"):
        codec.put_publish(bytearray(70000), 0x30, b"t" * size, 0, 0)


def test_publish_topic_must_fit_the_buffer():
    codec.put_publish(bytearray(100), 0x32, b"t" * 91, 1, 5000)
    with pytest.raises(ValueError, match="topic length"):
        codec.put_publish(bytearray(100), 0x32, b"t" * 92, 1, 5000)


@given(st.binary(max_size=40), st.integers(0, 255))
def test_layout_of_any_bytes_is_refused_or_lies_inside(body, first):
    """Bytes from a broken server never lead outside the packet."""
    buf = body + bytes(8)
    try:
        topic_end, packet_id, message = codec.publish_layout(buf, first, 0, len(body))
    except MQTTException as error:
        assert error.code == codec.PROTOCOL
    else:
        assert 2 < topic_end <= message <= len(body)
        assert (packet_id > 0) == bool(first & 6)


def test_connect_worked_example():
    """The CONNECT of a thing with a clean session and a keep-alive of 60 s."""
    wire = "10 13 00 04 4d 51 54 54 04 02 00 3c 00 07 6c 61 62 5f 53 4e 31"
    assert codec.connect_packet(b"lab_SN1", 60).hex(" ") == wire


def strings(data):
    """The length-prefixed strings in `data`."""
    found = []
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + size])
        assert len(found[-1]) == size
        data = data[2 + size :]
    return found


@given(
    st.text(max_size=30),
    st.booleans(),
    st.integers(0, 65535),
    st.none() | st.text(max_size=20),
    st.none() | st.binary(max_size=200),
    st.none() | st.tuples(topics, st.binary(max_size=300), st.booleans(), st.integers(0, 1)),
)
def test_connect_flags_and_fields(client_id, clean, keepalive, user, password, will):
    flags, more = connect_options(clean, user, password, will)
    packet = codec.connect_packet(client_id, keepalive, flags, more)
    length, at = codec.get_length(packet, 1, len(packet))
    assert at + length == len(packet)
    assert packet[at : at + 7] == b"\x00\x04MQTT\x04"
    flags = packet[at + 7]
    assert int.from_bytes(packet[at + 8 : at + 10], "big") == keepalive
    wanted = [client_id.encode()]
    assert bool(flags & 2) == clean
    assert bool(flags & 4) == (will is not None)
    if will:
        assert (flags >> 3 & 3, bool(flags & 0x20)) == (will[3], will[2])
        wanted += will[:2]
    if user is not None:
        wanted.append(user.encode())
        # The standard allows a password only with a user name.
        if password is not None:
            wanted.append(password)
    assert bool(flags & 0x80) == (user is not None)
    assert bool(flags & 0x40) == (user is not None and password is not None)
    assert not flags & 1
    assert strings(packet[at + 10 :]) == wanted


@pytest.mark.parametrize("keepalive", [-1, 65536])
def test_connect_keepalive_range(keepalive):
    with pytest.raises(ValueError):
        codec.connect_packet(b"c", keepalive)


@given(packet_ids, topics, st.integers(0, 1))
def test_subscribe_and_unsubscribe(packet_id, topic, qos):
    for packet, first, tail in (
        (codec.subscribe_packet(packet_id, topic, qos), 0x82, bytes((qos,))),
        (codec.subscribe_packet(packet_id, topic), 0xA2, b""),
    ):
        assert packet[0] == first
        length, at = codec.get_length(packet, 1, len(packet))
        assert at + length == len(packet)
        assert int.from_bytes(packet[at : at + 2], "big") == packet_id
        assert packet[at + 2 :] == len(topic).to_bytes(2, "big") + topic + tail


def test_strings_longer_than_mqtt_allows():
    with pytest.raises(ValueError, match="string too long"):
        codec.subscribe_packet(1, b"t" * 65536, 0)


@given(packet_ids)
def test_puback(packet_id):
    assert codec.puback_packet(packet_id) == b"\x40\x02" + packet_id.to_bytes(2, "big")
