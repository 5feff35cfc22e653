# The receiving half of the MQTT client: cuts the stream into packets and acts on each.

from asyncio import core  # pyright: ignore[reportAttributeAccessIssue]
from time import ticks_diff, ticks_ms

from micropython import const

from lib.mqtt_codec import (
    BY_SERVER,
    MQTTException,
    get_length,
    malformed,
    puback_packet,
    publish_layout,
)
from lib.mqtt_link import CONNACK, UP

# First bytes of packets that a server sends; only PUBLISH has flags.
_CONNACK = const(0x20)
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_UNSUBACK = const(0xB0)
_PINGRESP = const(0xD0)

# After a callback that took this long (ms), a sector of flash was erased for instance, the others
# get this much time (ms), even when the server has sent more already.
_LONG = const(10)
_REST = const(10)

_MAX_CONTROL = const(1024)  # bytes of acknowledgements waiting behind a packet half written


class Reader:
    """What MQTTClient does with packets that arrive. Its own task runs `_run`."""

    def __init__(self, rx):
        # Count of messages that were longer than the receive buffer.
        self.discarded = 0
        self._rx = memoryview(rx)
        self._callback = None
        self._on_discard = None

    def set_callback(self, f):
        """`f(topic, msg)` for each message: `topic` is bytes, `msg` a memoryview that is valid
        only during the call. It runs in the reader task: it must return soon (after some work on
        flash others get their turn) and not raise; an exception closes the connection with that
        exception as the reason."""
        self._callback = f

    def set_discard_callback(self, f):
        """`f(topic, size)` for each message that was too long; `size` is the message's."""
        self._on_discard = f

    # Tables of one connection: packet ids of publishes not yet acknowledged (value: the packet
    # to send again, or None), and of requests (value: the answer's code, None before it).
    def _begin(self, unacked):
        self._unacked = unacked
        self._replies = {}
        self._present = False
        self._pongs = 0
        # Bytes still to come of a message that is too long, and (topic, size, packet id) of it.
        self._skip = 0
        self._skipped = None

    def _run(self, link, addresses, tls, hostname):
        try:
            yield from link.open(addresses, tls, hostname)
            link.stage = CONNACK
            rx = self._rx
            end = 0
            yield core._io_queue.queue_read(link.sock)
            # A callback may have ended it.
            while link.reason is None:
                n = link.sock.readinto(rx[end:] if end else rx)
                if n:
                    link.heard = True
                    began = ticks_ms()
                    end = self._parse(link, end + n)
                    # There may be more, which costs less to see than to poll for.
                    long = ticks_diff(ticks_ms(), began) >= _LONG
                    yield from core.sleep_ms(_REST if long else 0)
                elif n is None:
                    yield core._io_queue.queue_read(link.sock)
                else:
                    raise MQTTException(BY_SERVER, "closed by the server")
        except Exception as error:  # noqa: BLE001  (the reason reaches every waiter and on_close)
            link.end(error)

    # Handles the packets in rx[:end], moves what is left to the front, returns its length.
    def _parse(self, link, end):
        rx = self._rx
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
                found = get_length(rx, at + 1, end)
                if found is None:
                    break
                length, body = found
            limit = body + length
            if limit > end:
                if limit - at > len(rx) and self._discard(first, body, limit, end):
                    at = end
                break
            if first & 0xF0 == _PUBLISH:
                self._message(link, first, body, limit)
            else:
                self._reply(link, first, body, length)
            at = limit
        if link.control:
            if len(link.control) > _MAX_CONTROL:
                raise MQTTException(BY_SERVER, "server takes no acknowledgements")
            link.flush()
        if 0 < at < end:
            rx[: end - at] = rx[at:end]
        return end - at

    def _message(self, link, first, body, limit):
        if link.stage != UP:
            raise malformed("no CONNACK")
        rx = self._rx
        topic_end, pid, message = publish_layout(rx, first, body, limit)
        if self._callback:
            self._callback(bytes(rx[body + 2 : topic_end]), rx[message:limit])
        if pid:
            link.control.extend(puback_packet(pid))

    # Packets that answer one of ours, each with its one legal length (sections 3.2 to 3.13).
    def _reply(self, link, first, body, length):
        rx = self._rx
        pid = rx[body] << 8 | rx[body + 1] if length >= 2 else 0
        if link.stage == UP:
            if first == _PUBACK and length == 2:
                self._unacked.pop(pid, None)
            elif (first == _SUBACK and length == 3) or (first == _UNSUBACK and length == 2):
                # Nobody waits when the task that asked was cancelled.
                if pid in self._replies:
                    self._replies[pid] = rx[body + 2] if length == 3 else 0
            elif first == _PINGRESP and not length:
                self._pongs += 1
            else:
                raise malformed("unexpected packet %02x" % first)
        elif first == _CONNACK and length == 2:
            if rx[body + 1]:
                raise MQTTException(rx[body + 1], "connection refused")
            self._present = bool(rx[body] & 1)
            link.stage = UP
            self._accepted(link)
        else:
            raise malformed("no CONNACK")
        link.set()

    # The connection was accepted; MQTTClient sends what it has kept.
    def _accepted(self, link):
        pass

    # Begins to discard a packet that rx cannot hold; False while its topic has not arrived.
    def _discard(self, first, body, limit, end):
        rx = self._rx
        if first & 0xF0 != _PUBLISH:
            raise malformed("packet too long")
        if end - body < 2:
            return False
        topic_end = body + 2 + (rx[body] << 8 | rx[body + 1])
        if topic_end + 2 > end:
            if topic_end - body > len(rx) - 7:
                raise malformed("topic too long")
            return False
        topic_end, pid, message = publish_layout(rx, first, body, limit)
        self._skipped = bytes(rx[body + 2 : topic_end]), limit - message, pid
        self._skip = limit - end
        return True

    def _discard_done(self, link):
        topic, size, pid = self._skipped
        self.discarded += 1
        if self._on_discard:
            self._on_discard(topic, size)
        if pid:
            link.control.extend(puback_packet(pid))
