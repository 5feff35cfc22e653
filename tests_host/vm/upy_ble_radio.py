"""CONFMODE over Bluetooth LE on the VM, with a radio and a clock of the test's own: what takes
long, and what goes wrong inside."""
# vm-file: heap=96

import asyncio
import json
import sys

from firmware.confmode.frames import Receiver, split


class Radio:
    """Stands for `bluetooth` and its BLE object."""

    def __init__(self):
        self.handler = None
        self.values = {}
        self.notified = []
        self.gone = []
        self.advertising = False
        self.full = 0

    def BLE(self):
        return self

    def UUID(self, text):
        return text

    def active(self, on):
        self.on = on

    def config(self, **values):
        pass

    def irq(self, handler):
        self.handler = handler

    def gatts_register_services(self, services):
        return ((1, 2, 3, 4),)

    def gatts_set_buffer(self, handle, size):
        pass

    def gatts_read(self, handle):
        return self.values[handle]

    def gatts_write(self, handle, value):
        self.values[handle] = value

    def gatts_notify(self, conn, handle, frame):
        if self.full:
            self.full -= 1
            raise OSError(12)
        self.notified.append((conn, frame))

    def gap_advertise(self, interval, data=None, resp_data=None):
        self.advertising = interval is not None

    def gap_disconnect(self, conn):
        self.gone.append(conn)
        self.handler(2, (conn, 0, b""))
        return True

    def written(self, conn, handle, value):
        self.values[handle] = value
        self.handler(3, (conn, handle))

    def said(self):
        """(connection, code) of each whole message so far."""
        results = []
        receivers = {}
        for conn, frame in self.notified:
            message = receivers.setdefault(conn, Receiver(500)).take(frame)
            if message:
                results.append((conn, json.loads(message)["code"]))
        return results


class Clock:
    def __init__(self):
        self.now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b


radio = sys.modules["bluetooth"] = Radio()
clock = Clock()
from firmware.confmode import ble  # noqa: E402

ble.time = clock


class Module:
    def __init__(self):
        self.conf_result = b"not found"
        self.wifi = self.config = self
        self.touches = 0
        self.outcome = None

    def leave(self):
        pass

    def check(self, name, value):
        if value == b"no memory":
            raise MemoryError
        if value == b"defect":
            raise IndexError("x")
        return True

    def touched(self):
        self.touches += 1

    def finish(self, success, why):
        self.outcome = (success, why)


async def started(key=b""):
    module = Module()
    made = ble.Ble(module, module, b"Pump 7", key)
    await made.begin()
    return module, made


async def turns(ms=60):
    """Let the task run; a connection is dropped after 300 ms of real time."""
    await asyncio.sleep_ms(ms)


async def connected(conn=0, mtu=200):
    radio.handler(1, (conn, 0, b"address"))
    radio.handler(21, (conn, mtu))
    await turns()


def say(conn, handle, said):
    for frame in split(json.dumps(said).encode(), 1, 197):
        radio.written(conn, handle, frame)


async def test_who_proves_nothing_is_let_go_after_30_s():
    module, _ = await started(b"correct horse")
    await connected()
    clock.now = 29900
    await turns()
    assert radio.said() == [] and radio.gone == []
    clock.now = 30100
    await turns(500)
    assert radio.said() == [(0, 4)] and radio.gone == [0]
    assert radio.advertising
    assert module.touches == 0


async def test_who_says_nothing_is_let_go_after_two_minutes():
    module, made = await started()
    await connected()
    clock.now = 60000
    say(0, 1, {"host": "h"})
    await turns()
    assert radio.said() == [(0, 1)] and module.touches == 1
    clock.now = 179000
    await turns()
    assert radio.gone == []
    clock.now = 181000
    await turns(500)
    assert radio.said() == [(0, 1), (0, 4)] and radio.gone == [0]
    # The next one begins anew.
    await connected()
    clock.now += 100000
    await turns()
    assert radio.gone == [0]
    assert made.status() == b"ble Pump 7 connected, open: anybody near can listen"


async def test_the_pause_grows():
    _, made = await started(b"correct horse")
    wrong = {"nonce": "00" * 16, "proof": "00" * 32}
    wanted = (5, 10, 20, 40, 80, 160, 320, 320)
    for seconds in wanted:
        for i in range(3):
            # Whether in one connection or in three.
            await connected()
            say(0, 2, wrong)
            await turns()
            if i < 2:
                radio.gap_disconnect(0)
                await turns()
        await turns(350)
        assert not radio.advertising, seconds
        assert made.status() == b"ble Pump 7 pause after wrong keys"
        radio.gone.clear()
        await connected(7)
        assert radio.gone == [7]
        clock.now += seconds * 1000 - 100
        await turns()
        assert not radio.advertising, seconds
        clock.now += 200
        await turns()
        assert radio.advertising, seconds


async def test_no_memory():
    module, _ = await started()
    await connected()
    say(0, 1, {"host": "no memory"})
    await turns(500)
    assert radio.said() == [(0, 12)] and radio.gone == [0]
    await connected()
    say(0, 1, {"host": "h"})
    await turns()
    assert radio.said()[-1] == (0, 1)
    assert module.outcome is None


async def test_a_defect_costs_the_central_and_not_confmode():
    module, _ = await started()
    await connected()
    say(0, 1, {"host": "defect"})
    await turns(400)
    assert module.outcome is None
    assert radio.gone == [0]


async def test_more_writes_than_can_wait():
    _, made = await started()
    await connected()
    frames = list(split(json.dumps({"host": "h" * 900}).encode(), 1, 20))
    for frame in frames:
        radio.written(0, 1, frame)
    assert len(made._queue) <= 25
    await turns()
    # The rest of it comes to nothing either, and is told once.
    for frame in frames[30:]:
        radio.written(0, 1, frame)
        await turns(5)
    await turns()
    assert radio.said() == [(0, 9)]


async def test_a_stack_that_has_no_buffer_for_long():
    await started()
    await connected()
    radio.full = 30
    say(0, 1, {"host": "h"})
    await turns(1000)
    assert radio.said() == [(0, 1)]
    # For ever: the message is given up, and the next central is served.
    radio.full = 1000
    say(0, 1, {"host": "h"})
    await turns()
    radio.handler(2, (0, 0, b""))
    await turns(100)
    radio.full = 0
    await connected(1)
    say(1, 1, {"host": "h"})
    await turns()
    assert radio.said() == [(0, 1), (1, 1)]


async def test_the_hello_is_never_longer_than_an_attribute():
    module = Module()
    module.conf_result = b"\x01" * 60
    made = ble.Ble(module, module, b"\x01" * 26, b"correct horse")
    await made.begin()
    assert len(radio.values[2]) <= 512
    assert "last" not in json.loads(radio.values[2])
    _, made = await started()
    assert json.loads(radio.values[2])["last"] == "not found"


async def test_the_end():
    _, made = await started()
    await connected()
    await made.end()
    assert not radio.on and radio.handler is None
    await made.end()


async def test_a_mtu_of_another_central_does_not_count():
    await started()
    await connected(0, 23)
    await connected(1, 247)
    say(0, 1, {"host": "h"})
    await turns()
    assert all(len(frame) <= 20 for _, frame in radio.notified)
    assert radio.said() == [(0, 1)]


async def test_what_is_left_of_a_central_is_not_told_to_the_next():
    module, _ = await started()
    await connected()
    for _ in range(5):
        say(0, 1, {"port": 1})
    # Gone, and another one is there, before our task had its turn.
    radio.handler(2, (0, 0, b""))
    await connected()
    say(0, 1, {"host": "h"})
    await turns()
    assert radio.said() == [(0, 1)]
    assert module.touches == 1
