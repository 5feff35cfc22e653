"""The three traps of MicroPython's asyncio streams: the naive way falls in, lib.mqtt does not.

The naive scripts show that the trap is real on this VM; if one of these tests fails on a newer
VM, the trap is gone there. The other test of each pair runs the same load through lib.mqtt.
"""

import contextlib
import textwrap
import threading
import time

from tests_host.vm.fake_broker import FakeBroker, puback, publish


def naive(script):
    """A script on asyncio's own streams."""
    return f"""
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
{textwrap.indent(textwrap.dedent(script), "    ")}
"""


SIZE = 400_000
COUNT = 8


def count_bytes(received, after):
    """A server that begins to read `after` seconds, so that writers must wait, and counts."""

    def server(peer):
        time.sleep(after)
        peer.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while data := peer.sock.recv(65536):
                received.append(len(data))

    return server


def test_naive_two_writers_lose_bytes_or_hang(dialogue):
    received = []
    script = """
        writer.s.setsockopt(1, 7, 8192)
        async def send():
            for _ in range(4):
                writer.write(b"x" * 400_000)
                await writer.drain()
        tasks = [asyncio.create_task(send()) for _ in range(2)]
        try:
            await asyncio.wait_for_ms(asyncio.gather(*tasks), 1500)
            print("finished")
        except asyncio.TimeoutError:
            print("stuck")
    """
    out = dialogue(naive(script), count_bytes(received, 0.2), heap=4000)
    assert out == "stuck\n" or sum(received) < SIZE * COUNT


def test_two_publishers_lose_nothing(dialogue):
    def server(peer):
        peer.accept()
        time.sleep(0.2)
        got = [peer.packet()[-1:] for _ in range(COUNT)]
        assert sorted(got) == [b"a"] * 4 + [b"b"] * 4
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        small_send_buffer(c)
        async def send(letter):
            for _ in range(4):
                await c.publish(b"t", letter * 400_000)
        await asyncio.gather(send(b"a"), send(b"b"))
        await c.disconnect()
    """
    dialogue(script, server, heap=4000)


def test_naive_cancelled_reader_strands_the_writer(dialogue):
    script = """
        writer.s.setsockopt(1, 7, 8192)
        async def send():
            writer.write(b"x" * 4_000_000)
            await writer.drain()
            print("sent")
        task = asyncio.create_task(send())
        await asyncio.sleep_ms(50)
        try:
            await asyncio.wait_for_ms(reader.readexactly(1), 50)
        except asyncio.TimeoutError:
            pass
        await asyncio.sleep_ms(2000)
        print("stuck" if not task.done() else "done")
    """
    # Whether the writer waits at the very moment of the cancellation is a matter of luck.
    outs = []
    while len(outs) < 6 and "stuck\n" not in outs:
        outs.append(dialogue(naive(script), count_bytes([], 0.8), heap=10_000))
    assert outs[-1] == "stuck\n", outs


def test_cancelled_subscriber_does_not_strand_a_publisher(dialogue):
    def server(peer):
        peer.accept()
        time.sleep(0.3)
        assert peer.packet() == publish(b"t", b"x" * 4_000_000, 1, 1)
        peer.send(puback(1))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        small_send_buffer(c)
        task = asyncio.create_task(c.publish(b"t", b"x" * 4_000_000, qos=1))
        await asyncio.sleep_ms(50)
        for wait in (c.ping(), c.subscribe(b"s"), c.flush()):
            try:
                await asyncio.wait_for_ms(wait, 50)
            except asyncio.TimeoutError:
                print("cancelled")
        await task
        await c.disconnect()
    """
    assert dialogue(script, server, heap=10_000) == "cancelled\n" * 3


def slow_message(peer):
    """Sends a message in two halves, half a second apart."""
    data = publish(b"t", b"123456", 1, 9)
    peer.send(data[:8])
    time.sleep(0.5)
    peer.send(data[8:])


def test_naive_timed_out_read_loses_bytes(dialogue):
    def server(peer):
        peer.send(b"12")
        time.sleep(0.3)
        peer.send(b"3456")
        peer.expect_close()

    script = """
        try:
            await asyncio.wait_for_ms(reader.readexactly(4), 100)
        except asyncio.TimeoutError:
            print("timed out")
        print(await reader.readexactly(4))
    """
    assert dialogue(naive(script), server) == "timed out\nb'3456'\n"


def test_timed_out_wait_loses_no_bytes(dialogue):
    def server(peer):
        peer.accept()
        peer.packet()
        slow_message(peer)
        peer.expect(puback(9))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: print(bytes(msg)))
        await c.connect()
        try:
            await asyncio.wait_for_ms(c.ping(), 100)
        except asyncio.TimeoutError:
            print("timed out")
        await asyncio.sleep_ms(600)
        await c.disconnect()
    """
    assert dialogue(script, server) == "timed out\nb'123456'\n"


def test_server_scripts_are_checked():
    """The fake broker itself: a script that fails is reported."""

    def server(peer):
        peer.expect(b"\x10\x00")

    with FakeBroker(server) as broker:
        import socket

        with socket.create_connection(("127.0.0.1", broker.port)) as sock:
            sock.sendall(b"\x20\x00")
            try:
                broker.check()
            except AssertionError as error:
                assert "wanted 10 00" in str(error)
            else:
                raise AssertionError("the mismatch was not reported")
    assert threading.active_count() < 10
