"""The event queue and its pin: chapter 6, D30."""

from firmware import events
from firmware.profile import V05


class Pin:
    def __init__(self):
        self.level = None

    def __call__(self, level):
        self.level = level


def make():
    pin = Pin()
    return events.Events(pin, V05), pin


def test_first_in_first_out_and_the_pin():
    queue, pin = make()
    assert pin.level == 0
    queue.put(events.STARTUP)
    queue.put(events.MSG, 12)
    queue.put(events.OVERRUN, 0, b"a/b")
    assert pin.level == 1
    assert queue.get() == b"2 0 STARTUP"
    assert queue.get() == b"1 12 MSG"
    assert pin.level == 1
    assert queue.get() == b"4 0 OVERRUN a/b"
    assert pin.level == 0
    assert queue.get() is None


def test_a_full_queue_loses_the_oldest_message_event_first():
    queue, _ = make()
    queue.put(events.STARTUP)
    for index in range(1, 32):
        queue.put(events.MSG, index)
    queue.put(events.CONLOST)
    assert queue.dropped == 1
    shown = [queue.get() for _ in range(32)]
    assert shown[0] == b"2 0 STARTUP"
    assert shown[1] == b"1 2 MSG"
    assert shown[-1] == b"3 0 CONLOST"


def test_a_queue_full_of_others_loses_the_oldest():
    queue, _ = make()
    queue.put(events.STARTUP)
    for _ in range(32):
        queue.put(events.CONLOST)
    assert len(queue) == events.DEPTH
    assert queue.get() == b"3 0 CONLOST"


def test_clear():
    queue, pin = make()
    queue.put(events.STARTUP)
    queue.clear()
    assert (queue.get(), pin.level) == (None, 0)
