"""Headless Chromium for the portal's tests, and what every view of the page must fulfil."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect, sync_playwright

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SMALL = {"viewport": {"width": 320, "height": 568}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}

# A password, and states of a module that tries it.
SECRET = "correct horse battery"
JOINED = {"state": "joined", "ssid": "Lab", "address": "192.168.1.7", "left": 52}
WRONG = {"state": "failed", "ssid": "Lab", "reason": "wrong passphrase"}

# The edge of the smallest thing to press, in CSS pixels.
_TARGET = 44


def chromium():
    """Where Chromium is; skips without it, and fails in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing, and this is CI")
        pytest.skip("chromium is not installed")
    return path


@contextlib.contextmanager
def browser():
    """A browser, as Debian ships it: nothing is downloaded."""
    path = chromium()
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path)
        yield started
        started.close()


@contextlib.contextmanager
def tab(started, url, device=PHONE, **options):
    """A page at `url` in a fresh profile, with a clock that `page.clock.fast_forward` moves.

    At the end: no script failed, nothing broke the policy, nobody but `url` was asked.
    """
    context = started.new_context(**device, reduced_motion="reduce", **options)
    context.set_default_timeout(15000)
    page = context.new_page()
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Policy" in line.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.goto(url)
    yield page
    context.close()
    assert faults == []
    assert {address for address in asked if not address.startswith((url, "data:"))} == set()


def look_over(page, picture=None):
    """What holds in every view: axe finds nothing, nothing is wider than the window, and
    everything to press is large enough. `picture`: where to leave a screenshot."""
    if picture is not None:
        page.screenshot(path=picture, full_page=True)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    small = page.evaluate(
        """(least) => [...document.querySelectorAll("button, input, summary")]
            .map((each) => [each.id || each.textContent, each.getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.width < least || box.height < least))
            .map(([name, box]) => `${name} ${box.width} x ${box.height}`)""",
        _TARGET,
    )
    assert small == []


def focused(page):
    """The id of the element that has the focus."""
    return page.evaluate("document.activeElement.id")


def found(page):
    """Wait for the list of networks."""
    expect(page.locator("#note")).to_contain_text("found")


def press(page, name):
    """Press the first button whose name has `name` in it."""
    page.get_by_role("button", name=name).first.click()


def connect(page):
    """Press Connect, and wait until the module has answered."""
    with page.expect_response("**/api/join"):
        press(page, "Connect")


def becomes(page, portal, state):
    """The module's state changes, and the page asks for it without the wait between."""
    portal.gone = False
    portal.state = state
    page.clock.fast_forward(2000)


def join(page, network="Lab", password=SECRET):
    """Choose a network, type its password, press Connect."""
    press(page, network)
    page.locator("#password").fill(password)
    connect(page)


def title(page, text):
    """Wait until the heading matches."""
    expect(page.locator("h2:visible")).to_have_text(re.compile(text))


def error(page, text):
    """Wait until what is wrong with the form matches."""
    expect(page.locator("#error[role=alert]")).to_have_text(re.compile(text))
