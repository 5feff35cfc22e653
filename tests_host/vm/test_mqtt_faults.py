"""lib.mqtt when things go wrong: silent, slow and vanishing servers, deadlines, cancellation."""

import contextlib
import re
import socket
import time

import pytest

from tests_host.vm.fake_broker import (
    CONNACK,
    PINGREQ,
    PINGRESP,
    FakeBroker,
    publish,
)


def until_closed(peer):
    peer.expect_close()


def accept_and_wait(peer):
    peer.accept()
    peer.expect_close()


CONNECT_FAILS = """
async def main():
    c = client()
    c.on_close = lambda reason: print("on_close must not be called")
    start = time.ticks_ms()
    error = await failure(c.connect(timeout_ms=300))
    took = time.ticks_diff(time.ticks_ms(), start)
    print(type(error).__name__, error.args, c.failed_stage, took < 800, c.stage == CLOSED)
    print(type(await failure(c.publish(b"t", b"x"))).__name__, c.closed is error)
    await c.disconnect()
    # Only this task is left: nothing of the client waits any more.
    print(len(asyncio.core._io_queue.map), asyncio.core._task_queue.peek())
"""


def test_server_silent_after_tcp(dialogue):
    out = dialogue(CONNECT_FAILS, until_closed)
    assert out.splitlines() == [
        "MQTTException (-3, 'no CONNACK') 4 True True",
        "OSError True",
        "0 None",
    ]


def test_server_closes_instead_of_connack(dialogue):
    def server(peer):
        peer.packet()

    out = dialogue(CONNECT_FAILS, server)
    assert out.startswith("MQTTException (-2, 'closed by the server') 4 True True\n")


def test_half_a_connack(dialogue):
    def server(peer):
        peer.packet()
        peer.send(CONNACK[:3])
        peer.expect_close()

    assert dialogue(CONNECT_FAILS, server).startswith("MQTTException (-3, 'no CONNACK') 4")


def test_connection_refused_by_tcp(mqtt_script):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    out = mqtt_script(CONNECT_FAILS, port)
    assert re.match(r"OSError \(111,.*\) 2 True True\nOSError True\n0 None\n", out)


def test_tcp_connect_without_an_answer(mqtt_script):
    """A listener whose queue is full leaves SYN unanswered: the deadline closes the socket."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
                fillers.append(filler)
            time.sleep(0.05)
            out = mqtt_script(CONNECT_FAILS, full.getsockname()[1])
        finally:
            for filler in fillers:
                filler.close()
    assert out.splitlines()[0] == "MQTTException (-3, 'no CONNACK') 2 True True"
    assert out.splitlines()[2] == "0 None"


def test_unknown_host(mqtt_script):
    script = """
    async def main():
        c = MQTTClient(b"c1", "host.invalid", PORT)
        error = await failure(c.connect())
        print(type(error).__name__, c.failed_stage == RESOLVE, c.stage == CLOSED)
    """
    assert mqtt_script(script, 1) == "OSError True True\n"


def test_second_address_is_tried(mqtt_script):
    """localhost may resolve to ::1 first; the server listens on IPv4 only."""
    script = """
    import os, socket
    good = socket.getaddrinfo("127.0.0.1", PORT)[0]
    bad = socket.getaddrinfo("127.0.0.1", 1)[0]
    import lib.mqtt
    class Sockets:
        SOCK_STREAM = socket.SOCK_STREAM
        getaddrinfo = staticmethod(lambda *_: [bad, good])
    lib.mqtt.socket = Sockets
    def descriptors():
        return len(list(os.ilistdir("/proc/self/fd")))
    async def main():
        before = descriptors()
        c = client()
        print(await c.connect())
        await c.disconnect()
        # The socket that was refused is closed as well.
        print(descriptors() - before)
    """
    with FakeBroker(accept_and_wait) as broker:
        assert mqtt_script(script, broker.port) == "False\n0\n"
        broker.check()


def test_connect_can_be_cancelled_and_repeated(dialogue):
    script = """
    async def main():
        c = client()
        try:
            await asyncio.wait_for_ms(c.connect(), 100)
        except asyncio.TimeoutError:
            print(c.closed, c.stage == CLOSED)
        print(await c.connect())
        await c.disconnect()
    """
    out = dialogue(script, until_closed, accept_and_wait)
    assert out == "(-1, 'connect cancelled') True\nFalse\n"


WAITERS = """
async def main():
    c = client(window=1, keepalive=KEEPALIVE)
    c.on_close = lambda reason: print("on_close", reason)
    await c.connect()
    async def note(name, awaitable):
        print(name, repr(await failure(awaitable)))
    await asyncio.gather(
        note("publish", c.publish(b"t", b"x", qos=1)),
        note("window", c.publish(b"t", b"y", qos=1)),
        note("subscribe", c.subscribe(b"t")),
        note("unsubscribe", c.unsubscribe(b"t")),
        note("ping", c.ping()),
        note("flush", c.flush()),
    )
    print(c.stage == CLOSED, len(asyncio.core._io_queue.map))
"""
NAMES = ["publish", "window", "subscribe", "unsubscribe", "ping", "flush"]


def check_waiters(out, reason):
    lines = out.splitlines()
    assert lines[0] == "on_close " + reason
    assert sorted(lines[1:-1]) == sorted(f"{name} MQTTException{reason}" for name in NAMES)
    assert lines[-1] == "True 0"


def test_every_waiter_gets_the_reason_when_the_server_closes(dialogue):
    def server(peer):
        peer.accept()
        for _ in range(4):
            peer.packet()

    out = dialogue(WAITERS.replace("KEEPALIVE", "0"), server)
    check_waiters(out, "(-2, 'closed by the server')")


def test_silent_server_is_noticed_by_keepalive(dialogue):
    """Keep-alive 2 s: a PINGREQ after 1 s, the end another second later, within 3 s."""
    times = []

    def server(peer):
        peer.accept()
        for _ in range(4):
            peer.packet()
        start = time.monotonic()
        peer.expect(PINGREQ)
        times.append(time.monotonic() - start)
        peer.expect_close()
        times.append(time.monotonic() - start)

    out = dialogue(WAITERS.replace("KEEPALIVE", "2"), server)
    check_waiters(out, "(-4, 'server is silent')")
    assert 0.9 < times[0] < 1.4
    assert 1.9 < times[1] < 2.6


def test_keepalive_pings_only_when_nothing_else_was_sent_and_survives(dialogue):
    def server(peer):
        peer.accept()
        start = time.monotonic()
        for _ in range(6):
            assert peer.packet()[0] == 0x30
            peer.send(publish(b"t", b"x"))
        peer.expect(PINGREQ)
        assert 1.9 < time.monotonic() - start < 2.6
        peer.send(PINGRESP)
        peer.expect(PINGREQ)
        peer.send(publish(b"t", b"anything counts as a sign of life"))
        peer.expect_close()

    script = """
    async def main():
        c = client(keepalive=2)
        await c.connect()
        for i in range(6):
            await c.publish(b"t", b"x")
            await asyncio.sleep_ms(200)
        await asyncio.sleep_ms(2700)
        print(c.stage == UP)
        await c.disconnect()
    """
    assert dialogue(script, server) == "True\n"


def test_publisher_that_hears_nothing_pings_too(dialogue):
    """With QoS 0 alone the server may be silent; a dead one must be noticed all the same."""

    def server(peer):
        peer.accept()
        while peer.packet() != PINGREQ:
            pass
        peer.expect_close()

    script = """
    async def main():
        c = client(keepalive=2)
        await c.connect()
        start = time.ticks_ms()
        while c.closed is None:
            await c.publish(b"t", b"x")
            await asyncio.sleep_ms(50)
        print(c.closed, 1900 < time.ticks_diff(time.ticks_ms(), start) < 3000)
    """
    assert dialogue(script, server) == "(-4, 'server is silent') True\n"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ('c.publish(b"t", b"x", qos=1, timeout_ms=200)', "no PUBACK"),
        ('c.subscribe(b"t", timeout_ms=200)', "no SUBACK"),
        ('c.unsubscribe(b"t", timeout_ms=200)', "no UNSUBACK"),
        ("c.ping(200)", "no PINGRESP"),
    ],
)
def test_deadline_closes_the_connection(dialogue, call, text):
    script = f"""
    async def main():
        c = client()
        c.on_close = lambda reason: print("on_close", reason)
        await c.connect()
        start = time.ticks_ms()
        error = await failure({call})
        print(error.code == TIMEOUT, error, time.ticks_diff(time.ticks_ms(), start) < 500)
        print(c.failed_stage == UP, type(await failure(c.ping())).__name__)
    """
    assert dialogue(script, accept_and_wait).splitlines() == [
        f"on_close (-3, '{text}')",
        f"True (-3, '{text}') True",
        "True OSError",
    ]


def test_server_that_does_not_read_meets_the_deadline(dialogue):
    """No deadlock: messages still arrive while our write is stuck, other tasks run."""

    def server(peer):
        peer.accept()
        time.sleep(0.3)
        for i in range(20):
            peer.send(publish(b"t", b"m" * 50, 1, i + 1))
        time.sleep(0.7)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        got = []
        c.set_callback(lambda topic, msg: got.append(topic))
        await c.connect()
        big = bytes(200_000)
        sent = 0
        worst = 0
        async def ticker():
            nonlocal worst
            while True:
                t = time.ticks_ms()
                await asyncio.sleep_ms(10)
                worst = max(worst, time.ticks_diff(time.ticks_ms(), t))
        asyncio.create_task(ticker())
        try:
            while True:
                await c.publish(b"t", big, timeout_ms=800)
                sent += 1
        except MQTTException as error:
            print(error, len(got), sent > 0, worst < 60)
    """
    out = dialogue(script, server, heap=512)
    assert out == "(-3, 'socket takes no data') 20 True True\n"


def test_server_that_floods_but_does_not_read_is_closed_not_a_memory_error(dialogue):
    def server(peer):
        peer.accept()
        time.sleep(0.3)
        peer.sock.settimeout(3)
        with contextlib.suppress(ConnectionError):
            for i in range(65535):
                peer.send(publish(b"t", b"m" * 50, 1, i + 1))

    script = """
    async def main():
        c = client()
        await c.connect()
        big = bytes(400_000)
        try:
            while True:
                await c.publish(b"t", big, timeout_ms=5000)
        except MQTTException as error:
            print(error)
    """
    out = dialogue(script, server, heap=512)
    assert out == "(-2, 'server takes no acknowledgements')\n"


def test_write_continues_where_the_socket_stopped(dialogue):
    """A slow reader gets every byte once, in order, with control packets between the publishes."""
    big = bytes(range(256)) * 1200

    def server(peer):
        peer.accept()
        time.sleep(0.2)
        peer.send(publish(b"q", b"1", 1, 7))
        got = []
        while len(got) < 8:
            data = peer.packet()
            got.append(data)
            time.sleep(0.01)
        assert got.count(publish(b"a", big)) == 3
        assert got.count(publish(b"b", big)) == 3
        assert got.count(bytes.fromhex("40020007")) == 1
        assert got.count(PINGREQ) == 1
        peer.send(PINGRESP)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: None)
        await c.connect()
        big = bytes(range(256)) * 1200
        async def many(topic):
            for _ in range(3):
                await c.publish(topic, big)
        await asyncio.gather(many(b"a"), many(b"b"), c.ping())
        await c.disconnect()
    """
    dialogue(script, server, heap=1024)


def test_cancelled_publisher_leaves_a_whole_packet(dialogue):
    """A user's task that is cancelled in mid-write does not cut the packet short."""
    big = b"z" * 3_000_000

    def server(peer):
        peer.accept()
        time.sleep(0.4)
        peer.expect(publish(b"t", big), publish(b"t", b"next"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        small_send_buffer(c)
        try:
            await asyncio.wait_for_ms(c.publish(b"t", b"z" * 3_000_000), 100)
        except asyncio.TimeoutError:
            print("cancelled")
        await c.publish(b"t", b"next")
        await c.disconnect()
    """
    assert dialogue(script, server, heap=3000) == "cancelled\n"


def test_cancelled_waiter_does_not_disturb_the_others(dialogue):
    def server(peer):
        peer.accept()
        # The wrapped subscribe begins last, as a task of its own.
        peer.expect(
            bytes.fromhex("82 06 0001 0001 62 01"),
            publish(b"t", b"", 1, 2),
            bytes.fromhex("82 06 0003 0001 61 00"),
        )
        time.sleep(0.3)
        peer.send(bytes.fromhex("9003000300 9003000101 40020002"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        async def short():
            try:
                await asyncio.wait_for_ms(c.subscribe(b"a"), 100)
            except asyncio.TimeoutError:
                return "cancelled"
        print(*await asyncio.gather(short(), c.subscribe(b"b", 1), c.publish(b"t", b"", qos=1)))
        print(c._replies)
        await c.disconnect()
    """
    assert dialogue(script, server) == "cancelled 1 None\n{}\n"


def test_exception_in_the_callback_is_the_reason(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(PINGREQ)
        peer.send(publish(b"t", b"x"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        def bad(topic, msg):
            raise KeyError("mistake")
        c.set_callback(bad)
        await c.connect()
        print(repr(await failure(c.ping())), repr(c.closed))
    """
    assert dialogue(script, server) == "KeyError('mistake',) KeyError('mistake',)\n"


def test_disconnect_while_a_write_is_stuck_ends_in_time(dialogue):
    def server(peer):
        peer.accept()
        time.sleep(0.8)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.on_close = lambda reason: print(reason)
        await c.connect()
        small_send_buffer(c)
        task = asyncio.create_task(failure(c.publish(b"t", bytes(3_000_000))))
        await asyncio.sleep_ms(50)
        start = time.ticks_ms()
        await c.disconnect(timeout_ms=300)
        print(time.ticks_diff(time.ticks_ms(), start) < 600)
        print(repr(await task), len(asyncio.core._io_queue.map))
    """
    assert dialogue(script, server, heap=3000).splitlines() == [
        "(-3, 'socket takes no data')",
        "True",
        "MQTTException(-3, 'socket takes no data') 0",
    ]


def test_tight_publish_loop_does_not_starve_other_tasks(dialogue):
    def server(peer):
        peer.accept()
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        worst = 0
        async def other():
            nonlocal worst
            while True:
                before = time.ticks_ms()
                await asyncio.sleep_ms(0)
                worst = max(worst, time.ticks_diff(time.ticks_ms(), before))
        asyncio.create_task(other())
        await asyncio.sleep_ms(1)
        # A socket that takes everything, so that no publish has to wait for it.
        class Sink:
            def write(self, data):
                return len(data)
        sock = c._link.sock
        c._link.sock = Sink()
        start = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), start) < 300:
            await c.publish(b"t", b"x")
        c._link.sock = sock
        await asyncio.sleep_ms(1)
        print(worst < 50)
        await c.disconnect()
    """
    assert dialogue(script, server) == "True\n"


def test_close_is_immediate(dialogue):
    def server(peer):
        peer.accept()
        peer.packet()
        assert peer.sock.recv(100) == b""

    script = """
    async def main():
        c = client(on_close=lambda reason: print("on_close", reason))
        await c.connect()
        task = asyncio.create_task(failure(c.ping()))
        await asyncio.sleep_ms(20)
        c.close("link lost")
        print(c.stage == CLOSED)
        print(await task)
        c.close("again")
        await c.disconnect()
        print(c.closed, len(asyncio.core._io_queue.map))
    """
    assert dialogue(script, server).splitlines() == [
        "on_close (-1, 'link lost')",
        "True",
        "(-1, 'link lost')",
        "(-1, 'link lost') 0",
    ]


def test_disconnect_does_not_close_a_connection_made_meanwhile(dialogue):
    """The link ends while disconnect() waits, and on_close connects anew."""

    def drop(peer):
        peer.accept()
        time.sleep(0.2)
        peer.sock.shutdown(socket.SHUT_RDWR)

    script = """
    async def main():
        c = client()
        c.on_close = lambda reason: tasks.append(asyncio.create_task(c.connect()))
        tasks = []
        await c.connect()
        small_send_buffer(c)
        stuck = asyncio.create_task(failure(c.publish(b"t", bytes(3_000_000))))
        await asyncio.sleep_ms(50)
        await c.disconnect()
        print(await tasks[0], c.stage == UP)
        c.on_close = None
        await stuck
        await c.disconnect()
    """
    assert dialogue(script, drop, accept_and_wait, heap=3000) == "False True\n"


def test_tls_server_silent_in_the_handshake(dialogue):
    script = """
    import tls
    async def main():
        c = client(ssl=tls.SSLContext(tls.PROTOCOL_TLS_CLIENT), server_hostname="localhost")
        print(c.port == PORT, MQTTClient(b"c", "h", ssl=c.ssl).port, MQTTClient(b"c", "h").port)
        error = await failure(c.connect(timeout_ms=300))
        print(error, c.failed_stage == TLS, len(asyncio.core._io_queue.map))
    """
    out = dialogue(script, until_closed)
    assert out == "True 8883 1883\n(-3, 'no CONNACK') True 0\n"


def test_disconnect_during_connect(dialogue):
    script = """
    async def main():
        c = client()
        task = asyncio.create_task(failure(c.connect()))
        await asyncio.sleep_ms(100)
        await c.disconnect()
        print(await task, c.failed_stage == CONNACK)
    """
    assert dialogue(script, until_closed) == "(-1, 'disconnected') True\n"
