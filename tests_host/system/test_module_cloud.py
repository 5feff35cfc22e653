"""The module in the cloud: connect, send, receive, leave; also against Debian's Mosquitto."""

import time

import pytest

from tests_host.system.conftest import connect, give_wifi, next_event, reset

# The broker, and the options of the module: with the memory of a board, too.
VARIANTS = {
    "cloud": (),
    "mosquitto": (),
    "heap-96": ("--heap", "96"),
    "stock-heap-108": ("--stock", "--heap", "108"),
}


@pytest.fixture(params=VARIANTS)
def online(request, make_module, cloud):
    """(module that is connected, its thing name, an operator on the same broker)."""
    from tests_host.system.conftest import Operator

    module = make_module(*VARIANTS[request.param])
    give_wifi(module)
    port = cloud.mqtt
    if request.param == "mosquitto":
        port = request.getfixturevalue("mosquitto")
        assert module.command(b"AT+CONF EndPoint=localhost:%d" % port) == b"OK"
    connect(module)
    operator = Operator(cloud.state, port)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    yield module, module.command(b"AT+CONF? ThingName")[3:].decode(), operator
    operator.close()


def test_connect_twice_and_leave_twice(online):
    module, _, _ = online
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert module.command(b"AT+CONNECT") == b"OK 1 CONNECTED"
    assert module.command(b"AT+CONF? IPv4Address") != b"OK 0.0.0.0"
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+CONNECT?") == b"OK 0"
    assert module.command(b"AT+CONF? IPv4Address") == b"OK 0.0.0.0"
    assert module.command(b"AT+EVENT?") == b"OK"
    connect(module)


PAYLOADS = [
    b"hello",
    b"",
    b"a b  c ",
    b"line\nline\\end\\",
    b"\x00\x01\xff\xfe",
    bytes(range(256)),
    b"x" * 5000,
]


def escape(data):
    return data.replace(b"\\", b"\\\\").replace(b"\n", b"\\A")


@pytest.mark.parametrize("qos", [b"0", b"1"])
def test_send(online, qos):
    module, thing, operator = online
    operator.subscribe("#")
    assert module.command(b"AT+CONF QoS=" + qos) == b"OK"
    assert module.command(b"AT+CONF Topic1=data") == b"OK"
    assert module.command(b"AT+CONF Topic2=/plain/topic") == b"OK"
    for payload in PAYLOADS:
        # A CR at the end would be taken for a part of the line's end (D1).
        for command in (b"AT+SEND1 ", b"AT+SEND2 ", b"AT+SEND data "):
            line = command + escape(payload)
            if len(line) <= 5120:
                assert module.command(line) == b"OK", payload[:20]
    sent = operator.wait(len(PAYLOADS) * 3)
    for number, payload in enumerate(PAYLOADS):
        assert sent[number * 3 : number * 3 + 3] == [
            (f"{thing}/data", payload),
            ("plain/topic", payload),
            (f"{thing}/data", payload),
        ]


@pytest.mark.parametrize("qos", [b"0", b"1"])
def test_receive(online, qos):
    module, thing, operator = online
    assert module.command(b"AT+CONF QoS=" + qos) == b"OK"
    assert module.command(b"AT+CONF Topic3=in") == b"OK"
    assert module.command(b"AT+SUBSCRIBE3") == b"OK"
    assert module.control({"get": "EVENT"}) == {"EVENT": 0}
    for payload in PAYLOADS:
        operator.publish(f"{thing}/in", payload)
        assert next_event(module) == b"OK 1 3 MSG"
        assert module.control({"get": "EVENT"}) == {"EVENT": 0}
        assert module.command(b"AT+GET3") == b"OK " + escape(payload)
    operator.publish(f"{thing}/in", b"again")
    assert next_event(module) == b"OK 1 3 MSG"
    assert module.command(b"AT+GET") == b"OK in again"
    assert module.command(b"AT+GET") == b"OK"
    assert module.command(b"AT+UNSUBSCRIBE3") == b"OK"
    operator.publish(f"{thing}/in", b"gone")
    time.sleep(0.3)
    assert module.command(b"AT+EVENT?") == b"OK"


def test_topics_of_the_list_and_others(online):
    module, thing, operator = online
    for line in (b"CONF Topic1=a/+", b"SUBSCRIBE1", b"CONF Topic2=/b", b"SUBSCRIBE2"):
        assert module.command(b"AT+" + line) == b"OK"
    # The list may change under a subscription: what it was subscribed with counts.
    assert module.command(b"AT+CONF Topic1=other") == b"OK"
    operator.publish(f"{thing}/a/x", b"1")
    operator.publish("b", b"2")
    assert next_event(module) == b"OK 1 1 MSG"
    assert next_event(module) == b"OK 1 2 MSG"
    assert module.command(b"AT+GET0") == b"OK"
    assert module.command(b"AT+GET") == b"OK a/x 1"
    assert module.command(b"AT+GET") == b"OK /b 2"
    assert module.command(b"AT+SEND1 x") == b"OK"
    assert module.command(b"AT+UNSUBSCRIBE1") == b"OK"
    operator.publish(f"{thing}/a/x", b"3")
    operator.publish("b", b"4")
    assert next_event(module) == b"OK 1 2 MSG"
    assert module.command(b"AT+GET2") == b"OK 4"


def test_the_module_hears_itself(online):
    module, _, _ = online
    for line in (b"CONF Topic1=echo", b"SUBSCRIBE1", b"SEND1 hello"):
        assert module.command(b"AT+" + line) == b"OK"
    assert next_event(module) == b"OK 1 1 MSG"
    assert module.command(b"AT+GET1") == b"OK hello"


def test_a_flood_loses_the_oldest_and_says_so(online):
    module, thing, operator = online
    assert module.command(b"AT+CONF Topic1=flood") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    for number in range(20):
        operator.publish(f"{thing}/flood", b"%02d" % number + b"x" * 998)
    time.sleep(0.5)
    events = []
    while (event := module.command(b"AT+EVENT?")) != b"OK":
        events.append(event)
    assert len(events) == 32
    lost = events.count(b"OK 4 0 OVERRUN flood")
    assert lost >= 12
    kept = []
    while True:
        message = module.command(b"AT+GET1")
        if message == b"OK":
            break
        kept.append(int(message[3:5]))
    assert kept == list(range(lost, 20))


def test_a_message_too_large_is_reported_and_the_next_one_arrives(online):
    module, thing, operator = online
    assert module.command(b"AT+CONF Topic1=in") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    operator.publish(f"{thing}/in", b"x" * 5001)
    operator.publish(f"{thing}/in", b"x" * 100000)
    operator.publish(f"{thing}/in", b"small")
    assert next_event(module) == b"OK 4 0 OVERRUN in"
    assert next_event(module) == b"OK 4 0 OVERRUN in"
    assert next_event(module) == b"OK 1 1 MSG"
    assert module.command(b"AT+GET1") == b"OK small"


def test_time_after_connecting(online):
    module, _, _ = online
    shown = module.command(b"AT+TIME?").decode()
    now = time.gmtime()
    assert shown.startswith(f"OK date {now.tm_year}/{now.tm_mon:02}/{now.tm_mday:02} time ")
    assert shown.endswith(" SNTP")


def test_reset_while_connected(online):
    module, _, _ = online
    reset(module)
    assert module.command(b"AT+EVENT?") == b"OK"
    assert module.command(b"AT+CONNECT?") == b"OK 0"
    connect(module)


def test_commands_sent_without_waiting_are_answered_in_order(online):
    module, _, _ = online
    module.write(b"AT+CONF? TechSpec\nAT+SEND a 1\nAT\nAT+CONF? QoS\n")
    assert [module.read_line() for _ in range(4)] == [b"OK v0.5", b"OK", b"OK", b"OK 1"]
