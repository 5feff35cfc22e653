"""A Bluetooth LE central on the PC, for the virtual module: connects, reads, writes, listens.

    with Central(state) as central:
        central.connect()
        central.exchange_mtu(247)
        central.write(UUID, b"…")

It can be told to lose, damage or repeat writes, or to vanish, at the n-th of them.
"""

import collections
import json
import os
import socket
import time

from tools.sim.radio import NAME

_TIMEOUT_S = 10.0
_MTU_AT_FIRST = 23
# Of a write request (opcode, handle), and of a prepared write (offset too).
_WRITE_HEAD = 3
_PREPARE_HEAD = 5
_LONGEST = 512


class CentralError(RuntimeError):
    """What was asked cannot be done; the text says why."""


class Faults:
    """What goes wrong with writes, counted from 0 over all of them.

    lost, repeated: sets of numbers; damaged: {number: bit that is turned over}; vanish: the write
    that is not made any more, the connection is lost instead."""

    def __init__(self, lost=(), repeated=(), damaged=None, vanish=None):
        self.lost = set(lost)
        self.repeated = set(repeated)
        self.damaged = dict(damaged or {})
        self.vanish = vanish


class Central:
    """state: the virtual module's folder."""

    def __init__(self, state, faults=None):
        self.faults = faults or Faults()
        self.mtu = _MTU_AT_FIRST
        self.connected = False
        self.writes = 0
        self._values = {}
        self._answers = collections.deque()
        self._notified = collections.deque()
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX)
        path = os.path.realpath(os.path.join(state, NAME))
        try:
            self._socket.connect(path)
        except OSError as error:
            raise CentralError(f"no virtual module runs on {state}: {error.strerror}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Disconnect, and be gone."""
        self.connected = False
        self._socket.close()

    # Messages.

    def _listen(self, timeout):
        """Take what comes within `timeout` seconds; returns whether something came."""
        self._socket.settimeout(max(0.001, timeout))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        if not data:
            raise CentralError("the virtual module ended")
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            message = json.loads(line)
            if "notified" in message:
                value = bytes.fromhex(message["notified"])
                self._notified.append((self._values.get(message["handle"], ""), value))
            elif message.get("disconnected"):
                self.connected = False
            else:
                self._answers.append(message)
        return True

    def _order(self, **order):
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        end = time.monotonic() + _TIMEOUT_S
        while not self._answers:
            left = end - time.monotonic()
            if left <= 0:
                raise CentralError(f"no answer to {order['do']}")
            self._listen(left)
            if not self.connected and order["do"] not in ("scan", "connect"):
                if not self._answers:
                    raise CentralError("disconnected")
        answer = self._answers.popleft()
        if "error" in answer:
            raise CentralError(answer["error"])
        return answer

    # What a central does.

    def scan(self):
        """What the board advertises: {"name", "services" (UUIDs), "connectable"}, or None."""
        advertising = self._order(do="scan")["advertising"]
        if advertising is None:
            return None
        found = {"name": "", "services": [], "connectable": advertising[2]}
        for data in advertising[:2]:
            for kind, value in _fields(bytes.fromhex(data)):
                if kind == 9:
                    found["name"] = value.decode(errors="replace")
                elif kind == 7:
                    for at in range(0, len(value), 16):
                        found["services"].append(_uuid(value[at : at + 16][::-1].hex()))
        return found

    def connect(self, timeout=_TIMEOUT_S):
        """Connect, and find the characteristics. Raises CentralError."""
        end = time.monotonic() + timeout
        while True:
            try:
                self._order(do="connect")
                break
            except CentralError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self.connected = True
        self.mtu = _MTU_AT_FIRST
        self._notified.clear()
        self._values = {row[0]: _uuid(row[2]) for row in self._order(do="discover")["services"]}

    def disconnect(self):
        """Leave properly; the same object may connect again."""
        self._socket.sendall(b'{"do":"disconnect"}\n')
        self.wait_disconnected()

    def wait_disconnected(self, timeout=_TIMEOUT_S):
        """Wait until the connection is over; returns whether it is."""
        end = time.monotonic() + timeout
        while self.connected and time.monotonic() < end:
            self._listen(end - time.monotonic())
        return not self.connected

    def exchange_mtu(self, mtu):
        """Ask for an MTU; returns what both sides can do."""
        self.mtu = self._order(do="mtu", mtu=mtu)["mtu"]
        return self.mtu

    def choke(self, count):
        """Let the board's stack have no memory for its next `count` notifications."""
        self._order(do="choke", count=count)

    def characteristics(self):
        """The UUIDs of the board's characteristics."""
        return list(self._values.values())

    def _handle(self, uuid):
        for handle, known in self._values.items():
            if known == uuid:
                return handle
        raise CentralError(f"no characteristic {uuid}")

    def read(self, uuid):
        """The value of a characteristic, up to 512 bytes."""
        return bytes.fromhex(self._order(do="read", handle=self._handle(uuid))["value"])

    def write(self, uuid, value):
        """Write with response; what does not fit one packet goes as a long write."""
        number = self.writes
        self.writes += 1
        faults = self.faults
        if faults.vanish is not None and number >= faults.vanish:
            self.close()
            raise CentralError("vanished")
        if number in faults.lost:
            return
        if number in faults.damaged:
            value = bytearray(value)
            bit = faults.damaged[number] % (len(value) * 8)
            value[bit // 8] ^= 1 << bit % 8
        for _ in range(1 + (number in faults.repeated)):
            self._write(self._handle(uuid), bytes(value))

    def _write(self, handle, value):
        if len(value) > _LONGEST:
            raise CentralError("value too long")
        room = len(value) or 1
        if room > self.mtu - _WRITE_HEAD:
            room = self.mtu - _PREPARE_HEAD
        parts = [value[at : at + room].hex() for at in range(0, len(value), room)] or [""]
        self._order(do="write", handle=handle, parts=parts)

    def notification(self, timeout=_TIMEOUT_S):
        """The next (UUID, value), or None when nothing comes in time or ever again."""
        end = time.monotonic() + timeout
        while not self._notified:
            left = end - time.monotonic()
            if left <= 0 or not self.connected:
                return None
            self._listen(left)
        return self._notified.popleft()


def _fields(data):
    """(type, value) of each field of advertising data."""
    at = 0
    while at < len(data) and data[at]:
        yield data[at + 1], data[at + 2 : at + 1 + data[at]]
        at += 1 + data[at]


def _uuid(digits):
    if len(digits) != 32:
        return digits
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in zip(cuts, cuts[1:], strict=False))
