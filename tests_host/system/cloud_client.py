"""A client that says exactly what a test tells it to, over blocking TLS sockets.

It is no MQTT client: it sends packets or raw bytes, and reads packets until the broker closes.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from tools.cloud import packets as p
from tools.cloud.identity import issue_birth


def tool(name: str) -> str:
    """The path of a program; a test without it is skipped, and fails where CI=true."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


class Device:
    """A thing with its files in the cloud's folder, as tools want them."""

    def __init__(self, state: Path, thing: str):
        self.thing = thing
        identity = issue_birth(state, thing)
        self.certificate_id = identity.certificate_id
        self.ca = str(state / "ca.pem")
        self.cert = str(state / f"{thing}.pem")
        self.key = str(state / f"{thing}.key")
        Path(self.cert).write_bytes(identity.cert_pem)
        Path(self.key).write_bytes(identity.key_pem)


class Operator:
    """The same for one of the cloud's own certificates."""

    def __init__(self, state: Path, name: str = "operator"):
        self.thing = name
        self.ca = str(state / "ca.pem")
        self.cert = str(state / f"{name}.pem")
        self.key = str(state / f"{name}.key")


def context(who, version=None) -> ssl.SSLContext:
    """A client's TLS context; `who` None shows no certificate."""
    made = ssl.create_default_context(cafile=who.ca)
    made.load_cert_chain(who.cert, who.key)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


class Raw:
    """One TLS connection."""

    def __init__(self, port, who, name="localhost", version=None, address="127.0.0.1", ctx=None):
        made = ctx or context(who, version)
        if name is None:
            made.check_hostname = False
        plain = socket.create_connection((address, port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket = made.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise
        self._framer = p.Framer(1 << 20)
        self._ready: list = []
        self._next = 0

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, *items) -> None:
        """Send packets, or bytes as they are, in one write."""
        self.socket.sendall(
            b"".join(item if isinstance(item, bytes) else p.encode(item) for item in items)
        )

    def read(self, timeout: float = 5.0):
        """The next packet; EOFError when the broker has closed, TimeoutError when silent."""
        self.socket.settimeout(timeout)
        while not self._ready:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise EOFError(str(error)) from error
            if not data:
                raise EOFError("closed")
            self._ready += self._framer.feed(data)
        return p.decode(*self._ready.pop(0))

    def packets(self, count: int, timeout: float = 5.0) -> list:
        """The next `count` packets."""
        return [self.read(timeout) for _ in range(count)]

    def closed(self, timeout: float = 5.0) -> list:
        """Read to the end; returns the packets that came before it. TimeoutError when none."""
        got = []
        while True:
            try:
                got.append(self.read(timeout))
            except EOFError:
                return got

    def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes, and the connection stays open, for so long."""
        try:
            packet = self.read(seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"got {packet}")

    def connect(self, client_id: str, code: int = 0, **fields) -> p.Connack:
        """CONNECT, and CONNACK with the code that is expected."""
        self.send(p.Connect(client_id, **fields))
        answer = self.read()
        assert isinstance(answer, p.Connack), answer
        assert answer.code == code, answer
        return answer

    def subscribe(self, *requests) -> tuple[int, ...]:
        """SUBSCRIBE filters, or (filter, QoS) pairs (default QoS 1); SUBACK's codes."""
        self._next += 1
        pairs = tuple(r if isinstance(r, tuple) else (r, 1) for r in requests)
        self.send(p.Subscribe(self._next, pairs))
        answer = self.read()
        assert isinstance(answer, p.Suback), answer
        assert answer.packet_id == self._next
        return answer.codes

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 0, **fields) -> int:
        """PUBLISH; returns the packet id. Does not wait for PUBACK."""
        self._next += 1
        ident = self._next if qos else 0
        self.send(p.Publish(topic, payload, qos, packet_id=ident, **fields))
        return ident

    def ping(self) -> None:
        """PINGREQ and PINGRESP: all that was sent before has been handled."""
        self.send(p.Bare(p.PINGREQ))
        answer = self.read()
        assert answer == p.Bare(p.PINGRESP), answer


def connected(cloud, who, client_id=None, **fields) -> Raw:
    """A raw client that has its CONNACK."""
    client = Raw(cloud.mqtt, who)
    client.connect(client_id or who.thing, **fields)
    return client
