# The wire format of MQTT 3.1.1 (OASIS, 29 October 2014): building and reading packets.
# Pure functions on byte buffers, the same on MicroPython and CPython.

from micropython import const

# Codes of an MQTTException beside CONNACK's return codes, which are 1 and above.
REFUSED = const(0x80)
BY_CLIENT = const(-1)
BY_SERVER = const(-2)
TIMEOUT = const(-3)
KEEPALIVE = const(-4)
PROTOCOL = const(-5)

_PROTOCOL_LEVEL = b"\x00\x04MQTT\x04"
_CLEAN_SESSION = const(0x02)
_QOS_MASK = const(0x06)
_QOS1 = const(0x02)


class MQTTException(Exception):
    """The connection was refused, broken off or closed: `MQTTException(code, text)`."""

    @property
    def code(self):
        """CONNACK's return code, REFUSED (SUBACK 0x80), or one of the negative codes."""
        return self.args[0]


def malformed(text):
    """The exception for a packet that breaks the protocol; to be raised by the caller."""
    return MQTTException(PROTOCOL, text)


def put_length(buf, at, length):
    """Write a Remaining Length (section 2.2.3) into `buf` at `at`; return the index after it.

    ValueError above 268,435,455.
    """
    if length >> 28:
        raise ValueError("packet too long")
    while length > 127:
        buf[at] = length & 127 | 128
        length >>= 7
        at += 1
    buf[at] = length
    return at + 1


def get_length(buf, at, end):
    """Read the Remaining Length at `at` in `buf[:end]`.

    Return (length, index after it), or None when bytes are still missing.
    MQTTException when a fifth byte would follow (section 2.2.3).
    """
    length = shift = 0
    while at < end:
        byte = buf[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return length, at
        shift += 7
        if shift > 21:
            raise malformed("bad remaining length")
    return None


def put_publish(buf, first, topic, packet_id, size):
    """Write all of a PUBLISH but its message (section 3.3) at the start of `buf`.

    `first` is the first byte with its flags, `topic` bytes (1 to 65,535), `packet_id` 1 to 65535
    with QoS 1 and 0 with QoS 0, `size` the length of the message. Return the header's length.
    ValueError for a topic or message that MQTT cannot carry, or a topic that `buf` cannot hold.
    """
    length = len(topic)
    if not 0 < length < 65536 or length + 9 > len(buf):
        raise ValueError("topic length")
    buf[0] = first
    at = put_length(buf, 1, length + size + (4 if packet_id else 2))
    buf[at] = length >> 8
    buf[at + 1] = length & 255
    at += 2
    buf[at : at + length] = topic
    at += length
    if packet_id:
        buf[at] = packet_id >> 8
        buf[at + 1] = packet_id & 255
        at += 2
    return at


def string(value):
    """A string as packets have it (section 1.5.3): its length, then bytes or UTF-8."""
    if isinstance(value, str):
        value = value.encode()
    if len(value) > 65535:
        raise ValueError("string too long")
    return len(value).to_bytes(2, "big") + value


def _packet(first, body):
    header = bytearray(5)
    header[0] = first
    return bytes(header[: put_length(header, 1, len(body))]) + body


def connect_packet(client_id, keepalive, flags=_CLEAN_SESSION, more=b""):
    """A CONNECT packet (section 3.1). `keepalive` in seconds, 0 to 65535; `flags` and what follows
    the client id (`more`) from `mqtt_options` when it is not just a clean session."""
    head = _PROTOCOL_LEVEL + bytes((flags, keepalive >> 8, keepalive & 255))
    return _packet(0x10, head + string(client_id) + more)


def subscribe_packet(packet_id, topic, qos=None):
    """A SUBSCRIBE packet (section 3.8) for one topic filter; UNSUBSCRIBE (3.10) without `qos`."""
    body = packet_id.to_bytes(2, "big") + string(topic)
    return _packet(0xA2, body) if qos is None else _packet(0x82, body + bytes((qos,)))


def puback_packet(packet_id):
    """A PUBACK packet (section 3.4)."""
    return bytes((0x40, 2, packet_id >> 8, packet_id & 255))


def publish_layout(buf, first, body, limit):
    """Where the parts of a received PUBLISH are: (end of topic, packet id, start of message).

    `body` is the index after the Remaining Length, `limit` the index after the packet; `buf` must
    hold topic and packet id. The packet id is 0 with QoS 0. MQTTException when the packet is
    malformed or has QoS 2, which this client never asks for (section 3.3.1.2).
    """
    qos = first & _QOS_MASK
    if qos > _QOS1:
        raise malformed("PUBLISH with QoS above 1")
    if limit - body < 3:
        raise malformed("bad topic in PUBLISH")
    topic_end = body + 2 + (buf[body] << 8 | buf[body + 1])
    # With QoS 1 the packet id follows, two bytes.
    message = topic_end + 2 if qos else topic_end
    if message > limit or topic_end == body + 2:
        raise malformed("bad topic in PUBLISH")
    if not qos:
        return topic_end, 0, message
    packet_id = buf[topic_end] << 8 | buf[topic_end + 1]
    if not packet_id:
        raise malformed("PUBLISH with packet id 0")
    return topic_end, packet_id, message
