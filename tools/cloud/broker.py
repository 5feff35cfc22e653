"""The broker: sessions, subscriptions, retained messages, routing, take-over, lifecycle events.

It knows connections only as objects with `client_id`, `principal`, `send_delivery` and `end`;
what a client may do is decided in `handlers.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque

from tools.cloud import topics
from tools.cloud.faults import FaultTable
from tools.cloud.quotas import CONNECTS_PER_SECOND, Window
from tools.cloud.session import Session
from tools.cloud.settings import Settings

log = logging.getLogger("cloud")


class Broker:
    """One broker over one registry. Everything runs in one event loop."""

    def __init__(self, registry, settings: Settings):
        self.registry = registry
        self.settings = settings
        self.faults = FaultTable()
        self.connections: set = set()
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.counters = dict.fromkeys(("connects", "refused", "closed", "in", "out"), 0)
        self.closings: deque[dict] = deque(maxlen=200)
        self._exact: dict[str, dict[Session, int]] = {}
        self._wild: dict[str, dict[Session, int]] = {}
        self._expiry: dict[str, asyncio.TimerHandle] = {}
        self._versions: dict[str, int] = {}
        self._connect_rate: dict[str, Window] = {}
        self._services: list[tuple[str, object]] = []

    # -- connections --
    def client(self, client_id: str):
        """The live connection of a client id, or None."""
        session = self.sessions.get(client_id)
        return session.connection if session else None

    def connect_allowed(self, client_id: str) -> bool:
        """Count a CONNECT; False when rule `connect-rate` is broken and enforced."""
        if len(self._connect_rate) > 10_000:
            self._connect_rate.clear()
        window = self._connect_rate.setdefault(client_id, Window(CONNECTS_PER_SECOND))
        within = window.add(1)
        if not within:
            self.count("exceeded connect-rate")
        return within or not self.settings.enforce_quotas

    def opened(self, connection, clean: bool) -> bool:
        """Give an accepted connection its session; returns CONNACK's session-present flag.

        An older connection of the same client id is ended first (rule `take-over`).
        """
        client_id = connection.client_id
        old = self.client(client_id)
        if old is not None:
            old.end("take-over")
        timer = self._expiry.pop(client_id, None)
        if timer is not None:
            timer.cancel()
        present = client_id in self.sessions and not clean
        if not present:
            self._forget(client_id)
            self.sessions[client_id] = Session(client_id, clean, self.settings)
        session = self.sessions[client_id]
        session.attach(connection)
        connection.session = session
        self.counters["connects"] += 1
        version = self._versions[client_id] = self._versions.get(client_id, -1) + 1
        connection.version = version
        connection.session_identifier = str(uuid.uuid4())
        return present

    def closed(self, connection) -> None:
        """An accepted connection has ended: its will, its session, the lifecycle event."""
        session = connection.session
        session.detach()
        self._lifecycle(connection, "disconnected")
        if session.clean:
            self._forget(session.client_id)
        else:
            self._expire_later(session)
        will = connection.will
        if will is not None and connection.ended != "client-disconnect":
            log.info("will: client %s to %s", session.client_id, will.topic)
            self.publish(will.topic, will.payload, will.qos, will.retain)

    def _expire_later(self, session: Session) -> None:
        def expire() -> None:
            log.info("session of %s ended: rule session-expiry", session.client_id)
            self._forget(session.client_id)

        loop = asyncio.get_running_loop()
        self._expiry[session.client_id] = loop.call_later(self.settings.session_expiry, expire)

    def _forget(self, client_id: str) -> None:
        self._expiry.pop(client_id, None)
        session = self.sessions.pop(client_id, None)
        if session is not None:
            for pattern in list(session.subscriptions):
                self.unsubscribe(session, pattern)

    def announce(self, connection) -> None:
        """Publish that a client has connected (rule `lifecycle`)."""
        self._lifecycle(connection, "connected")

    def _lifecycle(self, connection, event: str) -> None:
        client_id = connection.client_id
        body = {
            "clientId": client_id,
            "timestamp": int(time.time() * 1000),
            "eventType": event,
            "sessionIdentifier": connection.session_identifier,
            "principalIdentifier": connection.principal.certificate_id,
            "versionNumber": connection.version,
        }
        if event == "connected":
            body["ipAddress"] = connection.address
        else:
            body["clientInitiatedDisconnect"] = connection.ended == "client-disconnect"
            body["disconnectReason"] = connection.reason
        self.publish(f"$aws/events/presence/{event}/{client_id}", json.dumps(body).encode(), 1)

    def refresh(self) -> None:
        """The registry has changed: judge every connection anew."""
        for connection in list(self.connections):
            connection.refresh_principal()

    # -- faults --
    def set_fault(self, values: dict) -> int:
        """Set a fault (`faults.KINDS`); returns its id. One at `live` acts on open connections."""
        fault = self.faults.set(values)
        log.info("fault set: %s", values)
        if fault.at == "live":
            for connection in list(self.connections):
                if connection.state == "open":
                    self.mute(connection)
        return fault.id

    def mute(self, connection) -> None:
        """Let the fault `silent at live` take a connection that it concerns."""
        fault = self.faults.take("silent", connection, at="live")
        if fault is not None:
            log.info("fault: silent at live, %s", connection.name())
            connection.muted_by.add(fault.id)

    def clear_faults(self, what) -> int:
        """Clear a fault by id, the faults of a kind, or `all`; returns how many there were."""
        gone = self.faults.clear(what)
        for fault in gone:
            for connection in list(self.connections):
                connection.fault_cleared(fault.id)
        log.info("faults cleared: %s", what)
        return len(gone)

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.counters[name] = self.counters.get(name, 0) + 1

    # -- subscriptions --
    def subscribe(self, session: Session, pattern: str, qos: int) -> None:
        """Add or change a subscription."""
        session.subscriptions[pattern] = qos
        table = self._wild if topics.has_wildcard(pattern) else self._exact
        table.setdefault(pattern, {})[session] = qos

    def unsubscribe(self, session: Session, pattern: str) -> None:
        """Remove a subscription; one that is not there is no error."""
        session.subscriptions.pop(pattern, None)
        table = self._wild if topics.has_wildcard(pattern) else self._exact
        holders = table.get(pattern)
        if holders is not None:
            holders.pop(session, None)
            if not holders:
                del table[pattern]

    def send_retained(self, session: Session, pattern: str, qos: int) -> None:
        """The retained message of a new subscription: the one whose topic is the filter itself
        (rule `retain-exact`)."""
        if pattern in self.retained:
            payload, retained_qos = self.retained[pattern]
            session.offer(pattern, payload, min(qos, retained_qos), retain=True)

    # -- messages --
    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> int:
        """Route a message to all subscribers; returns how many take it. No policy is asked.

        A client gets one copy however many of its filters match (rule `one-copy`).
        """
        if retain:
            if payload:
                self.retained[topic] = (payload, qos)
            else:
                self.retained.pop(topic, None)
        targets = dict(self._exact.get(topic, ()))
        for pattern, holders in self._wild.items():
            if topics.matches(pattern, topic):
                for session, granted in holders.items():
                    targets[session] = max(granted, targets.get(session, 0))
        taken = 0
        for session, granted in targets.items():
            taken += session.offer(topic, payload, min(qos, granted))
        return taken

    def deliver(self, client_id: str, topic: str, payload: bytes, qos: int = 0) -> bool:
        """Send to one connected client, subscribed or not (rule `requester-delivery`).

        False when the client is not connected or its policy forbids iot:Receive.
        """
        if self.client(client_id) is None:
            return False
        return self.sessions[client_id].offer(topic, payload, qos)

    def serve(self, pattern: str, handler) -> None:
        """Call `handler(connection, topic, payload)` for each publish that `pattern` matches."""
        self._services.append((pattern, handler))

    def dispatch(self, connection, topic: str, payload: bytes) -> None:
        """Hand a client's publish to the services that want it."""
        for pattern, handler in self._services:
            if topics.matches(pattern, topic):
                handler(connection, topic, payload)
