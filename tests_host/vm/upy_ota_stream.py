"""A download by stream on the VM against a cloud of the test's own: lossy, lying or dead."""
# vm-file: heap=512

import asyncio
import hashlib
import os
import random
import time

from firmware.cloud.session import Refused, SessionError
from firmware.ota import stream
from firmware.ota.download import Broken
from firmware.ota.receiver import BLOCK, Failed, Receiver
from lib.cbor import decode, encode

SIZE = 90_001
DATA = os.urandom(SIZE)
DIGEST = hashlib.sha256(DATA).digest()
ROOT = b"$aws/things/t1/streams/s1/"


class Fast:
    """In place of the module `time`: a second passes in 10 ms."""

    @staticmethod
    def ticks_ms():
        return time.ticks_ms() * 100

    @staticmethod
    def ticks_diff(a, b):
        return a - b


class Memory:
    name = b"memory"
    ordered = False

    def __init__(self, size=SIZE):
        self.size = size
        self.data = bytearray(size)

    def start(self, at):
        self.at = at

    def write(self, offset, data):
        assert offset >= self.at
        self.data[offset : offset + len(data)] = data

    def readinto(self, offset, buffer):
        buffer[:] = memoryview(self.data)[offset : offset + len(buffer)]


class Cloud:
    """Session and stream service in one; `answer(request)` gives the messages of an answer."""

    def __init__(self, answer=None):
        self.identity = self.session = self
        self.thing = b"t1"
        self.connections = 1
        self.up = True
        self.routes = {}
        self.subscribed = []
        self.requests = []
        self.answer = answer or self.all
        self.refusal = None
        self.stray = 0

    def connected(self):
        return self.up

    def route(self, topic, handler):
        if handler:
            self.routes[topic] = handler
        else:
            self.routes.pop(topic)

    async def subscribe(self, topic, qos):
        if self.refusal:
            raise self.refusal
        self.subscribed.append(topic)

    async def unsubscribe(self, topic):
        if not self.up:
            raise SessionError(b"gone")
        if topic in self.subscribed:
            self.subscribed.remove(topic)

    async def post(self, topic, payload, qos):
        assert topic == ROOT + b"get/cbor" and qos == 0
        assert sorted(self.subscribed) == [ROOT + b"data/cbor", ROOT + b"rejected/cbor"]
        if not self.up:
            raise SessionError(b"connection lost")
        request = decode(payload)
        assert sorted(request) == ["b", "c", "f", "l", "n", "o"], request
        assert request["l"] == BLOCK and len(request["c"]) >= 8
        request["b"] = bytes(request["b"])
        self.requests.append(request)
        self.serving = asyncio.create_task(self.serve(request))

    async def serve(self, request):
        for message in self.answer(request):
            await asyncio.sleep_ms(0)
            kind = b"rejected/cbor" if "o" in message else b"data/cbor"
            self.deliver(kind, encode(message))

    def deliver(self, kind, payload):
        handler = self.routes.get(ROOT + kind)
        if handler:
            # What the handler gets is valid during the call only.
            held = bytearray(payload) if payload is not None else None
            handler(None if held is None else memoryview(held))
            for i in range(len(held or b"")):
                held[i] = 0x55
        else:
            self.stray += 1

    def indices(self, request):
        found = []
        for j, byte in enumerate(request["b"]):
            for k in range(8):
                if byte >> k & 1:
                    found.append(request["o"] + 8 * j + k)
        assert 0 < len(found) == request["n"] <= 8, request
        return found

    def block(self, request, index):
        data = DATA[index * BLOCK : (index + 1) * BLOCK]
        return {"c": request["c"], "f": 0, "l": len(data), "i": index, "p": data}

    def all(self, request):
        return [self.block(request, index) for index in self.indices(request)]


class Job:
    stream = b"s1"
    url = None
    file_id = 0
    size = SIZE


def _tick():
    return None


async def fetch(cloud, receiver=None, tick=_tick):
    """The exception that ends it, or None."""
    receiver = receiver or Receiver(SIZE, Memory())
    try:
        await stream.fetch(cloud, Job, receiver, tick)
    except (Broken, Failed, KeyError) as error:
        return error
    finally:
        assert cloud.routes == {}, cloud.routes
        assert not cloud.up or cloud.subscribed == [] or cloud.refusal
    assert receiver.complete and receiver.digest() == DIGEST
    assert receiver._area.data == DATA
    return None


async def test_nothing_is_asked_for_twice():
    cloud = Cloud()
    assert await fetch(cloud) is None
    asked = []
    for request in cloud.requests:
        asked += cloud.indices(request)
    assert sorted(asked) == list(range(22)), asked
    assert cloud.requests[0]["n"] == 1
    assert len({request["c"] for request in cloud.requests}) == 1


def _lies(cloud, request, index, roll):
    """Something that is not the block that was asked for."""
    message = cloud.block(request, index)
    name = roll.choice(list(message) + ["none", "other", "more"])
    if name in message:
        value = message[name]
        wrong = [None, -1, 1 << 40, b"", "x", True, {}, b"\0" * 5000, 255]
        wrong = [item for item in wrong if item != value and item is not None]
        if name == "i":
            # A block under another's number cannot be told from that one: only its length may.
            wrong = [item for item in wrong if type(item) is not int] + [-1, 22, 1 << 40]
        if roll.randrange(3) == 0:
            del message[name]
        else:
            message[name] = roll.choice(wrong)
    elif name == "none":
        return {}
    elif name == "other":
        message["c"] = "0" * len(message["c"])
        message["p"] = bytes(len(message["p"]))
    else:
        message["p"] += b"\0"
    return message


# vm: heap=512 timeout=60
async def test_losses_repeats_lies_and_disorder():
    stream.time = Fast
    for seed in range(40):
        random.seed(seed)

        def answer(request, cloud=None):
            messages = []
            for index in cloud.indices(request):
                chance = random.randrange(20)
                if chance < 2:
                    continue
                if chance < 4:
                    messages.append(_lies(cloud, request, index, random))
                    continue
                message = cloud.block(request, index)
                messages.append(message)
                if chance < 6:
                    messages.append(message)
                if chance < 9:
                    # Another place in the row.
                    other = random.randrange(len(messages))
                    messages[-1], messages[other] = messages[other], messages[-1]
            return messages

        cloud = Cloud()
        cloud.answer = lambda request, cloud=cloud: answer(request, cloud)
        receiver = Receiver(SIZE, Memory())
        receiver._area.ordered = receiver._ordered = bool(seed & 1)
        assert await fetch(cloud, receiver) is None, seed


async def test_silence_ends_it_but_not_soon():
    stream.time = Fast
    cloud = Cloud(lambda request: [])
    began = time.ticks_ms()
    error = await fetch(cloud)
    assert isinstance(error, Failed) and error.args == (b"stream sends nothing",), error
    # More than the 90 s after which a dead link is noticed.
    assert time.ticks_diff(time.ticks_ms(), began) * 100 // 1000 >= 100
    # It looks four times a second, which is 25 s here.
    assert 3 <= len(cloud.requests) <= 14, len(cloud.requests)


async def test_one_block_that_never_comes():
    stream.time = Fast
    cloud = Cloud()
    cloud.answer = lambda request: [m for m in cloud.all(request) if m["i"] != 5]
    receiver = Receiver(SIZE, Memory())
    error = await fetch(cloud, receiver)
    assert error.args == (b"stream sends nothing",), error
    # What lies behind it was not asked for beyond the window.
    assert receiver.done == 5 * BLOCK
    assert 4 <= len(receiver.ahead) <= 15


async def test_the_same_wrong_block_again_and_again():
    cloud = Cloud()
    cloud.answer = lambda request: [dict(m, l=m["l"] - 1) for m in cloud.all(request)]
    error = await fetch(cloud)
    assert error.args == (b"stream sends other blocks than the job says",), error
    assert len(cloud.requests) <= 17


async def test_a_block_that_is_shorter_than_it_says():
    cloud = Cloud()
    cloud.answer = lambda request: [dict(m, p=m["p"][1:]) for m in cloud.all(request)]
    error = await fetch(cloud)
    assert error.args == (b"stream sends other blocks than the job says",), error


async def test_blocks_of_another_file():
    cloud = Cloud()

    def answer(request):
        messages = cloud.all(request)
        return [dict(m, f=1, p=bytes(len(m["p"]))) for m in messages] + messages

    cloud.answer = answer
    assert await fetch(cloud) is None


async def test_a_loss_is_seen_by_what_comes_after_it():
    """Not only by a silence of two seconds, as at the file's end."""
    for ordered in (False, True):
        lost = [3, 9, 13]
        cloud = Cloud()

        def answer(request, cloud=cloud, lost=lost):
            messages = []
            for message in cloud.all(request):
                if message["i"] in lost:
                    lost.remove(message["i"])
                else:
                    messages.append(message)
            return messages

        cloud.answer = answer
        receiver = Receiver(SIZE, Memory())
        receiver._area.ordered = receiver._ordered = ordered
        began = time.ticks_ms()
        assert await fetch(cloud, receiver) is None and not lost
        assert time.ticks_diff(time.ticks_ms(), began) < 1900


async def test_rubbish_in_place_of_messages():
    cloud = Cloud()
    rubbish = (b"", None, b"\xff", os.urandom(100), encode(7), encode({"c": 7}), b"\x9b" * 20)

    def answer(request):
        for payload in rubbish:
            cloud.deliver(b"data/cbor", payload)
        return cloud.all(request)

    cloud.answer = answer
    assert await fetch(cloud) is None


async def test_no_memory_for_a_message_is_a_message_that_was_lost():
    stream.time = Fast
    seen = []

    def starved(payload):
        seen.append(1)
        if len(seen) in (1, 5, 6):
            raise MemoryError()
        return decode(payload)

    stream.decode = starved
    assert await fetch(Cloud()) is None
    stream.decode = decode


async def test_rejections():
    for code, reason in (
        ("ResourceNotFound", b"stream rejected, ResourceNotFound"),
        ("A\r\nB OK 1", b"stream rejected, ABOK"),
        (None, b"stream rejected, without a code"),
        ("x" * 500, b"stream rejected, " + b"x" * 40),
    ):
        cloud = Cloud()
        cloud.answer = lambda request, code=code: [{"c": request["c"], "o": code or 7, "m": "?"}]
        error = await fetch(cloud)
        assert isinstance(error, Failed) and error.args == (reason,), error
        # Another's rejection is none, one without a token is.
        cloud = Cloud()
        cloud.answer = lambda request, cloud=cloud: [{"c": "x", "o": "No"}] + cloud.all(request)
        assert await fetch(cloud) is None
    for payload in (None, b"\xff"):
        cloud = Cloud()
        cloud.answer = lambda request, cloud=cloud, payload=payload: (
            cloud.deliver(b"rejected/cbor", payload) or []
        )
        assert (await fetch(cloud)).args == (b"stream rejected, unreadable",)


async def test_a_passing_rejection():
    stream.time = Fast
    cloud = Cloud()
    first = []

    def answer(request):
        if len(cloud.requests) < 3:
            return [{"c": request["c"], "o": "InternalError"}]
        return cloud.all(request)

    cloud.answer = answer
    assert await fetch(cloud) is None, first


async def test_the_link_goes():
    cloud = Cloud()

    def gone(request):
        cloud.up = False
        return []

    cloud.answer = gone
    error = await fetch(cloud)
    assert isinstance(error, Broken), error
    # It comes back as another connection, before anybody looks.
    cloud = Cloud()

    def another(request):
        cloud.connections += 1
        return []

    cloud.answer = another
    receiver = Receiver(SIZE, Memory())
    cloud.refusal = None
    try:
        await stream.fetch(cloud, Job, receiver, _tick)
    except Broken as broken:
        error = broken
    assert error.args == (b"connection lost",)
    # The subscriptions went with the old one.
    assert len(cloud.subscribed) == 2 and cloud.routes == {}
    cloud.subscribed = []
    cloud.answer = cloud.all
    assert await fetch(cloud, receiver) is None


async def test_subscriptions_that_fail():
    cloud = Cloud()
    cloud.refusal = Refused()
    error = await fetch(cloud)
    assert isinstance(error, Failed) and error.args == (b"stream: subscription refused",)
    cloud.refusal = SessionError(b"")
    error = await fetch(cloud)
    assert isinstance(error, Broken) and error.args == (b"connection lost",)


async def test_tick_is_called_also_in_silence_and_ends_it():
    cloud = Cloud(lambda request: [])
    seen = []

    def tick():
        seen.append(time.ticks_ms())
        if len(seen) > 4:
            raise KeyError("enough")

    error = await fetch(cloud, None, tick)
    assert isinstance(error, KeyError)
    steps = [seen[i + 1] - seen[i] for i in range(4)]
    assert max(steps) < 500, steps


async def test_cancelled():
    cloud = Cloud(lambda request: [])
    task = asyncio.create_task(fetch(cloud))
    await asyncio.sleep_ms(50)
    assert len(cloud.routes) == 2
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    assert cloud.routes == {} and cloud.subscribed == []


async def test_late_blocks_are_nobodys():
    cloud = Cloud()

    async def slow(topic):
        await asyncio.sleep_ms(20)
        cloud.subscribed.remove(topic)

    cloud.unsubscribe = slow
    last = []

    def answer(request):
        last.append(request)
        return cloud.all(request)

    cloud.answer = answer
    task = asyncio.create_task(fetch(cloud))
    receiver_done = False
    while not receiver_done:
        await asyncio.sleep_ms(5)
        receiver_done = bool(last) and len(cloud.subscribed) < 2
        if last:
            cloud.deliver(b"data/cbor", encode(cloud.block(last[-1], 3)))
    await task
    assert cloud.stray == 0
