"""The routes of CONFMODE's web page on the MicroPython VM: what is answered, what is refused."""
# vm-file: timeout=60 heap=160

import asyncio

from tests_host.vm.confmode_parts import Lab

JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


async def test_state_at_first():
    lab = Lab()
    status, fields, state = await lab.get(b"/api/state")
    assert status == 200 and b"no-store" in fields
    token = state.pop("token")
    assert len(token) == 32 and int(token, 16)
    assert state == {"name": "lab", "state": "idle", "open": False, "endpoint": "host:8883"}
    assert (await Lab().get(b"/api/state"))[2]["token"] != token


async def test_networks():
    lab = Lab()
    expected = [
        {"ssid": "open", "rssi": -40, "secure": False},
        {"hex": "ff", "rssi": -60, "secure": True},
        {"ssid": "weak", "rssi": -80, "secure": True},
    ]
    assert (await lab.get(b"/api/networks"))[2] == {"networks": expected}
    # A moment later it is the same scan.
    await lab.get(b"/api/networks")
    assert lab.module.calls == ["scan"]
    many = {b"n%02d" % i: 3 for i in range(50)}
    lab.ap._found = None
    # Those with a user name are no use, and take nobody's place.
    many.update({b"n%02d" % i: 5 for i in range(5)})
    lab.module.scan = lambda kinds: kinds.update(many) or {name: -int(name[1:]) for name in many}
    names = [entry["ssid"] for entry in (await lab.get(b"/api/networks"))[2]["networks"]]
    assert names == ["n%02d" % i for i in range(5, 25)]


async def test_a_scan_that_fails_is_told_and_its_cause_logged():
    from firmware.confmode import portal

    def fails(kinds):
        raise error

    said = []
    portal.log = lambda *words: said.append(words)
    lab = Lab()
    lab.module.scan = fails
    for error in (OSError("Wifi Not Started"), RuntimeError("Wifi Unknown Error 0x3014")):
        status, fields, answer = await lab.get(b"/api/networks")
        assert (status, answer) == (503, {"error": "no scan possible now"})
        assert b"Retry-After: 3\r\n" in fields
        assert said.pop()[1:] == ("confmode: no scan:", error)
    # That a try is on its way is no failure.
    lab.ap.state = "trying"
    assert (await lab.get(b"/api/networks"))[2] == {"error": "joining"}
    assert said == []


async def test_join():
    lab = Lab()
    order = {"ssid": "home", "passphrase": "12345678", "endpoint": "x.example:443"}
    assert await lab.post(b"/api/join", order) == (202, JSON, {"state": "trying"})
    state = (await lab.get(b"/api/state"))[2]
    assert (state["state"], state["ssid"]) == ("trying", "home")
    assert (await lab.get(b"/api/networks"))[0] == 503
    assert (await lab.post(b"/api/join", order))[0] == 409
    state = await lab.settled()
    assert (state["state"], state["ssid"], state["address"]) == ("joined", "home", "10.0.0.2")
    assert 58 <= state["left"] <= 60
    values = {b"SSID": b"home", b"Passphrase": b"12345678", b"EndPoint": b"x.example:443"}
    assert lab.module.calls == [(b"home", b"12345678"), values]
    assert (await lab.post(b"/api/join", order))[0] == 409
    assert lab.outcome is None
    assert (await lab.post(b"/api/done", {}))[0] == 200
    await asyncio.sleep_ms(1300)
    assert lab.outcome == (True, b"joined home")


async def test_names_of_any_bytes_and_open_networks():
    for order, ssid in (
        ({"hex": "ff00fe"}, b"\xff\x00\xfe"),
        ({"ssid": "caf\xe9 \U0001f600"}, "caf\xe9 \U0001f600".encode()),
        ({"ssid": "x" * 32, "passphrase": ""}, b"x" * 32),
        ({"ssid": "0", "passphrase": None, "endpoint": ""}, b"0"),
    ):
        lab = Lab()
        assert (await lab.post(b"/api/join", order))[0] == 202, order
        await lab.settled()
        assert lab.module.calls == [(ssid, b""), {b"SSID": ssid, b"Passphrase": b""}]
    assert (await lab.get(b"/api/state"))[2]["ssid"] == "0"


async def test_orders_that_are_refused():
    lab = Lab()
    token = lab.ap.token
    for body in (
        {},
        {"ssid": ""},
        {"ssid": "x" * 33},
        {"ssid": "\xe9" * 17},
        {"ssid": 5},
        {"ssid": ["a"]},
        {"hex": "f"},
        {"hex": "zz"},
        {"hex": "00" * 33},
        {"ssid": "a", "passphrase": "short"},
        {"ssid": "a", "passphrase": 12345678},
        {"ssid": "a", "passphrase": "x" * 64},
        {"ssid": "a", "endpoint": "a b"},
        {"ssid": "a", "endpoint": {}},
        b'{"token":"%s","ssid":"\\ud83d"}' % token,
        b'{"token":"%s","ssid":"\xff"}' % token,
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{" * 500,
        b"[" * 500,
        b"\xff\xfe{}",
    ):
        status, _, answer = await lab.post(b"/api/join", body)
        assert status == 400 and answer["error"], (body, status, answer)
    for token in ("", "0" * 32, None, 5, lab.ap.token.decode() + "0", "\xe9" * 16):
        status = (await lab.post(b"/api/join", {"ssid": "a", "token": token}))[0]
        assert status in (403, 400), (token, status)
        status = (await lab.post(b"/api/done", {"token": token}))[0]
        assert status in (403, 400), (token, status)
    # MicroPython's decoder lets this through.
    assert (await lab.post(b"/api/join", b'{"token"}'))[0] in (400, 403)
    assert (await lab.post(b"/api/done", {}))[0] == 409
    assert lab.module.calls == []


async def test_the_field_to_blame_is_named():
    lab = Lab()
    token = lab.ap.token
    for body, field, words in (
        ({}, "ssid", "network name"),
        ({"ssid": "x" * 33}, "ssid", "network name"),
        ({"ssid": 5}, "ssid", "not a text"),
        ({"hex": 5}, "ssid", "not a text"),
        ({"hex": "f"}, "ssid", "network name"),
        (b'{"token":"%s","ssid":"\\ud83d"}' % token, "ssid", "network name"),
        (
            {"ssid": "a", "passphrase": "short"},
            "passphrase",
            "The password must have 8 to 63 letters, digits or signs (no accents).",
        ),
        ({"ssid": "a", "passphrase": 12345678}, "passphrase", "not a text"),
        ({"ssid": "a", "endpoint": "a b"}, "endpoint", "cloud endpoint"),
        (b"[]", None, "JSON"),
    ):
        status, _, answer = await lab.post(b"/api/join", body)
        assert status == 400 and words in answer["error"], (body, answer)
        assert answer.get("field") == field, (body, answer)
    assert "field" not in (await lab.post(b"/api/join", {"ssid": "a", "token": ""}))[2]


async def test_whose_host_is_not_quite_ours():
    lab = Lab()
    for host in (
        b"127.0.0.1:80:evil",
        b"localhost:x[]",
        b"localhost:",
        b"192.168.4.1:",
        b"192.168.4.1:8a",
        b"192.168.4.1.evil",
        b"192.168.4.11",
        b"[192.168.4.1]",
        b":80",
    ):
        for path in (b"/", b"/api/state"):
            status, fields, _ = await lab.get(path, host)
            assert status == 302 and b"Location: http://192.168.4.1/\r\n" in fields, host
        assert (await lab.post(b"/api/join", {"ssid": "a"}, host=host))[0] == 403, host
    for host in (b"127.0.0.1", b"localhost:8080", b"192.168.4.1", b"192.168.4.1:80", b"LocalHost"):
        assert (await lab.get(b"/", host))[0] == 200, host


async def test_probes_of_a_phone_do_not_keep_it_alive():
    lab = Lab()
    for path, host in (
        (b"/generate_204", b"connectivitycheck.gstatic.com"),
        (b"/", b"captive.apple.com"),
        (b"/api/state", b"captive.apple.com"),
        (b"/favicon.ico", b"192.168.4.1"),
        (b"/apis", b"192.168.4.1"),
    ):
        assert (await lab.get(path, host))[0] == 302
    assert lab.touches == 0
    await lab.get(b"/")
    await lab.get(b"/api/state")
    await lab.post(b"/api/join", {"ssid": "a"})
    assert lab.touches == 3


async def test_other_sites_get_nothing():
    lab = Lab()
    for more in (
        b"Origin: null\r\n",
        b"Origin: http://evil\r\n",
        b"Origin: https://192.168.4.1\r\n",
    ):
        assert (await lab.post(b"/api/join", {"ssid": "a"}, more))[0] == 403
    for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"", b"multipart/form-data"):
        assert (await lab.post(b"/api/join", {"ssid": "a"}, kind=kind))[0] == 415
    # Its name leads here: the page is not shown under it, and its orders are not taken.
    assert (await lab.post(b"/api/join", {"ssid": "a"}, host=b"evil.example"))[0] == 403
    for path in (b"/", b"/api/state", b"/api/networks"):
        status, fields, _ = await lab.get(path, b"evil.example")
        assert status == 302 and b"Location: http://192.168.4.1/\r\n" in fields
    assert lab.module.calls == []
    good = b"Origin: http://192.168.4.1\r\n"
    kind = b"Application/JSON; charset=utf-8"
    assert (await lab.post(b"/api/join", {"ssid": "a"}, good, kind=kind))[0] == 202


async def test_everything_else_leads_to_the_page():
    lab = Lab()
    for path, host in (
        (b"/generate_204", b"connectivitycheck.gstatic.com"),
        (b"/hotspot-detect.html", b"captive.apple.com"),
        (b"/connecttest.txt", b"www.msftconnecttest.com"),
        (b"/canonical.html", b"detectportal.firefox.com"),
        (b"/favicon.ico", b"192.168.4.1"),
        (b"/api/join", b"192.168.4.1"),
    ):
        status, fields, body = await lab.get(path, host)
        assert (status, body) == (302, b"")
        assert b"Location: http://192.168.4.1/\r\n" in fields
    fields = (await lab.get(b"/x", b"localhost:8080"))[1]
    assert b"Location: http://localhost:8080/\r\n" in fields
    for method in (b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"BREW"):
        assert (await lab.ask(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 405
    assert (await lab.post(b"/", {}))[0] == 405


async def test_the_page():
    lab = Lab()
    status, fields, body = await lab.get(b"/")
    assert status == 200 and body[:2] == b"\x1f\x8b"
    for field in (b"Content-Encoding: gzip", b"no-store", b"Content-Security-Policy: default-src"):
        assert field in fields
