"""Wi-Fi and clock against scripted hardware."""

import time

from firmware.net.clock import Clock, ClockError
from firmware.net.wifi import Wifi, WifiError, reason
from lib import sntp


class Wlan:
    """A station whose `status` answers are scripted; 1010 means joined."""

    def __init__(self, statuses):
        self.statuses = statuses
        self.calls = []
        self._active = False
        self._now = 1000
        self.ipv6 = [("FE80::1", 0), ("2001:db8::1", 0)]

    def active(self, on=None):
        if on is None:
            return self._active
        self.calls.append(("active", on))
        self._active = on

    def config(self, **options):
        self.calls.append(("config", options))

    def connect(self, ssid, key=None):
        self.calls.append(("connect", ssid, key))

    def disconnect(self):
        self.calls.append(("disconnect",))
        self._now = 1000

    def status(self):
        if self.statuses:
            self._now = self.statuses.pop(0)
        return self._now

    def isconnected(self):
        return self._now == 1010

    def ifconfig(self):
        return ("10.0.0.2", "255.255.255.0", "10.0.0.1", "10.0.0.3")

    def ipconfig(self, name):
        if self.ipv6 is None:
            raise ValueError("unexpected key")
        return self.ipv6


async def _join(statuses, ssid=b"lab", key=b"12345678", timeout=400):
    wlan = Wlan(statuses)
    wifi = Wifi(lambda: wlan)
    try:
        await wifi.join(ssid, key, timeout)
    except WifiError as error:
        return error.args[0], wlan, wifi
    return None, wlan, wifi


async def test_join():
    why, wlan, wifi = await _join([1001, 1001, 1010])
    assert why is None
    assert wlan.calls == [
        ("active", True),
        ("config", {"reconnects": 2}),
        ("connect", b"lab", b"12345678"),
        ("config", {"reconnects": -1}),
    ]
    assert wifi.linked()
    assert wifi.address() == b"10.0.0.2"
    assert wifi.name_server() == b"10.0.0.3"
    assert wifi.address6() == b"2001:db8::1"
    wlan.ipv6 = None
    assert wifi.address6() == b"::"
    # The same again costs nothing.
    await wifi.join(b"lab", b"12345678", 100)
    assert len(wlan.calls) == 4
    wifi.leave()
    assert wlan.calls[-2:] == [("disconnect",), ("active", False)]
    assert wifi.address() == b"0.0.0.0"
    assert wifi.address6() == b"::"


async def test_open_network():
    _, wlan, _ = await _join([1010], key=b"")
    assert wlan.calls[-2] == ("connect", b"lab", None)


async def test_causes_are_named_and_the_driver_is_stopped():
    for statuses, cause in (
        ([1001, 201], b"Wi-Fi access point not found"),
        ([1001, 202], b"Wi-Fi passphrase refused"),
        ([1001, 15], b"Wi-Fi passphrase refused"),
        ([1001, 204], b"Wi-Fi passphrase refused"),
        ([1001, 205], b"Wi-Fi passphrase refused"),
        ([1001, 211], b"Wi-Fi access point has another authentication"),
        ([1001, 77], b"Wi-Fi failed, status 77"),
        ([1001], b"Wi-Fi timeout"),
    ):
        why, wlan, wifi = await _join(statuses, timeout=3000)
        assert why == cause, (statuses, why)
        assert wlan.calls[-1] == ("disconnect",)
        assert not wifi.linked()


async def test_a_reason_from_before_or_an_idle_driver_is_no_failure():
    for statuses in ([201, 201, 201, 1001, 1010], [1000, 1000, 1000, 1010], [201, 1000, 1010]):
        why, _, wifi = await _join(statuses, timeout=3000)
        assert why is None, (statuses, why)
        assert wifi.linked()


# vm: timeout=20
async def test_a_reason_that_is_the_same_as_before_counts_later():
    started = time.ticks_ms()
    why, _, _ = await _join([201, 201], timeout=20000)
    assert why == b"Wi-Fi access point not found"
    assert 8000 <= time.ticks_diff(time.ticks_ms(), started) <= 9000


async def test_no_ssid():
    why, wlan, _ = await _join([], ssid=b"")
    assert why == b"no SSID"
    assert wlan.calls == []


async def test_the_next_try_waits_until_the_driver_has_settled():
    _, wlan, wifi = await _join([1001], timeout=100)
    wlan.statuses = [1010]
    started = time.ticks_ms()
    await wifi.join(b"lab", b"12345678", 400)
    assert 900 <= time.ticks_diff(time.ticks_ms(), started) <= 1500


async def test_another_network_means_leaving_the_first():
    _, wlan, wifi = await _join([1010])
    wlan.statuses = [1010]
    await wifi.join(b"other", b"12345678", 400)
    assert ("disconnect",) in wlan.calls
    assert wlan.calls[-2] == ("connect", b"other", b"12345678")


def test_reasons_never_hold_a_success_reply():
    for status in range(1300):
        assert b"OK" not in reason(status).upper(), status


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


class Rtc:
    value = (2000, 1, 1, 5, 0, 0, 0, 0)

    def datetime(self, value=None):
        if value is None:
            return self.value
        self.value = value

    kept = b""

    def memory(self, data=None):
        if data is None:
            return self.kept
        self.kept = data


class Store:
    def __init__(self, **values):
        self.values = values
        self.writes = 0

    def read(self, name):
        return self.values.get(name)

    def write(self, name, value):
        self.writes += 1
        self.values[name] = value


def _clock(store, answers):
    """A clock whose SNTP answers are scripted: (seconds, ms), or an exception."""
    asked = []

    async def query(host, port, timeout_ms):
        asked.append((host, port))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sntp.query = query
    return Clock(Rtc(), store, lambda: b"time.lab:1123"), asked


_NOW = Clock.now

# 2026-11-21 09:38:34 UTC
_THEN = 1795253914


async def test_time_is_shown_as_modules_show_it():
    clock, asked = _clock(Store(), [(_THEN, 47)])
    assert clock.show() is None
    await clock.ensure()
    assert asked == [("time.lab", 1123)]
    # The fix is recent by the clock that was set; here that clock is a stand-in.
    clock.now = lambda: _THEN
    assert clock.show() == b"date 2026/11/21 time 09:38:34.04 SNTP", clock.show()
    await clock.ensure()
    assert len(asked) == 1
    clock.now = lambda: _THEN + 90000
    assert clock.show() is None


async def test_a_fix_outlives_a_reset_while_the_clock_goes_on():
    first, _ = _clock(Store(), [(_THEN, 0)])
    await first.ensure()
    rtc = first._rtc
    Clock.now = lambda self: _THEN + 600
    try:
        second = Clock(rtc, Store(), None)
        assert second.show().endswith(b" RTC"), second.show()
        # A recent fix needs no network.
        await second.ensure()
        # A chip that lost its power has lost the time too, whatever its memory says.
        Clock.now = lambda self: 946684800
        assert Clock(rtc, Store(), None).show() is None
        Clock.now = lambda self: _THEN + 86400
        assert Clock(rtc, Store(), None).show() is None
        rtc.kept = b"other"
        Clock.now = lambda self: _THEN
        assert Clock(rtc, Store(), None).show() is None
    finally:
        Clock.now = _NOW


async def test_a_time_before_this_release_is_no_time():
    clock, asked = _clock(Store(), [(1700000000, 0), (1700000000, 0)])
    try:
        await clock.ensure()
    except ClockError as error:
        assert error.args[0] == b"no time: SNTP answer from the past", error
    else:
        raise AssertionError("no error")
    assert clock.show() is None
    # The next answer may be right.
    clock, asked = _clock(Store(), [(1700000000, 0), (_THEN, 0)])
    await clock.ensure()
    assert len(asked) == 2


async def test_no_answer_and_nothing_known():
    clock, asked = _clock(Store(), [OSError(110), OSError(110)])
    try:
        await clock.ensure()
    except ClockError as error:
        assert error.args[0] == b"no time: SNTP errno 110", error
    else:
        raise AssertionError("no error")
    assert len(asked) == 2


async def test_the_last_good_time_is_the_floor():
    store = Store(time=b"%d" % _THEN)
    clock, _ = _clock(store, [ValueError("kiss of death RATE")] * 2)
    clock.now = lambda: 946684800
    await clock.ensure()
    assert clock._rtc.value[:3] == (2026, 11, 21)
    assert clock.show() is None


async def test_the_last_good_time_is_kept_once_a_day():
    store = Store()
    clock, _ = _clock(store, [(_THEN, 0), (_THEN + 7200, 0), (_THEN + 90000, 0)])
    for later in (0, 7200, 90000):
        await clock.ensure()
        clock.fixed_at = None
        assert int(store.values["time"]) <= _THEN + later
    assert store.writes == 2
