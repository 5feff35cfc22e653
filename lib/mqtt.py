# MQTT 3.1.1 client for asyncio, QoS 0 and 1, with the names of umqtt. See docs/lib-mqtt.md.
#
# What every client does is in mqtt_client; here is what only some need: a last will, persistent
# sessions with redelivery, flush and ping.

from errno import EALREADY
from time import ticks_add, ticks_ms

from micropython import const

from lib.mqtt_client import STUCK, Client
from lib.mqtt_codec import (  # noqa: F401  (the codes are part of this module's interface)
    BY_CLIENT,
    BY_SERVER,
    KEEPALIVE,
    PROTOCOL,
    REFUSED,
    TIMEOUT,
    MQTTException,
    connect_packet,
)
from lib.mqtt_link import CLOSED, CONNACK, RESOLVE, TCP, TLS, UP  # noqa: F401
from lib.mqtt_options import connect_options

_DUP = const(0x08)


class MQTTClient(Client):
    """One client. `port` 0 means 1883, or 8883 with `ssl`, a `tls.SSLContext`; `keepalive` in
    seconds, 0 for none.

    `server_hostname`: the name in the server's certificate, when it is not `server`; `rx_size`:
    bytes of the largest packet that is received, longer messages are discarded; `tx_size`: packets
    up to this size are written at once, and it bounds the topic to publish to; `window`:
    publishes with QoS 1 that may be unacknowledged; `keep_size`: bytes of these that a persistent
    session keeps for redelivery; `buffers`: two bytearrays to receive into and to send from, in
    place of new ones of `rx_size` and `tx_size`.
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
        super().__init__(client_id, keepalive, rx, tx, window, on_close)
        self.server = server
        self.server_hostname = server_hostname or server
        self.port = port or (8883 if ssl else 1883)
        self.user = user
        self.password = password
        self.ssl = ssl
        self._keep_size = keep_size
        self._will = None
        self._clean = True

    def set_last_will(self, topic, msg, retain=False, qos=0):
        """The message that the server publishes when this client vanishes; before connect()."""
        if not topic or qos not in (0, 1):
            raise ValueError("last will")
        self._will = topic, msg, retain, qos

    async def connect(self, clean_session=True, timeout_ms=30000):
        """Connect and wait for CONNACK; return whether the server had a session for us.

        With `clean_session=False`, unacknowledged publishes of this object's last persistent
        session are sent again: with DUP when the server kept the session, else as new.
        Raises what `Client.connect` does.
        """
        if self._link.stage != CLOSED:
            raise OSError(EALREADY)
        flags, more = connect_options(clean_session, self.user, self.password, self._will)
        packet = connect_packet(self.client_id, self.keepalive, flags, more)
        unacked = {} if clean_session or self._clean else dict(self._unacked)
        self._clean = clean_session
        await self._connect(packet, unacked, timeout_ms)
        return self._present

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
        await link.until(link.idle, STUCK, due)

    async def ping(self, timeout_ms=10000):
        """Ask the server for a sign of life and wait for it."""
        link = self._up()
        pongs = self._pongs
        link.ping()
        due = ticks_add(ticks_ms(), timeout_ms)
        await link.until(lambda: self._pongs != pongs, "no PINGRESP", due)

    # ---- what Client asks ------------------------------------------------------------------

    # A persistent session keeps every packet until it is acknowledged, so each has a buffer of
    # its own, and together they have a limit.
    def _room(self, size):
        kept = self._unacked
        if len(kept) >= self._window:
            return False
        if self._clean or size > self._keep_size:
            return True
        return size + sum(len(p) for p in kept.values()) <= self._keep_size

    def _buffer(self, size):
        if self._clean:
            return self._tx
        if size > self._keep_size:
            raise ValueError("message too long to keep")
        return memoryview(bytearray(size))

    # Sends what an earlier connection left unacknowledged (section 4.4).
    def _accepted(self, link):
        for pid in self._oldest_first():
            packet = self._unacked[pid]
            packet[0] = packet[0] & ~_DUP | (_DUP if self._present else 0)
            link.queue.append(packet)
        link.flush()

    # Packet ids wrap, so the age of one is its distance from the last that was given.
    def _oldest_first(self):
        return sorted(self._unacked, key=lambda pid: (pid - self._pid - 1) & 0xFFFF)
