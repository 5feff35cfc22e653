"""What the broker keeps for one client id: subscriptions, and QoS 1 messages on their way."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

log = logging.getLogger("cloud")

WINDOW = 100  # rule `unacknowledged`
STORED = 1000  # rule `backlog-size`
UNREAD = 1 << 20  # rule `slow-reader`, bytes


@dataclass
class Delivery:
    """One message for one client. `packet_id` is 0 until it has been sent at QoS 1."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool = False
    packet_id: int = 0


class Session:
    """A client's state; it outlives the connection when CONNECT asked for that."""

    def __init__(self, client_id: str, clean: bool, settings):
        self.client_id = client_id
        self.clean = clean
        self.subscriptions: dict[str, int] = {}
        self.connection = None
        self.inflight: dict[int, Delivery] = {}
        self.waiting: deque[Delivery] = deque()  # live, held back by the window
        self.backlog: deque[Delivery] = deque()  # stored while the client was away
        self.lost = 0
        self._settings = settings
        self._next_id = 0
        self._replay: asyncio.TimerHandle | None = None

    # -- the client comes and goes --
    def attach(self, connection) -> None:
        """A connection has taken this session; the backlog starts once CONNACK is out."""
        self.connection = connection

    def start_replay(self) -> None:
        """Send the backlog, at the rate of rule `backlog-rate`."""
        self._replay_next()

    def detach(self) -> None:
        """The connection is gone; what it did not acknowledge waits for the next one."""
        self.connection = None
        if self._replay is not None:
            self._replay.cancel()
            self._replay = None
        if not self.clean:
            self.backlog.extendleft(reversed([*self.inflight.values(), *self.waiting]))
            while len(self.backlog) > STORED:
                self._lose(self.backlog)
        self.inflight.clear()
        self.waiting.clear()

    def _lose(self, queue: deque) -> None:
        queue.popleft()
        self.lost += 1
        log.info("lost: rule backlog-size, client %s", self.client_id)

    # -- messages --
    def offer(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> bool:
        """Send a message, hold it back, or store it; False when it is dropped."""
        delivery = Delivery(topic, payload, qos, retain)
        if self.connection is None:
            if self.clean or not qos:
                return False
            return self._keep(self.backlog, delivery)
        if not qos:
            if self.connection.unread() > UNREAD:
                log.info("dropped: rule slow-reader, client %s", self.client_id)
                return False
            return self.connection.send_delivery(delivery)
        if len(self.inflight) >= WINDOW:
            return self._keep(self.waiting, delivery)
        return self._send(delivery)

    def _keep(self, queue: deque, delivery: Delivery) -> bool:
        queue.append(delivery)
        if len(queue) > STORED:
            self._lose(queue)
        return True

    def _send(self, delivery: Delivery) -> bool:
        """Send at QoS 1 under a packet id; it stays in flight until PUBACK."""
        if not self.connection.may_receive(delivery.topic):
            return False
        again = bool(delivery.packet_id) and self._settings.redelivery == "dup"
        if not again:
            delivery.packet_id = self._new_id()
        self.inflight[delivery.packet_id] = delivery
        return self.connection.send_delivery(delivery, dup=again)

    def _new_id(self) -> int:
        taken = {delivery.packet_id for delivery in self.backlog}
        while True:
            self._next_id = self._next_id % 65535 + 1
            if self._next_id not in self.inflight and self._next_id not in taken:
                return self._next_id

    def acknowledge(self, packet_id: int) -> bool:
        """PUBACK has come; False when nothing with this id is in flight."""
        known = self.inflight.pop(packet_id, None) is not None
        while self.connection and self.waiting and len(self.inflight) < WINDOW:
            self._send(self.waiting.popleft())
        return known

    def redeliver(self) -> int:
        """Send everything in flight once more, as rule `redelivery` says; returns how many."""
        again = list(self.inflight.values())
        self.inflight.clear()
        for delivery in again:
            if self.connection is not None:
                self._send(delivery)
            elif not self.clean:
                self._keep(self.backlog, delivery)
        return len(again)

    def _replay_next(self) -> None:
        self._replay = None
        rate = self._settings.replay_per_second
        while self.connection is not None and self.backlog:
            if len(self.inflight) < WINDOW:
                self._send(self.backlog.popleft())
                if not rate:
                    continue
            pause = 1 / rate if rate else 0.05
            loop = asyncio.get_running_loop()
            self._replay = loop.call_later(pause, self._replay_next)
            return
