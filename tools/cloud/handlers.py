"""What each packet of a client does: the rules of AWS IoT, one function for a packet."""

from __future__ import annotations

import asyncio
import logging
import secrets

from tools.cloud import packets, reserved, topics
from tools.cloud.session import WINDOW

log = logging.getLogger("cloud")

_MAX_PAYLOAD = 131072
_MAX_FILTERS = 8
_MAX_SUBSCRIPTIONS = 50
_MAX_HELD = 1000
_KEEP_ALIVE_LEAST, _KEEP_ALIVE_MOST = 30, 1200
_REFUSED_VERSION, _REFUSED_ID, _REFUSED_POLICY = 1, 2, 7


def clamp_keep_alive(seconds: int) -> int:
    """Rule `keep-alive`: what the broker makes of the value in CONNECT."""
    if seconds == 0 or seconds > _KEEP_ALIVE_MOST:
        return _KEEP_ALIVE_MOST
    return max(seconds, _KEEP_ALIVE_LEAST)


def _refuse(connection, code: int, rule: str, detail: str) -> None:
    connection.send(packets.Connack(code), packets.CONNACK)
    connection.end(rule, detail)


def _is_client_id(text: str) -> bool:
    return 1 <= len(text.encode("utf-8")) <= 128 and not text.startswith("$")


def connect(connection, packet: packets.Connect) -> None:
    """CONNECT: the checks in AWS's order as far as it is known, then session and CONNACK."""
    broker = connection.broker
    if connection.state != "connect":
        connection.end("connect-once")
        return
    connection.client_id = packet.client_id
    fault = broker.faults.take("silent", connection, at="connect")
    if fault is not None:
        connection.silence(fault)
        return
    fault = broker.faults.take("refuse", connection, at="connect")
    if fault is not None:
        _refuse(connection, fault.code, "fault", f"CONNACK {fault.code}")
        return
    if (packet.protocol, packet.level) != ("MQTT", 4):
        detail = f"{packet.protocol!r} level {packet.level}"
        _refuse(connection, _REFUSED_VERSION, "protocol-version", detail)
        return
    if not packet.client_id and packet.clean and connection.principal.operator:
        # Tools such as mosquitto_sub leave the id to the broker; operators may.
        connection.client_id = f"operator-{secrets.token_hex(4)}"
    if not _is_client_id(connection.client_id):
        _refuse(connection, _REFUSED_ID, "client-id", repr(connection.client_id[:40]))
        return
    if connection.principal.status != "ACTIVE":
        connection.end("certificate-active", f"certificate is {connection.principal.status}")
        return
    if not broker.connect_allowed(connection.client_id):
        connection.end("connect-rate")
        return
    connection.evaluate()
    if not connection.may("iot:Connect", "client/" + connection.client_id):
        _refuse(connection, _REFUSED_POLICY, "connect-policy", "iot:Connect is not allowed")
        return
    if packet.will is not None and not _accept_will(connection, packet.will):
        return
    connection.open(clamp_keep_alive(packet.keep_alive))
    present = broker.opened(connection, packet.clean)
    log.info(
        "connected: %s from %s, keep-alive %d s, %s session",
        connection.client_id,
        connection.address,
        connection.keep_alive,
        "resumed" if present else "clean" if packet.clean else "new",
    )
    connection.send(packets.Connack(0, present), packets.CONNACK)
    broker.announce(connection)
    broker.mute(connection)
    connection.session.start_replay()


def _accept_will(connection, will: packets.Will) -> bool:
    """Rule `will-policy`; ends the connection and returns False when the will is refused."""
    if will.qos == 2:
        connection.end("qos2", "last will at QoS 2")
        return False
    try:
        topics.check_name(will.topic)
    except topics.TopicError as error:
        connection.end(error.rule, f"last will: {error}")
        return False
    broken = _publish_refusal(connection, will.topic, will.payload, will.retain)
    if broken is not None:
        _refuse(connection, _REFUSED_POLICY, "will-policy", broken)
        return False
    connection.will = will
    return True


def _publish_refusal(connection, topic: str, payload: bytes, retain: bool) -> str | None:
    """The rule that a publish breaks, None when it may go on."""
    if len(payload) > _MAX_PAYLOAD:
        return "payload-size"
    if not connection.principal.operator and not reserved.may_publish(topic):
        return "reserved-topic"
    if not connection.may("iot:Publish", "topic/" + topic):
        return "publish-policy"
    if retain:
        if topic.startswith("$"):
            return "retain-reserved"
        if not connection.may("iot:RetainPublish", "topic/" + topic):
            return "retain-policy"
    return None


def publish(connection, packet: packets.Publish) -> None:
    """PUBLISH from a client: check, hold back, route, acknowledge."""
    if packet.qos == 2:
        log.info("ignored: rule qos2, PUBLISH of %s", connection.name())
        return
    try:
        topics.check_name(packet.topic)
    except topics.TopicError as error:
        connection.end(error.rule, str(error))
        return
    broken = _publish_refusal(connection, packet.topic, packet.payload, packet.retain)
    if broken is not None:
        connection.end(broken, packet.topic)
        return
    if packet.qos and not _enter_window(connection, packet):
        return
    broker = connection.broker
    broken = connection.meter.publish(len(packet.payload), outgoing=False)
    if broken and broker.settings.enforce_quotas:
        # Discarded without PUBACK; a client that wants it delivered has to send it again.
        connection.unacknowledged.discard(packet.packet_id)
        log.info("dropped: rule %s, PUBLISH of %s", broken, connection.name())
        return
    broker.counters["in"] += 1
    if not reserved.is_basic_ingest(packet.topic) and not reserved.is_private(packet.topic):
        broker.publish(packet.topic, packet.payload, packet.qos, packet.retain)
    if packet.qos:
        connection.send(packets.Ack(packets.PUBACK, packet.packet_id), packets.PUBACK)
    broker.dispatch(connection, packet.topic, packet.payload)


def _enter_window(connection, packet: packets.Publish) -> bool:
    """Rule `unacknowledged` for what the client sends; False when the message is held back."""
    window = connection.unacknowledged
    if len(window) >= WINDOW and packet.packet_id not in window:
        if len(connection.held) >= _MAX_HELD:
            connection.end("unacknowledged", f"{_MAX_HELD} publishes held back")
        else:
            connection.held.append(packet)
        return False
    window.add(packet.packet_id)
    return True


def puback(connection, packet: packets.Ack) -> None:
    """PUBACK for something that the broker sent."""
    if not connection.session.acknowledge(packet.packet_id):
        log.debug("PUBACK of %s for unknown packet id", connection.name())


def subscribe(connection, packet: packets.Subscribe) -> None:
    """SUBSCRIBE: one bad or forbidden filter ends the connection before anything is granted."""
    if len(packet.requests) > _MAX_FILTERS:
        connection.end("filters-per-subscribe", f"{len(packet.requests)} filters")
        return
    for pattern, _ in packet.requests:
        broken = _subscribe_refusal(connection, pattern)
        if broken is not None:
            connection.end(broken, pattern)
            return
    if any(qos == 2 for _, qos in packet.requests):
        log.info("ignored: rule qos2, SUBSCRIBE of %s", connection.name())
        return
    codes, granted = [], []
    session, broker = connection.session, connection.broker
    coming = set(session.subscriptions)
    for pattern, qos in packet.requests:
        if broker.faults.take("suback", connection, filter=pattern):
            codes.append(packets.REFUSED_FILTER)
        elif pattern not in coming and len(coming) >= _MAX_SUBSCRIPTIONS:
            log.info("refused: rule subscriptions, client %s", connection.name())
            codes.append(packets.REFUSED_FILTER)
        else:
            coming.add(pattern)
            codes.append(qos)
            granted.append((pattern, qos))
    connection.send(packets.Suback(packet.packet_id, tuple(codes)), packets.SUBACK)
    gap = broker.settings.subscribe_gap
    if gap:
        asyncio.get_running_loop().call_later(gap, _activate, connection, granted)
    else:
        _activate(connection, granted)


def _subscribe_refusal(connection, pattern: str) -> str | None:
    try:
        topics.check_filter(pattern)
    except topics.TopicError as error:
        return error.rule
    if not connection.principal.operator and not reserved.may_subscribe(pattern):
        return "reserved-topic"
    if not connection.may("iot:Subscribe", "topicfilter/" + pattern):
        return "subscribe-policy"
    return None


def _activate(connection, granted: list[tuple[str, int]]) -> None:
    """Make subscriptions live, and send what is retained for them."""
    if connection.state != "open":
        return
    for pattern, qos in granted:
        connection.broker.subscribe(connection.session, pattern, qos)
    for pattern, qos in granted:
        connection.broker.send_retained(connection.session, pattern, qos)


def unsubscribe(connection, packet: packets.Unsubscribe) -> None:
    """UNSUBSCRIBE: filters that are not there are acknowledged like the others."""
    if len(packet.filters) > _MAX_FILTERS:
        connection.end("filters-per-subscribe", f"{len(packet.filters)} filters")
        return
    for pattern in packet.filters:
        connection.broker.unsubscribe(connection.session, pattern)
    connection.send(packets.Ack(packets.UNSUBACK, packet.packet_id), packets.UNSUBACK)


def pingreq(connection, _packet: packets.Bare) -> None:
    """PINGREQ: PINGRESP."""
    connection.send(packets.Bare(packets.PINGRESP), packets.PINGRESP)


def disconnect(connection, _packet: packets.Bare) -> None:
    """DISCONNECT: a clean end, and no last will."""
    connection.end("client-disconnect")


HANDLERS = {
    packets.CONNECT: connect,
    packets.PUBLISH: publish,
    packets.PUBACK: puback,
    packets.SUBSCRIBE: subscribe,
    packets.UNSUBSCRIBE: unsubscribe,
    packets.PINGREQ: pingreq,
    packets.DISCONNECT: disconnect,
}
