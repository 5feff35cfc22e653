"""lib.mqtt on the wire: the bytes it sends, and what it does with the bytes it receives."""

import time

import pytest

from tests_host.vm.fake_broker import (
    CONNACK,
    CONNACK_PRESENT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    packet,
    puback,
    publish,
)

UP_AND_CLOSE = """
async def main():
    c = client()
    print(await c.connect())
    await c.disconnect()
"""


def test_connect_and_disconnect_bytes(dialogue):
    def server(peer):
        assert peer.accept() == bytes.fromhex("10 0e 0004 4d515454 04 02 0000 0002 6331")
        peer.expect(DISCONNECT)
        peer.expect_close()

    assert dialogue(UP_AND_CLOSE, server) == "False\n"


def test_session_present_is_returned(dialogue):
    def server(peer):
        peer.accept(CONNACK_PRESENT)
        peer.expect_close()

    assert dialogue(UP_AND_CLOSE, server) == "True\n"


def test_connect_with_user_password_will_and_keepalive(dialogue):
    def server(peer):
        assert peer.accept() == packet(
            0x10,
            b"\x00\x04MQTT\x04\xec\x01\x2c\x00\x02c1\x00\x06will/t\x00\x04gone\x00\x01u\x00\x02pw",
        )
        peer.expect_close()

    script = """
    async def main():
        c = client(user="u", password=b"pw", keepalive=300)
        c.set_last_will(b"will/t", b"gone", retain=True, qos=1)
        await c.connect(clean_session=False)
        await c.disconnect()
    """
    dialogue(script, server)


def test_publish_qos0_bytes_short_and_long(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(
            bytes.fromhex("30 05 0001 74 6869"),
            bytes.fromhex("31 03 0001 74"),
            publish(b"t", b"x" * 200),
            publish(b"t", bytes(range(256)) * 20),
        )
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        await c.publish(b"t", b"hi")
        await c.publish(b"t", b"", retain=True)
        await c.publish(b"t", b"x" * 200)
        await c.publish(b"t", memoryview(bytes(range(256)) * 20))
        await c.disconnect()
    """
    dialogue(script, server)


def test_each_packet_arrives_in_one_segment_up_to_tx_size(dialogue):
    """One write per packet: with Nagle's algorithm two writes would cost 40 ms."""

    def server(peer):
        peer.accept()
        for _ in range(20):
            data = peer.sock.recv(4096)
            assert data == publish(b"topic", b"y" * 900, 1, data[10] << 8 | data[11])
            peer.send(puback(data[10] << 8 | data[11]))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        for i in range(20):
            await c.publish(b"topic", b"y" * 900, qos=1)
        await c.disconnect()
    """
    dialogue(script, server)


def test_packet_in_two_writes_does_not_wait_for_an_acknowledgement(dialogue):
    """TCP_NODELAY: with Nagle's algorithm most of these would take 40 ms each."""

    def server(peer):
        peer.accept()
        for _ in range(60):
            pid = int.from_bytes(peer.packet()[6:8], "big")
            peer.send(puback(pid))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        start = time.ticks_ms()
        for i in range(60):
            await c.publish(b"t", bytes(1500), qos=1)
        print(time.ticks_diff(time.ticks_ms(), start) < 600)
        await c.disconnect()
    """
    assert dialogue(script, server) == "True\n"


def test_publish_qos1_waits_for_its_puback(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(publish(b"a/b", b"1", 1, 1))
        peer.send(publish(b"order", b"before the ack"))
        peer.send(puback(77), puback(1))
        peer.expect(publish(b"a/b", b"2", 1, 2, flags=1))
        peer.send(puback(2))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: print(topic, bytes(msg)))
        await c.connect()
        await c.publish(b"a/b", b"1", qos=1)
        print("acknowledged")
        await c.publish(b"a/b", b"2", retain=True, qos=1)
        await c.disconnect()
    """
    assert dialogue(script, server) == "b'order' b'before the ack'\nacknowledged\n"


def test_subscribe_unsubscribe_and_ping_bytes(dialogue):
    def server(peer):
        peer.accept()
        peer.expect(bytes.fromhex("82 08 0001 0003 612f23 01"))
        peer.send(bytes.fromhex("90 03 0001 00"))
        peer.expect(bytes.fromhex("82 06 0002 0001 62 00"))
        peer.send(bytes.fromhex("90 03 0002 80"))
        peer.expect(bytes.fromhex("a2 07 0003 0003 612f23"))
        peer.send(bytes.fromhex("b0 02 0003"))
        peer.expect(PINGREQ)
        peer.send(PINGRESP)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        print(await c.subscribe(b"a/#", 1))
        error = await failure(c.subscribe("b"))
        print(error.code == REFUSED, error)
        print(await c.unsubscribe(b"a/#"))
        await c.ping()
        await c.disconnect()
    """
    assert dialogue(script, server).splitlines() == [
        "0",
        "True (128, 'subscription refused')",
        "None",
    ]


def test_replies_may_come_in_any_order(dialogue):
    def server(peer):
        peer.accept()
        for _ in range(3):
            peer.packet()
        peer.send(bytes.fromhex("b00200039003000201900300010040020001"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.connect()
        print(*await asyncio.gather(c.subscribe(b"a"), c.subscribe(b"b", 1), c.unsubscribe(b"c")))
        await c.disconnect()
    """
    assert dialogue(script, server) == "0 1 None\n"


RECEIVE = """
async def main():
    c = client(rx_size=300)
    c.set_callback(lambda topic, msg: print(topic, len(msg), bytes(msg[:4])))
    c.set_discard_callback(lambda topic, size: print("discarded", topic, size))
    await c.connect()
    try:
        await c.publish(b"go", b"", qos=1)
        await asyncio.sleep(5)
    except MQTTException as error:
        pass
    print(c.discarded, c.closed, c.failed_stage == UP)
"""


def end_with(peer, *answers):
    peer.accept()
    pid = int.from_bytes(peer.packet()[-2:], "big")
    peer.send(*answers, puback(pid))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_inbound_packets_cut_anywhere(dialogue, size):
    """Half packets and several per segment are put together; QoS 1 is acknowledged in order."""
    stream = b"".join(
        [
            publish(b"q0", b"zero"),
            publish(b"q1", b"one!", 1, 0x1234),
            publish(b"long", b"m" * 250, 1, 2),
            publish(b"e", b""),
            publish(b"again", b"dup.", 1, 3, flags=8),
        ]
    )

    def server(peer):
        peer.accept()
        peer.packet()
        for i in range(0, len(stream), size):
            peer.send(stream[i : i + size])
        peer.expect(puback(0x1234), puback(2), puback(3))

    assert dialogue(RECEIVE, server).splitlines() == [
        "b'q0' 4 b'zero'",
        "b'q1' 4 b'one!'",
        "b'long' 250 b'mmmm'",
        "b'e' 0 b''",
        "b'again' 4 b'dup.'",
        "0 (-2, 'closed by the server') True",
    ]


@pytest.mark.parametrize("cut", [1, 2, 4, 6, 50, 299, 300, 301, 100_000])
def test_message_too_long_is_discarded_reported_and_acknowledged(dialogue, cut):
    big = publish(b"big", b"B" * 70_000, 1, 9) + publish(b"big0", b"B" * 301)
    after = publish(b"after", b"fits", 1, 10)

    def server(peer):
        peer.accept()
        peer.packet()
        peer.send(big[:cut])
        peer.send(big[cut:], after)
        peer.expect(puback(9), puback(10))

    assert dialogue(RECEIVE, server).splitlines() == [
        "discarded b'big' 70000",
        "discarded b'big0' 301",
        "b'after' 4 b'fits'",
        "2 (-2, 'closed by the server') True",
    ]


@pytest.mark.parametrize("cut", [0, 100, 299])
def test_largest_packet_that_fits_is_delivered(dialogue, cut):
    fits = publish(b"fit", b"f" * (300 - 8))
    assert len(fits) == 300

    def server(peer):
        peer.accept()
        peer.packet()
        peer.send(fits[:cut])
        time.sleep(0.02)
        peer.send(fits[cut:])
        time.sleep(0.02)
        peer.send(publish(b"not", b"f" * (301 - 8)))

    assert dialogue(RECEIVE, server).splitlines()[:2] == [
        "b'fit' 292 b'ffff'",
        "discarded b'not' 293",
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("30 80808080 01", "bad remaining length"),
        ("30 ffffffff 7f", "bad remaining length"),
        ("00 00", "unexpected packet 00"),
        ("f0 00", "unexpected packet f0"),
        ("10 00", "unexpected packet 10"),
        ("20 02 0000", "unexpected packet 20"),
        ("41 02 0001", "unexpected packet 41"),
        ("40 01 00", "unexpected packet 40"),
        ("40 03 000100", "unexpected packet 40"),
        ("90 02 0001", "unexpected packet 90"),
        ("90 04 0001 0000", "unexpected packet 90"),
        ("92 03 0001 00", "unexpected packet 92"),
        ("b0 03 000100", "unexpected packet b0"),
        ("d0 01 00", "unexpected packet d0"),
        ("50 02 0001", "unexpected packet 50"),
        ("34 06 0001 61 0001 62", "PUBLISH with QoS above 1"),
        ("36 06 0001 61 0001 62", "PUBLISH with QoS above 1"),
        ("32 05 0001 61 0000", "PUBLISH with packet id 0"),
        ("32 04 0001 61 00", "bad topic in PUBLISH"),
        ("30 03 0002 61", "bad topic in PUBLISH"),
        ("30 02 0000", "bad topic in PUBLISH"),
        ("30 01 00", "bad topic in PUBLISH"),
        ("30 00", "bad topic in PUBLISH"),
        ("40 ff7f 0000", "packet too long"),
        ("30 ffff7f ffff", "topic too long"),
    ],
)
def test_malformed_packets_close_with_a_reason(dialogue, data, text):
    def server(peer):
        peer.accept()
        peer.packet()
        peer.send(bytes.fromhex(data))
        peer.expect_close()

    assert dialogue(RECEIVE, server) == f"0 (-5, '{text}') True\n"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 7, 255])
def test_refused_connection_raises_the_return_code(dialogue, code):
    def server(peer):
        peer.accept(bytes((0x20, 2, 0, code)))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.on_close = lambda reason: print("on_close")
        error = await failure(c.connect())
        print(type(error).__name__, error.code, c.failed_stage == CONNACK, c.closed is error)
    """
    assert dialogue(script, server) == f"MQTTException {code} True True\n"


@pytest.mark.parametrize("data", ["d000", "3003000161", "90030001 00", "2003000000", "2001 00"])
def test_anything_but_connack_first_is_malformed(dialogue, data):
    def server(peer):
        peer.packet()
        peer.send(bytes.fromhex(data))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        error = await failure(c.connect())
        print(error.code == PROTOCOL, c.failed_stage == CONNACK)
    """
    assert dialogue(script, server) == "True True\n"


def test_packets_right_behind_connack_are_handled(dialogue):
    def server(peer):
        peer.packet()
        peer.send(CONNACK + publish(b"t", b"early", 1, 5))
        peer.expect(puback(5))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: print(bytes(msg)))
        await c.connect()
        await c.disconnect()
    """
    assert dialogue(script, server) == "b'early'\n"


def test_message_is_not_kept_beyond_the_callback(dialogue):
    """The memoryview shows the receive buffer itself: no copy is made for the callback."""

    def server(peer):
        peer.accept()
        peer.packet()
        peer.send(publish(b"t", b"first"))
        peer.packet()
        peer.send(publish(b"t", b"other"))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        seen = []
        c.set_callback(lambda topic, msg: seen.append(msg))
        await c.connect()
        await c.publish(b"t", b"")
        while not seen:
            await asyncio.sleep_ms(1)
        print(bytes(seen[0]))
        await c.publish(b"t", b"")
        while len(seen) < 2:
            await asyncio.sleep_ms(1)
        print(bytes(seen[0]))
        await c.disconnect()
    """
    assert dialogue(script, server) == "b'first'\nb'other'\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ('c.publish(b"", b"x")', "ValueError"),
        ('c.publish(b"t" * 65536, b"x")', "ValueError"),
        ('c.publish(b"t" * 1016, b"x")', "ValueError"),
        ('c.publish(b"t", b"x", qos=2)', "ValueError"),
        ('c.subscribe(b"t", 2)', "ValueError"),
        ('c.subscribe(b"t" * 65536)', "ValueError"),
        ("c.connect()", "OSError"),
    ],
)
def test_wrong_arguments_raise_and_leave_the_connection_usable(dialogue, call, error):
    def server(peer):
        peer.accept()
        first = peer.packet()
        peer.send(puback(int.from_bytes(first[5:7], "big")))
        peer.expect(DISCONNECT)

    script = f"""
    async def main():
        c = client()
        await c.connect()
        print(type(await failure({call})).__name__)
        await c.publish(b"t", b"x", qos=1)
        await c.disconnect()
    """
    assert dialogue(script, server) == error + "\n"
