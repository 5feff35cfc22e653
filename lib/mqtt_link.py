# One TCP or TLS connection of the MQTT client: opening, writing, waiting, keep-alive, ending.
#
# asyncio's IO queue keeps one waiter per direction and forgets both when one of them is
# cancelled. So only tasks of our own wait there: the task that opens and then reads, and a
# writer task that lives while the socket has not taken all of a packet. Users' tasks wait for
# this object's event, may be cancelled at any time, and are woken with the reason at the end.

import asyncio
import select
import socket
from asyncio import core  # pyright: ignore[reportAttributeAccessIssue]
from errno import EINPROGRESS, ENOTCONN
from time import ticks_diff, ticks_ms

from micropython import const

from lib.mqtt_codec import KEEPALIVE, TIMEOUT, MQTTException

# Stages of a connection, in the order in which they are passed.
CLOSED = const(0)
RESOLVE = const(1)
TCP = const(2)
TLS = const(3)
CONNACK = const(4)
UP = const(5)

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)
_TICK = const(100)  # ms between two looks at deadlines and keep-alive
_GRACE = const(15000)  # ms that the server has to answer a PINGREQ, if keep-alive allows


class Link(asyncio.Event):
    """The event is set when anything changes that a task may wait for."""

    def __init__(self, on_end=None, bytes_out=0):
        """`on_end(reason)` is called once, when a link that was UP has ended. `bytes_out`: where
        the count of bytes written starts."""
        super().__init__()
        self.stage = CLOSED
        # The stage in which the link ended, and the exception that says why.
        self.failed_stage = CLOSED
        self.reason = None
        # What we talk to; under it, with TLS, what that has wrapped.
        self.sock = self._raw = None
        # Tasks that end with the link; the writer is there while a packet is half written.
        self.tasks = []
        self.writer = None
        # Set when bytes were read; the keep-alive clears it.
        self.heard = False
        self.bytes_out = bytes_out
        # Small packets, and whole packets, that follow the one that is being written.
        self.control = bytearray()
        self.queue = []
        self._on_end = on_end
        self._waits = []
        # What is left of the packet being written, and what follows from the caller's buffer.
        self._buf = self._tail = None

    # ---- opening ---------------------------------------------------------------------------

    def open(self, addresses, tls, hostname):
        """Generator: connect to the first of `addresses` (from getaddrinfo) that answers, wrap
        the socket with `tls` (a tls.SSLContext or None), write `queue`.

        The TLS handshake happens inside the first write, so the stage is TLS until that has
        been written whole. OSError, or ValueError for a certificate that is not trusted.
        """
        self.stage = TCP
        left = len(addresses)
        for address in addresses:
            left -= 1
            try:
                yield from self._connect(address)
                break
            except OSError:
                if not left:
                    raise
                self.sock.close()
        if tls:
            self.stage = TLS
            self._raw = self.sock
            self.sock = tls.wrap_socket(
                self.sock, server_hostname=hostname, do_handshake_on_connect=False
            )
            self.sock.setblocking(False)
        while not self._push():
            yield core._io_queue.queue_write(self.sock)

    def _connect(self, address):
        sock = self.sock = socket.socket(address[0], address[1], address[2])
        sock.setblocking(False)
        try:
            sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        except OSError:
            # A port without the option. It is a refinement only: a packet is one write.
            pass
        try:
            sock.connect(address[-1])
        except OSError as error:
            if error.errno != EINPROGRESS:
                raise
        yield core._io_queue.queue_write(sock)
        # A refused connection is "writable" too; reading then gives the socket's own error.
        poller = select.poll()
        poller.register(sock, select.POLLOUT | select.POLLERR | select.POLLHUP)
        for _, event in poller.poll(0):
            if event & (select.POLLERR | select.POLLHUP):
                sock.read(1)
                raise OSError(ENOTCONN)

    # ---- writing ---------------------------------------------------------------------------

    def idle(self):
        """Whether a packet may be written now."""
        return self.writer is None

    def write(self, packet, tail=None):
        """Write a packet, and `tail` behind it; only when idle. Return True when the socket took
        all; otherwise the writer task does the rest from these buffers, and `idle` tells when.

        A failure ends the link and is raised.
        """
        self._buf = packet
        self._tail = tail
        return self.flush()

    def flush(self):
        """Write what is pending: now when idle, else behind the packet being written."""
        if self.reason is not None:
            raise self.reason
        if self.writer is None:
            if self._push():
                return True
            self.writer = asyncio.create_task(self._write_rest())
        return False

    # Hands the socket what it takes; True when nothing is left. TLS wants a write that it
    # refused repeated just as it was: so nothing is added to the packet in between.
    def _push(self):
        try:
            while True:
                buf = self._buf
                if buf:
                    n = self.sock.write(buf) or 0
                    self.bytes_out += n
                    if n != len(buf):
                        self._buf = buf[n:]
                        return False
                if self._tail:
                    self._buf = self._tail
                    self._tail = None
                elif self.control:
                    self._buf = self.control
                    self.control = bytearray()
                elif self.queue:
                    self._buf = self.queue.pop(0)
                else:
                    self._buf = None
                    return True
        except (OSError, ValueError) as error:
            self.end(error)
            raise

    def _write_rest(self):
        try:
            yield core._io_queue.queue_write(self.sock)
            while not self._push():
                yield core._io_queue.queue_write(self.sock)
        except Exception as error:  # noqa: BLE001
            # The link ends with this reason, which reaches all who wait for it.
            self.end(error)
            return
        self.writer = None
        self.set()

    # ---- waiting and ending ----------------------------------------------------------------

    async def until(self, ready, what, due):
        """Wait until `ready()`; raise the reason when the link ends before.

        `due` is the tick (time.ticks_ms) after which the supervisor ends the link, with `what`
        as the text of its reason.
        """
        wait = (due, what, ready)
        self._waits.append(wait)
        try:
            while not ready():
                if self.reason is not None:
                    raise self.reason
                self.clear()
                await self.wait()
        finally:
            self._waits.remove(wait)

    async def supervise(self, keepalive):
        """Ends the link when a deadline passes or the server is silent; a task of the link.

        `keepalive` in seconds: when nothing was sent, or nothing heard, for half of it, a PINGREQ
        is sent, and something must be heard within another half (15 s at most). So a dead link
        is noticed within one keep-alive, and a deadline within 100 ms. 0: deadlines only.
        """
        half = keepalive * 500
        sent = heard = asked = ticks_ms()
        asking = False
        count = self.bytes_out
        try:
            while True:
                await asyncio.sleep_ms(_TICK)
                # After a long stall of the loop the reader goes first.
                await asyncio.sleep_ms(0)
                now = ticks_ms()
                for due, what, ready in self._waits:
                    if ticks_diff(now, due) >= 0 and not ready():
                        raise MQTTException(TIMEOUT, what)
                if self.bytes_out != count:
                    count = self.bytes_out
                    sent = now
                if self.heard:
                    self.heard = asking = False
                    heard = now
                if asking:
                    if ticks_diff(now, asked) >= min(half, _GRACE):
                        raise MQTTException(KEEPALIVE, "server is silent")
                elif half and self.stage == UP:
                    if ticks_diff(now, sent) >= half or ticks_diff(now, heard) >= half:
                        asking = True
                        asked = now
                        self.ping()
        except Exception as error:  # noqa: BLE001  (no memory too: the reason reaches all)
            self.end(error)

    def ping(self):
        """Send a PINGREQ (section 3.12) as soon as no packet is half written."""
        self.control.extend(b"\xc0\x00")
        self.flush()

    def end(self, reason):
        """Close the socket, end our tasks, wake all that wait. Only the first call counts."""
        if self.reason is not None:
            return
        self.reason = reason
        self.failed_stage = self.stage
        self.stage = CLOSED
        if self.writer is not None:
            self.tasks.append(self.writer)
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.tasks = self._buf = self._tail = None
        # After a failed handshake TLS no longer closes what it has wrapped.
        for sock in (self.sock, self._raw):
            if sock is not None:
                sock.close()
        # asyncio's queue may know a task of ours for a while after its end, and so this object.
        self.sock = self._raw = None
        self.set()
        if self.failed_stage == UP and self._on_end is not None:
            self._on_end(reason)
