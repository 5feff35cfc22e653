"""A file by an MQTT stream: blocks that are asked for, each of them a message.

    $aws/things/<thing>/streams/<stream>/get/cbor       what is wanted
    …/data/cbor, …/rejected/cbor                        a block, or why there is none

Blocks may be lost, come twice, and in any order. So it asks for a few at a time, and for more when
half of them are there; for what is missing when something that was asked for much later has come,
or nothing for a while. A message that is not just what was asked for is none.
"""

import asyncio
import gc
import os
import time
from binascii import hexlify

from micropython import const

from firmware.cloud.session import Refused, SessionError
from firmware.log import DEBUG, WARNING, log
from firmware.ota.download import Broken
from firmware.ota.receiver import BLOCK, Failed
from lib.cbor import CborError, decode, encode

# Blocks that are on their way at most, and how much free heap there is to be for each. A block
# costs the heap nothing, it goes from the receive buffer into flash; but every message waits
# behind those on their way, and what the module does then needs memory. With four of them 8 KB
# at least are on their way while a request travels: more than the 5.7 KB that TCP takes on an
# ESP32.
_WINDOW = const(8)
_HEAP_EACH = const(4096)

# How far behind the first missing block it asks.
_SPAN = const(16)

# How often it is looked whether something has to be asked for again, or the link is gone (ms).
_LOOK = const(250)

# Silence after which it asks again, at first and at most (ms).
_SILENCE = const(2000)
_SILENCE_MOST = const(10000)

# How long nothing new may come: longer than a dead link takes to be noticed (ms).
_PATIENCE = const(105000)

# Messages that are not what was asked for, with nothing new between them.
_WRONG = const(16)

# Rejections that may be others' fault: it asks again after a silence.
_PASSING = ("InternalError", "Throttled", "RequestThrottled", "ThrottlingException")

_CODE = const(40)


class _Stream:
    def __init__(self, job, receiver, window):
        self.receiver = receiver
        self.event = asyncio.Event()
        self.refused = b""
        self.wrong = 0
        # Blocks that were asked for and have not come: index -> number of the request.
        self.asked = {}
        self.request = 0
        # The tick of the last message that was for us, or of the last request.
        self.heard = 0
        # Whose answers are ours.
        self.token = hexlify(os.urandom(4)).decode()
        self._file = job.file_id
        self._count = (receiver.size + BLOCK - 1) // BLOCK
        self._window = window

    # These two run where messages are received.

    def data(self, payload):
        """A block has come."""
        receiver = self.receiver
        try:
            # None: it is too long to be received.
            body = decode(payload or b"")
            if type(body) is not dict or body.get("c") != self.token:
                return
            self.heard = time.ticks_ms()
            index = body.get("i")
            block = body.get("p")
            if type(index) is not int or not 0 <= index < self._count:
                self.wrong += 1
            elif (
                body.get("f") == self._file
                and type(block) is memoryview
                and body.get("l") == len(block) == min(BLOCK, receiver.size - index * BLOCK)
            ):
                if receiver.put(index * BLOCK, block):
                    self.wrong = 0
                self._came(index)
            else:
                self.wrong += 1
                # To be asked for again.
                self.asked.pop(index, 0)
        except CborError:
            self.wrong += 1
        except MemoryError:
            # As if it had not come. To tell of it would need memory too.
            return
        if len(self.asked) * 2 <= self._window or receiver.error:
            self.event.set()

    def _came(self, index):
        """Block `index` has come. What was asked for well before it and has not come is lost; the
        answers of two requests in a row may be mixed."""
        asked = self.asked
        request = asked.pop(index, 0)
        for other in list(asked):
            if asked[other] < request - 1:
                del asked[other]

    def rejected(self, payload):
        """A request was refused."""
        try:
            body = decode(payload or b"")
            if type(body) is dict and body.get("c", self.token) == self.token:
                code = body.get("o")
                if code not in _PASSING:
                    self.refused = _printable(code)
        except CborError:
            self.refused = b"unreadable"
        except MemoryError:
            # The next request will be refused too.
            return
        self.event.set()

    def wanted(self):
        """The next request, CBOR; None when nothing has to be asked for now."""
        asked = self.asked
        if len(asked) * 2 > self._window:
            return None
        receiver = self.receiver
        first = receiver.done // BLOCK
        # The file's beginning is looked at before anything else is fetched.
        room = self._window if receiver.head else 1
        bits = count = 0
        self.request += 1
        for k in range(_SPAN):
            index = first + k
            if len(asked) >= room or index >= self._count:
                break
            if index not in asked and index * BLOCK not in receiver.ahead:
                asked[index] = self.request
                bits |= 1 << k
                count += 1
        if not count:
            return None
        return encode(
            {
                "c": self.token,
                "f": self._file,
                "l": BLOCK,
                "o": first,
                "n": count,
                "b": bits.to_bytes(_SPAN // 8, "little"),
            }
        )


def _printable(code):
    """What a rejection says, fit for a host."""
    if not isinstance(code, str):
        return b"without a code"
    text = bytearray()
    for c in code[:_CODE]:
        if c.isalpha():
            text.extend(c.encode())
    return bytes(text)


async def fetch(module, job, receiver, tick):
    """As `download.fetch`, by the stream `job.stream`. Failed too when the stream has not the file
    that the job describes."""
    session = module.session
    root = b"$aws/things/%s/streams/%s/" % (module.identity.thing, job.stream)
    data = root + b"data/cbor"
    rejected = root + b"rejected/cbor"
    gc.collect()
    window = max(1, min(_WINDOW, gc.mem_free() // _HEAP_EACH))
    stream = _Stream(job, receiver, window)
    connection = session.connections
    session.route(data, stream.data)
    session.route(rejected, stream.rejected)
    bell = asyncio.create_task(_ring(stream.event))
    try:
        await session.subscribe(rejected, 0)
        await session.subscribe(data, 0)
        await _receive(session, root + b"get/cbor", stream, tick)
    except SessionError as error:
        raise Broken(error.args[0] or b"connection lost")
    except Refused:
        raise Failed(b"stream: subscription refused")
    finally:
        bell.cancel()
        # What is still on its way is for nobody, and above all not for the host.
        session.route(data, _ignore)
        session.route(rejected, _ignore)
        try:
            if session.connected() and session.connections == connection:
                await session.unsubscribe(data)
                await session.unsubscribe(rejected)
        except SessionError as error:
            log(DEBUG, "stream: not unsubscribed:", error.args[0])
        finally:
            session.route(data, None)
            session.route(rejected, None)


async def _ring(event):
    while True:
        await asyncio.sleep_ms(_LOOK)
        event.set()


def _ignore(payload):
    pass


async def _receive(session, topic, stream, tick):
    """Ask until the file is complete."""
    receiver = stream.receiver
    connection = session.connections
    silence = _SILENCE
    had = None
    stream.heard = since = time.ticks_ms()
    while True:
        stream.event.clear()
        if receiver.error:
            raise receiver.error
        now = time.ticks_ms()
        has = receiver.done + len(receiver.ahead)
        if has != had:
            had = has
            since = now
            silence = _SILENCE
        tick()
        if receiver.complete:
            return
        if stream.refused:
            raise Failed(b"stream rejected, " + stream.refused)
        if stream.wrong >= _WRONG:
            raise Failed(b"stream sends other blocks than the job says")
        if not session.connected() or session.connections != connection:
            raise Broken(b"connection lost")
        if time.ticks_diff(now, since) >= _PATIENCE:
            raise Failed(b"stream sends nothing")
        if time.ticks_diff(now, stream.heard) >= silence:
            log(WARNING, "stream: nothing came, asked again at", receiver.done)
            silence = min(2 * silence, _SILENCE_MOST)
            stream.asked.clear()
        request = stream.wanted()
        if request:
            stream.heard = now
            await session.post(topic, request, 0)
        await stream.event.wait()
