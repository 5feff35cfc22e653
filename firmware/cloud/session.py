"""The connection to AWS IoT Core: made, used and watched (guide 3.6, 4.1; D17 to D20).

    DOWN -> JOINING -> DATING -> OPENING -> UP -> DOWN
             |           |          |
             +-----------+----------+--> DOWN, with the cause

One variable holds the state and one function changes it.
"""

import asyncio
import gc
import sys
import time

from micropython import const

from firmware.cloud.backoff import STABLE_MS
from firmware.config.checks import split_host
from firmware.events import CONLOST
from firmware.log import INFO, WARNING, log
from firmware.net.clock import ClockError
from firmware.net.wifi import WifiError
from lib import mqtt
from lib.mqtt import REFUSED, MQTTClient, MQTTException

DOWN = const(0)
JOINING = const(1)
DATING = const(2)
OPENING = const(3)
UP = const(4)

_NAMES = ("down", "joining", "dating", "opening", "up")

# Moves that are legal, as state * 8 + next state.
_MOVES = (
    DOWN * 8 + JOINING,
    JOINING * 8 + DATING,
    JOINING * 8 + DOWN,
    DATING * 8 + OPENING,
    DATING * 8 + DOWN,
    OPENING * 8 + UP,
    OPENING * 8 + DOWN,
    UP * 8 + DOWN,
)

_PORT = const(8883)
_KEEPALIVE_S = const(60)
_WINDOW = const(8)

# What each step of a CONNECT may take. With the longest back-off (60 s) and SNTP (6 s) the sum
# stays under the guide's 120 s.
_JOIN_MS = const(22000)
_OPEN_MS = const(25000)

# Opening begins no later than this after the CONNECT: the resolver alone may take 19 s.
_LATEST_MS = const(92000)

# An answer of the cloud to a publish (D18), a subscribe, an unsubscribe.
_ANSWER_MS = const(30000)


class ConnectError(Exception):
    """The connection could not be made; the argument (bytes) says why, fit for ERR14."""


class SessionError(Exception):
    """The connection was lost, or the cloud did not answer; the argument (bytes) says why."""


class Refused(Exception):
    """The cloud said no to a subscription."""


def _describe(error, stage):
    """`failure.describe`, imported when something has failed: words are bulky."""
    from firmware.cloud import failure

    return failure.describe(error, stage)


class Session:
    """The one connection to the cloud.

    identity: who we are. config: `Dictionary`. wifi, clock: `firmware.net`. events, messages:
    queues. backoff: `Backoff`. make_context: function that returns a `tls.SSLContext`.
    buffers: two bytearrays for MQTTClient.
    """

    def __init__(
        self, identity, config, wifi, clock, events, messages, backoff, make_context, buffers
    ):
        self._identity = identity
        self._config = config
        self._wifi = wifi
        self._clock = clock
        self._events = events
        self._messages = messages
        self._backoff = backoff
        self._make_context = make_context
        client = self._client = MQTTClient(
            identity.thing,
            None,
            keepalive=_KEEPALIVE_S,
            window=_WINDOW,
            on_close=self._closed,
            buffers=buffers,
        )
        client.set_callback(messages.arrived)
        client.set_discard_callback(messages.discarded)
        self._leaving = False
        self._accepted_at = 0
        self.state = DOWN
        self.last_failure = b""
        self.connections = 0

    def connected(self):
        """True while the cloud has us."""
        return self.state == UP

    def _to(self, state):
        """The only place where the state changes."""
        if self.state * 8 + state not in _MOVES:
            raise RuntimeError("session: %s to %s" % (_NAMES[self.state], _NAMES[state]))
        self.state = state
        log(INFO, "session:", _NAMES[state])

    async def connect(self):
        """Connect; returns at once when connected. Raises ConnectError.

        Waits the back-off out first. Never takes 120 s."""
        if self.state == UP:
            return
        self._check()
        started = time.ticks_ms()
        await asyncio.sleep_ms(self._backoff.remaining())
        self._to(JOINING)
        try:
            get = self._config.get
            await self._wifi.join(get(b"SSID"), get(b"Passphrase"), _JOIN_MS)
            self._to(DATING)
            await self._clock.ensure()
            if time.ticks_diff(time.ticks_ms(), started) > _LATEST_MS:
                # A resolver that nobody answers holds everything up, and would do so again.
                raise ConnectError(b"network too slow")
            self._to(OPENING)
            await self._open()
        except (WifiError, ClockError, ConnectError) as error:
            self._failed(error.args[0])
        except Exception as error:  # noqa: BLE001
            # A driver that refuses, no memory, a defect: the cause is told, and a later CONNECT
            # finds the state that it needs.
            sys.print_exception(error)
            self._failed(b"internal error, " + type(error).__name__.encode())
        self._to(UP)
        self.last_failure = b""
        self.connections += 1
        self._accepted_at = time.ticks_ms()

    def _check(self):
        """Refuse what cannot work before the network is troubled."""
        if not self._config.get(b"EndPoint"):
            raise ConnectError(b"Invalid Endpoint, none is set")
        if not self._config.get(b"SSID"):
            raise ConnectError(b"no SSID is set")
        if not self._config.get(b"Certificate"):
            raise ConnectError(b"no device certificate")
        if not self._config.get(b"RootCA"):
            raise ConnectError(b"no root certificate")

    def _failed(self, why):
        self._to(DOWN)
        self._backoff.failed()
        self.last_failure = why
        log(WARNING, "session: unable to connect:", why)
        raise ConnectError(why)

    async def _open(self):
        """TCP, TLS, CONNECT, CONNACK."""
        host, port = split_host(self._config.get(b"EndPoint"), _PORT)
        client = self._client
        client.server = client.server_hostname = host.decode()
        client.port = port
        # TLS needs large blocks beside our heap: leave it as much as can be.
        gc.collect()
        log(INFO, "session:", gc.mem_alloc(), "bytes of heap in use")
        client.ssl = self._context()
        try:
            await client.connect(True, _OPEN_MS)
        except (OSError, ValueError, MQTTException) as error:
            client.ssl = None
            raise ConnectError(_describe(error, client.failed_stage))
        if client.stage != mqtt.UP:
            # Accepted, and ended before this task had its turn.
            client.ssl = None
            raise ConnectError(_describe(client.closed, None))
        self._leaving = False

    def _context(self):
        """A TLS context that trusts our roots and shows our certificate."""
        context = self._make_context()
        try:
            for root in self._config.get(b"RootCA"):
                context.load_verify_locations(root)
            context.load_cert_chain(
                self._config.get(b"Certificate")[0], self._identity.private_key()
            )
        except (OSError, ValueError) as error:
            log(WARNING, "session: TLS context:", error)
            raise ConnectError(b"certificate or key unusable")
        return context

    def _closed(self, reason):
        """The connection has ended, whoever ended it."""
        if self.state != UP:
            # connect() has not seen it up yet, and will see that it is down.
            return
        self._to(DOWN)
        self._client.ssl = None
        self._messages.forget_subscriptions()
        if self._leaving:
            self._backoff.succeeded()
            return
        # The host first: the cause may be one, like no memory, that ends this early too.
        self._events.put(CONLOST)
        if 0 <= time.ticks_diff(time.ticks_ms(), self._accepted_at) < STABLE_MS:
            self._backoff.failed()
        else:
            self._backoff.succeeded()
        log(WARNING, "session: connection lost:", repr(reason))

    async def disconnect(self):
        """Leave the cloud and the access point; nothing happens when already down."""
        if self.state == UP:
            self._leaving = True
            await self._client.disconnect()
        self._wifi.leave()

    def drop(self, why):
        """End the connection because of `why` (text): the link is gone, for instance."""
        if self.state == UP:
            self._client.close(why)

    async def publish(self, topic, payload, qos):
        """Publish; with QoS 1 returns when the cloud has acknowledged. Raises SessionError."""
        self._need()
        await self._ask(self._client.publish(topic, payload, False, qos, timeout_ms=_ANSWER_MS))

    async def subscribe(self, pattern, qos):
        """Subscribe. Raises SessionError, or Refused when the cloud says no."""
        self._need()
        await self._ask(self._client.subscribe(pattern, qos, timeout_ms=_ANSWER_MS))

    async def unsubscribe(self, pattern):
        """Unsubscribe. Raises SessionError."""
        self._need()
        await self._ask(self._client.unsubscribe(pattern, timeout_ms=_ANSWER_MS))

    def _need(self):
        if self.state != UP:
            raise SessionError(b"")

    async def _ask(self, operation):
        try:
            await operation
        except MQTTException as error:
            if error.code == REFUSED:
                raise Refused()
            raise SessionError(_describe(error, None))
        except (OSError, ValueError) as error:
            raise SessionError(_describe(error, None))
        except MemoryError:
            raise SessionError(b"no memory")
