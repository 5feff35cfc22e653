"""A scripted MQTT server: the test says byte by byte what it receives and sends."""

import contextlib

from tests_host.vm.scripted import ScriptedServer

CONNACK = bytes.fromhex("20020000")
CONNACK_PRESENT = bytes.fromhex("20020100")
PINGREQ = bytes.fromhex("c000")
PINGRESP = bytes.fromhex("d000")
DISCONNECT = bytes.fromhex("e000")


def packet(first: int, body: bytes) -> bytes:
    """A whole MQTT packet with its Remaining Length."""
    length, header = len(body), [first]
    while True:
        length, low = length >> 7, length & 127
        header.append(low | (128 if length else 0))
        if not length:
            return bytes(header) + body


def publish(
    topic: bytes, message: bytes, qos: int = 0, packet_id: int = 0, flags: int = 0
) -> bytes:
    """A PUBLISH packet."""
    pid = packet_id.to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + pid + message
    return packet(0x30 | qos << 1 | flags, body)


def puback(packet_id: int) -> bytes:
    """A PUBACK packet."""
    return packet(0x40, packet_id.to_bytes(2, "big"))


class Peer:
    """One accepted connection, seen from the server's side."""

    def __init__(self, sock):
        self.sock = sock

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError(f"client closed after {data!r}")
            data += piece
        return data

    def packet(self) -> bytes:
        """Receive one whole packet."""
        data = self.read(2)
        length, shift = data[1] & 127, 7
        while data[-1] & 128:
            data += self.read(1)
            length |= (data[-1] & 127) << shift
            shift += 7
        return data + self.read(length)

    def expect(self, *packets: bytes):
        """Receive these packets, exactly."""
        for wanted in packets:
            got = self.packet()
            assert got == wanted, f"got {got.hex(' ')}, wanted {wanted.hex(' ')}"

    def send(self, *packets: bytes):
        self.sock.sendall(b"".join(packets))

    def accept(self, connack: bytes = CONNACK) -> bytes:
        """Receive CONNECT, answer with CONNACK, return the CONNECT packet."""
        connect = self.packet()
        assert connect[0] == 0x10
        self.send(connack)
        return connect

    def expect_close(self):
        """Wait until the client has closed; whatever it still sends is ignored."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass


class FakeBroker(ScriptedServer):
    """A server of MQTT."""

    def __init__(self, *scripts):
        # Small, so that a client that writes more than this server reads is soon stuck.
        super().__init__(Peer, scripts, receive_buffer=65536)
