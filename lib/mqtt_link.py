# One TCP or TLS connection of the MQTT client: opening, writing, waiting, ending.
#
# asyncio's IO queue keeps one waiter per direction and forgets both when one of them is
# cancelled. So only tasks of our own wait there: the task that opens and then reads, and a
# writer task that lives while the socket has not taken all of a packet. Users' tasks wait for
# this object's event, may be cancelled at any time, and are woken with the reason at the end.

import asyncio
import select
import socket
from asyncio import core
from errno import EINPROGRESS, EINVAL, ENOTCONN, EOPNOTSUPP
from time import ticks_diff

from micropython import const

# Stages of a connection, in the order in which they are passed.
CLOSED = const(0)
RESOLVE = const(1)
TCP = const(2)
TLS = const(3)
CONNACK = const(4)
UP = const(5)

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)
# ENOPROTOOPT as Linux and as lwIP number it.
_NO_OPTION = (92, 109, EINVAL, EOPNOTSUPP)


class Link(asyncio.Event):
    """The event is set when anything changes that a task may wait for."""

    def __init__(self, on_end=None):
        """`on_end(reason)` is called once, when a link that was UP has ended."""
        super().__init__()
        self.stage = CLOSED
        # The stage in which the link ended, and the exception that says why.
        self.failed_stage = CLOSED
        self.reason = None
        self.sock = None
        # Tasks that end with the link.
        self.tasks = []
        # Set when bytes were written or read; the keep-alive clears them.
        self.sent = False
        self.heard = False
        # Small packets, and whole packets, that follow the one that is being written.
        self.control = bytearray()
        self.queue = []
        self._on_end = on_end
        self._limits = []
        self._writer = None
        self._out = b""
        self._at = 0
        self._end = 0
        self._tail = None

    # ---- opening ---------------------------------------------------------------------------

    def open(self, addresses, tls, hostname, packet):
        """Generator: connect to the first of `addresses` (from getaddrinfo) that answers, wrap
        the socket with `tls` (a tls.SSLContext or None), write `packet`.

        The TLS handshake happens inside the first write, so the stage is TLS until `packet` has
        been written whole. OSError, or ValueError for a certificate that is not trusted.
        """
        self.stage = TCP
        last = len(addresses) - 1
        for i, address in enumerate(addresses):
            try:
                yield from self._connect(address)
                break
            except OSError:
                if i == last:
                    raise
                self.sock.close()
        if tls:
            self.stage = TLS
            self.sock = tls.wrap_socket(
                self.sock, server_hostname=hostname, do_handshake_on_connect=False
            )
            self.sock.setblocking(False)
        self.queue.append(packet)
        while not self._push():
            yield core._io_queue.queue_write(self.sock)

    def _connect(self, address):
        sock = self.sock = socket.socket(address[0], address[1], address[2])
        sock.setblocking(False)
        try:
            sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        except OSError as error:
            # Some ports lack the option; packets are one write each, so it is a refinement.
            if error.errno not in _NO_OPTION:
                raise
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
        return self._writer is None

    def write(self, buf, end, tail=None):
        """Write the packet buf[:end] + tail; only when idle. Return True when the socket took
        all; otherwise the writer task does the rest from these buffers, and `idle` tells when.

        A failure ends the link and is raised.
        """
        if self.reason is not None:
            raise self.reason
        try:
            n = self.sock.write(buf, end)
            if n == end:
                self.sent = True
                if tail is None:
                    return True
            self._out = buf
            self._at = n or 0
            self._end = end
            self._tail = tail
            # TLS wants a write that it refused repeated as it was, so none is tried here.
            if n == end and self._push():
                return True
        except (OSError, ValueError) as error:
            self.end(error)
            raise
        self._writer = asyncio.create_task(self._write_rest())
        return False

    def flush(self):
        """Write `control` and `queue`: now when idle, else behind the packet being written."""
        if self._writer is not None or not (self.control or self.queue):
            return
        if self.reason is not None:
            raise self.reason
        try:
            if self._push():
                return
        except (OSError, ValueError) as error:
            self.end(error)
            raise
        self._writer = asyncio.create_task(self._write_rest())

    # Hands the socket what it takes; True when nothing is left.
    def _push(self):
        while True:
            if self._at == self._end:
                if self._tail is not None:
                    self._out = self._tail
                    self._tail = None
                elif self.control:
                    self._out = self.control
                    self.control = bytearray()
                elif self.queue:
                    self._out = self.queue.pop(0)
                else:
                    self._out = b""
                    self._at = self._end = 0
                    return True
                self._at = 0
                self._end = len(self._out)
            n = self.sock.write(self._out, self._at, self._end - self._at)
            if n is None:
                return False
            self.sent = True
            self._at += n
            if self._at < self._end:
                return False

    def _write_rest(self):
        try:
            yield core._io_queue.queue_write(self.sock)
            while not self._push():
                yield core._io_queue.queue_write(self.sock)
        except (OSError, ValueError) as error:
            self.end(error)
            return
        self._writer = None
        self.set()

    # ---- waiting and ending ----------------------------------------------------------------

    async def until(self, ready, what, due):
        """Wait until `ready()`; raise the reason when the link ends before.

        `due` is the tick (time.ticks_ms) after which the supervisor ends the link, with `what`
        as the text of its reason.
        """
        if ready():
            return
        limit = (due, what, ready)
        self._limits.append(limit)
        try:
            while not ready():
                if self.reason is not None:
                    raise self.reason
                self.clear()
                await self.wait()
        finally:
            self._limits.remove(limit)

    def overdue(self, now):
        """The text of a wait that should be over by the tick `now`, or None."""
        for due, what, ready in self._limits:
            if ticks_diff(now, due) >= 0 and not ready():
                return what
        return None

    def end(self, reason):
        """Close the socket, end our tasks, wake all that wait. Only the first call counts."""
        if self.reason is not None:
            return
        self.reason = reason
        self.failed_stage = self.stage
        self.stage = CLOSED
        me = asyncio.current_task()
        if self._writer is not None:
            self.tasks.append(self._writer)
        for task in self.tasks:
            if task is not me:
                task.cancel()
        self.tasks = []
        if self.sock is not None:
            self.sock.close()
        self._out = self._tail = None
        self.queue = []
        self.set()
        if self.failed_stage == UP and self._on_end is not None:
            self._on_end(reason)
