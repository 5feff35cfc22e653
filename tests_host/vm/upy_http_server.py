"""The HTTP server on the MicroPython VM, with real sockets and hostile clients."""
# vm-file: timeout=60 heap=160

import asyncio
import os
import random
import socket
import time

from lib.http_parser import HttpError
from lib.http_server import Server


class Client:
    """One connection to `port`."""

    def __init__(self, port):
        self.port = port
        self.stream = None

    async def open(self):
        self.stream, _ = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def send(self, data):
        self.stream.write(data)
        await self.stream.drain()

    async def all(self):
        """Everything until the server closes."""
        data = b""
        while True:
            try:
                more = await self.stream.read(2048)
            except OSError:
                more = b""
            if not more:
                await self.stream.wait_closed()
                return data
            data += more

    async def ask(self, data):
        await self.open()
        try:
            await self.send(data)
        except OSError:
            pass
        return await self.all()


def status(data):
    return int(data[9:12]) if data else 0


class Site:
    """A server on a free port, with the coroutine function `answer`; to be closed."""

    def __init__(self, answer, **options):
        self.server = Server(answer, **options)
        while True:
            self.port = random.randrange(20000, 60000)
            try:
                self.server.open("127.0.0.1", self.port)
                break
            except OSError:
                self.server.close()
        self.task = asyncio.create_task(self.server.serve())

    def close(self):
        self.task.cancel()
        self.server.close()

    def ask(self, data):
        return Client(self.port).ask(data)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(request):
    return 200, b"X-Method: " + request.method + b"\r\n", b"hello " + request.path


async def test_one_request_a_connection():
    site = Site(hello)
    assert (await site.ask(GET)).endswith(b"X-Method: GET\r\n\r\nhello /")
    head = await site.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.endswith(b"Content-Length: 7\r\nX-Method: HEAD\r\n\r\n"), head
    # Pipelined: the first is answered, and the answer arrives although the rest is not read.
    for count in (2, 5, 200):
        data = await site.ask(GET * count)
        assert data.count(b"HTTP/1.1") == 1 and data.endswith(b"hello /"), (count, data)
    assert site.server._served == []
    site.close()


async def test_a_request_byte_by_byte():
    site = Site(hello)
    client = await Client(site.port).open()
    for i in range(len(GET)):
        await client.send(GET[i : i + 1])
        await asyncio.sleep_ms(1)
    assert status(await client.all()) == 200
    site.close()


async def test_a_long_body_arrives_whole():
    body = os.urandom(20000)

    async def long(request):
        return 200, b"", body

    site = Site(long)
    assert (await site.ask(GET)).partition(b"\r\n\r\n")[2] == body
    site.close()


async def test_a_client_that_does_not_take_the_reply_is_cut():
    async def long(request):
        return 200, b"", bytes(4000000)

    site = Site(long, timeout_ms=200)
    client = await Client(site.port).open()
    await client.send(GET)
    await asyncio.sleep_ms(600)
    assert site.server._served == []
    site.close()


async def test_slow_clients_are_cut_and_told_why():
    site = Site(hello, timeout_ms=200)
    slow = await Client(site.port).open()
    silent = await Client(site.port).open()
    started = time.ticks_ms()
    for _ in range(6):
        try:
            await slow.send(b"GET /")
        except OSError:
            break
        await asyncio.sleep_ms(50)
    assert status(await slow.all()) == 408
    assert status(await silent.all()) == 408
    assert time.ticks_diff(time.ticks_ms(), started) < 1200
    site.close()


async def test_four_at_a_time_and_the_others_wait():
    site = Site(hello, timeout_ms=300)
    idle = [Client(site.port) for _ in range(4)]
    for client in idle:
        await client.open()
    started = time.ticks_ms()
    assert status(await site.ask(GET)) == 200
    assert 200 <= time.ticks_diff(time.ticks_ms(), started) < 1500
    for client in idle:
        assert status(await client.all()) == 408
    # A crowd.
    replies = await asyncio.gather(*(site.ask(GET) for _ in range(20)))
    assert [status(data) for data in replies] == [200] * 20
    site.close()


async def test_silent_ones_make_room_for_who_asks():
    site = Site(hello)
    idle = [Client(site.port) for _ in range(4)]
    for client in idle:
        await client.open()
        await asyncio.sleep_ms(60)
    # Half a request, which is not silence; the second one of them is the oldest that is silent.
    await idle[0].send(b"GET ")
    await asyncio.sleep_ms(600)
    await idle[0].send(b"/")
    # As long as nobody waits they may be silent.
    assert len(site.server._served) == 4
    started = time.ticks_ms()
    assert status(await site.ask(GET)) == 200
    assert time.ticks_diff(time.ticks_ms(), started) < 200
    assert status(await idle[1].all()) == 408
    await asyncio.sleep_ms(100)
    assert len(site.server._served) == 3
    for client, rest in ((idle[0], b" HTTP/1.1\r\nHost: a\r\n\r\n"), (idle[2], GET)):
        await client.send(rest)
        assert status(await client.all()) == 200
    site.close()


async def test_who_has_only_just_come_or_is_being_answered_is_not_cut():
    async def slow(request):
        await asyncio.sleep_ms(900)
        return 200, b"", b"late"

    site = Site(slow)
    asked = [asyncio.create_task(site.ask(GET)) for _ in range(4)]
    await asyncio.sleep_ms(700)
    assert status(await site.ask(GET)) == 200
    assert [status(data) for data in await asyncio.gather(*asked)] == [200] * 4
    silent = await asyncio.gather(*(Client(site.port).open() for _ in range(4)))
    await asyncio.sleep_ms(100)
    task = asyncio.create_task(site.ask(GET))
    await asyncio.sleep_ms(250)
    assert len(site.server._served) == 4
    assert all(served[4] is not None for served in site.server._served)
    assert status(await task) == 200
    assert sum(served[4] is not None for served in site.server._served) == 3
    del silent
    site.close()


async def test_what_came_while_everything_stood_still_counts():
    site = Site(hello)
    idle = await asyncio.gather(*(Client(site.port).open() for _ in range(4)))
    await asyncio.sleep_ms(100)
    waiting = asyncio.create_task(site.ask(GET))
    await asyncio.sleep_ms(100)
    for client in idle:
        client.stream.write(GET)
    # A scan stops all tasks for seconds.
    time.sleep_ms(900)
    for client in idle:
        assert status(await client.all()) == 200
    assert status(await waiting) == 200
    site.close()


async def test_errors_of_the_answer():
    async def fails(request):
        raise {b"/m": MemoryError, b"/h": HttpError(418)}[request.path]

    site = Site(fails)
    assert status(await site.ask(GET.replace(b"/ ", b"/m "))) == 503
    assert status(await site.ask(GET.replace(b"/ ", b"/h "))) == 418
    site.close()


async def test_the_body_is_forgotten():
    kept = []

    async def keep(request):
        kept.append(request)
        return 200, b"", bytes(request.body)

    site = Site(keep)
    ask = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsecret"
    assert (await site.ask(ask)).endswith(b"secret")
    assert b"secret" not in bytes(kept[0]._buffer)
    site.close()


async def test_close_cuts_what_there_is():
    site = Site(hello)
    client = await Client(site.port).open()
    await client.send(b"GET")
    await asyncio.sleep_ms(50)
    site.close()
    assert await client.all() == b""
    sock = socket.socket()
    try:
        sock.connect(socket.getaddrinfo("127.0.0.1", site.port)[0][-1])
    except OSError as error:
        assert error.errno == 111  # refused
    else:
        raise AssertionError("still listening")
    # Closing again does no harm, and it can be opened again at once.
    site.server.close()
    site.server.open("127.0.0.1", site.port)
    site.server.close()


def _hostile():
    kind = random.randrange(6)
    if kind == 0:
        return os.urandom(random.randrange(1, 1600))
    if kind == 1:
        data = bytearray(GET)
        for _ in range(random.randrange(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        return bytes(data)
    if kind == 2:
        return GET[: random.randrange(1, len(GET))] + b"\n"
    if kind == 3:
        return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % random.randrange(9999)
    if kind == 4:
        return b"GET /" + b"A" * random.randrange(4000) + b" HTTP/1.1\r\n\r\n"
    return b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * random.randrange(400) + b"\r\n"


async def test_hostile_bytes_from_four_at_once():
    failures = []
    asyncio.get_event_loop().set_exception_handler(lambda loop, c: failures.append(c))
    site = Site(hello, timeout_ms=50)
    seed = int(time.time())
    random.seed(seed)

    async def attack():
        for _ in range(30):
            data = _hostile()
            got = status(await site.ask(data))
            if got not in (200, 400, 408, 411, 413, 431, 501, 505):
                failures.append((seed, data, got))

    await asyncio.gather(*(attack() for _ in range(4)))
    assert not failures, failures[0]
    assert status(await site.ask(GET)) == 200
    assert site.server._served == []
    site.close()
