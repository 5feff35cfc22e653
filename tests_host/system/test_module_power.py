"""The power goes at any flash operation of a CONF: the old or the new value is there afterwards,
and everything else as it was. A factory reset has the last word."""

import time

import pytest

from tests_host.portal import open_portal


def operations(module):
    counters = module.get("counters")
    return counters["flash_programs"], counters["flash_erases"]


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        (b"SSID", b"first", b"second"),
        (b"EndPoint", b"a.example:1", b"much-longer." + b"x" * 150 + b".example:65535"),
    ],
)
def test_power_cut_at_every_flash_operation_of_conf(make_module, key, first, second):
    module = make_module()
    for line in (b"Passphrase=untouched", b"TopicRoot=root", key + b"=" + first):
        assert module.command(b"AT+CONF " + line) == b"OK"
    certificate = module.command(b"AT+CONF? Certificate")
    seen = set()
    old, new = first, second
    cuts = 0
    for after in range(1, 200):
        module.fail_after(after)
        module.write(b"AT+CONF " + key + b"=" + new + b"\n")
        try:
            survived = module.read_line(timeout=1) == b"OK"
        except TimeoutError:
            survived = False
        module.fail_after(0)
        module.power_cut()
        module.flush()
        module.power_on()
        value = module.command(b"AT+CONF? " + key)[3:]
        assert value in (old, new), (after, value)
        assert value == new or not survived
        assert module.command(b"AT+CONF? TopicRoot") == b"OK root"
        assert module.command(b"AT+CONF? Certificate") == certificate
        cuts += 1
        if survived:
            break
        seen.add(value == new)
        if value == new:
            old, new = new, old
    assert survived
    assert cuts > 3
    # Both outcomes were met on the way: cut before the rename took hold, and after.
    assert False in seen


def test_a_short_value_costs_at_most_two_erases(make_module):
    module = make_module()
    for number in range(40):
        before = operations(module)
        assert module.command(b"AT+CONF SSID=network-%d" % number) == b"OK"
        after = operations(module)
        assert after[1] - before[1] <= 2, number


@pytest.mark.parametrize("delay_ms", [0, 15, 30, 45, 60])
def test_a_factory_reset_forgets_what_is_being_tried(make_module, delay_ms):
    """CONFMODE ends first: a try that succeeds after the clearing must not keep anything."""
    module = make_module()
    open_portal(module).enter(ssid="sim-ap", passphrase="sim-passphrase")
    time.sleep(delay_ms / 1000)
    assert module.command(b"AT+FACTORY_RESET") == b"OK"
    module.wait_ready()
    assert module.command(b"AT+CONF? SSID") == b"OK"
