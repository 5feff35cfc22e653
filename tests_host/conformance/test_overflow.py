"""Full queues: what is lost, and how the host learns it (4.1.7.6; D29 to D31)."""

import time

import pytest

KIB = b"x" * 1000


@pytest.fixture
def subscribed(stage):
    """The stage, connected, Topic1 subscribed to; a function that publishes to it."""
    stage.connect()
    stage.must(b"AT+CONF Topic1=in")
    stage.must(b"AT+SUBSCRIBE1")

    def publish(payload):
        stage.operator.publish(f"{stage.thing}/in", payload)

    return stage, publish


def events(stage):
    """All events that wait, once nothing more comes."""
    time.sleep(0.4)
    found = []
    while (reply := stage.ask(b"AT+EVENT?")) != b"OK":
        found.append(reply)
    return found


def messages(stage):
    """The first two bytes of all messages of Topic1."""
    found = []
    while (reply := stage.ask(b"AT+GET1")) != b"OK":
        found.append(reply[3:5])
    return found


@pytest.mark.clause("4.1.7.6", "D29", "D31")
def test_the_oldest_messages_are_lost_and_reported(subscribed):
    stage, publish = subscribed
    stage.must(b"AT+STAT? Overflow", b"OK 0")
    for number in range(10):
        publish(b"%02d" % number + KIB)
    found = events(stage)
    lost = found.count(b"OK 4 0 OVERRUN in")
    # 8 KiB hold eight of them. The events of lost messages stay.
    assert lost == 2
    assert found.count(b"OK 1 1 MSG") == 10
    assert len(found) == 12
    # The first loss is told after the eight messages that it made room for.
    assert found.index(b"OK 4 0 OVERRUN in") >= 8
    assert messages(stage) == [b"%02d" % number for number in range(2, 10)]
    # For the events of those that are gone GET answers as for an empty queue.
    for _ in range(lost):
        stage.must(b"AT+GET1", b"OK")
        stage.must(b"AT+GET", b"OK")
    stage.must(b"AT+STAT? Overflow", b"OK 1")
    stage.must(b"AT+STAT? Overflow", b"OK 0")


@pytest.mark.clause("4.1.7.6", "D29")
def test_the_topic_of_the_lost_message_is_told(subscribed):
    stage, publish = subscribed
    stage.must(b"AT+CONF Topic2=/elsewhere")
    stage.must(b"AT+SUBSCRIBE2")
    stage.operator.publish("elsewhere", b"00" + KIB)
    for number in range(8):
        publish(b"%02d" % number + KIB)
    assert events(stage).count(b"OK 4 0 OVERRUN /elsewhere") == 1
    stage.must(b"AT+GET2", b"OK")
    assert messages(stage) == [b"%02d" % number for number in range(8)]


@pytest.mark.clause("4.1.7.6")
def test_reading_makes_room_again(subscribed):
    stage, publish = subscribed
    for number in range(8):
        publish(b"%02d" % number + KIB)
    assert events(stage) == [b"OK 1 1 MSG"] * 8
    assert len(messages(stage)) == 8
    for number in range(8):
        publish(b"%02d" % number + KIB)
    assert events(stage) == [b"OK 1 1 MSG"] * 8
    stage.must(b"AT+STAT? Overflow", b"OK 0")


@pytest.mark.clause("D30", "D31")
def test_a_full_event_queue_drops_the_oldest_msg(subscribed):
    stage, publish = subscribed
    publish(b"x" * 5001)
    for number in range(40):
        publish(b"%02d" % number)
    stage.cloud.control.kick(stage.thing)
    time.sleep(0.2)
    # The others are still there: the first, and the last.
    assert events(stage) == [
        b"OK 4 0 OVERRUN in",
        *[b"OK 1 1 MSG"] * 30,
        b"OK 3 0 CONLOST",
    ]
    # No message was lost with them.
    assert messages(stage) == [b"%02d" % number for number in range(40)]


@pytest.mark.clause("D30", "D31")
def test_without_msg_the_oldest_event_is_dropped(subscribed):
    stage, publish = subscribed
    stage.must(b"AT+CONF Topic2=two")
    stage.must(b"AT+SUBSCRIBE2")
    stage.operator.publish(f"{stage.thing}/two", b"x" * 5001)
    for _ in range(32):
        publish(b"x" * 5001)
    assert events(stage) == [b"OK 4 0 OVERRUN in"] * 32


@pytest.mark.clause("D31")
def test_small_messages_are_not_limited_by_the_event_queue(subscribed):
    stage, publish = subscribed
    for number in range(60):
        publish(b"%02d" % number)
    assert events(stage) == [b"OK 1 1 MSG"] * 32
    assert messages(stage) == [b"%02d" % number for number in range(60)]
