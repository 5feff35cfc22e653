"""What the portal's page does, in a browser, against a scripted module."""

import re

import pytest
from playwright.sync_api import expect

from tests_host.system import portal_browser
from tests_host.system.portal_browser import (
    DESKTOP,
    JOINED,
    SECRET,
    WRONG,
    becomes,
    connect,
    error,
    focused,
    found,
    join,
    press,
    title,
)


@pytest.fixture
def page(browser, portal):
    """The page on a phone, its list of networks there."""
    with portal_browser.tab(browser, portal.url) as opened:
        found(opened)
        yield opened


def test_names_from_the_air_are_only_text(page, portal):
    names = page.locator("li span")
    expect(names.nth(3)).to_have_text("<img src=x onerror=hacked()>")
    expect(names.nth(4)).to_contain_text("Caf\ufffd")
    assert page.locator("img").count() == 0
    first = page.get_by_role("listitem").nth(0).get_by_role("button")
    expect(first).to_have_accessible_name("Lab secured, signal 4 of 4")
    guests = page.get_by_role("listitem").nth(1).get_by_role("button")
    expect(guests).to_have_accessible_name("Guests no password, signal 3 of 4")
    join(page, "Caf")
    title(page, "Joining \u2068Caf\ufffd")
    [body] = portal.posted("/api/join")
    assert body == {"token": portal.token, "hex": "436166e920ff00", "passphrase": SECRET}
    becomes(page, portal, {"state": "failed", "hex": body["hex"], "reason": "<b>odd</b>"})
    error(page, "<b>odd</b>")
    expect(page.locator("#password")).to_have_value(SECRET)


def test_a_wrong_password_is_there_to_be_corrected(page, portal):
    join(page, password="wrong-wrong")
    title(page, "Joining Lab")
    becomes(page, portal, WRONG)
    error(page, "Wrong password for Lab")
    field = page.locator("#password")
    assert focused(page) == "password"
    expect(field).to_have_value("wrong-wrong")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute("type", "password")
    press(page, "Show")
    expect(field).to_have_attribute("type", "text")
    press(page, "Hide")
    expect(field).to_have_attribute("type", "password")
    field.fill(SECRET)
    field.press("Enter")
    title(page, "Joining Lab")
    error(page, "^$")
    assert [body["passphrase"] for body in portal.posted("/api/join", 2)] == [
        "wrong-wrong",
        SECRET,
    ]


def test_the_password_is_gone_after_success(page, portal):
    press(page, "Lab")
    press(page, "Show")
    page.locator("#password").fill(SECRET)
    connect(page)
    becomes(page, portal, JOINED)
    title(page, "It works")
    expect(page.locator("#detail")).to_contain_text("is on Lab")
    expect(page.locator("#left")).to_contain_text("52 s")
    # For those who know what it is: below all else.
    address = page.locator("#address")
    expect(address).to_have_text("Address 192.168.1.7")
    lowest = page.evaluate("[...document.querySelectorAll('#result > :not([hidden])')].at(-1).id")
    assert lowest == "address"
    assert page.evaluate("parseFloat(getComputedStyle(find('address')).fontSize)") < 14
    expect(page.locator("#password")).to_have_value("")
    expect(page.locator("#password")).to_have_attribute("type", "password")
    assert SECRET not in page.content()
    assert page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])") == "[{},{}]"
    press(page, "Done")
    title(page, "All done")
    expect(address).to_have_text("")
    expect(page.locator("#detail")).to_contain_text("ExpressLink-ab12cd is on Lab")
    assert portal.posted("/api/done") == [{"token": portal.token}]


def test_a_network_that_hides_and_an_endpoint(page, portal):
    press(page, "Other network")
    assert focused(page) == "ssid"
    press(page, "Connect")
    assert portal.bodies("/api/join") == []
    page.locator("#ssid").fill("Hidden")
    page.locator("summary").click()
    endpoint = page.get_by_label("Cloud endpoint")
    expect(endpoint).to_have_attribute("placeholder", "localhost:28883")
    endpoint.fill(" example.org:8883 ")
    page.locator("summary").click()
    answer = {"error": "endpoint: no such host", "field": "endpoint"}
    portal.joins = [(400, answer, {})]
    connect(page)
    error(page, "endpoint: no such host")
    # Advanced is open again, and the complaint is in it.
    assert focused(page) == "endpoint"
    expect(endpoint).to_be_visible()
    expect(endpoint).to_have_attribute("aria-invalid", "true")
    expect(endpoint).to_have_accessible_description(re.compile("no such host"))
    assert page.locator("details #error").count() == 1
    connect(page)
    title(page, "Joining Hidden")
    assert portal.posted("/api/join", 2)[1] == {
        "token": portal.token,
        "ssid": "Hidden",
        "passphrase": "",
        "endpoint": "example.org:8883",
    }
    becomes(page, portal, {"state": "failed", "ssid": "Hidden", "reason": "not found"})
    error(page, "was not found")
    expect(page.locator("#ssid")).to_have_value("Hidden")


@pytest.mark.parametrize(
    ("network", "field", "blamed", "above"),
    [
        ("Lab", "passphrase", "password", "optional"),
        ("Other network", "ssid", "ssid", "ssidPart"),
        ("Other network", "passphrase", "password", "optional"),
        # Not to be seen in this form, or not known: then the heading keeps the focus.
        ("Lab", "ssid", "chosen", "optional"),
        ("Guests", "passphrase", "chosen", "optional"),
        ("Lab", None, "chosen", "optional"),
        ("Lab", "constructor", "chosen", "optional"),
    ],
)
def test_the_field_to_blame_has_the_focus(page, portal, network, field, blamed, above):
    press(page, network)
    if network == "Other network":
        page.locator("#ssid").fill("Hidden")
    if network != "Guests":
        page.locator("#password").fill("p\u00e4ssw\u00f6rter")
    answer = {"error": "no accents", **({"field": field} if field else {})}
    portal.joins = [(400, answer, {})]
    connect(page)
    error(page, "no accents")
    assert focused(page) == blamed
    assert page.evaluate("find('error').previousElementSibling.id") == above
    invalid = page.evaluate("[...document.querySelectorAll('[aria-invalid]')].map((x) => x.id)")
    assert invalid == ([] if blamed == "chosen" else [blamed])
    connect(page)
    title(page, "Joining")
    assert page.locator("[aria-invalid]").count() == 0


def test_a_heading_with_the_focus_has_no_frame(page, portal):
    press(page, "Guests")
    assert focused(page) == "chosen"
    # Also when it was a key that led there, which makes a browser show the focus.
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.tagName === 'H2'")
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "none"


def test_a_short_password_is_not_sent(page, portal):
    press(page, "Lab")
    press(page, "Connect")
    page.locator("#password").press_sequentially("short")
    press(page, "Connect")
    title(page, "^Lab$")
    assert portal.bodies("/api/join") == []
    press(page, "All networks")
    press(page, "Guests")
    connect(page)
    title(page, "Joining Guests")
    assert portal.posted("/api/join")[0]["passphrase"] == ""


def test_too_many_tries_count_down(page, portal):
    portal.joins = [(429, {"error": "too many tries"}, {"Retry-After": "41"})]
    join(page)
    error(page, "Too many tries")
    button = page.locator("#connect")
    expect(button).to_be_disabled()
    expect(button).to_have_text(re.compile(r"Try again in (41|40|39) s"))
    page.clock.fast_forward(42000)
    expect(button).to_have_text("Connect")
    expect(button).to_be_enabled()
    error(page, "^$")
    connect(page)
    title(page, "Joining Lab")


def test_a_module_that_has_started_again(page, portal):
    portal.token = "1" * 32
    join(page)
    title(page, "Joining Lab")
    assert [body["token"][0] for body in portal.posted("/api/join", 2)] == ["0", "1"]
    # And once more, in the middle of the try: nothing is known of it.
    becomes(page, portal, {"state": "idle"})
    error(page, "Please try again")
    expect(page.locator("#password")).to_have_value(SECRET)


def test_somebody_else_is_faster(page, portal):
    portal.joins = [(409, {"error": "busy"}, {})]
    portal.state = {"state": "trying", "ssid": "Guests"}
    join(page)
    title(page, "Joining Guests")
    # Right too for who tries another network than this one.
    expect(page.locator("#detail")).to_contain_text("already trying a network")
    becomes(page, portal, {**JOINED, "ssid": "Guests"})
    title(page, "It works")
    expect(page.locator("#detail")).to_contain_text("Guests")


def test_the_phone_loses_the_module(page, portal):
    join(page)
    title(page, "Joining Lab")
    portal.gone = True
    page.clock.fast_forward(3000)
    title(page, "Joining Lab")
    page.clock.fast_forward(4000)
    title(page, "out of reach")
    becomes(page, portal, JOINED)
    title(page, "It works")
    # The access point has gone: that is how it ends when nobody presses Done.
    portal.gone = True
    page.clock.fast_forward(7000)
    title(page, "All done")


def test_a_module_that_stays_away_is_given_up(page, portal):
    join(page)
    title(page, "Joining Lab")
    portal.gone = True
    page.clock.fast_forward(7000)
    title(page, "out of reach")
    detail = page.locator("#detail")
    expect(detail).to_contain_text("Join the Wi-Fi ExpressLink-ab12cd again")
    assert "busy" in page.locator("#result").get_attribute("class")
    page.clock.fast_forward(60000)
    expect(detail).to_contain_text("goes on looking")
    page.clock.fast_forward(9000)
    expect(detail).to_contain_text("most likely on Lab")
    expect(detail).to_contain_text("ExpressLink-ab12cd is no longer in your phone's list")
    # Neither a sign that it goes on nor a tick.
    assert page.evaluate("getComputedStyle(find('result'), '::before').content") == "none"
    expect(page.locator("#result svg")).to_be_hidden()
    # Who joins it again sees the result.
    becomes(page, portal, JOINED)
    title(page, "It works")


def test_a_module_that_has_gone_without_a_try(page, portal):
    join(page)
    becomes(page, portal, WRONG)
    error(page, "Wrong password")
    press(page, "All networks")
    found(page)
    portal.gone = True
    press(page, "Refresh")
    expect(page.locator("#note")).to_contain_text("could not look")
    page.clock.fast_forward(80000)
    title(page, "out of reach")
    detail = page.locator("#detail")
    expect(detail).to_contain_text("the set-up has ended")
    assert "Lab" not in detail.text_content()


def test_a_slow_answer_is_waited_for(page, portal):
    portal.delay = 2
    press(page, "Guests")
    press(page, "Connect")
    assert portal.posted("/api/join")
    # Eight seconds are not over, so that it does not ask how it stands.
    for part in (5500, 1300):
        page.clock.fast_forward(part)
        page.wait_for_timeout(200)
    assert [path for _, path, _ in portal.asked].count("/api/state") == 1


def test_a_join_whose_answer_is_lost(page, portal):
    press(page, "Lab")
    page.locator("#password").fill(SECRET)
    portal.gone = True
    press(page, "Connect")
    title(page, "Joining Lab")
    page.clock.fast_forward(2000)
    portal.gone = False
    error(page, "Please try again")
    assert focused(page) == "chosen"


def test_no_networks_no_scan_and_slow_answers(page, portal):
    portal.delay = 1
    portal.networks = (503, {"error": "no scan possible now"})
    press(page, "Refresh")
    expect(page.locator("#note")).to_have_text("Looking for networks…")
    press(page, "Refresh")
    expect(page.locator("#note")).to_contain_text("could not look")
    expect(page.locator("#note")).to_contain_text("Move closer to your router, then Refresh.")
    assert [path for _, path, _ in portal.asked].count("/api/networks") == 2
    portal.delay = 0
    portal.networks = (200, {"networks": []})
    press(page, "Refresh")
    expect(page.locator("#note")).to_have_text(
        "Networks found: 0 Move closer to your router, then Refresh."
    )
    assert page.get_by_role("listitem").count() == 1


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"state": "trying", "ssid": "Lab"}, "Joining"),
        (JOINED, "It works"),
        (WRONG, "Lab"),
        ({"state": "failed", "ssid": "Lab", "reason": "timeout"}, "Lab"),
    ],
)
def test_a_page_that_is_loaded_again_shows_how_it_stands(page, portal, state, shown):
    portal.state = state
    page.reload()
    title(page, shown)


def test_with_the_keyboard_alone(browser, portal):
    with portal_browser.tab(browser, portal.url, DESKTOP) as page:
        found(page)
        keys = page.keyboard
        for _ in range(2):
            keys.press("Tab")
        keys.press("Enter")
        assert focused(page) == "password"
        keys.type(SECRET)
        keys.press("Tab")
        assert focused(page) == "reveal"
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid"
        for _ in range(2):
            keys.press("Tab")
        assert focused(page) == "connect"
        keys.press("Enter")
        title(page, "Joining Lab")
        assert focused(page) == "outcome"
        becomes(page, portal, JOINED)
        title(page, "It works")
        keys.press("Tab")
        assert focused(page) == "done"
        keys.press("Enter")
        title(page, "All done")
