"""The UART's settings, all error codes, the longest times, the back-off (chapter 3)."""

import ast
import re
import sys
import time
import types
from pathlib import Path

import pytest

import tests_host.unit.conftest  # noqa: F401 - lets CPython import the firmware
from tests_host.conformance.directives import direct
from tools.sim.registers import Registers

_ROOT = Path(__file__).resolve().parents[2]

# The texts of Table 1, by number.
TEXTS = {
    1: b"OVERFLOW",
    2: b"PARSE ERROR",
    3: b"COMMAND NOT FOUND",
    4: b"PARAMETER ERROR",
    5: b"INVALID ESCAPE",
    6: b"NO CONNECTION",
    7: b"TOPIC OUT OF RANGE",
    8: b"TOPIC UNDEFINED",
    9: b"INVALID KEY LENGTH",
    10: b"INVALID KEY NAME",
    11: b"UNKNOWN KEY",
    12: b"KEY READONLY",
    13: b"KEY WRITEONLY",
    14: b"UNABLE TO CONNECT",
    15: b"TIME NOT AVAILABLE",
    16: b"LOCATION NOT AVAILABLE",
    17: b"MODE NOT AVAILABLE",
    18: b"ACTIVE CONNECTION",
    19: b"HOST IMAGE NOT AVAILABLE",
    20: b"INVALID ADDRESS",
    21: b"INVALID OTA UPDATE",
    22: b"INVALID QUERY",
    23: b"INVALID SIGNATURE",
}
# A line for each code, on a module that is not connected.
PROVOKED = {
    1: b"AT+CONF Topic1=" + b"x" * 6000,
    2: b"AT+GET1x",
    3: b"AT+NOSUCH",
    4: b"AT+CONNECT1",
    5: b"AT+CONF Topic1=\\q",
    6: b"AT+SEND topic x",
    7: b"AT+GET17",
    8: b"AT+GET1",
    9: b"AT+CONF? 0123456789ABCDEFG",
    10: b"AT+CONF? S-SID",
    11: b"AT+CONF? Nothing",
    12: b"AT+CONF Version=1",
    13: b"AT+CONF? Passphrase",
    14: b"AT+CONNECT",
    15: b"AT+TIME?",
    16: b"AT+WHERE?",
    17: b"AT+CONFMODE",
    19: b"AT+OTA READ 1",
    21: b"AT+OTA ACCEPT",
    22: b"AT+RESET?",
    23: b"AT+CONF OTAcertificate=x",
}
CONNECTED = {18: b"AT+SLEEP"}
IN_CONFMODE = {17}
WITH_IMAGE = {20: b"AT+OTA SEEK 2"}


@pytest.mark.clause("Table 1", "3.5.1", "D7")
@pytest.mark.parametrize("code", sorted(TEXTS))
def test_error_code_and_text(stage, code):
    if code in CONNECTED:
        stage.connect()
    if code in IN_CONFMODE:
        stage.must(b"AT+CONFMODE", b"OK CONFMODE ENABLED")
    if code in WITH_IMAGE:
        stage.new_module()
        stage.connect()
        direct(stage, "order a 202 text text=x")
        direct(stage, "ota 2")
        stage.must(b"AT+OTA ACCEPT")
        direct(stage, "ota 5")
    reply = stage.ask((PROVOKED | CONNECTED | WITH_IMAGE)[code])
    head = b"ERR%d %s" % (code, TEXTS[code])
    assert reply == head or reply.startswith(head + b" ")
    assert reply == reply.rstrip()
    assert b"OK" not in reply


def constants(path):
    """The bytes literals of a source file."""
    tree = ast.parse(path.read_text())
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [value for value in found if isinstance(value, bytes)]


@pytest.mark.clause("D7")
def test_no_text_of_the_firmware_holds_ok_but_the_reply_itself():
    texts = {path: constants(path) for path in (_ROOT / "firmware").rglob("*.py")}
    assert sum(map(len, texts.values())) > 300
    with_ok = {
        (path.name, text) for path, found in texts.items() for text in found if b"OK" in text
    }
    assert with_ok == {("reply.py", b"OK")}


@pytest.mark.clause("D7", "Table 1")
def test_all_texts_of_table_1_are_known():
    from firmware.profile import V05

    assert dict(enumerate(V05.errors.split(b"|"))) == {0: b"", **TEXTS}


@pytest.mark.clause("3")
@pytest.mark.parametrize("name", ["ESP32-DevKitC", "ESP32-S3-DevKitC-1", "ESP32-C3-ExpressLink"])
def test_the_driver_is_told_115200_8n1_without_flow_control(monkeypatch, name):
    from firmware.board import Board

    asked = []

    class Uart:
        def __init__(self, number, baudrate=None, bits=8, parity=None, stop=1, **other):
            asked.append((baudrate, bits, parity, stop))
            flow = {"flow", "rts", "cts", "invert"} & set(other)
            assert not flow, flow

    class Pin:
        IN = OUT = PULL_UP = 0

        def __init__(self, *_, **__):
            pass

    machine = types.SimpleNamespace(
        UART=Uart,
        Pin=Pin,
        reset=None,
        reset_cause=lambda: 1,
        unique_id=lambda: b"x",
        freq=lambda: 160000000,
    )
    monkeypatch.setitem(sys.modules, "machine", machine)
    Board(name)
    assert asked == [(115200, 8, None, 1)]


@pytest.mark.clause("3")
def test_the_rate_cannot_be_changed(stage):
    for key in (b"Baud", b"BaudRate", b"UART", b"Parity"):
        stage.must(b"AT+CONF " + key + b"=9600", b"ERR11 UNKNOWN KEY")
    stage.must(b"AT+CONF? Baud", b"ERR11 UNKNOWN KEY")
    registers = Registers(stage.module.state / "registers.bin")
    assert registers.get("uart_baud") == 115200


@pytest.mark.clause("3.5.2")
def test_the_datasheet_lists_the_longest_time_of_every_command():
    from firmware.commands.table import COMMANDS

    readme = (_ROOT / "README.md").read_text()
    datasheet = readme[readme.index("## Datasheet") :]
    datasheet = datasheet[: datasheet.index("\n## ")]
    rows = [line for line in datasheet.splitlines() if line.startswith("|")]
    named = set(re.findall(r"`([A-Z_]+\??)#?`?", "\n".join(rows)))
    words = {word.decode() for word in COMMANDS}
    missing = {word for word in words if word not in named and word.rstrip("?") not in named}
    assert not missing


@pytest.mark.clause("3.5.2", "3.6.2.2", "D18", "7.10.2.2")
def test_what_nobody_answers_ends_in_time(stage):
    # Three modules at once, for these are the tests that have to wait.
    stage.new_module()
    sender, sender_thing = stage.module, stage.thing
    stage.connect()
    stage.new_module()
    pasted = stage.module
    stage.new_module()
    stage.wifi()
    caller = stage.module
    fault = stage.cloud.control.fault
    fault("drop", packet="PUBACK", client=sender_thing)
    fault("silent", at="connect", client=stage.thing)
    stage.operator.subscribe("#")
    started = time.monotonic()
    sender.write(b"AT+SEND out once\n")
    pasted.write(b"AT+CONF HOTAcertificate=pem\n-----BEGIN CERTIFICATE-----\nMIIB\n")
    caller.write(b"AT+CONNECT\n")
    # Beside these a CONNECT may wait for 60 s of back-off, 23 s of Wi-Fi and 6 s of SNTP.
    assert caller.read_line(60).startswith(b"ERR14 UNABLE TO CONNECT no answer")
    assert time.monotonic() - started < 30
    assert sender.read_line(60).startswith(b"ERR6 NO CONNECTION ")
    assert 28 < time.monotonic() - started < 34
    assert pasted.read_line(60).startswith(b"ERR23 INVALID SIGNATURE")
    assert 28 < time.monotonic() - started < 36
    for module in (sender, pasted, caller):
        assert module.command(b"AT") == b"OK"
    assert pasted.command(b"AT+CONF? HOTAcertificate") == b"OK"
    # Sent once, and not again (D18).
    stage.mend()
    sender.command(b"AT+SEND out twice")
    out = [payload for topic, payload in stage.operator.messages if "/out" in topic]
    assert out.count(b"once") == 1


def refused(stage):
    """CONNECT fails; returns the seconds that it took."""
    reply = stage.ask(b"AT+CONNECT")
    assert reply.startswith(b"ERR14 UNABLE TO CONNECT"), reply
    return stage.took


@pytest.mark.clause("D20", "3.6.2")
def test_the_back_off_grows_and_ends_with_success(stage):
    stage.wifi()
    stage.must(b"AT+CONF EndPoint=localhost:1")
    # The first try waits for nothing, and neither does the reply of a failed one.
    assert refused(stage) < 2
    waited = sum(refused(stage) for _ in range(3))
    # Full jitter: 1 + 2 + 4 s at most; with what a try takes, under 0.3 s once in 10,000 runs.
    assert 0.3 < waited < 1 + 2 + 4 + 4
    stage.must(b"AT+CONF EndPoint=" + stage.name("endpoint"))
    stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
    stage.must(b"AT+DISCONNECT", b"OK 0 DISCONNECTED")
    started = time.monotonic()
    for _ in range(3):
        stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
        stage.must(b"AT+DISCONNECT", b"OK 0 DISCONNECTED")
    assert time.monotonic() - started < 3


@pytest.mark.clause("D20")
def test_a_connection_that_ends_at_once_counts_as_a_failure(stage):
    stage.connect()
    waited = 0.0
    for _ in range(3):
        stage.cloud.control.kick(stage.thing)
        stage.cloud.control.wait_client(stage.thing, present=False)
        # Before it has seen that it would say that it is connected.
        while stage.module.command(b"AT+CONNECT?").startswith(b"OK 1"):
            time.sleep(0.01)
        stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
        waited += stage.took
    assert 0.5 < waited < 1 + 2 + 4 + 4


@pytest.mark.clause("D20")
def test_limits_of_the_back_off():
    from firmware.cloud.backoff import Backoff

    now = [0]
    longest = Backoff(lambda: now[0], lambda a, b: a - b, lambda n: n - 1)
    seen = []
    for _ in range(9):
        longest.failed()
        seen.append(longest.remaining())
    assert seen == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
    now[0] += 59000
    assert longest.remaining() == 1000
    # Full jitter: nothing at all is possible too.
    none = Backoff(lambda: 0, lambda a, b: a - b, lambda n: 0)
    none.failed()
    assert none.remaining() == 0
