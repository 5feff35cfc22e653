"""MQTT 3.1.1 control packets: bytes to objects and back, with the standard's checks.

Pure functions over `bytes`; both directions are there, so that the same codec serves the broker
and the raw clients of its tests. Section numbers are those of the OASIS text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
PUBREC, PUBREL, PUBCOMP = 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

NAMES = {
    CONNECT: "CONNECT",
    CONNACK: "CONNACK",
    PUBLISH: "PUBLISH",
    PUBACK: "PUBACK",
    PUBREC: "PUBREC",
    PUBREL: "PUBREL",
    PUBCOMP: "PUBCOMP",
    SUBSCRIBE: "SUBSCRIBE",
    SUBACK: "SUBACK",
    UNSUBSCRIBE: "UNSUBSCRIBE",
    UNSUBACK: "UNSUBACK",
    PINGREQ: "PINGREQ",
    PINGRESP: "PINGRESP",
    DISCONNECT: "DISCONNECT",
}

REFUSED_FILTER = 0x80  # SUBACK's only failure code (3.9.3)


class Malformed(ValueError):
    """The bytes are not a packet that MQTT 3.1.1 allows."""


class TooLarge(ValueError):
    """The fixed header announces more than the reader accepts."""


@dataclass(frozen=True)
class Will:
    """The last will of a CONNECT (3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True)
class Connect:
    """CONNECT (3.1). `keep_alive` in seconds, 0 to 65535."""

    client_id: str
    keep_alive: int = 60
    clean: bool = True
    will: Will | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    protocol: str = "MQTT"
    level: int = 4


@dataclass(frozen=True)
class Connack:
    """CONNACK (3.2); code 0 is accepted."""

    code: int = 0
    session_present: bool = False


@dataclass(frozen=True)
class Publish:
    """PUBLISH (3.3); `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0


@dataclass(frozen=True)
class Ack:
    """PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK: a packet id and nothing else."""

    kind: int
    packet_id: int


@dataclass(frozen=True)
class Subscribe:
    """SUBSCRIBE (3.8): (filter, requested QoS) pairs."""

    packet_id: int
    requests: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Suback:
    """SUBACK (3.9): one code for each filter, 0, 1, 2 or 0x80."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Unsubscribe:
    """UNSUBSCRIBE (3.10)."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True)
class Bare:
    """PINGREQ, PINGRESP or DISCONNECT: two bytes."""

    kind: int


class Framer:
    """Cuts a byte stream into packets (2.2); keeps an unfinished one for the next call."""

    def __init__(self, limit: int):
        """`limit`: the largest remaining length that is accepted, in bytes."""
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take `data`; return the packets that it completes as (first byte, body).

        Raises Malformed for a length field of more than four bytes and TooLarge, as soon as the
        header is known, for a packet over the limit. Packets completed before the bad one are
        lost with it: read them with `packets()` when they matter.
        """
        self._buffer += data
        return list(self.packets())

    @property
    def pending(self) -> int:
        """Bytes taken that are not yet part of a packet that was handed out."""
        return len(self._buffer)

    def push(self, data: bytes) -> None:
        """Take `data` without cutting it yet."""
        self._buffer += data

    def packets(self):
        """Yield each finished packet as (first byte, body); raises as `feed` does."""
        while True:
            head = self._header()
            if head is None:
                return
            start, length = head
            if len(self._buffer) < start + length:
                return
            first = self._buffer[0]
            body = bytes(self._buffer[start : start + length])
            del self._buffer[: start + length]
            yield first, body

    def _header(self) -> tuple[int, int] | None:
        length = 0
        for index in range(1, 5):
            if index >= len(self._buffer):
                return None
            byte = self._buffer[index]
            length |= (byte & 0x7F) << (7 * (index - 1))
            if not byte & 0x80:
                if length > self._limit:
                    raise TooLarge(f"{length} bytes announced, {self._limit} accepted")
                return index + 1, length
        raise Malformed("remaining length of more than four bytes")


class _Body:
    """A reader over the bytes of one packet; every shortage is Malformed."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise Malformed("packet ends early")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def word(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.word())

    def text(self) -> str:
        try:
            text = self.binary().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"text is not UTF-8: {error.reason}") from error
        if "\0" in text:
            raise Malformed("text holds U+0000")
        return text

    def packet_id(self) -> int:
        value = self.word()
        if not value:
            raise Malformed("packet id 0")
        return value

    def rest(self) -> bytes:
        piece = self.data[self.at :]
        self.at = len(self.data)
        return piece

    def end(self) -> None:
        if self.at != len(self.data):
            raise Malformed("packet is longer than its fields")


def decode(first: int, body: bytes):
    """The packet whose fixed header starts with `first`; raises Malformed."""
    kind, flags = first >> 4, first & 0x0F
    if kind == PUBLISH:
        return _decode_publish(flags, body)
    wanted = 0x02 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0x00
    if kind not in NAMES or flags != wanted:
        raise Malformed(f"first byte 0x{first:02x}")
    reader = _Body(body)
    if kind == CONNECT:
        packet = _decode_connect(reader)
    elif kind == CONNACK:
        present = reader.byte()
        if present > 1:
            raise Malformed("CONNACK flags")
        packet = Connack(reader.byte(), bool(present))
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK):
        packet = Ack(kind, reader.packet_id())
    elif kind == SUBSCRIBE:
        packet = _decode_subscribe(reader)
    elif kind == SUBACK:
        packet = Suback(reader.packet_id(), tuple(reader.rest()))
    elif kind == UNSUBSCRIBE:
        packet = _decode_unsubscribe(reader)
    else:
        packet = Bare(kind)
    reader.end()
    return packet


def _decode_connect(reader: _Body) -> Connect:
    protocol, level = reader.text(), reader.byte()
    if (protocol, level) != ("MQTT", 4):
        # The rest of another version has another shape; the caller refuses by these two fields.
        reader.rest()
        return Connect("", protocol=protocol, level=level)
    flags = reader.byte()
    keep_alive = reader.word()
    has_will, will_qos, will_retain = bool(flags & 0x04), (flags >> 3) & 3, bool(flags & 0x20)
    if flags & 0x01 or will_qos == 3:
        raise Malformed("CONNECT flags")
    if not has_will and (will_qos or will_retain):
        raise Malformed("will QoS or retain without a will")
    if flags & 0x40 and not flags & 0x80:
        raise Malformed("password without a user name")
    client_id = reader.text()
    will = Will(reader.text(), reader.binary(), will_qos, will_retain) if has_will else None
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(client_id, keep_alive, bool(flags & 0x02), will, username, password)


def _decode_publish(flags: int, body: bytes) -> Publish:
    reader = _Body(body)
    qos, dup = (flags >> 1) & 3, bool(flags & 0x08)
    if qos == 3:
        raise Malformed("QoS 3")
    if dup and not qos:
        raise Malformed("DUP at QoS 0")
    topic = reader.text()
    packet_id = reader.packet_id() if qos else 0
    return Publish(topic, reader.rest(), qos, bool(flags & 0x01), dup, packet_id)


def _decode_subscribe(reader: _Body) -> Subscribe:
    packet_id = reader.packet_id()
    requests = []
    while reader.at < len(reader.data):
        name, qos = reader.text(), reader.byte()
        if qos > 2:
            raise Malformed("requested QoS")
        requests.append((name, qos))
    if not requests:
        raise Malformed("SUBSCRIBE without a filter")
    return Subscribe(packet_id, tuple(requests))


def _decode_unsubscribe(reader: _Body) -> Unsubscribe:
    packet_id = reader.packet_id()
    filters = []
    while reader.at < len(reader.data):
        filters.append(reader.text())
    if not filters:
        raise Malformed("UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, tuple(filters))


def encode(packet) -> bytes:
    """The bytes of `packet`; ValueError when a field does not fit its place on the wire."""
    if isinstance(packet, Publish):
        flags = packet.dup << 3 | packet.qos << 1 | packet.retain
        ident = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
        return _frame(PUBLISH << 4 | flags, _text(packet.topic) + ident + packet.payload)
    if isinstance(packet, Ack):
        return _frame(packet.kind << 4 | (0x02 if packet.kind == PUBREL else 0), _word(packet))
    if isinstance(packet, Bare):
        return bytes((packet.kind << 4, 0))
    if isinstance(packet, Connack):
        return bytes((CONNACK << 4, 2, packet.session_present, packet.code))
    if isinstance(packet, Suback):
        return _frame(SUBACK << 4, _word(packet) + bytes(packet.codes))
    if isinstance(packet, Subscribe):
        body = b"".join(_text(name) + bytes((qos,)) for name, qos in packet.requests)
        return _frame(SUBSCRIBE << 4 | 0x02, _word(packet) + body)
    if isinstance(packet, Unsubscribe):
        body = b"".join(_text(name) for name in packet.filters)
        return _frame(UNSUBSCRIBE << 4 | 0x02, _word(packet) + body)
    return _encode_connect(packet)


def _encode_connect(packet: Connect) -> bytes:
    flags = packet.clean << 1
    tail = _text(packet.client_id)
    if packet.will is not None:
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
        tail += _text(packet.will.topic) + _binary(packet.will.payload)
    if packet.username is not None:
        flags |= 0x80
        tail += _text(packet.username)
    if packet.password is not None:
        flags |= 0x40
        tail += _binary(packet.password)
    head = _text(packet.protocol) + bytes((packet.level, flags))
    return _frame(CONNECT << 4, head + packet.keep_alive.to_bytes(2, "big") + tail)


def _word(packet) -> bytes:
    return packet.packet_id.to_bytes(2, "big")


def _binary(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise ValueError("field of more than 65535 bytes")
    return len(data).to_bytes(2, "big") + data


def _text(text: str) -> bytes:
    return _binary(text.encode("utf-8"))


def _frame(first: int, body: bytes) -> bytes:
    length = len(body)
    if length > 268_435_455:
        raise ValueError("packet over MQTT's limit")
    head = bytearray((first,))
    while True:
        length, low = divmod(length, 128)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body
