"""The local cloud's MQTT codec: round trips, worked bytes, and what it must refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.cloud import packets as p

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
_ident = st.integers(1, 65535)
_qos = st.integers(0, 2)
_wills = st.builds(p.Will, _text, st.binary(max_size=40), _qos, st.booleans())


@st.composite
def _connects(draw):
    username = draw(st.none() | _text)
    password = draw(st.none() | st.binary(max_size=20)) if username is not None else None
    return p.Connect(
        draw(_text),
        draw(st.integers(0, 65535)),
        draw(st.booleans()),
        draw(st.none() | _wills),
        username,
        password,
    )


@st.composite
def _publishes(draw):
    qos = draw(_qos)
    ident = draw(_ident) if qos else 0
    dup = draw(st.booleans()) if qos else False
    payload = draw(st.binary(max_size=300))
    return p.Publish(draw(_text), payload, qos, draw(st.booleans()), dup, ident)


_acks = st.builds(
    p.Ack, st.sampled_from([p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP, p.UNSUBACK]), _ident
)
_any = st.one_of(
    _connects(),
    _publishes(),
    _acks,
    st.builds(p.Connack, st.integers(0, 255), st.booleans()),
    st.builds(
        p.Subscribe,
        _ident,
        st.lists(st.tuples(_text, _qos), min_size=1, max_size=9).map(tuple),
    ),
    st.builds(p.Suback, _ident, st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1).map(tuple)),
    st.builds(p.Unsubscribe, _ident, st.lists(_text, min_size=1, max_size=9).map(tuple)),
    st.builds(p.Bare, st.sampled_from([p.PINGREQ, p.PINGRESP, p.DISCONNECT])),
)


@given(st.lists(_any, max_size=5), st.integers(1, 50))
def test_what_is_encoded_comes_back_however_the_stream_is_cut(sent, step):
    stream = b"".join(p.encode(packet) for packet in sent)
    framer = p.Framer(100_000)
    got = []
    for at in range(0, len(stream), step):
        got += framer.feed(stream[at : at + step])
    assert [p.decode(first, body) for first, body in got] == sent


@given(st.integers(0, 255), st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_or_malformed(first, body):
    try:
        packet = p.decode(first, body)
    except p.Malformed:
        return
    assert packet is not None


@given(st.binary(max_size=200))
def test_arbitrary_streams_are_cut_or_refused(data):
    try:
        pieces = p.Framer(1000).feed(data)
    except (p.Malformed, p.TooLarge):
        return
    assert sum(len(body) + 2 for _, body in pieces) <= len(data) + 1


def test_worked_connect():
    wire = bytes.fromhex("101300044d51545404020 03c00076c61625f534e31".replace(" ", ""))
    assert p.encode(p.Connect("lab_SN1", 60)) == wire
    ((first, body),) = p.Framer(1000).feed(wire)
    assert p.decode(first, body) == p.Connect("lab_SN1", 60)


def test_worked_small_packets():
    assert p.encode(p.Connack(0)) == bytes.fromhex("20020000")
    assert p.encode(p.Connack(7, True)) == bytes.fromhex("20020107")
    assert p.encode(p.Publish("a/b", b"xy", 1, False, False, 10)) == b"\x32\x09\0\x03a/b\0\x0axy"
    assert p.encode(p.Suback(5, (0, 1, 0x80))) == bytes.fromhex("90050005000180")
    assert p.encode(p.Ack(p.PUBREL, 3)) == bytes.fromhex("62020003")


def test_a_will_or_password_shows_in_no_representation():
    shown = repr(p.Connect("c", username="u", password=b"geheim"))
    assert "geheim" not in shown
    assert "geheim" not in repr(p.Publish("t", b"geheim"))


@pytest.mark.parametrize(
    ("first", "body", "why"),
    [
        (0x00, b"", "type 0"),
        (0xF0, b"", "type 15"),
        (0x30, b"\0\x05a", "topic ends early"),
        (0x30, b"\0\x02\xff\xfe", "topic is not UTF-8"),
        (0x30, b"\0\x03a\0b", "U+0000 in a topic"),
        (0x32, b"\0\x01a\0\0x", "packet id 0"),
        (0x36, b"\0\x01a\0\x01x", "QoS 3"),
        (0x38, b"\0\x01ax", "DUP at QoS 0"),
        (0x80, b"\0\x01\0\x01a\0", "SUBSCRIBE without flag 2"),
        (0x82, b"\0\x01", "SUBSCRIBE without a filter"),
        (0x82, b"\0\x01\0\x01a\x03", "requested QoS 3"),
        (0x82, b"\0\x01\0\x01a", "no requested QoS"),
        (0xA2, b"\0\x01", "UNSUBSCRIBE without a filter"),
        (0x40, b"\0\x01\0", "PUBACK too long"),
        (0x41, b"\0\x01", "PUBACK with flags"),
        (0xC0, b"\0", "PINGREQ with a body"),
        (0x10, b"\0\x04MQTT\x04\x03\0<\0\x01a", "reserved CONNECT flag"),
        (0x10, b"\0\x04MQTT\x04\x0a\0<\0\x01a", "will QoS without a will"),
        (0x10, b"\0\x04MQTT\x04\x42\0<\0\x01a\0\x01p", "password without user name"),
        (0x10, b"\0\x04MQTT\x04\x02\0<\0\x01ab", "CONNECT too long"),
    ],
)
def test_malformed(first, body, why):
    with pytest.raises(p.Malformed):
        p.decode(first, body)


def test_length_of_five_bytes_is_malformed():
    with pytest.raises(p.Malformed):
        p.Framer(1000).feed(b"\x30\xff\xff\xff\xff\x01")


def test_too_large_is_told_from_the_header_alone():
    with pytest.raises(p.TooLarge):
        p.Framer(1000).feed(b"\x30\xe9\x07")  # 1001
    assert p.Framer(1000).feed(b"\x30\xe8\x07") == []  # 1000, not there yet


def test_other_versions_are_told_apart_not_malformed():
    body = b"\0\x04MQTT\x05\x02\0<\0\0\x01a"
    assert p.decode(0x10, body).level == 5
    assert p.decode(0x10, b"\0\x06MQIsdp\x03\x02\0<\0\x01a").protocol == "MQIsdp"
