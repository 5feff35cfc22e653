"""The wire between the host's terminal and the VM's UART: one thread, polling.

The host opens the slave side of a pseudo-terminal. We hold its master, and its slave too, so
that it stays as it is while hosts and VMs come and go. Towards the VM the bytes lie in a socket
pair, from the VM they come in a pipe.
"""

import array
import contextlib
import fcntl
import os
import pty
import select
import socket
import termios
import threading
import time
import tty

_PIECE = 4096
_PIPE = 4096
# What a paced line may catch up after this thread was woken late.
_LATE_S = 0.002
# An unpaced line is as fast as the module reads; one that does not read has its buffer overrun
# after as long as a line of the real speed would need to fill it.
_REAL_BYTE_S = 10 / 115200
_FULL_POLL_S = 0.001
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", None)


class Channel:
    """One boot's two ways: `child_rx` and `child_tx` are the VM's descriptors."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.rx = ours
        self._child_rx = theirs
        self.tx, self._child_tx = os.pipe()
        if _F_SETPIPE_SZ is not None:
            fcntl.fcntl(self.tx, _F_SETPIPE_SZ, _PIPE)
        os.set_blocking(self.tx, False)

    @property
    def child_rx(self):
        return self._child_rx.fileno()

    @property
    def child_tx(self):
        return self._child_tx

    def unread(self):
        """Bytes that the VM has not read yet."""
        count = array.array("i", [0])
        fcntl.ioctl(self._child_rx, termios.FIONREAD, count)
        return count[0]

    def close(self):
        self.rx.close()
        self._child_rx.close()
        os.close(self.tx)
        os.close(self._child_tx)


class Wire:
    """The relay. registers: the board's; baud: 0, or the rate at which both ways are paced."""

    def __init__(self, registers, baud=0):
        self._registers = registers
        self._byte_s = 10 / baud if baud else 0
        # About a millisecond's worth at a time when paced.
        self._piece = max(1, baud // 10000) if baud else _PIECE
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        self.dropped = 0  # bytes that found the receive buffer full
        self.lost = 0  # bytes that came while nobody listened
        self.blocked = False  # the host does not take what the VM sends
        self._channel = None
        self._held = b""
        self._received = self._drained = 0
        self._rx_next = self._tx_next = 0.0
        self._full_since = None
        self._watched = None
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        self._orders = []
        self._orders_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uart", daemon=True)
        self._thread.start()

    def attach(self, channel):
        """From now on the wire leads to `channel` (None: to nowhere). Returns when that is so."""
        self._order(("attach", channel))

    def close(self):
        """Stop the thread and close the terminal."""
        self._order(("stop", None))
        self._thread.join()
        for fd in (self.master, self._slave, self._bell, self._ring):
            os.close(fd)

    def _order(self, order):
        self._orders_done.clear()
        self._orders.append(order)
        os.write(self._ring, b"!")
        while not self._orders_done.wait(1):
            if not self._thread.is_alive():
                raise RuntimeError("the UART's thread has ended")

    def _obey(self):
        # Returns False when the thread has to end.
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 64)
        going = True
        while self._orders:
            kind, value = self._orders.pop(0)
            if kind == "stop":
                going = False
            else:
                self._channel = value
                self._held = b""
                self._received = 0
                self._drained = 0
                self._rx_next = self._tx_next = 0.0
                self._full_since = None
        self._orders_done.set()
        return going

    def _run(self):
        while True:
            timeout = self._arm()
            ready = dict(self._poll.poll(timeout))
            if self._bell in ready and not self._obey():
                return
            if self._full_since is not None:
                self._receive()
            if self.master in ready:
                if ready[self.master] & select.POLLIN:
                    self._receive()
                if ready[self.master] & select.POLLOUT:
                    self._put()
            if self._channel is not None and self._channel.tx in ready:
                self._send()

    def _arm(self):
        # Which ends to watch, and for how long (ms, None for ever).
        now = time.monotonic() if self._byte_s or self._full_since is not None else 0.0
        wake = []
        watch_master = 0
        watch_tx = False
        if self._full_since is not None:
            wake.append(now + _FULL_POLL_S)
        elif self._byte_s and self._rx_next > now:
            wake.append(self._rx_next)
        else:
            watch_master |= select.POLLIN
        if self._held:
            watch_master |= select.POLLOUT
        elif self._channel is not None:
            if self._byte_s and self._tx_next > now:
                wake.append(self._tx_next)
            else:
                watch_tx = True
        self._watch(watch_master, watch_tx)
        if self._byte_s:
            self._report(now)
        return (min(wake) - now) * 1000 + 0.2 if wake else None

    def _watch(self, master, tx):
        wanted = (master, self._channel.tx if tx else None)
        if wanted == self._watched:
            return
        self._watched = wanted
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._poll.register(self.master, master)
        if tx:
            self._poll.register(self._channel.tx, select.POLLIN)

    def _receive(self):
        # Host to module.
        get = self._registers.get
        listening = self._channel is not None and get("uart_open") and not get("asleep")
        size = get("uart_rxbuf")
        room = max(0, size - self._channel.unread()) if listening else 0
        piece = self._piece
        if listening and not self._byte_s:
            if self._wait_for_room(room, size):
                return
            if room:
                piece = min(piece, room)
        try:
            data = os.read(self.master, piece)
        except BlockingIOError:
            self._full_since = None
            return
        if self._byte_s:
            now = time.monotonic()
            self._rx_next = max(self._rx_next, now - _LATE_S) + len(data) * self._byte_s
        if not listening:
            self._full_since = None
            self.lost += len(data)
            return
        if len(data) > room:
            self.dropped += len(data) - room
            data = data[:room]
        if data:
            try:
                sent = self._channel.rx.send(data)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                sent = 0
            self.dropped += len(data) - sent
            self._received = (self._received + sent) & 0xFFFFFFFF
            self._registers.put("uart_received", self._received)

    def _wait_for_room(self, room, size):
        # True while bytes may stay on the line because the module may yet read.
        if room:
            self._full_since = None
            return False
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        return now - self._full_since < size * _REAL_BYTE_S

    def _send(self):
        # Module to host.
        try:
            data = os.read(self._channel.tx, self._piece)
        except BlockingIOError:
            return
        if not data:
            return
        self._held = data
        self._put()

    def _put(self):
        held = self._held
        try:
            sent = os.write(self.master, held)
        except BlockingIOError:
            sent = 0
        self._held = held[sent:]
        self.blocked = bool(self._held)
        self._drained = (self._drained + sent) & 0xFFFFFFFF
        if self._byte_s:
            now = time.monotonic()
            self._tx_next = max(self._tx_next, now - _LATE_S) + sent * self._byte_s
        else:
            self._registers.put("uart_drained", self._drained)

    def _report(self, now):
        # On a paced line a byte is sent when its time is over, not when it was handed on.
        late = max(0, int((self._tx_next - now) / self._byte_s)) if self._tx_next > now else 0
        if self._channel is not None:
            self._registers.put("uart_drained", (self._drained - late) & 0xFFFFFFFF)
