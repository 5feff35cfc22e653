"""CONFMODE over Bluetooth LE: one service, one central at a time (docs/ble.md).

The stack calls `_irq` from a task of its own: it copies what came, and a task of ours does the
work. Bluetooth and Wi-Fi do not share a chip well, so what was received is tried after a restart
(candidate.py).
"""

import asyncio
import gc
import os
import sys
import time
from binascii import unhexlify

from micropython import const

from firmware.confmode import sealing
from firmware.confmode.frames import split
from firmware.confmode.intake import Intake, hello
from firmware.log import INFO, WARNING, log

_SERVICE = "5704246a-5d4c-4f19-9b53-157d8824063d"
_CHARACTERISTICS = (
    "15ba8b82-df9a-46dc-865a-177a17ad9035",
    "20a62cd0-93ba-41e2-96b0-31b1aa131909",
    "3a21768b-174a-41bc-8b25-b9c1ebfb7510",
    "43c5e37d-b664-4b4a-aa33-032bbaf7133f",
)
_FLAGS = const(0x1A)  # read, write, notify
_HELLO = const(2)  # the number of the one that answers

# Result codes.
_DONE = const(2)
_TIMEOUT = const(4)
_FAILED = const(12)

# Of `sealing.stretch`.
_ROUNDS = const(2000)

# Events of the stack.
_CONNECT = const(1)
_DISCONNECT = const(2)
_WRITE = const(3)
_MTU = const(21)

_ADVERTISE_US = const(100000)
# The largest value of an attribute, and so the longest frame.
_FRAME = const(512)
_MTU_WANTED = const(256)
_MTU_AT_FIRST = const(23)
_MTU_HEAD = const(3)
# Writes that may wait for our task.
_QUEUE = const(24)

_POLL_MS = const(20)
_TRIES = const(50)  # for a notification, when the stack has no memory for it
# What a central may take for the next frame of a message, to prove that it knows the key, and to
# say anything at all; how long a second one is listened to.
_FRAME_MS = const(5000)
_PROOF_MS = const(30000)
_SILENT_MS = const(120000)
_BUSY_MS = const(5000)
# Before the connection goes, so that the last notification gets out.
_LAST_MS = const(300)

# After each third wrong proof nobody is heard for a while, longer each time.
_PROOFS = const(3)
_PAUSE_MS = const(5000)
_PAUSE_MAX_MS = const(320000)


class Ble:
    """The transport of CONFMODE (see manager.py). name: up to 26 bytes; key: b"" for none."""

    def __init__(self, manager, module, name, key):
        self._manager = manager
        self._module = module
        self._name = name
        self._key = key
        self._secret = b""
        self._radio = None
        self._task = None
        self._last = None  # the task that restarts the chip
        self._queue = []
        self._others = {}
        self._conn = None
        self._mtu = _MTU_AT_FIRST
        self._intake = None
        self._text = b""
        self._message = 0
        self._heard = self._since = 0
        self._wrong = 0
        self._pause = _PAUSE_MS
        self._quiet = None

    async def begin(self):
        """Be found. Raises ImportError without Bluetooth in this MicroPython, and OSError where
        the chip refuses."""
        import bluetooth

        # The two radios do not go together on every chip, and share their memory on all.
        self._module.wifi.leave()
        salt = b""
        if self._key:
            salt = os.urandom(16)
            self._secret = await sealing.stretch(self._key, salt, _ROUNDS)
            self._key = b""
        self._hello = hello(self._name, salt, _ROUNDS, self._module.conf_result)
        radio = self._radio = bluetooth.BLE()
        radio.active(True)
        radio.config(gap_name=self._name, mtu=_MTU_WANTED)
        radio.irq(self._irq)
        rows = tuple((bluetooth.UUID(text), _FLAGS) for text in _CHARACTERISTICS)
        (self._handles,) = radio.gatts_register_services(((bluetooth.UUID(_SERVICE), rows),))
        for handle in self._handles:
            radio.gatts_set_buffer(handle, _FRAME)
            radio.gatts_write(handle, b"{}")
        self._forget()
        self._advertise()
        self._task = asyncio.create_task(self._run())

    async def end(self):
        """Switch Bluetooth off. The controller keeps its memory until a restart."""
        task, self._task = self._task, None
        if task:
            task.cancel()
        if self._radio:
            self._radio.irq(None)  # pyright: ignore[reportArgumentType]
            self._radio.active(False)
            self._radio = None

    def status(self):
        """A line for DIAG INFO."""
        if self._quiet is not None:
            how = b"pause after wrong keys"
        else:
            how = b"waiting" if self._conn is None else b"connected"
        if not self._secret:
            how += b", open: anybody near can listen"
        return b"ble %s %s" % (self._name, how)

    # What the stack's task runs.

    def _irq(self, event, data):
        if event == _WRITE:
            conn, handle = data
            radio = self._radio
            try:
                frame = radio.gatts_read(handle)
            finally:
                # Passphrases and keys must not be read back, whatever happens to us.
                hello = handle == self._handles[_HELLO - 1]
                radio.gatts_write(handle, self._text if hello else b"{}")
            if len(self._queue) < _QUEUE:
                self._queue.append((event, conn, handle, frame))
        elif event == _MTU:
            self._queue.append((event, data[0], data[1], None))
        elif event == _CONNECT or event == _DISCONNECT:
            self._queue.append((event, data[0], None, None))

    # What our task runs.

    async def _run(self):
        try:
            while not self._last:
                try:
                    if self._queue:
                        await self._serve(*self._queue.pop(0))
                    else:
                        await self._watch()
                        await asyncio.sleep_ms(_POLL_MS)
                except MemoryError:
                    await self._no_memory()
                except Exception as error:  # noqa: BLE001
                    # A defect of ours: it costs a central, not CONFMODE.
                    sys.print_exception(error)
                    if self._conn is not None:
                        await self._drop(self._conn)
        except MemoryError:
            self._manager.finish(False, b"no memory")
        except Exception as error:  # noqa: BLE001
            # A defect of ours: CONFMODE ends, and says so.
            sys.print_exception(error)
            self._manager.finish(False, b"internal error, " + type(error).__name__.encode())

    async def _no_memory(self):
        """Let go of the central, and of what it has sent."""
        self._intake.drop()
        gc.collect()
        print("ble: no memory")
        if self._conn is not None:
            try:
                await self._intake.tell(_FAILED, "no memory")
            finally:
                await self._drop(self._conn)

    async def _serve(self, event, conn, value, frame):
        if event == _CONNECT:
            self._connected(conn)
        elif event == _DISCONNECT:
            self._others.pop(conn, None)
            if conn == self._conn:
                self._forget()
            if self._quiet is None:
                self._advertise()
        elif conn != self._conn:
            if event == _WRITE and conn in self._others and not self._gone(conn):
                await self._notify(conn, b'{"code":11,"reason":"busy"}', _MTU_AT_FIRST)
                await self._drop(conn)
        elif event == _MTU:
            self._mtu = value
        elif not self._gone(conn):
            await self._take(self._handles.index(value) + 1, frame)

    def _connected(self, conn):
        if self._quiet is not None:
            self._radio.gap_disconnect(conn)
            return
        now = time.ticks_ms()
        if self._conn is None:
            log(INFO, "ble: central connected")
            self._conn = conn
            self._mtu = _MTU_AT_FIRST
            self._since = self._heard = now
        else:
            self._others[conn] = now
        # The stack has stopped it; others are to be told that we are busy.
        self._advertise()

    def _show(self, text):
        """Let `text` be what the second characteristic shows."""
        self._text = text
        self._radio.gatts_write(self._handles[_HELLO - 1], text)

    def _forget(self):
        """There is no central any more, nor what it has sent."""
        self._conn = None
        nonce = self._intake.nonce if self._intake else b""
        self._intake = None
        gc.collect()
        # An unanswered nonce stays: the next central may read before we hear of it.
        self._intake = Intake(
            self._module, self._secret, self._hello, nonce, self._tell, self._show
        )

    async def _take(self, place, frame):
        said = self._intake
        self._heard = time.ticks_ms()
        await said.take(place, frame)
        if said.wrong:
            said.wrong = 0
            await self._count_wrong()
        elif said.accepted:
            self._manager.touched()
        if said.record is not None:
            await self._apply(said)

    async def _count_wrong(self):
        self._wrong += 1
        log(WARNING, "ble: wrong key")
        if not self._wrong % _PROOFS:
            self._quiet = time.ticks_ms()
            self._radio.gap_advertise(None)  # pyright: ignore[reportArgumentType]
            await self._drop(self._conn)

    async def _apply(self, said):
        from firmware.confmode import candidate

        try:
            candidate.propose(self._module, *said.record)
        except OSError as error:
            said.record = None
            await said.tell(_FAILED, "not stored, errno %d" % error.errno)
            return
        await said.tell(_DONE, "restarting to try it")
        await self._drop(self._conn)
        log(INFO, "ble: configured, restarting")
        # Nobody's to wait for: the restart ends CONFMODE, and cancels our task.
        self._last = asyncio.create_task(self._module.restart())

    async def _watch(self):
        """What happens because time passes."""
        now = time.ticks_ms()
        if self._quiet is not None and time.ticks_diff(now, self._quiet) > self._pause:
            self._quiet = None
            self._pause = min(self._pause * 2, _PAUSE_MAX_MS)
            self._advertise()
        for conn, since in list(self._others.items()):
            if time.ticks_diff(now, since) > _BUSY_MS:
                await self._drop(conn)
        if self._conn is None:
            return
        silent = time.ticks_diff(now, self._heard)
        if self._intake.waiting() and silent > _FRAME_MS:
            self._intake.drop()
            await self._intake.tell(_TIMEOUT, "frames missing")
            return
        late = not self._intake.accepted and time.ticks_diff(now, self._since) > _PROOF_MS
        if late or silent > _SILENT_MS:
            await self._intake.tell(_TIMEOUT, "nothing heard")
            await self._drop(self._conn)

    # The radio.

    def _advertise(self):
        # Flags (found by all, no classic Bluetooth) and the service; the name on demand.
        service = bytes(reversed(unhexlify(_SERVICE.replace("-", ""))))
        named = bytes((len(self._name) + 1, 9)) + self._name
        try:
            self._radio.gap_advertise(
                _ADVERTISE_US, b"\x02\x01\x06\x11\x07" + service, resp_data=named
            )
        except OSError as error:
            # As many centrals as the stack can have: the next one that goes makes room.
            log(WARNING, "ble: not advertising, errno", error.errno)

    async def _tell(self, text):
        if self._conn is not None:
            await self._notify(self._conn, text, self._mtu)

    async def _notify(self, conn, text, mtu=_MTU_AT_FIRST):
        """Send a message on the second characteristic, or give it up."""
        self._message = (self._message + 1) & 0x7F
        for frame in split(text, self._message, mtu - _MTU_HEAD):
            tries = 0
            while self._gone(conn) or not self._send(conn, frame):
                tries += 1
                if tries > _TRIES or self._gone(conn):
                    return
                await asyncio.sleep_ms(_POLL_MS)

    def _gone(self, conn):
        """Whether this connection is over, and another one may have its number by now."""
        return (_DISCONNECT, conn, None, None) in self._queue

    def _send(self, conn, frame):
        """Notify `frame`; False when the stack has no buffer free, or the central is gone."""
        try:
            # The stubs miss a parameter.
            notify = self._radio.gatts_notify
            notify(conn, self._handles[_HELLO - 1], frame)  # pyright: ignore[reportCallIssue]
            return True
        except OSError:
            return False

    async def _drop(self, conn):
        """Disconnect, once what was sent has got out."""
        await asyncio.sleep_ms(_LAST_MS)
        self._others.pop(conn, None)
        try:
            self._radio.gap_disconnect(conn)
        except OSError as error:
            # It has gone by itself.
            log(INFO, "ble: not connected, errno", error.errno)
