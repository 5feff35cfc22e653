"""DIAG, STAT? and the device modes: 6.2.1, D16."""

import re

import pytest

from tests_host.system.conftest import connect, give_wifi, next_event, reset
from tools.sim.filesystem import of_board


def info(module):
    """DIAG INFO as a dictionary."""
    reply = module.command(b"AT+DIAG INFO")
    assert reply.startswith(b"OK ")
    lines = reply[3:].decode().split("\\A")
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def test_scan_shows_the_strongest_first_and_escapes_names(make_module):
    module = make_module("--ap", "weak\nnet:passphrase", "--ap", "back\\slash:")
    reply = module.command(b"AT+DIAG SCAN")
    assert reply.startswith(b"OK {SCANRES} -")
    assert b"db weak\\Anet" in reply
    assert b"db back\\\\slash" in reply
    lines = re.split(rb"\\A(?=-)", reply[len(b"OK {SCANRES} ") :])
    strengths = [int(line.split(b"db ")[0]) for line in lines]
    assert strengths == sorted(strengths, reverse=True)
    assert len(lines) == 2
    for line in (b"0", b"31", b"x", b"-1"):
        assert module.command(b"AT+DIAG SCAN " + line).startswith(b"ERR4 ")


def test_scan_finds_nothing(make_module):
    module = make_module()
    module.wifi(up=False)
    assert module.command(b"AT+DIAG SCAN") == b"OK {SCANRES}"


def test_ping(module):
    reply = module.command(b"AT+DIAG PING 127.0.0.1 2")
    assert re.fullmatch(rb"OK 127\.0\.0\.1 sent 2 received 2 min \d+ avg \d+ max \d+ ms", reply)
    # It has left the access point that it joined.
    assert info(module)["wifi"] == "down"
    assert module.command(b"AT+DIAG PING nowhere.invalid").startswith(b"ERR4 ")
    assert module.command(b"AT+DIAG PING 192.0.2.1 1") == b"OK 192.0.2.1 sent 1 received 0"
    for count in (b"0", b"11", b"x"):
        assert module.command(b"AT+DIAG PING 127.0.0.1 " + count).startswith(b"ERR4 ")
    connect(module)
    assert module.command(b"AT+DIAG PING localhost 1").startswith(
        b"OK 127.0.0.1 sent 1 received 1"
    )
    assert module.command(b"AT+CONNECT?") == b"OK 1"


def test_ping_without_access_point(make_module):
    module = make_module()
    give_wifi(module)
    module.wifi(up=False)
    reply = module.command(b"AT+DIAG PING 127.0.0.1", timeout=60)
    assert reply == b"ERR6 NO CONNECTION Wi-Fi access point not found"


def test_log_lines_go_to_the_console_only(module):
    assert module.command(b"AT+DIAG LOG OFF") == b"OK"
    assert module.command(b"AT+DIAG LOG") == b"OK 0 OFF"
    before = len(module.console())
    connect(module)
    assert len(module.console()) == before
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+DIAG LOG info") == b"OK"
    connect(module)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert "session: joining" in module.console()[before:]
    reset(module)
    assert module.command(b"AT+DIAG LOG") == b"OK 3 INFO"


def test_heap(module):
    reply = module.command(b"AT+DIAG HEAP")
    free, used, largest = map(
        int, re.fullmatch(rb"OK free (\d+) used (\d+) largest (\d+)", reply).groups()
    )
    assert 0 < largest <= free
    assert used > 10000


def test_info_counts(module, operator):
    before = info(module)
    assert before["mode"] == "normal"
    assert before["reset-cause"] == "power-on"
    assert before["connections"] == "0"
    module.write(b"noise\nAT+" + b"x" * 6000 + b"\n")
    assert module.read_line() == b"ERR1 OVERFLOW"
    connect(module)
    thing = module.command(b"AT+CONF? ThingName")[3:].decode()
    assert module.command(b"AT+CONF Topic1=in") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    assert next_event(module) == b"OK 2 0 STARTUP"
    operator.publish(f"{thing}/in", b"x" * 5001)
    assert next_event(module) == b"OK 4 0 OVERRUN in"
    operator.publish(f"{thing}/in", b"y")
    assert next_event(module) == b"OK 1 1 MSG"
    assert module.command(b"AT+STAT? Overflow") == b"OK 1"
    assert module.command(b"AT+STAT? OVERFLOW") == b"OK 0"
    after = info(module)
    assert (after["noise"], after["overflows"]) == ("1", "1")
    assert (after["messages-received"], after["messages-lost"]) == ("1", "1")
    assert after["connections"] == "1"
    assert after["wifi"].startswith("up -50 dB 192.168.")
    assert int(after["replies"]) > int(before["replies"]) + 5
    assert module.command(b"AT+DIAG INFO noise") == b"OK 1"
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    assert module.command(b"AT+CONF EndPoint=localhost:1") == b"OK"
    assert module.command(b"AT+CONNECT", timeout=60).startswith(b"ERR14 ")
    assert "not reachable" in info(module)["last-failure"]


def test_modes(make_module):
    module = make_module()
    assert info(module)["mode"] == "configuration"
    assert module.command(b"AT+CONF SSID=x") == b"OK"
    assert info(module)["mode"] == "normal"
    assert module.command(b"AT+CONF SSID=") == b"OK"
    assert info(module)["mode"] == "configuration"


@pytest.mark.parametrize("line", [b"AT", b"AT+CONF SSID=y", b"AT+DIAG HEAP", b"AT+EVENT?"])
def test_idle_after_a_damaged_identity(make_module, line):
    module = make_module()
    give_wifi(module)
    module.power_cut()
    with of_board(module.state) as files:
        key = bytearray(files.read("/factory/key.der"))
        key[-1] ^= 1
        files.write("/factory/key.der", key)
    module.power_on()
    state = info(module)
    assert state["mode"] == "idle"
    assert state["reason"] == "identity damaged, key.der"
    assert state["identity-faults"] == "key.der"
    assert module.command(line).startswith(b"OK")
    expected = b"ERR14 UNABLE TO CONNECT identity damaged, key.der"
    assert module.command(b"AT+CONNECT") == expected
    assert module.command(b"AT+CONF? SSID") in (b"OK sim-ap", b"OK y")
