"""Device Defender: what the module counts, reported once in an interval (guide 8.1; D32).

    OFF -> WAITING -> SENDING -> ASKED -> WAITING …

The key Defender (seconds) turns it on, and this file is imported then. The counts are those of
Table 6, as custom metrics of these names:

    BytesOut           bytes of all MQTT packets written (TLS adds to them on the wire)
    MessagesSent       messages of the host that were sent with success
    MessagesReceived   messages received for the host
    HardResetEvent     1: the module has restarted, for whatever reason
    ReconnectEvents    1: there was a connection after the first one since the start
    FlashMemoryWrites  files written to flash

A report holds what happened since the last one that was accepted, so what a rejected or lost
report said is said again by the next. Nothing of this outlives a restart.
"""

import asyncio
import time

from micropython import const

from firmware.cloud.ending import by_peer
from firmware.cloud.session import Refused, SessionError
from firmware.log import DEBUG, WARNING, log

_OFF = const(0)
_WAITING = const(1)
_SENDING = const(2)
_ASKED = const(3)

_NAMES = ("off", "waiting", "sending", "asked")

# Moves that are legal, as state * 4 + next state.
_MOVES = (
    _OFF * 4 + _WAITING,
    _WAITING * 4 + _OFF,
    _WAITING * 4 + _SENDING,
    _SENDING * 4 + _OFF,
    _SENDING * 4 + _WAITING,
    _SENDING * 4 + _ASKED,
    _ASKED * 4 + _OFF,
    _ASKED * 4 + _WAITING,
)

# How long an answer may take. One that is later still counts, until the next report is sent.
_ANSWER_S = const(30)

# A topic that the policy forbids is answered by closing the connection, and by nothing else. An
# endpoint that closes this soon after a report was sent, before it has answered, means that.
_SUSPECT_S = const(5)

_METRICS = (
    b"BytesOut",
    b"MessagesSent",
    b"MessagesReceived",
    b"HardResetEvent",
    b"ReconnectEvents",
    b"FlashMemoryWrites",
)

# Bytes at the beginning of a rejection in which its code is looked for, and the longest code.
_HEAD = const(512)
_CODE = const(32)


class Defender:
    """Reports for one module.

    module: the application's parts (`module.Module`), of which it uses identity, config, clock,
    session, messages and store.

    `status` (bytes) is what became of the last report: `waiting` before the first, `accepted`,
    `rejected <code>`, `no answer`, or another cause; `off` when there are none.
    """

    def __init__(self, module):
        self._config = module.config
        self._clock = module.clock
        self._session = module.session
        self._messages = module.messages
        self._store = module.store
        self._topic = b"$aws/things/" + module.identity.thing + b"/defender/metrics/json"
        module.session.route(self._topic + b"/accepted", self._accepted)
        module.session.route(self._topic + b"/rejected", self._rejected)
        self.status = b"off"
        self._state = _OFF
        self._task = None
        self._value = self._interval = 0
        self._left = self._waited = 0  # seconds
        self._tick = time.ticks_ms()
        self._millis = 0
        # The connection that reports and their answers use, and the last that has subscribed.
        self._connection = self._subscribed = 0
        self._id = 0
        # Counts as they were at the last accepted report, and at the one that has no answer yet.
        # The first connection is no reconnect.
        self._base = (0, 0, 0, 1, 0)
        self._counted = None
        self._restarted = 1

    def _to(self, state):
        """The only place where the state changes."""
        if self._state * 4 + state not in _MOVES:
            raise RuntimeError("defender: %s to %s" % (_NAMES[self._state], _NAMES[state]))
        self._state = state

    def turn(self):
        """Do what is due; to be called about once a second. Returns at once and does not raise.

        A report is never sent sooner than the interval after the one before: what was due while
        there was no connection is sent once, at the first turn with a connection."""
        seconds = self._passed()
        self._left -= seconds
        self._obey()
        if self._state == _ASKED:
            self._waited += seconds
            self._look()
        if self._state == _WAITING and self._left <= 0 and self._session.connected():
            self._restart_interval()
            self._to(_SENDING)
            try:
                self._task = asyncio.create_task(self._send())
            except MemoryError:
                self._failed(b"no memory")

    def _obey(self):
        """Do what the key says when it has been changed."""
        value = self._config.get(b"Defender")
        if value == self._value:
            return
        self._value = value
        self._interval = int(value) if value.isdigit() else 0
        self._restart_interval()
        if self._state == _SENDING:
            self._task.cancel()
        if self._state != _OFF:
            self._to(_OFF)
        self.status = b"off"
        if self._interval:
            self._to(_WAITING)
            self.status = b"waiting"

    def _restart_interval(self):
        self._left = self._interval
        self._tick = time.ticks_ms()
        self._millis = 0

    def _passed(self):
        """Whole seconds since the last call; the rest is kept. Ticks wrap after days."""
        now = time.ticks_ms()
        millis = self._millis + max(0, time.ticks_diff(now, self._tick))
        self._tick = now
        self._millis = millis % 1000
        return millis // 1000

    def _look(self):
        """A report waits for its answer: see what can be seen."""
        session = self._session
        if session.connected() and session.connections == self._connection:
            if self._waited >= _ANSWER_S:
                self._failed(b"no answer")
        elif self._waited <= _SUSPECT_S and by_peer(session.lost):
            self._give_up()
        else:
            self._failed(b"connection lost")

    async def _send(self):
        """Send one report. The answers are subscribed to once in a connection, before it."""
        session = self._session
        self._connection = session.connections
        try:
            if self._subscribed != self._connection:
                await session.subscribe(self._topic + b"/accepted", 1)
                await session.subscribe(self._topic + b"/rejected", 1)
                self._subscribed = self._connection
            report = self._report()
            # First, because the answer may be there before this task goes on. QoS 0: the answer
            # tells more than a PUBACK would.
            self._waited = 0
            # The cloud counts from when it has a report, and the subscriptions took their time.
            self._restart_interval()
            self._to(_ASKED)
            await session.post(self._topic, report, 0)
        except Refused:
            self._failed(b"subscription refused")
        except SessionError as error:
            # Without words: the connection was gone before anything was sent.
            if error.args[0] and by_peer(session.lost):
                self._give_up()
            else:
                self._failed(error.args[0] or b"connection lost")
        except MemoryError:
            self._failed(b"no memory")

    def _failed(self, why):
        """The report on its way is not accepted; the next one says what it said."""
        if self._state < _SENDING:
            # Two have seen the same end of a connection.
            return
        self.status = why
        log(WARNING, "defender: report failed:", why)
        self._to(_WAITING)

    def _give_up(self):
        """Trying again would cost the host its connection again."""
        if self._state < _SENDING:
            return
        self.status = b"given up, closed by the endpoint"
        log(
            WARNING,
            "defender: the endpoint closes the connection, does the policy allow",
            self._topic,
            "? No more reports until the key Defender is changed, or a restart",
        )
        self._to(_OFF)

    def _report(self):
        """The next report; takes down the counts that it is made of."""
        session = self._session
        now = self._counted = (
            session.client.bytes_out,
            session.messages_sent,
            self._messages.received,
            session.connections,
            self._store.writes,
        )
        base = self._base
        values = (
            now[0] - base[0],
            now[1] - base[1],
            now[2] - base[2],
            self._restarted,
            1 if now[3] > base[3] else 0,
            now[4] - base[4],
        )
        # Rises over restarts too, as time does.
        self._id = max(self._clock.now(), self._id + 1)
        metrics = []
        for i, name in enumerate(_METRICS):
            metrics.append(b'"%s":[{"number":%d}]' % (name, values[i]))
        return b'{"header":{"report_id":%d,"version":"1.0"},"custom_metrics":{%s}}' % (
            self._id,
            b",".join(metrics),
        )

    # The answers. They run where messages are received.

    def _accepted(self, payload):
        if self._counted is None:
            return
        self._base = self._counted
        self._restarted = 0
        self._answered(b"accepted")
        log(DEBUG, "defender: accepted")

    def _rejected(self, payload):
        if self._counted is None:
            return
        why = b"rejected " + _code(payload)
        self._answered(why)
        log(WARNING, "defender: report failed:", why)

    def _answered(self, status):
        self._counted = None
        if self._state != _OFF:
            self.status = status
        if self._state == _ASKED:
            self._to(_WAITING)


def _code(payload):
    """The value of ErrorCode in a rejection."""
    if payload is None:
        return b"too long"
    try:
        parts = bytes(payload[:_HEAD]).split(b'"ErrorCode"', 1)
        words = parts[-1].split(b'"', 2)
    except MemoryError:
        return b"no memory"
    return words[1][:_CODE] if len(parts) == 2 and len(words) == 3 else b"without a code"
