"""One client's connection: bytes in, packets out, deadlines, and the faults on the way.

What a packet means is in `handlers.py`. The state goes handshake -> connect -> open -> closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from tools.cloud import packets, pki, policy
from tools.cloud.handlers import HANDLERS
from tools.cloud.quotas import Meter
from tools.cloud.rules import rule

log = logging.getLogger("cloud")

MAX_PAYLOAD = 131072
# Payload, the longest topic with a basic-ingest prefix, both lengths and the packet id.
_MAX_REMAINING = MAX_PAYLOAD + 512
_NEXT_STATES = {
    "handshake": ("connect", "closed"),
    "connect": ("open", "closed"),
    "open": ("closed",),
    "closed": (),
}


class Connection:
    """The user of one TLS channel."""

    def __init__(self, broker):
        self.broker = broker
        self.state = "handshake"
        self.channel = None
        self.address = "?"
        self.principal = None
        self.client_id: str | None = None
        self.session = None
        self.session_identifier = ""
        self.version = 0
        self.will = None
        self.ended: str | None = None  # the rule that ended it
        self.reason = ""  # disconnectReason of the lifecycle event
        self.keep_alive = 0
        self.silenced_by: int | None = None  # a fault: nothing is read or sent to the end
        self.muted_by: set[int] = set()  # faults `silent at live`, taken away by clearing them
        self.meter = Meter()
        self.unacknowledged: set[int] = set()  # packet ids whose PUBACK has not gone out
        self.held: deque = deque()  # publishes over the window
        self.evaluator: policy.Evaluator | None = None
        self._framer = packets.Framer(_MAX_REMAINING)
        self._greeted = False  # CONNACK has gone out
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: deque[tuple[float, bytes]] = deque()  # output of fault `dribble`

    def _enter(self, state: str) -> None:
        if state not in _NEXT_STATES[self.state]:
            raise RuntimeError(f"connection goes from {self.state} to {state}")
        self.state = state

    def name(self) -> str:
        """What log lines call this client."""
        return self.client_id or self.address

    # -- the channel's side --
    def channel_open(self, channel) -> None:
        """TCP is there, and nobody is known yet."""
        self.channel, self.address = channel, channel.address
        self.broker.connections.add(self)
        faults = self.broker.faults
        if faults.take("refuse", at="tcp"):
            self.end("fault", "refused at tcp", abort=True)
            return
        fault = faults.take("silent", at="tcp")
        if fault is not None:
            channel.deaf = True
            self.silence(fault)

    def channel_ready(self, channel) -> None:
        """TLS is up; the certificate says who it is."""
        self._enter("connect")
        self._certificate_id = pki.der_id(channel.peer_certificate())
        self.principal = self.broker.registry.principal(self._certificate_id)
        if self.principal is None:
            self.end("certificate-registered")
            return
        log.info(
            "tls: %s certificate %.12s %s", self.address, self._certificate_id, channel.version()
        )
        fault = self.broker.faults.take("silent", self, at="tls")
        if fault is not None:
            self.silence(fault)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.broker.settings.deadline, self._no_connect)

    def _no_connect(self) -> None:
        self.end("handshake-deadline", "no CONNECT in time")

    def channel_data(self, data: bytes) -> None:
        """Plain bytes from the client."""
        if self.silenced_by or self.muted_by:
            return
        self._framer.push(data)
        try:
            for first, body in self._framer.packets():
                self._handle(first, body)
                if first >> 4 == packets.CONNECT and self._framer.pending:
                    self._too_early()
                if self.state == "closed" or self.silenced_by or self.muted_by:
                    return
        except packets.Malformed as error:
            self.end("malformed", str(error))
        except packets.TooLarge as error:
            self.end("payload-size", str(error))

    def channel_lost(self, rule_name: str, detail: str) -> None:
        """The channel has ended, from whichever side."""
        self.broker.connections.discard(self)
        if self.state != "closed":
            self._closed(rule_name, detail)

    # -- packets in --
    def _handle(self, first: int, body: bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        faults = self.broker.faults
        name = packets.NAMES.get(first >> 4, "")
        if faults and faults.take("drop", self, packet=name, direction="in"):
            return
        packet = packets.decode(first, body)
        if self.state == "connect" and not isinstance(packet, packets.Connect):
            self.end("connect-first", f"{name} came first")
            return
        if self.state == "open" and not self._greeted:
            self._too_early()
            return
        HANDLERS.get(first >> 4, _not_from_a_client)(self, packet)

    def _too_early(self) -> None:
        if self.state == "open":
            self.end("connack-first", "the client did not wait for CONNACK")

    # -- packets out --
    def send(self, packet, kind: int) -> bool:
        """Send a packet, through the faults that concern it; False when it cannot go out."""
        if self.state == "closed" or self.silenced_by or self.muted_by:
            return False
        faults = self.broker.faults
        if faults:
            name = packets.NAMES[kind]
            if faults.take("drop", self, packet=name, direction="out"):
                return True
            fault = faults.take("delay", self, packet=name)
            if fault is not None:
                loop = asyncio.get_running_loop()
                loop.call_later(fault.ms / 1000, self._emit, packet, kind)
                return True
        self._emit(packet, kind)
        return True

    def _emit(self, packet, kind: int) -> None:
        if self.state == "closed" or self.silenced_by or self.muted_by:
            return
        data = packets.encode(packet)
        faults = self.broker.faults
        if faults:
            name = packets.NAMES[kind]
            if faults.take("close", self, packet=name):
                self._write(data[: len(data) // 2])
                self.end("fault", f"closed in the middle of {name}")
                return
            if kind == packets.PUBLISH and faults.take("duplicate", self):
                self._write(data)
            dribble = faults.take("dribble", self, packet=name)
            if dribble is not None:
                self._dribble(data, dribble.size, dribble.ms / 1000)
                data = b""
        self._write(data)
        if kind == packets.CONNACK:
            self._greeted = True
        elif kind == packets.PUBACK:
            self.unacknowledged.discard(packet.packet_id)
            if self.held:
                held, self.held = self.held, deque()
                for publish in held:
                    if self.state == "open":
                        HANDLERS[packets.PUBLISH](self, publish)

    def _write(self, data: bytes) -> None:
        if self._pieces and data:
            self._pieces.append((0.0, data))
        elif data:
            self.channel.write(data)

    def _dribble(self, data: bytes, size: int, pause: float) -> None:
        idle = not self._pieces
        self._pieces.extend((pause, data[at : at + size]) for at in range(0, len(data), size))
        if idle:
            self._next_piece()

    def _next_piece(self) -> None:
        if self.state == "closed" or self.muted_by:
            self._pieces.clear()
        while self._pieces:
            pause, data = self._pieces[0]
            self.channel.write(data)
            self._pieces.popleft()
            if pause and self._pieces:
                asyncio.get_running_loop().call_later(pause, self._next_piece)
                return

    def inject(self, data: bytes) -> None:
        """Send raw bytes that need not be MQTT (for tests of the client)."""
        self._write(data)

    def send_delivery(self, delivery, dup: bool = False) -> bool:
        """Send a message; False when policy or an enforced quota keeps it back."""
        if not self.may_receive(delivery.topic):
            return False
        broken = self.meter.publish(len(delivery.payload), outgoing=True)
        if broken and self.broker.settings.enforce_quotas:
            log.info("dropped: rule %s, client %s", broken, self.name())
            return False
        self.broker.counters["out"] += 1
        packet = packets.Publish(
            delivery.topic,
            delivery.payload,
            delivery.qos,
            delivery.retain,
            dup,
            delivery.packet_id,
        )
        return self.send(packet, packets.PUBLISH)

    def unread(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.channel.backlog()

    # -- rights --
    def may(self, action: str, resource: str) -> bool:
        """Whether the policies of the certificate allow it."""
        return self.evaluator.allows(action, resource)

    def may_receive(self, topic: str) -> bool:
        """Rule `receive-policy`."""
        return self.may("iot:Receive", "topic/" + topic)

    def evaluate(self) -> None:
        """Set up the policies for this certificate and client id.

        The thing's name has a value only when the client id is the name of a thing that uses the
        certificate.
        """
        thing = self.client_id if self.client_id in self.principal.things else None
        self.evaluator = policy.Evaluator(self.principal.documents, self.client_id, thing)

    def refresh_principal(self) -> None:
        """The registry has changed: end when the certificate lost its rights, else re-evaluate."""
        if self.principal is None or self.state == "closed":
            return
        fresh = self.broker.registry.principal(self._certificate_id)
        if fresh is None:
            self.end("certificate-registered", "the certificate was deleted")
            return
        self.principal = fresh
        if self.state == "open":
            if fresh.status != "ACTIVE":
                self.end("certificate-active", f"certificate is {fresh.status}")
            else:
                self.evaluate()

    # -- the keep-alive and the end --
    def open(self, keep_alive: int) -> None:
        """CONNECT is accepted; `keep_alive` in seconds, already clamped."""
        self._enter("open")
        self._timer.cancel()
        self.keep_alive = keep_alive
        self._check_keep_alive()

    def _check_keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        limit = 1.5 * self.keep_alive * self.broker.settings.keepalive_scale
        left = self._heard + limit - loop.time()
        if self.muted_by:
            left = limit
        if left <= 0:
            self.end("keep-alive", f"nothing for {limit:g} s")
        else:
            # Looks twice a second at least, so that a changed scale acts at once.
            self._timer = loop.call_later(min(left, 0.5), self._check_keep_alive)

    def silence(self, fault) -> None:
        """A fault: from here to the end this client is not answered, and no deadline runs."""
        log.info("fault: silent at %s, %s", fault.at, self.name())
        self.silenced_by = fault.id
        if self._timer is not None:
            self._timer.cancel()

    def fault_cleared(self, fault_id: int) -> None:
        """A muted client is heard again; one that was silenced on its way in starts anew."""
        if fault_id in self.muted_by:
            self.muted_by.discard(fault_id)
            self._heard = asyncio.get_running_loop().time()
        if fault_id == self.silenced_by:
            self.end("fault", "the fault was cleared", abort=True)

    def end(self, rule_name: str, detail: str = "", abort: bool = False) -> None:
        """Close the connection under a rule; `abort` resets it instead of saying goodbye."""
        if self.state == "closed":
            return
        self._closed(rule_name, detail)
        if abort:
            self.channel.abort(rule_name, detail)
        else:
            self.channel.close(rule_name, detail)

    def _closed(self, rule_name: str, detail: str) -> None:
        was_open = self.state == "open"
        self._enter("closed")
        if self._timer is not None:
            self._timer.cancel()
        self.ended, self.reason = rule_name, rule(rule_name).reason
        log.info("closed: %s rule %s%s", self.name(), rule_name, detail and f" ({detail})")
        self.broker.count("closed" if was_open else "refused")
        self.broker.closings.append(
            {"client": self.client_id, "rule": rule_name, "detail": detail, "open": was_open}
        )
        if was_open:
            self.broker.closed(self)


def _not_from_a_client(connection: Connection, _packet) -> None:
    connection.end("malformed", "a packet that clients do not send")
