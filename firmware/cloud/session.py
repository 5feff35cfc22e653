"""The connection to AWS IoT Core: made, used and watched (guide 3.6, 4.1; D17 to D20).

    DOWN -> JOINING -> DATING -> OPENING -> UP -> DOWN
             |           |          |
             +-----------+----------+--> DOWN, with the cause

One variable holds the state and one function changes it. How a connection is made is in
opening.py.
"""

import asyncio
import gc
import time

from micropython import const

from firmware.cloud.backoff import STABLE_MS
from firmware.events import CONLOST
from firmware.log import INFO, WARNING, log
from lib.mqtt_client import Client
from lib.mqtt_codec import REFUSED, MQTTException

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

_KEEPALIVE_S = const(60)
_WINDOW = const(8)

# How often a task looks whether the one that connects has ended.
_SHARE_MS = const(50)

# An answer of the cloud to a publish (D18), a subscribe, an unsubscribe.
_ANSWER_MS = const(30000)


class ConnectError(Exception):
    """The connection could not be made; the argument (bytes) says why, fit for ERR14."""


class SessionError(Exception):
    """The connection was lost, or the cloud did not answer; the argument (bytes) says why."""


class Refused(Exception):
    """The cloud said no to a subscription."""


def describe(error, stage):
    """`failure.describe`, imported when something has failed: words are bulky."""
    from firmware.cloud import failure

    return failure.describe(error, stage)


class Session:
    """The one connection to the cloud.

    identity: who we are. config: `Dictionary`. wifi, clock: `firmware.net`. events, messages:
    queues. backoff: `Backoff`. make_context: function that returns a `tls.SSLContext`.
    buffers: two bytearrays, to receive into and to send from.

    For others to read: `connections` counts those that the cloud has accepted, `messages_sent`
    what the host has sent with success, `client.bytes_out` the bytes of all MQTT packets written
    (TLS adds to them); `lost` is the exception that ended the last connection.
    """

    def __init__(
        self, identity, config, wifi, clock, events, messages, backoff, make_context, buffers
    ):
        self.identity = identity
        self.config = config
        self.wifi = wifi
        self.clock = clock
        self._events = events
        self._messages = messages
        self.backoff = backoff
        self.make_context = make_context
        # What TLS is done with, kept from one connection to the next: it is one block of 3 KB,
        # and a hole of that size is hard to find again.
        self.context = None
        rx, tx = buffers
        client = Client(identity.thing, _KEEPALIVE_S, rx, tx, _WINDOW, self._closed)
        self.client = client
        client.set_callback(self._arrived)
        client.set_discard_callback(self._discarded)
        self._routes = {}
        self._leaving = False
        self._accepted_at = 0
        self.connecting = False
        self.state = DOWN
        self.last_failure = b""
        self.connections = 0
        self.messages_sent = 0
        self.lost = None

    def connected(self):
        """True while the cloud has us."""
        return self.state == UP

    def to(self, state):
        """The only place where the state changes."""
        if self.state * 8 + state not in _MOVES:
            raise RuntimeError("session: %s to %s" % (_NAMES[self.state], _NAMES[state]))
        self.state = state
        log(INFO, "session:", _NAMES[state])

    async def connect(self):
        """Connect; returns at once when connected. Raises ConnectError.

        Waits the back-off out first. Never takes 120 s. Who comes while another task is at it
        shares what becomes of that."""
        if self.connecting:
            while self.connecting:
                await asyncio.sleep_ms(_SHARE_MS)
            if self.state != UP:
                raise ConnectError(self.last_failure)
        if self.state == UP:
            return
        self.connecting = True
        try:
            await self._open()
        except ConnectError as error:
            # Else nothing has been tried.
            if self.state != DOWN:
                self.to(DOWN)
                self.backoff.failed()
            self.last_failure = error.args[0]
            log(WARNING, "session: unable to connect:", error.args[0])
            raise
        finally:
            self.connecting = False
        self.to(UP)
        self._leaving = False
        self.last_failure = b""
        self.connections += 1
        self._accepted_at = time.ticks_ms()

    async def _open(self):
        """Have a connection, at the cost of messages that wait when there is no memory else."""
        started = time.ticks_ms()
        while True:
            try:
                # Needed for a moment only.
                from firmware.cloud import opening

                return await opening.connect(self, started)
            except MemoryError:
                gc.collect()
                if not self._messages.give_way():
                    raise ConnectError(b"no memory")
                log(WARNING, "session: no memory to connect with, messages were lost for it")
                if self.state != DOWN:
                    self.to(DOWN)
                gc.collect()

    def _closed(self, reason):
        """The connection has ended, whoever ended it."""
        if self.state != UP:
            # connect() has not seen it up yet, and will see that it is down.
            return
        self.lost = reason
        self.to(DOWN)
        self.client.ssl = None
        self._messages.forget_subscriptions()
        if self._leaving:
            self.backoff.succeeded()
            return
        # The host first: the cause may be one, like no memory, that ends this early too.
        self._events.put(CONLOST)
        if 0 <= time.ticks_diff(time.ticks_ms(), self._accepted_at) < STABLE_MS:
            self.backoff.failed()
        else:
            self.backoff.succeeded()
        log(WARNING, "session: connection lost:", repr(reason))

    async def disconnect(self):
        """Leave the cloud and the access point; nothing happens when already down."""
        if self.state == UP:
            self._leaving = True
            await self.client.disconnect()
        self.wifi.leave()

    def drop(self, why):
        """End the connection because of `why` (text): the link is gone, for instance."""
        if self.state == UP:
            self.client.close(why)

    def route(self, topic, handler):
        """Hand messages on exactly `topic` (bytes) to `handler(payload)` and not to the host;
        with None to the host again.

        The payload is a memoryview that is valid during the call only, None for one that was too
        long to be received. The handler runs where messages are received: it must return soon and
        not raise."""
        if handler:
            self._routes[topic] = handler
        else:
            self._routes.pop(topic, None)

    def _arrived(self, topic, payload):
        handler = self._routes.get(topic)
        if handler:
            handler(payload)
        else:
            self._messages.arrived(topic, payload)

    def _discarded(self, topic, size):
        handler = self._routes.get(topic)
        if handler:
            log(WARNING, "session: too long,", size, "bytes on", topic)
            handler(None)
        else:
            self._messages.discarded(topic, size)

    async def publish(self, topic, payload, qos):
        """Publish for the host; with QoS 1 returns when the cloud has acknowledged. Raises
        SessionError."""
        await self.post(topic, payload, qos)
        self.messages_sent += 1

    async def post(self, topic, payload, qos):
        """As `publish`, for the module itself: it does not count as a message of the host."""
        self._need()
        await self._ask(self.client.publish(topic, payload, False, qos, timeout_ms=_ANSWER_MS))

    async def subscribe(self, pattern, qos):
        """Subscribe. Raises SessionError, or Refused when the cloud says no."""
        self._need()
        await self._ask(self.client.subscribe(pattern, qos, timeout_ms=_ANSWER_MS))

    async def unsubscribe(self, pattern):
        """Unsubscribe. Raises SessionError."""
        self._need()
        await self._ask(self.client.unsubscribe(pattern, timeout_ms=_ANSWER_MS))

    def _need(self):
        if self.state != UP:
            raise SessionError(b"")

    async def _ask(self, operation):
        try:
            await operation
        except MQTTException as error:
            if error.code == REFUSED:
                raise Refused()
            raise SessionError(describe(error, None))
        except (OSError, ValueError) as error:
            raise SessionError(describe(error, None))
        except MemoryError:
            raise SessionError(b"no memory")
