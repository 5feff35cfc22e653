"""The virtual board seen from outside: power, reset, watchdog, sleep, pins, clock."""

import subprocess
import time

import pytest

from tests_host.system.sim_apps import REMOTE, Remote
from tools.sim import process, romfs
from tools.sim.module import ModuleError, VirtualModule, connect

WAKE = "wake = machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP)"


@pytest.fixture
def board(tmp_path):
    with Remote(tmp_path / "board") as remote:
        yield remote


def test_it_says_what_it_runs_before_it_is_ready(board):
    assert board.lines == ["running source tree", "ready"]


def test_the_serial_number_is_a_local_address_and_stays(board):
    uid = board.value("machine.unique_id()")
    assert len(uid) == 6
    assert uid[0] & 3 == 2
    assert board.get("uid") == uid.hex()
    board.power_cut()
    board.power_on()
    assert board.value("machine.unique_id()") == uid


def test_a_power_cut_is_a_power_on_reset_and_the_clock_begins_in_2000(board):
    assert board.run("machine.RTC().memory(b'abc')") == "None"
    board.run("machine.RTC().datetime((2026, 11, 21, 0, 9, 38, 34, 0))")
    board.power_cut()
    assert board.get("state") == "off"
    assert board.event() == 0
    board.power_on()
    assert board.event() == 1
    assert board.value("machine.reset_cause()") == 1
    assert board.value("machine.RTC().memory()") == b""
    assert board.value("time.localtime()")[:4] == (2000, 1, 1, 0)


def test_cut_when_off_and_on_when_on_do_nothing(board):
    boots = board.get("counters")["boots"]
    board.power_on()
    assert board.get("counters")["boots"] == boots
    board.power_cut()
    board.power_cut()
    board.power_on()
    assert board.run("1 + 1") == "2"


def test_a_reset_keeps_the_terminal_the_clock_and_the_rtc_memory(board):
    board.run("machine.RTC().memory(b'abc')")
    board.run("machine.RTC().datetime((2026, 11, 21, 0, 9, 38, 34, 0))")
    board.reboot("machine.reset()")
    assert board.value("machine.reset_cause()") == 2
    assert board.value("machine.RTC().memory()") == b"abc"
    assert board.value("time.localtime()")[:5] == (2026, 11, 21, 9, 38)


def test_a_soft_reset_has_its_own_cause(board):
    board.reboot("machine.soft_reset()")
    assert board.value("machine.reset_cause()") == 5


def test_the_reset_pin_holds_the_board_and_is_a_power_on_for_the_chip(board):
    board.run("machine.RTC().memory(b'abc')")
    board.pin("RESET", 0)
    assert board.get("state") == "held in reset"
    assert board.event() == 0
    board.write(b"'lost'\n")
    board.power_on()
    assert board.get("state") == "held in reset"
    board.pin("RESET", 1)
    board.wait_ready()
    assert board.value("machine.reset_cause()") == 1
    assert board.value("machine.RTC().memory()") == b""


def test_power_while_reset_is_held_says_so(board):
    board.power_cut()
    board.pin("RESET", 0)
    assert board.control({"power": "on"}) == {"error": "RESET is held low"}
    board.pin("RESET", 1)
    board.wait_ready()


def test_bytes_that_come_while_it_is_off_are_lost(board):
    board.power_cut()
    board.write(b"'lost'\n")
    time.sleep(0.05)
    board.power_on()
    assert board.run("'heard'") == "'heard'"
    assert board.get("counters")["uart_lost"] == 7


def test_a_watchdog_that_is_not_fed_resets(board):
    board.run("wdt = machine.WDT(timeout=300)")
    for _ in range(4):
        time.sleep(0.15)
        assert board.run("wdt.feed()") == "None"
    started = time.monotonic()
    board.wait_ready(5)
    assert 0.2 < time.monotonic() - started < 1.5
    assert board.value("machine.reset_cause()") == 3


def test_the_watchdog_does_not_bite_while_the_host_does_not_read(board):
    board.run("wdt = machine.WDT(timeout=300)")
    board.write(b"uart.write(b'x' * 200000 + b'\\n'), wdt.feed()\n")
    time.sleep(1.0)
    assert board.read_line() == b"x" * 200000
    assert board.read_line() == b"(200001, None)"
    assert board.get("counters")["boots"] == 1


def test_deep_sleep_ends_by_time(board):
    started = time.monotonic()
    board.run("machine.RTC().memory(b'kept')")
    board.reboot("machine.deepsleep(400)")
    assert 0.4 <= time.monotonic() - started < 2
    assert board.value("machine.reset_cause()") == 4
    assert board.value("machine.wake_reason()") == 4
    assert board.value("machine.RTC().memory()") == b"kept"


def test_deep_sleep_ends_by_the_wake_pin(board):
    board.run(WAKE)
    board.write(b"esp32.wake_on_ext0(wake, 0); machine.deepsleep()\n")
    board.wait_line("deep sleep")
    time.sleep(0.2)
    assert board.get("state") == "in deep sleep"
    assert board.event() == 0
    board.write(b"'lost'\n")
    board.pin("WAKE", 0)
    board.wait_ready()
    assert board.value("machine.reset_cause()") == 4
    assert board.value("machine.wake_reason()") == 2
    assert board.value("machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP).value()") == 0


def test_a_wake_pin_that_has_the_level_already_ends_deep_sleep_at_once(board):
    board.reboot("esp32.wake_on_ext0(machine.Pin(27, machine.Pin.IN), 0); machine.deepsleep()")
    assert board.value("machine.wake_reason()") == 2


def test_light_sleep_loses_bytes_and_goes_on_where_it_was(board):
    board.run(WAKE)
    board.write(b"x = 5; esp32.wake_on_ext0(wake, 0); machine.lightsleep(5000)\n")
    time.sleep(0.1)
    board.write(b"'lost'\n")
    time.sleep(0.1)
    board.pin("WAKE", 0)
    assert board.read_line() == b"None"
    assert board.value("(x, machine.wake_reason(), machine.reset_cause())") == (5, 2, 1)


def test_an_input_reads_its_pull_until_it_is_driven(board):
    board.run("p = machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP)")
    assert board.value("p.value()") == 1
    board.pin("WAKE", 0)
    assert board.value("p()") == 0
    board.pin("WAKE", None)
    assert board.value("p()") == 1
    board.run("p.init(machine.Pin.IN, machine.Pin.PULL_DOWN)")
    assert board.value("p()") == 0


def test_an_interrupt_comes_while_the_loop_waits(board):
    board.run("seen = []")
    board.run("p = machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP)")
    board.run("i = p.irq(lambda pin: seen.append(pin.value()), machine.Pin.IRQ_FALLING)")
    board.pin("WAKE", 0)
    board.pin("WAKE", 1)
    board.pin("WAKE", 0)
    board.until("len(seen)", 2)
    board.run("i = p.irq(lambda pin: seen.append('both'), 3)")
    board.pin("WAKE", 1)
    board.until("seen[2:]", ["both"])


def test_an_interrupt_ends_a_wait_that_nothing_else_would_end(board):
    board.run("p = machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP)")
    board.run("i = p.irq(lambda pin: uart.write(b'edge\\n'), machine.Pin.IRQ_FALLING)")
    time.sleep(0.1)
    board.pin("WAKE", 0)
    assert board.read_line(2) == b"edge"


def test_event_is_what_the_firmware_set(board):
    board.run("event.off()")
    assert board.event() == 0
    board.run("event(1)")
    assert board.event() == 1
    assert board.value("event()") == 1


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "not a JSON object with a command"),
        (b'{"get": "X"}', "nothing is called 'X'"),
        (b'{"set": 1}', "unknown command with set"),
        (b'{"pin": "EVENT", "level": 1}', "EVENT is an output of the module"),
        (b'{"pin": "FOO", "level": 1}', "no pin is called 'FOO'"),
        (b'{"pin": "WAKE", "level": 2}', "a level is 0, 1"),
        (b'{"pin": "WAKE", "level": true}', "a level is 0, 1"),
        (b'{"power": "maybe"}', "power is "),
        (b'{"wifi": {"ssid": "other", "up": true}}', "no access point is called 'other'"),
        (b'{"wifi": {"ssid": "sim-ap", "up": 1}}', "'up' has to be bool"),
        (b'{"wifi": {"up": false}}', "the ssid is missing"),
        (b'{"flash": {"fail_after": -1}}', "flash takes {fail_after: N}"),
        (b'{"flash": {"fail": 1}}', "flash takes {fail_after: N}"),
    ],
)
def test_a_wrong_command_gets_an_error_and_the_next_one_works(shared, order, error):
    with connect(shared.control_path) as client, client.makefile("rwb") as stream:
        stream.write(order + b'\n{"get": "EVENT"}\n')
        stream.flush()
        assert error in stream.readline().decode()
        assert stream.readline() == b'{"EVENT": 1}\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Remote(tmp_path_factory.mktemp("shared")) as remote:
        yield remote


def test_the_control_socket_may_have_a_long_name(tmp_path):
    folder = tmp_path / ("long" * 25) / ("name" * 10)
    folder.mkdir(parents=True)
    with Remote(folder) as remote:
        assert remote.event() == 1
    assert not (folder / "control").is_symlink()


def test_two_on_one_folder_are_refused(shared):
    with pytest.raises(ModuleError, match="another virtual module runs on"):
        VirtualModule(shared.state, None, "--identity", "none").start()


def test_an_application_that_ends_before_startup_is_an_error(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("print('so far')\nraise ValueError('broken')\n")
    with pytest.raises(ModuleError) as caught:
        Remote(tmp_path / "board", source=app).start()
    assert "main.py ended before STARTUP" in str(caught.value)
    assert "so far" in str(caught.value)
    assert "ValueError: broken" in str(caught.value)


def test_the_link_is_removed_at_the_end(tmp_path):
    remote = Remote(tmp_path)
    with remote:
        assert remote.link.is_symlink()
    assert not remote.link.is_symlink()


def test_an_identity_without_a_cloud_is_refused(tmp_path):
    with pytest.raises(ModuleError, match="needs --cloud"):
        VirtualModule(tmp_path, None).start()


def test_the_vm_dies_with_a_supervisor_that_is_killed(tmp_path):
    remote = Remote(tmp_path / "board")
    remote.start()
    try:
        # Busy, so that it does not see the end of its pipes.
        remote.write(b"time.sleep(60)\n")
        time.sleep(0.1)
        assert len(vms_on(tmp_path)) == 2
        remote.kill()
        end = time.monotonic() + 5
        while vms_on(tmp_path):
            assert time.monotonic() < end, vms_on(tmp_path)
            time.sleep(0.02)
    finally:
        remote.stop()
    # And the folder can be used again.
    with Remote(tmp_path / "board") as again:
        assert again.run("1 + 1") == "2"


def vms_on(folder):
    found = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    )
    return [line for line in found.stdout.splitlines() if str(folder) in line]


def test_another_vm_runs_the_same_board(tmp_path, monkeypatch):
    # The wheel's own script stands for a VM that maps no memory.
    monkeypatch.setenv("MICROPYTHON", str(romfs.ROOT / ".venv" / "bin" / "micropython"))
    with Remote(tmp_path / "board", "--heap", "256") as board:
        assert board.value("machine.reset_cause()") == 1
        board.run("machine.RTC().memory(b'abc')")
        board.run("f = open('/x', 'w'); f.write('kept'); f.close()")
        board.run(WAKE)
        board.pin("WAKE", 0)
        assert board.value("wake.value()") == 0
        board.run("wlan.active(True); wlan.connect('sim-ap', 'sim-passphrase')")
        board.until("wlan.isconnected()", True)
        board.reboot("machine.reset()")
        assert board.value("machine.RTC().memory()") == b"abc"
        assert board.value("open('/x').read()") == "kept"


def test_a_vm_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROPYTHON", "/nowhere/micropython")
    with pytest.raises(ModuleError, match="MICROPYTHON names /nowhere/micropython"):
        Remote(tmp_path / "board").start()


def test_the_heap_is_limited_and_the_application_is_outside_of_it(tmp_path):
    app = tmp_path / "app"
    (app / "lib").mkdir(parents=True)
    (app / "main.py").write_text((REMOTE / "main.py").read_text())
    # 40 KiB of constants, in flash on a board with frozen code.
    (app / "lib" / "big.py").write_text(
        "".join(f"D{i} = {'%04d' % i * 250!r}\n" for i in range(40))
    )
    with Remote(tmp_path / "board", "--heap", "64", source=app) as board:
        # Bytes are as large here as on a board, of words there is room for 64 Ki / 4.
        free = board.value("(gc.collect(), gc.mem_free())[1]")
        assert 50_000 < free < 2 * 64 * 1024
        assert board.run("x = bytearray(130000)").startswith("!MemoryError")
        before = board.value("(gc.collect(), gc.mem_alloc())[1]")
        board.run("import lib.big")
        assert board.value("(gc.collect(), gc.mem_alloc())[1]") - before < 20_000
        assert board.value("len(lib.big.D7)") == 1000
    with Remote(tmp_path / "stock", "--heap", "64", "--stock", source=app) as board:
        board.run("import sys; sys.path.insert(0, '/app/a')")
        before = board.value("(gc.collect(), gc.mem_alloc())[1]")
        board.run("import lib.big")
        assert board.value("(gc.collect(), gc.mem_alloc())[1]") - before > 40_000


def test_manufacture_puts_the_identity_into_the_filesystem(tmp_path, cloud):
    names = {"birth": {"cert.der", "key.der"}, "claim": {"claim_cert.der", "claim_key.der"}}
    for identity, wanted in names.items():
        board = Manufactured(tmp_path / identity, cloud.state, identity)
        with board:
            files = set(board.value("os.listdir('/factory')"))
            assert files == wanted | {"module.json", "roots.der", "ota_cert.der", "sums"}
            info = board.value("__import__('json').load(open('/factory/module.json'))")
            assert info["endpoint"] == f"localhost:{cloud.mqtt}"
            assert info["ntp"] == f"localhost:{cloud.sntp}"
            assert info["board"] == "ESP32-DevKitC"


class Manufactured(Remote):
    """A remote-controlled board that was made with an identity."""

    def __init__(self, state, cloud, identity):
        VirtualModule.__init__(self, state, cloud, "--identity", identity, "--source", REMOTE)


def test_fixed_buffers_take_their_room_from_the_heap(tmp_path):
    free = []
    for size in (0, 30000):
        app = tmp_path / f"app{size}"
        (app / "firmware").mkdir(parents=True)
        (app / "main.py").write_text((REMOTE / "main.py").read_text())
        (app / "firmware" / "app.py").write_text(f"FIXED_BUFFERS = {size}\n")
        with Remote(tmp_path / f"board{size}", "--heap", "64", source=app) as board:
            free.append(board.value("(gc.collect(), gc.mem_free())[1]"))
    assert 29_000 < free[0] - free[1] < 31_000


def test_fixed_buffers_are_read_from_the_source(tmp_path):
    (tmp_path / "firmware").mkdir()
    assert process.fixed_buffers(tmp_path) == 0
    (tmp_path / "firmware" / "app.py").write_text("x = 1\nFIXED_BUFFERS = const(2 * 512) + 24\n")
    assert process.fixed_buffers(tmp_path) == 1048
    assert process.fixed_buffers(romfs.ROOT) > 0
