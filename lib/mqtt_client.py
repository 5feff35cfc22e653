# The part of the MQTT client that a device needs which starts every session anew: `Client`.
# `lib.mqtt` has the whole, with last will, persistent sessions, flush and ping.

import asyncio
import socket
from errno import EALREADY, ENOTCONN
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from lib.mqtt_codec import (
    BY_CLIENT,
    REFUSED,
    MQTTException,
    connect_packet,
    put_publish,
    subscribe_packet,
)
from lib.mqtt_link import CLOSED, RESOLVE, UP, Link
from lib.mqtt_reader import Reader

_BURST = const(10)  # ms of publishing before other tasks get a turn
_HEADER = const(9)  # bytes of a PUBLISH beside topic and message, at most
STUCK = "socket takes no data"


class Client(Reader):
    """One client. `server`, `port` and, for TLS, `ssl` (a `tls.SSLContext`) and `server_hostname`
    are attributes to be set before connect(). `keepalive` in seconds, 0 for none.

    `rx`: a buffer as large as the largest packet that is received, longer messages are discarded;
    `tx`: a buffer, packets that fit it are written at once, and it bounds the topic to publish
    to; `window`: publishes with QoS 1 that may be unacknowledged.
    """

    def __init__(self, client_id, keepalive, rx, tx, window=8, on_close=None):
        super().__init__(rx)
        self.client_id = client_id
        self.keepalive = keepalive
        self.server = self.server_hostname = ""
        self.port = 0
        self.ssl = None
        # Called with the reason (an exception) once when a connection that was up has ended.
        self.on_close = on_close
        self._window = window
        self._tx = memoryview(tx)
        self._pid = self._paused = 0
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

    @property
    def bytes_out(self):
        """Bytes of all packets written by this object, TLS not counted."""
        return self._link.bytes_out

    async def connect(self, timeout_ms=30000):
        """Connect with a clean session and wait for CONNACK.

        OSError from resolver, TCP or TLS, ValueError for a certificate that is not trusted,
        MQTTException for the rest; `failed_stage` then tells how far it came.
        """
        await self._connect(connect_packet(self.client_id, self.keepalive), {}, timeout_ms)

    # `unacked`: the publishes of an earlier connection that are to be sent again.
    async def _connect(self, packet, unacked, timeout_ms):
        if self._link.stage != CLOSED:
            raise OSError(EALREADY)
        due = ticks_add(ticks_ms(), timeout_ms)
        link = self._link = Link(self._ended, self._link.bytes_out)
        # New tables: tasks that still wait for an old connection look at the old ones.
        self._begin(unacked)
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
                await link.until(link.idle, STUCK, due)
        elif qos != 1:
            raise ValueError("QoS")
        else:
            need = len(topic) + size + _HEADER
            if link.writer or not self._room(need):
                await self._turn(link, need, due)
            tx = self._buffer(need)
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
            self._unacked[pid] = packet
        if link.write(packet, tail):
            # Negative when the last turn was days ago: ticks wrap.
            if not 0 <= ticks_diff(now, self._paused) < _BURST:
                self._paused = now
                await asyncio.sleep_ms(0)
        else:
            await link.until(link.idle, STUCK, due)
        if pid and wait:
            await self._acknowledged(link, pid, due)

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

    async def disconnect(self, timeout_ms=2000):
        """Take leave of the server and close. Never fails; does nothing when closed."""
        link = self._link
        if link.stage == UP:
            link.queue.append(b"\xe0\x00")
            due = ticks_add(ticks_ms(), timeout_ms)
            try:
                link.flush()
                await link.until(link.idle, STUCK, due)
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

    # Whether a further publish with QoS 1, of `size` bytes, may go out.
    def _room(self, size):
        return len(self._unacked) < self._window

    # Where such a publish is built.
    def _buffer(self, size):
        return self._tx

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
            await link.until(link.idle, STUCK, due)
            link.write(packet)
            await link.until(lambda: replies[pid] is not None, what, due)
            return replies[pid]
        finally:
            del replies[pid]

    def _ended(self, reason):
        if self.on_close:
            self.on_close(reason)
