# MQTT 3.1.1 client for asyncio, QoS 0 and 1, with the names of umqtt. See docs/lib-mqtt.md.

import asyncio
import socket
from asyncio import core
from errno import EALREADY, ENOTCONN
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from lib import mqtt_codec as codec
from lib.mqtt_codec import (  # noqa: F401  (part of this module's interface)
    BY_CLIENT,
    BY_SERVER,
    KEEPALIVE,
    PROTOCOL,
    REFUSED,
    TIMEOUT,
    MQTTException,
)
from lib.mqtt_link import CLOSED, CONNACK, RESOLVE, TCP, TLS, UP, Link  # noqa: F401

_PUBACK = const(0x40)
_TICK = const(100)  # ms between two looks at deadlines and keep-alive
_GRACE = const(15000)  # ms that the server has to answer a PINGREQ, if keep-alive allows
_BURST = const(16)  # publishes before other tasks get a turn
_MAX_CONTROL = const(1024)  # bytes of acknowledgements waiting behind a packet half written
_WRITE = "socket does not take data"


class MQTTClient:
    """One client. `port` 0 means 1883, or 8883 with `ssl`, a `tls.SSLContext`; `keepalive` in
    seconds, 0 for none.

    `rx_size`: bytes of the largest packet that is received, longer messages are discarded;
    `tx_size`: packets up to this size are written at once, and it bounds the topic to publish to;
    `window`: publishes with QoS 1 that may be unacknowledged; `keep_size`: bytes of these that a
    persistent session keeps for redelivery; `server_hostname`: the name in the server's
    certificate, when it is not `server`.
    """

    def __init__(
        self,
        client_id,
        server,
        port=0,
        user=None,
        password=None,
        keepalive=0,
        ssl=None,
        *,
        server_hostname=None,
        rx_size=5376,
        tx_size=1024,
        window=8,
        keep_size=16384,
    ):
        if not 0 <= keepalive <= 65535:
            raise ValueError("keepalive")
        self.client_id = client_id
        self.server = server
        self.port = port or (8883 if ssl else 1883)
        self.user = user
        self.password = password
        self.keepalive = keepalive
        self.ssl = ssl
        self.server_hostname = server_hostname or server
        # Called with the reason (an exception) once when a connection that was up has ended.
        self.on_close = None
        # Count of messages that were longer than the receive buffer.
        self.discarded = 0
        self._window = window
        self._keep_size = keep_size
        self._rx = memoryview(bytearray(rx_size))
        self._tx = memoryview(bytearray(tx_size))
        self._will = None
        self._callback = None
        self._on_discard = None
        self._link = Link()
        # Packet id -> packet to send again (persistent session) or None (clean session).
        self._unacked = {}
        self._clean = True
        self._pid = 0
        self._burst = _BURST

    @property
    def stage(self):
        """CLOSED, RESOLVE, TCP, TLS, CONNACK or UP."""
        return self._link.stage

    @property
    def failed_stage(self):
        """The stage in which the last connection ended, CLOSED before that."""
        return self._link.failed_stage

    @property
    def closed(self):
        """The exception that ended the last connection, None before that."""
        return self._link.reason

    def set_callback(self, f):
        """`f(topic, msg)` for each message: `topic` is bytes, `msg` a memoryview that is valid
        only during the call. It runs in the reader task: it must return soon and not raise; an
        exception closes the connection with that exception as the reason."""
        self._callback = f

    def set_discard_callback(self, f):
        """`f(topic, size)` for each message that was too long; `size` is the message's."""
        self._on_discard = f

    def set_last_will(self, topic, msg, retain=False, qos=0):
        """The message that the server publishes when this client vanishes; before connect()."""
        if not topic or qos not in (0, 1):
            raise ValueError("last will")
        self._will = (topic, msg, retain, qos)

    # ---- operations ------------------------------------------------------------------------

    async def connect(self, clean_session=True, timeout_ms=30000):
        """Connect and wait for CONNACK; return whether the server had a session for us.

        With `clean_session=False`, unacknowledged publishes of this object's last persistent
        session are sent again: with DUP when the server kept the session, else as new.
        OSError from resolver, TCP or TLS, ValueError for a certificate that is not trusted,
        MQTTException for the rest; `failed_stage` then tells how far it came.
        """
        if self._link.stage != CLOSED:
            raise OSError(EALREADY)
        packet = codec.connect_packet(
            self.client_id, clean_session, self.keepalive, self.user, self.password, self._will
        )
        due = ticks_add(ticks_ms(), timeout_ms)
        link = self._link = Link(self._ended)
        # New tables: tasks that still wait for an old connection look at the old ones.
        kept = {} if clean_session else self._unacked
        self._unacked = {pid: p for pid, p in kept.items() if p is not None}
        self._replies = {}
        self._clean = clean_session
        self._present = False
        self._pongs = 0
        self._skip = 0
        link.stage = RESOLVE
        try:
            addresses = socket.getaddrinfo(self.server, self.port, 0, socket.SOCK_STREAM)
            link.tasks.append(asyncio.create_task(self._run(link, addresses, packet)))
            link.tasks.append(asyncio.create_task(self._supervise(link)))
            await link.until(lambda: link.stage == UP, "no CONNACK", due)
        except OSError as error:
            link.end(error)
            raise
        finally:
            if link.stage != UP:
                link.end(MQTTException(BY_CLIENT, "connect cancelled"))
        return self._present

    async def publish(self, topic, msg, retain=False, qos=0, wait=True, timeout_ms=30000):
        """Publish `msg` (bytes-like) to `topic` (bytes).

        QoS 0 returns when the packet is written. QoS 1 returns when it is acknowledged; with
        `wait=False` when it is written, so that only a full window makes it wait. One call in
        16 gives other tasks a turn even if nothing had to wait.
        """
        link = self._link
        if link.stage != UP:
            raise OSError(ENOTCONN)
        due = 0
        pid = 0
        size = len(msg)
        tx = self._tx
        if qos:
            if qos != 1:
                raise ValueError("QoS")
            if not self._clean:
                # The packet is kept until it is acknowledged, so it gets a buffer of its own.
                tx = memoryview(bytearray(len(topic) + size + 9))
                if len(tx) > self._keep_size:
                    raise ValueError("message too long to keep")
            if not link.idle() or not self._room(len(tx)):
                due = ticks_add(ticks_ms(), timeout_ms)
                ready = lambda: link.idle() and self._room(len(tx))  # noqa: E731
                await link.until(ready, "no PUBACK, window full", due)
            pid = self._next_pid()
            first = 0x33 if retain else 0x32
        else:
            first = 0x31 if retain else 0x30
            if not link.idle():
                due = ticks_add(ticks_ms(), timeout_ms)
                await link.until(link.idle, _WRITE, due)
        at = codec.put_publish(tx, first, topic, pid, size)
        end = at + size
        tail = None
        if end > len(tx):
            # The rest goes out from the caller's own buffer.
            tail = memoryview(msg)
            end = len(tx)
            tx[at:end] = tail[: end - at]
            tail = tail[end - at :]
        else:
            tx[at:end] = msg
        if pid:
            self._unacked[pid] = None if self._clean else tx[:end]
        if link.write(tx, end, tail):
            self._burst -= 1
            if not self._burst:
                self._burst = _BURST
                await asyncio.sleep_ms(0)
        else:
            due = due or ticks_add(ticks_ms(), timeout_ms)
            await link.until(link.idle, _WRITE, due)
        if pid and wait:
            due = due or ticks_add(ticks_ms(), timeout_ms)
            unacked = self._unacked
            await link.until(lambda: pid not in unacked, "no PUBACK", due)

    async def flush(self, timeout_ms=30000):
        """Wait until all is written and every publish with QoS 1 is acknowledged."""
        link = self._up()
        unacked = self._unacked
        due = ticks_add(ticks_ms(), timeout_ms)
        await link.until(lambda: not unacked and link.idle(), "no PUBACK", due)

    async def subscribe(self, topic, qos=0, timeout_ms=30000):
        """Subscribe to a topic filter; return the QoS granted. MQTTException(REFUSED) if not."""
        if qos not in (0, 1):
            raise ValueError("QoS")
        code = await self._request(codec.subscribe_packet, (topic, qos), "no SUBACK", timeout_ms)
        if code == REFUSED:
            raise MQTTException(REFUSED, "subscription refused")
        return code

    async def unsubscribe(self, topic, timeout_ms=30000):
        """Remove a subscription and wait until the server has confirmed it."""
        await self._request(codec.unsubscribe_packet, (topic,), "no UNSUBACK", timeout_ms)

    async def ping(self, timeout_ms=10000):
        """Ask the server for a sign of life and wait for it."""
        link = self._up()
        pongs = self._pongs
        due = ticks_add(ticks_ms(), timeout_ms)
        link.control.extend(codec.PINGREQ_PACKET)
        link.flush()
        await link.until(lambda: self._pongs != pongs, "no PINGRESP", due)

    async def disconnect(self, timeout_ms=2000):
        """Take leave of the server and close. Never fails; does nothing when closed."""
        link = self._link
        if link.stage == UP:
            due = ticks_add(ticks_ms(), timeout_ms)
            try:
                await link.until(link.idle, _WRITE, due)
                link.write(codec.DISCONNECT_PACKET, 2)
                await link.until(link.idle, _WRITE, due)
            except (OSError, ValueError, MQTTException) as error:
                # The link has ended by itself, which is what was asked for.
                link.end(error)
        self.close("disconnected")
        # Lets our cancelled tasks end, so that none outlives this call.
        await asyncio.sleep_ms(0)

    def close(self, text="closed"):
        """Close at once, without taking leave; `text` becomes part of the reason."""
        self._link.end(MQTTException(BY_CLIENT, text))

    # ---- helpers of the operations ---------------------------------------------------------

    def _up(self):
        link = self._link
        if link.stage != UP:
            raise OSError(ENOTCONN)
        return link

    # Whether the window has room, and the store of a persistent session has `size` bytes left.
    def _room(self, size):
        unacked = self._unacked
        if len(unacked) >= self._window:
            return False
        return self._clean or size + sum(len(p) for p in unacked.values()) <= self._keep_size

    def _next_pid(self):
        pid = self._pid % 65535 + 1
        while pid in self._unacked or pid in self._replies:
            pid = pid % 65535 + 1
        self._pid = pid
        return pid

    async def _request(self, build, args, what, timeout_ms):
        link = self._up()
        due = ticks_add(ticks_ms(), timeout_ms)
        await link.until(link.idle, _WRITE, due)
        pid = self._next_pid()
        replies = self._replies
        replies[pid] = None
        try:
            packet = build(pid, *args)
            link.write(packet, len(packet))
            await link.until(lambda: replies[pid] is not None, what, due)
            return replies[pid]
        finally:
            del replies[pid]

    def _ended(self, reason):
        if self.on_close is not None:
            self.on_close(reason)

    # ---- the reader task -------------------------------------------------------------------

    def _run(self, link, addresses, packet):
        try:
            yield from link.open(addresses, self.ssl, self.server_hostname, packet)
            link.stage = CONNACK
            rx = self._rx
            sock = link.sock
            end = 0
            while True:
                yield core._io_queue.queue_read(sock)
                n = sock.readinto(rx[end:] if end else rx)
                if n is None:
                    continue
                if not n:
                    raise MQTTException(BY_SERVER, "closed by the server")
                link.heard = True
                end = self._parse(link, end + n)
        except Exception as error:  # noqa: BLE001  (the reason reaches every waiter and on_close)
            link.end(error)

    # Handles the packets in rx[:end], moves what is left to the front, returns its length.
    def _parse(self, link, end):
        rx = self._rx
        unacked = self._unacked
        at = 0
        if self._skip:
            at = min(self._skip, end)
            self._skip -= at
            if not self._skip:
                self._discard_done(link)
        while end - at >= 2:
            first = rx[at]
            length = rx[at + 1]
            body = at + 2
            if length > 127:
                found = codec.get_length(rx, at + 1, end)
                if found is None:
                    break
                length, body = found
            limit = body + length
            if limit > end:
                if limit - at > len(rx) and self._discard(first, body, limit, end):
                    at = end
                break
            if first == _PUBACK and length == 2:
                unacked.pop(rx[body] << 8 | rx[body + 1], None)
                link.set()
            elif first & 0xF0 == codec.PUBLISH:
                self._message(link, first, body, limit)
            else:
                self._reply(link, first, body, length)
            at = limit
        if link.control:
            if len(link.control) > _MAX_CONTROL:
                raise MQTTException(BY_SERVER, "server does not take acknowledgements")
            link.flush()
        if at and at < end:
            rx[: end - at] = rx[at:end]
        return end - at

    def _message(self, link, first, body, limit):
        if link.stage != UP:
            raise codec.malformed("PUBLISH before CONNACK")
        rx = self._rx
        topic_end, pid, message = codec.publish_layout(rx, first, body, limit)
        if self._callback is not None:
            self._callback(bytes(rx[body + 2 : topic_end]), rx[message:limit])
        if pid:
            link.control.extend(codec.puback_packet(pid))

    # Packets that answer one of ours, each with its one legal length (sections 3.2 to 3.13).
    def _reply(self, link, first, body, length):
        rx = self._rx
        if first == codec.CONNACK and length == 2 and link.stage == CONNACK:
            code = rx[body + 1]
            if code:
                raise MQTTException(code, "connection refused")
            self._present = bool(rx[body] & 1)
            link.stage = UP
            self._send_kept(link)
        elif link.stage != UP:
            raise codec.malformed("no CONNACK")
        elif (first == codec.SUBACK and length == 3) or (first == codec.UNSUBACK and length == 2):
            pid = rx[body] << 8 | rx[body + 1]
            # Nobody waits when the task that asked was cancelled.
            if pid in self._replies:
                self._replies[pid] = rx[body + 2] if length == 3 else 0
        elif first == codec.PINGRESP and not length:
            self._pongs += 1
        else:
            raise codec.malformed("unexpected packet %02x" % first)
        link.set()

    # Sends what an earlier connection left unacknowledged, oldest first (section 4.4).
    def _send_kept(self, link):
        unacked = self._unacked
        last = self._pid
        for pid in sorted(unacked, key=lambda pid: (pid - last - 1) & 0xFFFF):
            packet = unacked[pid]
            if self._present:
                packet[0] |= codec.DUP
            else:
                packet[0] &= ~codec.DUP
            link.queue.append(packet)
        link.flush()

    # Begins to discard a packet that rx cannot hold; False while its topic has not arrived.
    def _discard(self, first, body, limit, end):
        rx = self._rx
        if first & 0xF0 != codec.PUBLISH:
            raise codec.malformed("packet too long")
        if end - body < 2:
            return False
        topic_end = body + 2 + (rx[body] << 8 | rx[body + 1])
        if topic_end + 2 > end:
            if topic_end + 2 - body > len(rx) - 5:
                raise codec.malformed("topic too long")
            return False
        topic_end, pid, message = codec.publish_layout(rx, first, body, limit)
        self._skipped = (bytes(rx[body + 2 : topic_end]), limit - message, pid)
        self._skip = limit - end
        return True

    def _discard_done(self, link):
        topic, size, pid = self._skipped
        self.discarded += 1
        if self._on_discard is not None:
            self._on_discard(topic, size)
        if pid:
            link.control.extend(codec.puback_packet(pid))

    # ---- the supervisor task ---------------------------------------------------------------

    # Ends the link when a deadline passes, or when the server is silent: a PINGREQ is sent when
    # nothing was sent, or nothing heard, for half the keep-alive, and must be answered within
    # another half (15 s at most). So a dead link is noticed within one keep-alive.
    async def _supervise(self, link):
        half = self.keepalive * 500
        grace = min(half, _GRACE)
        sent = heard = asked_at = ticks_ms()
        asked = False
        try:
            while True:
                await asyncio.sleep_ms(_TICK)
                # After a long stall of the loop the reader goes first.
                await asyncio.sleep_ms(0)
                now = ticks_ms()
                late = link.overdue(now)
                if late is not None:
                    raise MQTTException(TIMEOUT, late)
                if link.sent:
                    link.sent = False
                    sent = now
                if link.heard:
                    link.heard = asked = False
                    heard = now
                if not half or link.stage != UP:
                    continue
                if asked:
                    if ticks_diff(now, asked_at) >= grace:
                        raise MQTTException(KEEPALIVE, "server is silent")
                elif ticks_diff(now, sent) >= half or ticks_diff(now, heard) >= half:
                    asked = True
                    asked_at = now
                    link.control.extend(codec.PINGREQ_PACKET)
                    link.flush()
        except (OSError, ValueError, MQTTException) as error:
            link.end(error)
