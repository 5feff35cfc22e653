"""CONFMODE's web server, manager and access point on the MicroPython VM, with real sockets."""

import asyncio
import json
import os
import random
import socket
import sys
import time

from lib import http


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
    """A server on a free port that answers with `body`; `async with` cannot be used here."""

    def __init__(self, answer, **options):
        self.server = http.Server(answer, **options)
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


JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(request):
    return 200, b"X-Method: " + request.method + b"\r\n", b"hello " + request.path


# vm-file: timeout=60 heap=160
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
        raise {b"/m": MemoryError, b"/h": http.HttpError(418)}[request.path]

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


# The manager.


class Store:
    full = False


class Module:
    """What the manager and the access point need of the module."""

    def __init__(self):
        self.calls = []
        self.confmode = None
        self.conf_result = b""
        self.events = self.wifi = self.config = self
        self.keeping = None
        self.joining = None

    def put(self, identifier):
        self.calls.append("event %d" % identifier)

    def leave(self):
        self.calls.append("leave")

    def on(self):
        return True

    def review(self):
        self.calls.append("review %d" % bool(self.confmode))

    def get(self, name):
        return b"host:8883"

    def check(self, name, value):
        if name == b"EndPoint":
            return b" " not in value
        return not value or 8 <= len(value) <= 63

    def keep(self, values):
        if self.keeping:
            raise self.keeping
        self.calls.append(values)

    async def join(self, ssid, passphrase, timeout_ms):
        self.calls.append((ssid, passphrase))
        await asyncio.sleep_ms(50)
        if self.joining:
            raise self.joining

    def address(self):
        return b"10.0.0.2"

    def scan(self, kinds):
        self.calls.append("scan")
        kinds.update({b"weak": 3, b"open": 0, b"\xff": 3, b"": 0, b"\0\0": 0, b"firm": 5})
        kinds.update({b"firm%d" % kind: kind for kind in (10, 14, 15, 16)})
        found = dict.fromkeys(kinds, -70)
        found.update({b"weak": -80, b"open": -40, b"\xff": -60, b"": -10, b"\0\0": -20})
        return found


class Transport:
    """begins, ends: what `begin` and `end` raise, one a call."""

    begins = ()
    ends = ()

    def __init__(self, manager, module, name, key):
        self.manager = manager
        self.begins = list(Transport.begins)
        self.ends = list(Transport.ends)

    async def begin(self):
        if self.begins:
            raise self.begins.pop(0)

    async def end(self):
        if self.ends:
            raise self.ends.pop(0)

    def status(self):
        return b"fake"


def _manager(module, begins=(), ends=(), **options):
    from firmware.confmode import manager

    Transport.begins = begins
    Transport.ends = ends
    made = manager.Manager(module, b"softap", b"lab", b"", **options)
    made._make = lambda: Transport(made, module, b"lab", b"")
    return made


async def test_success_makes_an_event_and_drops_the_code():
    module = Module()
    made = _manager(module)
    await made.begin()
    assert module.confmode is made
    assert made.status() == b"fake"
    made.finish(True, b"joined")
    made.finish(False, b"too late")
    await made.end(False, b"later still")
    assert module.calls == ["review 1", "leave", "event 7", "review 0"], module.calls
    assert module.confmode is None
    assert module.conf_result == b"joined"
    assert "firmware.confmode.manager" not in sys.modules


async def test_an_end_without_success_makes_no_event():
    module = Module()
    made = _manager(module)
    await made.begin()
    await made.end(False, b"restart")
    assert module.calls == ["review 1", "leave", "review 0"]
    assert module.conf_result == b"restart"


async def test_a_beginning_that_fails_leaves_nothing():
    for error, why in (
        (MemoryError(), b"no memory"),
        (ImportError(), b"this build has no softap"),
        (OSError(12), b"[Errno 12] ENOMEM"),
        (OSError("Wifi Not Started"), b"Wifi Not Started"),
        (RuntimeError("Wifi Unknown Error 0x3014"), b"Wifi Unknown Error 0x3014"),
        (None, b"because"),
    ):
        # Dropped by the end of each, and so another module each time.
        from firmware.confmode import manager

        module = Module()
        made = _manager(module, [error or manager.ManagerError(b"because")])
        try:
            await made.begin()
        except manager.ManagerError as caught:
            assert caught.args[0] == why, caught
        else:
            raise AssertionError("no error")
        assert module.confmode is None
        assert module.conf_result == why
        assert "leave" in module.calls


async def test_memory_that_is_lacking_at_the_end():
    module = Module()
    made = _manager(module, ends=[MemoryError(), MemoryError()])
    await made.begin()
    await made.end(True, b"done")
    assert module.calls == ["review 1", "leave", "event 7", "review 0"]


async def test_a_radio_that_does_not_obey_at_the_end():
    for error in (OSError("Wifi Not Started"), RuntimeError("Wifi Unknown Error 0x3001")):
        module = Module()
        made = _manager(module, ends=[error])
        await made.begin()
        await made.end(True, b"done")
        assert module.calls == ["review 1", "leave", "event 7", "review 0"]


async def test_nobody_comes():
    module = Module()
    made = _manager(module, idle_s=1)
    await made.begin()
    for _ in range(4):
        await asyncio.sleep_ms(400)
        made.touched()
    assert module.confmode
    await asyncio.sleep_ms(1600)
    assert module.confmode is None
    assert module.conf_result == b"no client for 1 s"


# The access point and the routes.


class Wlan:
    IF_AP = 1
    SEC_OPEN = 0
    SEC_WPA2 = 3
    calls = []

    def __init__(self, interface):
        assert interface == 1

    def config(self, **options):
        Wlan.calls.append(options)

    def active(self, on):
        Wlan.calls.append(on)

    def ifconfig(self):
        return ("127.0.0.1", "255.255.255.0", "127.0.0.1", "0.0.0.0")


class Network:
    WLAN = Wlan


class Lab:
    """An access point with fakes for radio and module; its servers are not started."""

    def __init__(self, key=b"12345678"):
        from firmware.confmode import portal, softap

        Wlan.calls = []
        sys.modules["network"] = Network
        self.module = Module()
        self.outcome = None
        self.touches = 0
        self.faults = []  # what `finish` raises, one a call
        self.ap = softap.SoftAp(self, self.module, b"lab", key)
        self.portal = portal.Portal(self, self.module, self.ap, b"192.168.4.1")
        self.softap = softap

    def touched(self):
        self.touches += 1

    def finish(self, success, why):
        if self.faults:
            raise self.faults.pop(0)
        self.outcome = (success, why)

    async def ask(self, data):
        """(status, header lines, JSON or bytes)"""
        request = http.Parser(keep=(b"origin", b"content-type"))
        request.room()[: len(data)] = data
        assert request.filled(len(data)), data
        status, fields, body = await self.portal.answer(request)
        return status, fields, json.loads(body) if body[:1] == b"{" else body

    def get(self, path, host=b"192.168.4.1"):
        return self.ask(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host))

    def post(self, path, values, more=b"", host=b"192.168.4.1", kind=b"application/json"):
        if isinstance(values, dict):
            values.setdefault("token", self.ap.token.decode())
            values = json.dumps(values).encode()
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
        return self.ask(head % (path, host, kind, more, len(values)) + values)

    async def settled(self):
        while self.ap.state == "trying":
            await asyncio.sleep_ms(10)
        return (await self.get(b"/api/state"))[2]


async def test_the_access_point_is_never_open_by_mistake():
    lab = Lab()
    lab.ap._up()
    assert Wlan.calls == [
        {"ssid": b"lab", "key": b"12345678", "security": 3, "max_clients": 4},
        True,
    ]
    assert lab.ap.status() == b"softap lab wpa2"
    await lab.ap.end()
    assert Wlan.calls[-1] is False
    lab = Lab(b"")
    lab.ap._up()
    assert Wlan.calls[0] == {"ssid": b"lab", "security": 0, "max_clients": 4}
    assert lab.ap.status() == b"softap lab open: anybody near can listen"


async def test_state_at_first():
    lab = Lab()
    status, fields, state = await lab.get(b"/api/state")
    assert status == 200 and b"no-store" in fields
    token = state.pop("token")
    assert len(token) == 32 and int(token, 16)
    assert state == {"name": "lab", "state": "idle", "open": False, "endpoint": "host:8883"}
    assert (await Lab().get(b"/api/state"))[2]["token"] != token


async def test_networks():
    lab = Lab()
    expected = [
        {"ssid": "open", "rssi": -40, "secure": False},
        {"hex": "ff", "rssi": -60, "secure": True},
        {"ssid": "weak", "rssi": -80, "secure": True},
    ]
    assert (await lab.get(b"/api/networks"))[2] == {"networks": expected}
    # A moment later it is the same scan.
    await lab.get(b"/api/networks")
    assert lab.module.calls == ["scan"]
    many = {b"n%02d" % i: 3 for i in range(50)}
    lab.ap._found = None
    # Those with a user name are no use, and take nobody's place.
    many.update({b"n%02d" % i: 5 for i in range(5)})
    lab.module.scan = lambda kinds: kinds.update(many) or {name: -int(name[1:]) for name in many}
    names = [entry["ssid"] for entry in (await lab.get(b"/api/networks"))[2]["networks"]]
    assert names == ["n%02d" % i for i in range(5, 25)]
    lab.ap._found = None

    def fails(kinds):
        raise OSError("Wifi Not Started")

    lab.module.scan = fails
    assert (await lab.get(b"/api/networks"))[0] == 503


async def test_join():
    lab = Lab()
    order = {"ssid": "home", "passphrase": "12345678", "endpoint": "x.example:443"}
    assert await lab.post(b"/api/join", order) == (202, JSON, {"state": "trying"})
    state = (await lab.get(b"/api/state"))[2]
    assert (state["state"], state["ssid"]) == ("trying", "home")
    assert (await lab.get(b"/api/networks"))[0] == 503
    assert (await lab.post(b"/api/join", order))[0] == 409
    state = await lab.settled()
    assert (state["state"], state["ssid"], state["address"]) == ("joined", "home", "10.0.0.2")
    assert 58 <= state["left"] <= 60
    values = {b"SSID": b"home", b"Passphrase": b"12345678", b"EndPoint": b"x.example:443"}
    assert lab.module.calls == [(b"home", b"12345678"), values]
    assert (await lab.post(b"/api/join", order))[0] == 409
    assert lab.outcome is None
    assert (await lab.post(b"/api/done", {}))[0] == 200
    await asyncio.sleep_ms(1300)
    assert lab.outcome == (True, b"joined home")


async def test_names_of_any_bytes_and_open_networks():
    for order, ssid in (
        ({"hex": "ff00fe"}, b"\xff\x00\xfe"),
        ({"ssid": "caf\xe9 \U0001f600"}, "caf\xe9 \U0001f600".encode()),
        ({"ssid": "x" * 32, "passphrase": ""}, b"x" * 32),
        ({"ssid": "0", "passphrase": None, "endpoint": ""}, b"0"),
    ):
        lab = Lab()
        assert (await lab.post(b"/api/join", order))[0] == 202, order
        await lab.settled()
        assert lab.module.calls == [(ssid, b""), {b"SSID": ssid, b"Passphrase": b""}]
    assert (await lab.get(b"/api/state"))[2]["ssid"] == "0"


async def test_orders_that_are_refused():
    lab = Lab()
    token = lab.ap.token
    for body in (
        {},
        {"ssid": ""},
        {"ssid": "x" * 33},
        {"ssid": "\xe9" * 17},
        {"ssid": 5},
        {"ssid": ["a"]},
        {"hex": "f"},
        {"hex": "zz"},
        {"hex": "00" * 33},
        {"ssid": "a", "passphrase": "short"},
        {"ssid": "a", "passphrase": 12345678},
        {"ssid": "a", "passphrase": "x" * 64},
        {"ssid": "a", "endpoint": "a b"},
        {"ssid": "a", "endpoint": {}},
        b'{"token":"%s","ssid":"\\ud83d"}' % token,
        b'{"token":"%s","ssid":"\xff"}' % token,
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{" * 500,
        b"[" * 500,
        b"\xff\xfe{}",
    ):
        status, _, answer = await lab.post(b"/api/join", body)
        assert status == 400 and answer["error"], (body, status, answer)
    for token in ("", "0" * 32, None, 5, lab.ap.token.decode() + "0", "\xe9" * 16):
        status = (await lab.post(b"/api/join", {"ssid": "a", "token": token}))[0]
        assert status in (403, 400), (token, status)
        status = (await lab.post(b"/api/done", {"token": token}))[0]
        assert status in (403, 400), (token, status)
    # MicroPython's decoder lets this through.
    assert (await lab.post(b"/api/join", b'{"token"}'))[0] in (400, 403)
    assert (await lab.post(b"/api/done", {}))[0] == 409
    assert lab.module.calls == []


async def test_the_field_to_blame_is_named():
    lab = Lab()
    token = lab.ap.token
    for body, field, words in (
        ({}, "ssid", "network name"),
        ({"ssid": "x" * 33}, "ssid", "network name"),
        ({"ssid": 5}, "ssid", "not a text"),
        ({"hex": 5}, "ssid", "not a text"),
        ({"hex": "f"}, "ssid", "network name"),
        (b'{"token":"%s","ssid":"\\ud83d"}' % token, "ssid", "network name"),
        (
            {"ssid": "a", "passphrase": "short"},
            "passphrase",
            "The password must have 8 to 63 letters, digits or signs (no accents).",
        ),
        ({"ssid": "a", "passphrase": 12345678}, "passphrase", "not a text"),
        ({"ssid": "a", "endpoint": "a b"}, "endpoint", "cloud endpoint"),
        (b"[]", None, "JSON"),
    ):
        status, _, answer = await lab.post(b"/api/join", body)
        assert status == 400 and words in answer["error"], (body, answer)
        assert answer.get("field") == field, (body, answer)
    assert "field" not in (await lab.post(b"/api/join", {"ssid": "a", "token": ""}))[2]


async def test_whose_host_is_not_quite_ours():
    lab = Lab()
    for host in (
        b"127.0.0.1:80:evil",
        b"localhost:x[]",
        b"localhost:",
        b"192.168.4.1:",
        b"192.168.4.1:8a",
        b"192.168.4.1.evil",
        b"192.168.4.11",
        b"[192.168.4.1]",
        b":80",
    ):
        for path in (b"/", b"/api/state"):
            status, fields, _ = await lab.get(path, host)
            assert status == 302 and b"Location: http://192.168.4.1/\r\n" in fields, host
        assert (await lab.post(b"/api/join", {"ssid": "a"}, host=host))[0] == 403, host
    for host in (b"127.0.0.1", b"localhost:8080", b"192.168.4.1", b"192.168.4.1:80", b"LocalHost"):
        assert (await lab.get(b"/", host))[0] == 200, host


async def test_probes_of_a_phone_do_not_keep_it_alive():
    lab = Lab()
    for path, host in (
        (b"/generate_204", b"connectivitycheck.gstatic.com"),
        (b"/", b"captive.apple.com"),
        (b"/api/state", b"captive.apple.com"),
        (b"/favicon.ico", b"192.168.4.1"),
        (b"/apis", b"192.168.4.1"),
    ):
        assert (await lab.get(path, host))[0] == 302
    assert lab.touches == 0
    await lab.get(b"/")
    await lab.get(b"/api/state")
    await lab.post(b"/api/join", {"ssid": "a"})
    assert lab.touches == 3


async def test_other_sites_get_nothing():
    lab = Lab()
    for more in (
        b"Origin: null\r\n",
        b"Origin: http://evil\r\n",
        b"Origin: https://192.168.4.1\r\n",
    ):
        assert (await lab.post(b"/api/join", {"ssid": "a"}, more))[0] == 403
    for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"", b"multipart/form-data"):
        assert (await lab.post(b"/api/join", {"ssid": "a"}, kind=kind))[0] == 415
    # Its name leads here: the page is not shown under it, and its orders are not taken.
    assert (await lab.post(b"/api/join", {"ssid": "a"}, host=b"evil.example"))[0] == 403
    for path in (b"/", b"/api/state", b"/api/networks"):
        status, fields, _ = await lab.get(path, b"evil.example")
        assert status == 302 and b"Location: http://192.168.4.1/\r\n" in fields
    assert lab.module.calls == []
    good = b"Origin: http://192.168.4.1\r\n"
    kind = b"Application/JSON; charset=utf-8"
    assert (await lab.post(b"/api/join", {"ssid": "a"}, good, kind=kind))[0] == 202


async def test_everything_else_leads_to_the_page():
    lab = Lab()
    for path, host in (
        (b"/generate_204", b"connectivitycheck.gstatic.com"),
        (b"/hotspot-detect.html", b"captive.apple.com"),
        (b"/connecttest.txt", b"www.msftconnecttest.com"),
        (b"/canonical.html", b"detectportal.firefox.com"),
        (b"/favicon.ico", b"192.168.4.1"),
        (b"/api/join", b"192.168.4.1"),
    ):
        status, fields, body = await lab.get(path, host)
        assert (status, body) == (302, b"")
        assert b"Location: http://192.168.4.1/\r\n" in fields
    fields = (await lab.get(b"/x", b"localhost:8080"))[1]
    assert b"Location: http://localhost:8080/\r\n" in fields
    for method in (b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"BREW"):
        assert (await lab.ask(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 405
    assert (await lab.post(b"/", {}))[0] == 405


async def test_the_page():
    lab = Lab()
    status, fields, body = await lab.get(b"/")
    assert status == 200 and body[:2] == b"\x1f\x8b"
    for field in (b"Content-Encoding: gzip", b"no-store", b"Content-Security-Policy: default-src"):
        assert field in fields


async def test_failures_are_shown_and_the_next_try_may_work():
    from firmware.net.wifi import WifiError

    lab = Lab()
    for error, reason in (
        (WifiError(b"Wi-Fi passphrase refused"), "wrong passphrase"),
        (WifiError(b"Wi-Fi access point not found"), "not found"),
        (WifiError(b"Wi-Fi timeout"), "timeout"),
        (WifiError(b"Wi-Fi signal too weak"), "Wi-Fi signal too weak"),
        (OSError("Wifi Internal Error"), "Wifi Internal Error"),
        (MemoryError(), "no memory"),
    ):
        lab.ap._tried.clear()
        lab.module.joining = error
        assert (await lab.post(b"/api/join", {"ssid": "a", "passphrase": "12345678"}))[0] == 202
        state = await lab.settled()
        assert (state["state"], state["reason"], state["ssid"]) == ("failed", reason, "a")
    assert not any(isinstance(call, dict) for call in lab.module.calls)
    lab.ap._tried.clear()
    lab.module.joining = None
    lab.module.keeping = OSError(28)
    assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
    assert (await lab.settled())["reason"] == "not stored, errno 28"
    lab.module.keeping = None
    assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
    assert (await lab.settled())["state"] == "joined"


def _fails_once(error):
    """A `log` that raises `error` when something has been kept, and the calls of it."""
    calls = []

    def log(*words):
        calls.append(words)
        if "confmode: joined, kept" in words:
            raise error

    return log, calls


async def test_what_is_kept_is_a_success_whatever_comes_after():
    for error, faults in (
        (MemoryError(), []),
        (ValueError("a defect"), []),
        (OSError(5), [MemoryError(), MemoryError()]),
    ):
        lab = Lab()
        lab.faults = faults
        lab.softap.log, calls = _fails_once(error)
        assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
        state = await lab.settled()
        assert calls and state["state"] == "joined"
        if isinstance(error, MemoryError):
            # The result can still be read.
            await asyncio.sleep_ms(300)
            assert lab.outcome is None
            await lab.post(b"/api/done", {})
            await asyncio.sleep_ms(1300)
        await asyncio.sleep_ms(300)
        assert lab.outcome == (True, b"joined a"), (error, lab.outcome)


async def test_a_server_that_ends_does_not_make_a_failure_of_what_is_kept():
    async def ends(error):
        raise error

    for error, why in (
        (MemoryError(), b"no memory"),
        (OSError(5), b"[Errno 5] EIO"),
        (OSError(""), b"failed"),
        (ValueError("a defect"), b"internal error, ValueError"),
    ):
        lab = Lab()
        await lab.ap._guard(ends(error))
        assert lab.outcome == (False, why), lab.outcome
        assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
        assert (await lab.settled())["state"] == "joined"
        await lab.ap._guard(ends(error))
        assert lab.outcome == (True, b"joined a")


async def test_five_tries_a_minute():
    from firmware.net.wifi import WifiError

    lab = Lab()
    lab.module.joining = WifiError(b"Wi-Fi timeout")
    for _ in range(5):
        assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
        await lab.settled()
    status, fields, answer = await lab.post(b"/api/join", {"ssid": "a"})
    assert (status, answer) == (429, {"error": "too many tries"})
    assert b"Retry-After: 60\r\n" in fields, fields
    # When the first of them is a minute old there is room for one more.
    lab.ap._tried[0] = time.ticks_add(lab.ap._tried[0], -60000)
    assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 202
    await lab.settled()
    assert (await lab.post(b"/api/join", {"ssid": "a"}))[0] == 429


async def test_no_secret_on_the_console_or_left_in_the_object():
    lab = Lab()
    printed = []
    import firmware.confmode.softap as softap

    softap.log = lambda *words: printed.append(words)
    await lab.post(b"/api/join", {"ssid": "a", "passphrase": "secret-secret"})
    await lab.settled()
    assert "secret" not in str(printed)
    assert "secret" not in str((await lab.get(b"/api/state"))[2])
    assert "secret" not in str(lab.ap.__dict__)


async def test_the_name_server_answers_and_survives():
    from lib import dns

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    port = random.randrange(20000, 60000)
    place = socket.getaddrinfo("127.0.0.1", port)[0][-1]
    sock.bind(place)
    task = asyncio.create_task(dns.serve(sock, b"\1\2\3\4"))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    query = b"\xab\xcd\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
    for junk in (b"", b"x", query[:-1], os.urandom(300), query[:12] + b"\xff" * 20):
        client.sendto(junk, place)
    client.sendto(query, place)
    await asyncio.sleep_ms(100)
    assert client.recv(512).endswith(b"\xc0\x0c\0\1\0\1\0\0\0\x0a\0\4\1\2\3\4")
    try:
        client.recv(512)
    except OSError:
        pass
    else:
        raise AssertionError("more than one answer")
    assert not task.done()
    task.cancel()


class Station:
    """A radio that finds three access points."""

    def __init__(self):
        self.on = False
        self.calls = []

    def active(self, *on):
        if on:
            self.on = on[0]
            self.calls.append(on[0])
        return self.on

    def scan(self):
        return [
            (b"a", b"", 1, -70, 0, False),
            (b"a", b"", 6, -50, 3, False),
            (b"b", b"", 6, -40, 0, False),
        ]


def test_a_scan_says_who_asks_for_a_passphrase_and_leaves_the_radio_as_it_was():
    from firmware.net.wifi import Wifi

    radio = Station()
    wifi = Wifi(lambda: radio)
    kinds = {}
    assert wifi.scan(kinds) == {b"a": -50, b"b": -40}
    # The security of the strongest of each name.
    assert kinds == {b"a": 3, b"b": 0}
    assert radio.calls == [True, False]
    assert wifi.scan() == {b"a": -50, b"b": -40}
    assert wifi.on() is False
    assert wifi.on() is True
    radio.calls.clear()
    wifi.scan()
    assert radio.calls == []
