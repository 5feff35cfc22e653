"""The servers of the bench of downloads: as fast as they can, one connection each, over TLS."""

from __future__ import annotations

import cbor2

from tests_host.vm.http_peer import Peer

_BLOCK = 4096


def plain(data: bytes):
    """Sends everything when it is asked."""

    def serve(peer: Peer):
        peer.sock.recv(1)
        peer.send(b"1")
        peer.sock.recv(1)
        peer.send(data)
        peer.expect_close()

    return serve


def web(data: bytes):
    """A file server: one request."""

    def serve(peer: Peer):
        peer.serve(data)
        peer.expect_close()

    return serve


def stream(data: bytes):
    """A broker with a stream: the answers that an MQTT client needs, and blocks as it asks."""

    def serve(peer: Peer):
        read = _Packets(peer.sock)
        while True:
            packet = read.next()
            if packet is None:
                return
            first, body = packet
            if first == 0x10:
                peer.send(b"\x20\x02\x00\x00")
            elif first == 0x82:
                peer.send(b"\x90\x03" + body[:2] + b"\x00")
            elif first == 0xA2:
                peer.send(b"\xb0\x02" + body[:2])
            elif first == 0x30:
                size = int.from_bytes(body[:2], "big")
                topic = body[2 : 2 + size].replace(b"/get/", b"/data/")
                for message in _blocks(data, cbor2.loads(body[2 + size :])):
                    peer.send(_publish(topic, message))
            elif first == 0xE0:
                return

    return serve


def _blocks(data: bytes, request: dict):
    for j, byte in enumerate(request["b"]):
        for k in range(8):
            if byte >> k & 1:
                index = request["o"] + 8 * j + k
                block = data[index * _BLOCK : (index + 1) * _BLOCK]
                yield cbor2.dumps(
                    {"c": request["c"], "f": 0, "l": len(block), "i": index, "p": block}
                )


def _publish(topic: bytes, message: bytes) -> bytes:
    length = 2 + len(topic) + len(message)
    # Two bytes of length: a block has more than 127 bytes and less than 16,384.
    head = bytes((0x30, length & 127 | 128, length >> 7))
    return head + len(topic).to_bytes(2, "big") + topic + message


class _Packets:
    """The MQTT packets of a socket."""

    def __init__(self, sock):
        self._sock = sock
        self._data = b""

    def _need(self, count: int) -> bool:
        while len(self._data) < count:
            try:
                piece = self._sock.recv(65536)
            except OSError:
                # MicroPython ends a TLS connection without a word.
                return False
            if not piece:
                return False
            self._data += piece
        return True

    def next(self):
        """(first byte, body), or None when the client has gone."""
        at, length, shift = 1, 0, 0
        while True:
            if not self._need(at + 1):
                return None
            byte = self._data[at]
            length |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        if not self._need(at + length):
            return None
        first, body = self._data[0], self._data[at : at + length]
        self._data = self._data[at + length :]
        return first, body
