"""lib.mqtt over time: the window, packet ids, persistent sessions and redelivery, reconnects."""

import socket
import time

from tests_host.vm.fake_broker import (
    CONNACK_PRESENT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    puback,
    publish,
)


def test_window_bounds_what_is_unacknowledged(dialogue):
    def server(peer):
        peer.accept()
        for pid in (1, 2, 3):
            peer.expect(publish(b"t", b"m", 1, pid))
        peer.sock.settimeout(0.3)
        try:
            raise AssertionError(f"fourth publish in a window of 3: {peer.packet()}")
        except TimeoutError:
            peer.sock.settimeout(10)
        # Acknowledgements may come in any order.
        peer.send(puback(2))
        peer.expect(publish(b"t", b"m", 1, 4))
        peer.send(puback(3), puback(1))
        peer.expect(publish(b"t", b"m", 1, 5))
        peer.send(puback(4), puback(5))
        peer.expect(DISCONNECT)

    script = """
    async def main():
        c = client(window=3)
        await c.connect()
        for _ in range(5):
            await c.publish(b"t", b"m", qos=1, wait=False)
        await c.flush()
        await c.disconnect()
    """
    dialogue(script, server)


def test_full_window_meets_the_deadline(dialogue):
    def server(peer):
        peer.accept()
        peer.expect_close()

    script = """
    async def main():
        c = client(window=2)
        await c.connect()
        await c.publish(b"t", b"m", qos=1, wait=False)
        await c.publish(b"t", b"m", qos=1, wait=False)
        print(await failure(c.publish(b"t", b"m", qos=1, wait=False, timeout_ms=200)))
    """
    assert dialogue(script, server) == "(-3, 'no PUBACK')\n"


def test_packet_ids_wrap_and_skip_those_in_flight(dialogue):
    def server(peer):
        peer.accept()
        held = int.from_bytes(peer.packet()[5:7], "big")
        asked = int.from_bytes(peer.packet()[2:4], "big")
        assert (held, asked) == (65534, 65535)
        seen = []
        for _ in range(2):
            pid = int.from_bytes(peer.packet()[5:7], "big")
            seen.append(pid)
            peer.send(puback(pid))
        assert seen == [1, 2]
        # Once more around: the two ids that are still in use are left out.
        for wanted in (65533, 1):
            pid = int.from_bytes(peer.packet()[5:7], "big")
            assert pid == wanted
            peer.send(puback(pid))
        peer.send(puback(65534), bytes.fromhex("9003ffff01"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        c._pid = 65533
        await c.publish(b"t", b"", qos=1, wait=False)
        task = asyncio.create_task(c.subscribe(b"s", 1))
        await asyncio.sleep_ms(0)
        await c.publish(b"t", b"", qos=1)
        await c.publish(b"t", b"", qos=1)
        c._pid = 65532
        await c.publish(b"t", b"", qos=1)
        await c.publish(b"t", b"", qos=1)
        print(await task)
        await c.flush()
        await c.disconnect()
    """
    assert dialogue(script, server) == "1\n"


REDELIVERY = """
async def main():
    c = client(keep_size=1000)
    await c.connect(clean_session=False)
    c._pid = 65533
    await c.publish(b"t", b"one", qos=1, wait=False)
    await c.publish(b"t", b"two", qos=1)
    await c.publish(b"t", b"zero", wait=False)
    await c.publish(b"t", b"three", retain=True, qos=1, wait=False)
    message = bytearray(b"four")
    print(await failure(c.publish(b"t", message, qos=1)))
    # The message was copied: what the caller does with its buffer now does not matter.
    message[:] = b"----"
    print(await c.connect(clean_session=CLEAN))
    await c.flush()
    await c.publish(b"t", b"five", qos=1)
    await c.disconnect()
"""


def drop_after_four(peer):
    connect = peer.accept()
    assert connect[9] == 0
    peer.expect(publish(b"t", b"one", 1, 65534), publish(b"t", b"two", 1, 65535))
    peer.send(puback(65535))
    peer.expect(
        publish(b"t", b"zero"),
        publish(b"t", b"three", 1, 1, flags=1),
        publish(b"t", b"four", 1, 2),
    )


def test_unacknowledged_publishes_are_sent_again_with_dup(dialogue):
    def server(peer):
        peer.accept(CONNACK_PRESENT)
        peer.expect(
            publish(b"t", b"one", 1, 65534, flags=8),
            publish(b"t", b"three", 1, 1, flags=9),
            publish(b"t", b"four", 1, 2, flags=8),
        )
        peer.send(puback(2), puback(1), puback(65534))
        peer.expect(publish(b"t", b"five", 1, 3))
        peer.send(puback(3))
        peer.expect_close()

    out = dialogue(REDELIVERY.replace("CLEAN", "False"), drop_after_four, server)
    assert out == "(-2, 'closed by the server')\nTrue\n"


def test_without_a_session_at_the_server_they_are_sent_as_new(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(
            publish(b"t", b"one", 1, 65534),
            publish(b"t", b"three", 1, 1, flags=1),
            publish(b"t", b"four", 1, 2),
        )
        peer.send(puback(2), puback(1), puback(65534))
        peer.expect(publish(b"t", b"five", 1, 3))
        peer.send(puback(3))
        peer.expect_close()

    out = dialogue(REDELIVERY.replace("CLEAN", "False"), drop_after_four, server)
    assert out == "(-2, 'closed by the server')\nFalse\n"


def test_redelivery_lasts_over_several_connections(dialogue):
    def again(peer):
        peer.accept(CONNACK_PRESENT)
        peer.expect(publish(b"t", b"one", 1, 65534, flags=8))
        # Read whole, so that closing is not a reset.
        peer.packet(), peer.packet()

    def server(peer):
        peer.accept(CONNACK_PRESENT)
        peer.expect(publish(b"t", b"one", 1, 65534, flags=8))
        peer.packet(), peer.packet()
        peer.send(puback(2), puback(1), puback(65534))
        peer.packet()
        peer.send(puback(3))
        peer.expect_close()

    script = REDELIVERY.replace(
        "print(await c.connect(clean_session=CLEAN))",
        "print(await c.connect(False)); print(await failure(c.ping())); await c.connect(False)",
    )
    dialogue(script, drop_after_four, again, server)


def test_clean_session_forgets_them(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(publish(b"t", b"five", 1, 3))
        peer.send(puback(3))
        peer.expect_close()

    out = dialogue(REDELIVERY.replace("CLEAN", "True"), drop_after_four, server)
    assert out == "(-2, 'closed by the server')\nFalse\n"


def test_clean_session_keeps_no_copies(dialogue):
    """After a clean session there is nothing to redeliver, even if the next one is persistent."""

    def drop(peer):
        peer.accept()
        peer.packet()

    def server(peer):
        peer.accept(CONNACK_PRESENT)
        peer.expect(DISCONNECT)

    script = """
    async def main():
        c = client()
        await c.connect()
        print(await failure(c.publish(b"t", b"one", qos=1)), len(c._unacked))
        await c.connect(clean_session=False)
        await c.flush()
        await c.disconnect()
    """
    assert dialogue(script, drop, server) == "(-2, 'closed by the server') 1\n"


def test_store_of_a_persistent_session_is_bounded(dialogue):
    def server(peer):
        peer.accept()
        peer.packet(), peer.packet()
        time.sleep(0.3)
        peer.send(puback(1))
        peer.packet()
        peer.send(puback(2), puback(3))
        peer.expect_close()

    script = """
    async def main():
        c = client(keep_size=1000)
        await c.connect(clean_session=False)
        print(type(await failure(c.publish(b"t", bytes(991), qos=1))).__name__)
        await c.publish(b"t", bytes(450), qos=1, wait=False)
        await c.publish(b"t", bytes(450), qos=1, wait=False)
        start = time.ticks_ms()
        await c.publish(b"t", bytes(450), qos=1, wait=False)
        print(time.ticks_diff(time.ticks_ms(), start) > 200)
        await c.flush()
        await c.disconnect()
    """
    assert dialogue(script, server) == "ValueError\nTrue\n"


def test_waiter_of_an_old_connection_is_not_served_by_the_next(dialogue):
    """Its packet id may be acknowledged on the new connection for another message."""

    def drop(peer):
        peer.accept()
        peer.packet()

    def server(peer):
        peer.accept()
        pid = int.from_bytes(peer.packet()[5:7], "big")
        assert pid == 2
        peer.send(puback(1), puback(2))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        async def again(reason):
            await c.connect()
            await c.publish(b"t", b"new", qos=1)
            print("new acknowledged")
        tasks = []
        c.on_close = lambda reason: tasks or tasks.append(asyncio.create_task(again(reason)))
        await c.connect()
        print(await failure(c.publish(b"t", b"old", qos=1)))
        await tasks[0]
        await c.disconnect()
    """
    out = dialogue(script, drop, server)
    assert out == "(-2, 'closed by the server')\nnew acknowledged\n"


def test_memory_is_flat_over_200_reconnects(dialogue):
    """Connections that end in every way leave nothing behind, within 1 KB of noise."""

    def server(i):
        def script(peer):
            peer.accept()
            pid = int.from_bytes(peer.packet()[5:7], "big")
            peer.send(publish(b"t", b"x" * 100, 1, 1), puback(pid))
            if i % 4 == 0:
                peer.send(b"\xff\xff")
            if i % 4 in (1, 2):
                peer.expect_close()

        return script

    script = """
    async def main():
        c = client(keepalive=60)
        ended = 0
        def closed(reason):
            nonlocal ended
            ended += 1
        c.on_close = closed
        c.set_callback(lambda topic, msg: None)
        marks = []
        for i in range(220):
            await c.connect()
            await c.publish(b"t", b"y" * 100, qos=1)
            if i % 4 == 1:
                await c.disconnect()
            elif i % 4 == 2:
                try:
                    await c.subscribe(b"t", timeout_ms=1)
                except MQTTException:
                    pass
            else:
                while c.stage == UP:
                    await asyncio.sleep_ms(1)
            if i in (20, 219):
                await asyncio.sleep_ms(1)
                gc.collect()
                marks.append(gc.mem_alloc())
        print(ended, len(asyncio.core._io_queue.map), marks[1] - marks[0])
    """
    out = dialogue(script, *[server(i) for i in range(220)], timeout=60)
    ended, waiting, growth = map(int, out.split())
    assert (ended, waiting) == (220, 0)
    assert growth < 1024


def test_memory_is_flat_over_many_operations(dialogue):
    def server(peer):
        peer.accept()
        while (data := peer.packet()) != DISCONNECT:
            if data[0] == 0x32:
                peer.send(puback(int.from_bytes(data[5:7], "big")), publish(b"t", b"m", 1, 1))
            elif data[0] == 0x82:
                peer.send(b"\x90\x03" + data[2:4] + b"\x01")

    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: None)
        await c.connect()
        marks = []
        for i in range(500):
            await c.publish(b"t", b"y" * 100, qos=1)
            await c.subscribe(b"t", 1)
            if i in (50, 499):
                gc.collect()
                marks.append(gc.mem_alloc())
        print(marks[1] - marks[0])
        await c.disconnect()
    """
    assert int(dialogue(script, server)) < 512


def test_flush_does_not_wait_for_nagle_at_the_server(dialogue):
    """A server without TCP_NODELAY keeps its second PUBACK until TCP has acknowledged the first;
    the PINGREQ that follows it in flush() does so at once. Without it this takes 40 ms a flush."""

    def server(peer):
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        peer.accept()
        while (data := peer.packet()) != DISCONNECT:
            peer.send(PINGRESP if data == PINGREQ else puback(data[5] << 8 | data[6]))

    script = """
    async def main():
        c = client()
        await c.connect()
        start = time.ticks_ms()
        for i in range(20):
            for j in range(4):
                await c.publish(b"t", b"x", qos=1, wait=False)
            await c.flush()
        print(time.ticks_diff(time.ticks_ms(), start) < 400)
        await c.disconnect()
    """
    assert dialogue(script, server) == "True\n"


def test_flush_waits_only_for_what_was_published_before(dialogue):
    def server(peer):
        peer.accept()
        peer.packet()
        peer.packet()
        peer.send(puback(1))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        await c.publish(b"t", b"x", qos=1, wait=False)
        flush = asyncio.create_task(c.flush(2000))
        await asyncio.sleep_ms(0)
        await c.publish(b"t", b"y", qos=1, wait=False)
        await flush
        print(len(c._unacked))
        await c.disconnect()
    """
    assert dialogue(script, server) == "1\n"


def test_bytes_out_counts_every_packet_of_every_connection(dialogue):
    received = []

    def server(peer):
        received.append(peer.accept())
        while not received[-1].startswith(DISCONNECT):
            data = peer.packet()
            received.append(data)
            if data[0] == 0x32:
                at = data.index(b"\x00\x01t") + 3
                peer.send(
                    puback(int.from_bytes(data[at : at + 2], "big")), publish(b"t", b"", 1, 9)
                )
            elif data == PINGREQ:
                peer.send(PINGRESP)

    script = """
    async def main():
        c = client()
        print(c.bytes_out)
        for _ in range(2):
            await c.connect()
            await c.publish(b"t", b"x" * 5000, qos=1)
            await c.publish(b"t", b"y")
            await c.ping()
            await c.disconnect()
        print(c.bytes_out)
    """
    before, after = map(int, dialogue(script, server, server).split())
    assert before == 0
    assert after == sum(len(data) for data in received)
    # Among them the acknowledgements of what was received.
    assert sum(data[0] == 0x40 for data in received) == 2


def test_the_lean_client_alone(dialogue):
    def server(peer):
        hello = peer.accept()
        assert hello == bytes.fromhex("100e00044d5154540402003c00026331")
        peer.expect(publish(b"t", b"m", 1, 1))
        peer.send(puback(1), publish(b"s", b"in"))
        peer.expect(DISCONNECT)

    script = """
    async def main():
        from lib.mqtt_client import Client
        c = Client(b"c1", 60, bytearray(64), bytearray(32))
        c.server, c.port = "127.0.0.1", PORT
        c.set_callback(lambda topic, msg: print(topic, bytes(msg)))
        await c.connect(5000)
        await c.publish(b"t", b"m", qos=1)
        await asyncio.sleep_ms(50)
        await c.disconnect()
    """
    assert dialogue(script, server) == "b's' b'in'\n"
