"""How the portal's page is built and looks, and one run from its list to the event."""

import gzip
import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from tests_host.system import portal_browser
from tests_host.system.conftest import next_event
from tests_host.system.portal_browser import (
    DESKTOP,
    JOINED,
    PHONE,
    SECRET,
    SMALL,
    WRONG,
    becomes,
    connect,
    error,
    focused,
    found,
    join,
    look_over,
    press,
    title,
)
from tests_host.system.portal_fake import PAGE, POLICY
from tools.portal import build

# The builder.


def test_the_firmware_has_the_page_as_it_is_built():
    document, policy = build.document()
    assert gzip.decompress(PAGE) == document, "run python -m tools.portal.build"
    assert policy == POLICY
    assert len(PAGE) < 6500


def test_a_language_is_a_file_more(browser, portal, tmp_path):
    shutil.copytree(build.SOURCE, tmp_path / "source")
    folder = tmp_path / "source" / "texts"
    english = json.loads((folder / "en.json").read_text())
    (folder / "fr.json").write_text(json.dumps({**english, "title": "</script>Wi-Fi, ici"}))
    (folder / "he.json").write_text(json.dumps({**english, "dir": "rtl", "title": "כאן"}))
    portal.page, policy = build.document(tmp_path / "source")
    portal.policy = policy.decode()
    for locale, shown, direction in (
        ("fr-CA", "</script>Wi-Fi, ici", "ltr"),
        ("he-IL", "כאן", "rtl"),
        ("ja-JP", "Connect to Wi-Fi", "ltr"),
    ):
        with portal_browser.tab(browser, portal.url, locale=locale) as page:
            found(page)
            expect(page.locator("h1")).to_have_text(shown)
            assert page.evaluate("document.documentElement.dir") == direction
            look_over(page)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"title": None}, "fr.json lacks"),
        ({"titel": "Wi-Fi"}, "fr.json has unknown"),
        ({"wait": "attendez"}, "wait has other places"),
    ],
)
def test_a_language_with_a_fault_is_not_built(tmp_path, change, complaint):
    english = json.loads((build.SOURCE / "texts" / "en.json").read_text())
    other = {key: text for key, text in {**english, **change}.items() if text is not None}
    (tmp_path / "en.json").write_text(json.dumps(english))
    (tmp_path / "fr.json").write_text(json.dumps(other))
    with pytest.raises(build.BuildError, match=complaint):
        build.texts(tmp_path)


# Every view, as it looks.


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_view_can_be_seen_and_pressed(browser, portal, tmp_path, device, scheme):
    number = iter(range(100))

    def view(name):
        look_over(page, tmp_path / f"{next(number):02}-{name}.png")

    portal.open = True
    portal.ready.clear()
    with portal_browser.tab(browser, portal.url, device, color_scheme=scheme) as page:
        title(page, "Just a moment")
        view("loading")
        portal.ready.set()
        found(page)
        view("list")
        networks, portal.networks = portal.networks, (200, {"networks": []})
        press(page, "Refresh")
        expect(page.locator("#note")).to_contain_text("found: 0")
        view("none")
        portal.networks = networks
        press(page, "Refresh")
        expect(page.get_by_role("listitem")).to_have_count(7)
        press(page, "Guests")
        view("open-network")
        press(page, "All networks")
        press(page, "Other network")
        page.locator("summary").click()
        view("other-network")
        press(page, "All networks")
        join(page)
        title(page, "Joining Lab")
        # These pages are seen by somebody who does not like motion.
        assert page.evaluate("document.getAnimations().length") == 0
        view("trying")
        becomes(page, portal, WRONG)
        error(page, "Wrong password")
        view("wrong")
        sentence = "The cloud endpoint must be a host name, or host:port."
        portal.joins = [(400, {"error": sentence, "field": "endpoint"}, {})]
        portal.joins += [(429, {}, {"Retry-After": "41"}), (409, {}, {})]
        connect(page)
        error(page, "host:port")
        view("endpoint")
        connect(page)
        error(page, "Too many")
        view("too-many")
        page.clock.fast_forward(60000)
        portal.state = {"state": "trying", "ssid": "Lab"}
        connect(page)
        expect(page.locator("#detail")).to_contain_text("already")
        view("busy")
        portal.gone = True
        page.clock.fast_forward(7000)
        title(page, "out of reach")
        expect(page.locator("#detail")).to_contain_text("ExpressLink-ab12cd again")
        view("away")
        page.clock.fast_forward(75000)
        expect(page.locator("#detail")).to_contain_text("most likely on Lab")
        view("given-up")
        becomes(page, portal, JOINED)
        title(page, "It works")
        view("joined")
        press(page, "Done")
        title(page, "All done")
        view("end")


@pytest.mark.parametrize("size", [100, 200])
def test_a_small_window_and_large_letters(browser, portal, tmp_path, size):
    portal.open = True
    with portal_browser.tab(browser, portal.url, SMALL) as page:
        found(page)
        page.evaluate("(size) => document.documentElement.style.fontSize = size", f"{size}%")
        look_over(page, tmp_path / "list.png")
        join(page)
        becomes(page, portal, WRONG)
        error(page, "Wrong password")
        page.locator("summary").click()
        look_over(page, tmp_path / "wrong.png")
        connect(page)
        becomes(page, portal, JOINED)
        title(page, "It works")
        look_over(page, tmp_path / "joined.png")


# The virtual module.


@pytest.mark.parametrize("device", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_from_the_list_to_the_event(browser, make_module, tmp_path, device):
    module = make_module("--ap", f"Lab:{SECRET}")
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+CONFMODE") == b"OK CONFMODE ENABLED"
    url = module.wait_line("portal http").split()[1] + "/"
    with portal_browser.tab(browser, url, device) as page:
        found(page)
        look_over(page, tmp_path / "1-list.png")
        join(page, password="not the password")
        error(page, "Wrong password")
        assert focused(page) == "password"
        look_over(page, tmp_path / "2-wrong.png")
        page.locator("#password").fill(SECRET)
        connect(page)
        title(page, "It works")
        expect(page.locator("#address")).to_have_text(re.compile(r"Address \d+\.\d+\.\d+\.\d+"))
        look_over(page, tmp_path / "3-joined.png")
        press(page, "Done")
        title(page, "All done")
        assert next_event(module) == b"OK 7 0 CONFMODE"
    assert module.command(b"AT+CONF? SSID") == b"OK Lab"
    assert SECRET not in module.console()
