"""SLEEP#, its modes, and what ends them: 3.6.4, D22, D24."""

import time

import pytest

from tests_host.system.conftest import connect


def ready_and_started(module):
    module.wait_ready()
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+EVENT?") == b"OK"


def wait_level(module, level, seconds=5):
    until = time.monotonic() + seconds
    while module.event() != level:
        assert time.monotonic() < until, f"EVENT is not {level}"
        time.sleep(0.01)


@pytest.mark.parametrize("line", [b"AT+SLEEP", b"AT+SLEEP0 5", b"AT+SLEEP1", b"AT+SLEEP2 1"])
def test_no_sleep_while_connected(module, line):
    connect(module)
    assert module.command(line) == b"ERR18 ACTIVE CONNECTION"
    assert module.command(b"AT+CONNECT?") == b"OK 1"


def test_mode_0_keeps_port_and_configuration_until_connect(module):
    assert module.command(b"AT+CONF Topic1=kept") == b"OK"
    assert module.event()
    assert module.command(b"AT+SLEEP") == b"OK"
    # Sleep clears what was pending.
    wait_level(module, 0)
    assert module.command(b"AT") == b"OK"
    assert module.command(b"AT+CONF? Topic1") == b"OK kept"
    assert module.command(b"AT+EVENT?") == b"OK"
    assert module.get("cpu_hz") == 80000000
    connect(module)
    assert module.get("cpu_hz") == 160000000
    assert module.command(b"AT+EVENT?") == b"OK"


def wait_speed(module, hz, seconds=5):
    until = time.monotonic() + seconds
    while module.get("cpu_hz") != hz:
        assert time.monotonic() < until, f"the CPU does not run at {hz}"
        time.sleep(0.02)


@pytest.mark.parametrize("duration", [b" 1", b" 1000"])
def test_mode_0_ends_with_its_time_or_with_wake(module, duration):
    assert module.command(b"AT+SLEEP" + duration) == b"OK"
    wait_speed(module, 80000000)
    if duration == b" 1000":
        module.pin("WAKE", 0)
    wait_speed(module, 160000000)
    assert module.command(b"AT+EVENT?") == b"OK"


def test_a_second_sleep_replaces_the_first(module):
    assert module.command(b"AT+SLEEP 1") == b"OK"
    assert module.command(b"AT+SLEEP 3") == b"OK"
    time.sleep(1.5)
    assert module.get("cpu_hz") == 80000000
    wait_speed(module, 160000000)
    assert module.command(b"AT+SLEEP") == b"OK"
    assert module.command(b"AT+SLEEP") == b"OK"
    connect(module)
    assert module.get("cpu_hz") == 160000000


def test_a_short_pulse_on_wake_ends_light_sleep(module):
    assert module.command(b"AT+SLEEP1 600") == b"OK"
    time.sleep(0.3)
    module.pin("WAKE", 0)
    time.sleep(0.01)
    module.pin("WAKE", 1)
    wait_level(module, 1)


def test_light_sleep_loses_bytes_and_keeps_memory(module):
    assert module.command(b"AT+CONF Topic1=kept") == b"OK"
    started = time.monotonic()
    assert module.command(b"AT+SLEEP1 1") == b"OK"
    time.sleep(0.3)
    assert not module.event()
    module.write(b"AT+CONF Topic1=lost\n")
    wait_level(module, 1)
    assert 0.9 < time.monotonic() - started < 3
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+EVENT?") == b"OK"
    assert module.command(b"AT+CONF? Topic1") == b"OK kept"
    connect(module)


def test_wake_ends_light_sleep(module):
    assert module.command(b"AT+SLEEP1 600") == b"OK"
    time.sleep(0.3)
    module.pin("WAKE", 0)
    wait_level(module, 1)
    module.pin("WAKE", 1)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"


@pytest.mark.parametrize("mode", [b"2", b"9", b"99999999"])
def test_deep_sleep_restarts_after_its_time(module, mode):
    assert module.command(b"AT+CONF Topic1=lost") == b"OK"
    assert module.command(b"AT+SLEEP" + mode + b" 1") == b"OK"
    ready_and_started(module)
    assert module.command(b"AT+CONF? Topic1") == b"OK"
    assert module.command(b"AT+CONF? SSID") == b"OK sim-ap"
    assert module.command(b"AT+DIAG INFO reset-cause") == b"OK deep-sleep"


def test_wake_and_reset_end_an_endless_deep_sleep(module):
    assert module.command(b"AT+SLEEP9") == b"OK"
    time.sleep(0.3)
    module.pin("WAKE", 0)
    module.pin("WAKE", 1)
    ready_and_started(module)
    assert module.command(b"AT+SLEEP9") == b"OK"
    time.sleep(0.3)
    module.write(b"AT\n")
    module.pin("RESET", 0)
    module.pin("RESET", 1)
    ready_and_started(module)


def test_the_clock_goes_on_in_deep_sleep(module):
    connect(module)
    assert module.command(b"AT+TIME?").endswith(b" SNTP")
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+SLEEP2 1") == b"OK"
    ready_and_started(module)
    assert module.command(b"AT+TIME?").endswith(b" RTC")
    module.power_cut()
    module.power_on()
    assert module.command(b"AT+TIME?") == b"ERR15 TIME NOT AVAILABLE"


def test_a_nap_that_is_ended_before_it_began_leaves_the_cpu_at_its_speed(module):
    module.write(b"AT+SLEEP\nAT+CONNECT\n")
    assert module.read_line() == b"OK"
    assert module.read_line(60) == b"OK 1 CONNECTED"
    assert module.get("cpu_hz") == 160000000
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+SLEEP") == b"OK"
    assert module.command(b"AT+SLEEP 1") == b"OK"
    time.sleep(1.5)
    assert module.get("cpu_hz") == 160000000
