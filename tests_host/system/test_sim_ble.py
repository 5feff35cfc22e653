"""The virtual board's Bluetooth: what the stand-in for `bluetooth` does, seen by a central."""

import contextlib
import json
import shutil
import time

import pytest

from tests_host.system.sim_apps import REMOTE, Remote
from tools.sim import flash, manufacture
from tools.sim.central import Central, CentralError, Faults

FIRST = "15ba8b82-df9a-46dc-865a-177a17ad9035"
SERVICE = "5704246a-5d4c-4f19-9b53-157d8824063d"

# Every event with its data, and with what was written.
HANDLER = """
def seen_by(event, data):
    data = tuple(bytes(one) if isinstance(one, memoryview) else one for one in data)
    seen.append((event, data, ble.gatts_read(data[1]) if event == 3 else None))
"""
REGISTER = (
    f"((h,),) = ble.gatts_register_services(((bluetooth.UUID('{SERVICE}'),"
    f" ((bluetooth.UUID('{FIRST}'), 0x1A),)),))"
)
SETUP = (
    "import bluetooth; seen = []; ble = bluetooth.BLE(); ble.active(True)",
    f"exec({HANDLER!r})",
    "ble.irq(seen_by)",
    REGISTER,
)
ADVERTISE = "ble.gap_advertise(100000, b'\\x02\\x01\\x06', resp_data=b'\\x04\\x09abc')"


def setup(board):
    for line in SETUP:
        board.run(line)


@pytest.fixture
def board(tmp_path):
    with Remote(tmp_path / "board") as remote:
        setup(remote)
        yield remote


@pytest.fixture
def central(board):
    board.run(ADVERTISE)
    with Central(board.state) as central:
        central.connect()
        yield central


def test_there_is_one_object_and_it_starts_inactive(tmp_path):
    with Remote(tmp_path / "board") as board:
        board.run("import bluetooth; a = bluetooth.BLE(); b = bluetooth.BLE()")
        assert board.value("a is b, a.active()") == (True, False)
        assert board.run("a.gap_advertise(100000, b'')") == "!OSError(19,)"
        with Central(board.state) as central:
            assert central.scan() is None
            with pytest.raises(CentralError, match="no answer"):
                central.connect(0)


def test_settings(board):
    board.run("ble.config(gap_name=b'abc', mtu=200, rxbuf=500)")
    assert board.value("ble.config('gap_name'), ble.config('mtu')") == (b"abc", 200)
    assert board.run("ble.config(mtu=22)") == "!OSError(22,)"
    assert board.run("ble.config(invented=1)").startswith("!ValueError")
    assert board.run("ble.config('invented')").startswith("!ValueError")


def test_advertising_is_seen_and_ends_with_a_connection(board):
    with Central(board.state) as central:
        assert central.scan() is None
        board.run(ADVERTISE)
        assert central.scan() == {"name": "abc", "services": [], "connectable": True}
        central.connect()
        assert central.scan() is None
        assert board.value("seen[0][:2]") == (1, (0, 0, b"\x02sim01"))
        central.disconnect()
        board.until("[e[0] for e in seen]", [1, 2])
        assert board.run("ble.gap_advertise(100000, b'x' * 32)") == "!OSError(22,)"


def test_services_cannot_be_registered_while_advertising(board):
    board.run(ADVERTISE)
    assert board.run(REGISTER) == "!OSError(16,)"
    board.run("ble.gap_advertise(None)")
    assert board.run(REGISTER) == "None"


def test_a_buffer_holds_20_bytes_unless_it_is_made_larger(board, central):
    central.exchange_mtu(247)
    central.write(FIRST, b"x" * 100)
    board.until("[e[2] for e in seen if e[0] == 3]", [b"x" * 20])
    board.run("seen.clear(); ble.gatts_set_buffer(h, 100)")
    central.write(FIRST, b"y" * 100)
    board.until("[e[2] for e in seen]", [b"y" * 100])
    assert central.read(FIRST) == b"y" * 100


def test_a_long_write_is_one_event_only_where_the_buffer_holds_it(board, central):
    # 23 - 5 bytes a part.
    central.write(FIRST, b"0123456789" * 4)
    board.until(
        "[e[2] for e in seen if e[0] == 3]",
        [b"012345678901234567", b"890123456789012345", b"6789"],
    )
    board.run("seen.clear(); ble.gatts_set_buffer(h, 512)")
    central.write(FIRST, b"0123456789" * 51)
    board.until("[e[2] for e in seen]", [b"0123456789" * 51])
    with pytest.raises(CentralError, match="too long"):
        central.write(FIRST, b"x" * 513)


def test_a_buffer_that_appends(board, central):
    board.run("ble.irq(None); ble.gatts_set_buffer(h, 30, True)")
    for _ in range(4):
        central.write(FIRST, b"0123456789")
    assert board.value("ble.gatts_read(h), ble.gatts_read(h)") == (b"0123456789" * 3, b"")


def test_mtu(board, central):
    assert central.exchange_mtu(512) == 256
    board.until("seen[-1][:2]", (21, (0, 256)))
    assert central.exchange_mtu(100) == 100


def test_notifications_fit_the_mtu(board, central):
    board.run("ble.gatts_notify(0, h, b'x' * 50)")
    assert central.notification() == (FIRST, b"x" * 20)
    central.exchange_mtu(100)
    board.run("ble.gatts_write(h, b'value'); ble.gatts_notify(0, h)")
    assert central.notification() == (FIRST, b"value")
    board.run("ble.gatts_write(h, b'other', True)")
    assert central.notification() == (FIRST, b"other")
    assert board.run("ble.gatts_notify(1, h, b'x')") == "!OSError(107,)"
    central.choke(1)
    assert board.run("ble.gatts_notify(0, h, b'x')") == "!OSError(12,)"
    assert board.run("ble.gatts_notify(0, h, b'x')") == "None"
    assert central.notification(0.05) == (FIRST, b"x")
    assert central.notification(0.05) is None


def test_two_centrals(board, central):
    with Central(board.state) as other:
        with pytest.raises(CentralError):
            other.connect(0)
        board.run(ADVERTISE)
        other.connect()
        other.write(FIRST, b"from the other")
        board.until("seen[-1]", (3, (1, 15), b"from the other"), 2)
        board.run("ble.gatts_notify(1, h, b'for the other')")
        assert other.notification() == (FIRST, b"for the other")
        assert central.notification(0.05) is None
        assert board.value("ble.gap_disconnect(1)") is True
        assert other.wait_disconnected()
        board.until("seen[-1][:1]", (2,))
        assert board.value("ble.gap_disconnect(1)") is False
    central.write(FIRST, b"still here")
    board.until("seen[-1][2]", b"still here")


def test_a_central_that_vanishes(board):
    board.run(ADVERTISE)
    central = Central(board.state, Faults(vanish=1))
    central.connect()
    central.write(FIRST, b"1")
    with pytest.raises(CentralError, match="vanished"):
        central.write(FIRST, b"2")
    board.until("[e[0] for e in seen]", [1, 3, 2])


def test_faults(board):
    board.run(ADVERTISE)
    board.run("ble.gatts_set_buffer(h, 100)")
    with Central(board.state, Faults(lost=[0], repeated=[1], damaged={2: 8})) as central:
        central.connect()
        for value in (b"ab", b"cd", b"ef", b"gh"):
            central.write(FIRST, value)
        board.until("[e[2] for e in seen if e[0] == 3]", [b"cd", b"cd", b"eg", b"gh"])


def test_switching_off_lets_the_centrals_go(board, central):
    board.run("ble.active(False)")
    assert central.wait_disconnected()
    with pytest.raises(CentralError):
        central.connect(0)
    setup(board)
    board.run(ADVERTISE)
    central.connect()


@pytest.mark.parametrize("end", ["board.power_cut()", "board.pin('RESET', 0)"])
def test_a_board_without_power_is_silent(board, central, end):
    eval(end)
    assert central.wait_disconnected()
    assert central.scan() is None
    with pytest.raises(CentralError):
        central.connect(0)


def test_junk_on_the_socket_harms_nobody(board, central):
    with Central(board.state) as other:
        for junk in (b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"do":7}\n', b'{"do":"read"}\n'):
            other._socket.sendall(junk)
            other._listen(2)
            assert "error" in other._answers.popleft()
        # It may be cut off before it has said all of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            other._socket.sendall(b"x" * 100000)
    time.sleep(0.05)
    central.write(FIRST, b"still here")
    board.until("seen[-1][2]", b"still here")


def test_a_c3_has_no_room_for_bluetooth_beside_wifi(tmp_path):
    with Remote(tmp_path / "board"):
        pass
    chip = flash.Flash(tmp_path / "board" / "flash.bin")
    manufacture.write_source_mark(chip, manufacture.board_row("ESP32-C3-ExpressLink"))
    chip.close()
    made = json.loads((tmp_path / "board" / "board.json").read_text())
    made["board"] = "ESP32-C3-ExpressLink"
    (tmp_path / "board" / "board.json").write_text(json.dumps(made))
    application = tmp_path / "application"
    shutil.copytree(REMOTE, application)
    main = application / "main.py"
    text = main.read_text().replace("tx=17, rx=16", "tx=19, rx=18").replace("Pin(26", "Pin(10")
    main.write_text(text)
    with Remote(tmp_path / "board", source=application) as board:
        board.run("import bluetooth; ble = bluetooth.BLE(); wlan.active(True)")
        assert board.run("ble.active(True)") == "!OSError(12,)"
        board.run("wlan.active(False)")
        assert board.value("ble.active(True)") is True
