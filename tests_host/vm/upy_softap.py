"""CONFMODE's access point on the MicroPython VM: the tries, and what becomes of them."""
# vm-file: timeout=60 heap=160

import asyncio
import time

from firmware.net.wifi import WifiError
from tests_host.vm.confmode_parts import Lab, Wlan


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


async def test_failures_are_shown_and_the_next_try_may_work():
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
