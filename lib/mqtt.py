# MQTT 3.1.1 client for asyncio, QoS 0 and 1, with the names of umqtt. See docs/lib-mqtt.md.

import asyncio
import socket
from errno import EALREADY, ENOTCONN
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from lib.mqtt_codec import (  # noqa: F401  (the codes are part of this module's interface)
    BY_CLIENT,
    BY_SERVER,
    KEEPALIVE,
    PROTOCOL,
    REFUSED,
    TIMEOUT,
    MQTTException,
    connect_packet,
    put_publish,
    subscribe_packet,
)
from lib.mqtt_link import CLOSED, CONNACK, RESOLVE, TCP, TLS, UP, Link  # noqa: F401
from lib.mqtt_reader import Reader

_BURST = const(10)  # ms of publishing before other tasks get a turn
_DUP = const(0x08)
_HEADER = const(9)  # bytes of a PUBLISH beside topic and message, at most
_STUCK = "socket takes no data"


class MQTTClient(Reader):
    """One client. `port` 0 means 1883, or 8883 with `ssl`, a `tls.SSLContext`; `keepalive` in
    seconds, 0 for none.

    `rx_size`: bytes of the largest packet that is received, longer messages are discarded;
    `tx_size`: packets up to this size are written at once, and it bounds the topic to publish to;
    `window`: publishes with QoS 1 that may be unacknowledged; `keep_size`: bytes of these that a
    persistent session keeps for redelivery; `server_hostname`: the name in the server's
    certificate, when it is not `server`; `buffers`: two bytearrays to receive into and to send
    from, in place of new ones of `rx_size` and `tx_size`.
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
        on_close=None,
        buffers=None,
    ):
        rx, tx = buffers or (bytearray(rx_size), bytearray(tx_size))
        super().__init__(rx)
        self.client_id = client_id
        self.server = server
        self.port = port or (8883 if ssl else 1883)
        self.user = user
        self.password = password
        self.keepalive = keepalive
        self.ssl = ssl
        self.server_hostname = server_hostname or server
        # Called with the reason (an exception) once when a connection that was up has ended.
        self.on_close = on_close
        self._window = window
        self._keep_size = keep_size
        self._tx = memoryview(tx)
        self._will = None
        self._clean = True
        self._pid = 0
        self._paused = 0
        self._link = Link()

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

    def set_last_will(self, topic, msg, retain=False, qos=0):
        """The message that the server publishes when this client vanishes; before connect()."""
        if not topic or qos not in (0, 1):
            raise ValueError("last will")
        self._will = topic, msg, retain, qos

    async def connect(self, clean_session=True, timeout_ms=30000):
        """Connect and wait for CONNACK; return whether the server had a session for us.

        With `clean_session=False`, unacknowledged publishes of this object's last persistent
        session are sent again: with DUP when the server kept the session, else as new.
        OSError from resolver, TCP or TLS, ValueError for a certificate that is not trusted,
        MQTTException for the rest; `failed_stage` then tells how far it came.
        """
        if self._link.stage != CLOSED:
            raise OSError(EALREADY)
        packet = connect_packet(
            self.client_id, clean_session, self.keepalive, self.user, self.password, self._will
        )
        due = ticks_add(ticks_ms(), timeout_ms)
        link = self._link = Link(self._ended)
        # New tables: tasks that still wait for an old connection look at the old ones.
        self._begin({} if clean_session or self._clean else dict(self._unacked))
        self._clean = clean_session
        link.queue.append(packet)
        link.stage = RESOLVE
        try:
            addresses = socket.getaddrinfo(self.server, self.port, 0, socket.SOCK_STREAM)
            link.tasks.append(
                asyncio.create_task(self._run(link, addresses, self.ssl, self.server_hostname))
            )
            link.tasks.append(asyncio.create_task(link.supervise(self.keepalive)))
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
        `wait=False` when it is written, so that only a full window makes it wait. Once in 10 ms
        other tasks get a turn even if nothing had to wait.
        """
        link = self._up()
        now = ticks_ms()
        due = ticks_add(now, timeout_ms)
        size = len(msg)
        first = 0x31 if retain else 0x30
        pid = 0
        tx = self._tx
        if not qos:
            if link.writer:
                await link.until(link.idle, _STUCK, due)
        elif qos != 1:
            raise ValueError("QoS")
        else:
            need = len(topic) + size + _HEADER
            if not self._clean and need > self._keep_size:
                raise ValueError("message too long to keep")
            if link.writer or not self._room(need):
                await self._turn(link, need, due)
            if not self._clean:
                # The packet is kept until it is acknowledged, so it gets a buffer of its own.
                tx = memoryview(bytearray(need))
            first |= 2
            pid = self._next_pid()
        at = put_publish(tx, first, topic, pid, size)
        end = at + size
        tail = None
        if end > len(tx):
            # The rest goes out from the caller's own buffer.
            end = len(tx)
            tail = memoryview(msg)
            tx[at:end] = tail[: end - at]
            tail = tail[end - at :]
        else:
            tx[at:end] = msg
        packet = tx[:end]
        if pid:
            self._unacked[pid] = None if self._clean else packet
        if link.write(packet, tail):
            # Negative when the last turn was days ago: ticks wrap.
            if not 0 <= ticks_diff(now, self._paused) < _BURST:
                self._paused = now
                await asyncio.sleep_ms(0)
        else:
            await link.until(link.idle, _STUCK, due)
        if pid and wait:
            await self._acknowledged(link, pid, due)

    async def flush(self, timeout_ms=30000):
        """Wait until all that was published before is written and, with QoS 1, acknowledged."""
        link = self._up()
        due = ticks_add(ticks_ms(), timeout_ms)
        unacked = self._unacked
        for pid in self._oldest_first():
            if pid in unacked:
                await self._acknowledged(link, pid, due)
                if unacked:
                    # A server with Nagle's algorithm holds further PUBACKs back until TCP has
                    # acknowledged this one, which takes 40 ms or more unless something is sent.
                    link.ping()
        await link.until(link.idle, _STUCK, due)

    async def subscribe(self, topic, qos=0, timeout_ms=30000):
        """Subscribe to a topic filter; return the QoS granted. MQTTException(REFUSED) if not."""
        if qos not in (0, 1):
            raise ValueError("QoS")
        code = await self._request(topic, qos, "no SUBACK", timeout_ms)
        if code == REFUSED:
            raise MQTTException(REFUSED, "subscription refused")
        return code

    async def unsubscribe(self, topic, timeout_ms=30000):
        """Remove a subscription and wait until the server has confirmed it."""
        await self._request(topic, None, "no UNSUBACK", timeout_ms)

    async def ping(self, timeout_ms=10000):
        """Ask the server for a sign of life and wait for it."""
        link = self._up()
        pongs = self._pongs
        link.ping()
        due = ticks_add(ticks_ms(), timeout_ms)
        await link.until(lambda: self._pongs != pongs, "no PINGRESP", due)

    async def disconnect(self, timeout_ms=2000):
        """Take leave of the server and close. Never fails; does nothing when closed."""
        link = self._link
        if link.stage == UP:
            link.queue.append(b"\xe0\x00")
            due = ticks_add(ticks_ms(), timeout_ms)
            try:
                link.flush()
                await link.until(link.idle, _STUCK, due)
            except (OSError, ValueError, MQTTException) as error:
                # The link has ended by itself, which is what was asked for.
                link.end(error)
        link.end(MQTTException(BY_CLIENT, "disconnected"))
        # Lets our cancelled tasks end, so that none outlives this call.
        await asyncio.sleep_ms(0)

    def close(self, text="closed"):
        """Close at once, without taking leave; `text` becomes part of the reason."""
        self._link.end(MQTTException(BY_CLIENT, text))

    # ---- helpers ---------------------------------------------------------------------------

    def _up(self):
        link = self._link
        if link.stage != UP:
            raise OSError(ENOTCONN)
        return link

    # These two are not part of publish(), because a variable that a lambda shares costs time
    # and memory at every call.
    async def _turn(self, link, size, due):
        await link.until(lambda: link.idle() and self._room(size), "no PUBACK", due)

    async def _acknowledged(self, link, pid, due):
        unacked = self._unacked
        await link.until(lambda: pid not in unacked, "no PUBACK", due)

    # Whether the window has room, and the store of a persistent session has `size` bytes left.
    def _room(self, size):
        kept = self._unacked
        if len(kept) >= self._window:
            return False
        return self._clean or size + sum(len(p) for p in kept.values()) <= self._keep_size

    def _next_pid(self):
        pid = self._pid % 65535 + 1
        while pid in self._unacked or pid in self._replies:
            pid = pid % 65535 + 1
        self._pid = pid
        return pid

    # SUBSCRIBE, or UNSUBSCRIBE when `qos` is None; returns the answer's code.
    async def _request(self, topic, qos, what, timeout_ms):
        link = self._up()
        pid = self._next_pid()
        packet = subscribe_packet(pid, topic, qos)
        due = ticks_add(ticks_ms(), timeout_ms)
        replies = self._replies
        replies[pid] = None
        try:
            await link.until(link.idle, _STUCK, due)
            link.write(packet)
            await link.until(lambda: replies[pid] is not None, what, due)
            return replies[pid]
        finally:
            del replies[pid]

    # Packet ids wrap, so the age of one is its distance from the last that was given.
    def _oldest_first(self):
        return sorted(self._unacked, key=lambda pid: (pid - self._pid - 1) & 0xFFFF)

    # Sends what an earlier connection left unacknowledged (section 4.4).
    def _accepted(self, link):
        for pid in self._oldest_first():
            packet = self._unacked[pid]
            packet[0] = packet[0] & ~_DUP | (_DUP if self._present else 0)
            link.queue.append(packet)
        link.flush()

    def _ended(self, reason):
        if self.on_close:
            self.on_close(reason)
