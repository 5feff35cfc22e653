"""`make flash` against a virtual stock board: MicroPython, a prompt, an empty filesystem."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests_host.system.conftest import connect, give_wifi
from tools.cloud.identity import issue_birth
from tools.flash.__main__ import _check, application
from tools.flash.board import FlashError
from tools.sim import app_record
from tools.sim.filesystem import of_board
from tools.sim.romfs import ROOT


@pytest.fixture
def board(make_module, tmp_path):
    """A stock board; `board.repl` is its prompt's port."""
    made = make_module("--blank", "--repl", tmp_path / "repl")
    made.repl = tmp_path / "repl"
    return made


@pytest.fixture
def identity(cloud, tmp_path):
    """Options that give a board an identity at the local cloud."""
    issued = issue_birth(cloud.state, "flashed")
    (tmp_path / "cert.pem").write_bytes(issued.cert_pem)
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    return [
        *("--endpoint", f"localhost:{cloud.mqtt}", "--ntp", f"localhost:{cloud.sntp}"),
        *("--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem"),
        *("--ca", cloud.state / "ca.pem", "--thing", "flashed"),
    ]


def flash(port, *options):
    """Run the tool; (exit code, what it said)."""
    run = subprocess.run(
        [sys.executable, "-m", "tools.flash", "--port", str(port), *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ, COLUMNS="200"),
    )
    return run.returncode, run.stdout + run.stderr


def test_flash_a_stock_board_then_again(board, identity):
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    assert "read back and equal" in said
    assert "the board says" in said
    board.wait_ready()
    give_wifi(board)
    connect(board)
    assert board.command(b"AT+CONF? ThingName") == b"OK flashed"
    # Again, on a board that runs us: nothing is left to write, and the configuration stays.
    code, said = flash(board.repl)
    assert code == 0, said
    assert "\n0 files written, 0 removed" in said
    board.wait_ready()
    connect(board)


def test_an_update_replaces_what_differs_and_removes_what_is_gone(board, identity):
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    code = (
        "open('/app/a/firmware/stale.mpy', 'w').close(); open('/app/a/lib/pem.mpy', 'w').close()"
    )
    on_board(board, code)
    code, said = flash(board.repl)
    assert code == 0, said
    assert "\n1 files written, 1 removed" in said


@pytest.fixture
def updated(board, identity):
    """A board that runs a version of its own from /app/b, with another update half done."""
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    board.wait_ready()
    board.power_cut()
    with of_board(board.state) as filesystem:
        for folder, _, names in list(filesystem.fs.walk("/app/a")):
            for name in names:
                path = f"{folder}/{name}"
                filesystem.write("/app/b" + path.removeprefix("/app/a"), filesystem.read(path))
        filesystem.write("/app/record", app_record.pack("b", "v"))
        filesystem.write("/app/record.new", b"OXB")
        filesystem.write("/app/part/firmware/app.mpy", b"half")
        filesystem.write("/ota/image", b"half")
        filesystem.write("/ota/mail", b"the host's")
        # What was half unpacked there.
        filesystem.write("/app/a/firmware/app.mpy", b"M\x06 torn")
    board.power_on()
    assert board.get("slot") == {"label": "/app/b", "state": "valid"}
    return board


def test_a_board_that_runs_an_update_goes_back_to_what_is_flashed(updated):
    code, said = flash(updated.repl)
    assert code == 0, said
    assert "\n1 files written, 0 removed" in said
    assert "files of an update removed: /app/a is what runs now" in said
    updated.wait_ready()
    assert updated.get("slot") == {"label": "/app/a", "state": ""}
    updated.power_cut()
    with of_board(updated.state) as filesystem:
        assert filesystem.names("/app") == ["a"]
        # A host's image is the host's.
        assert filesystem.names("/ota") == ["mail"]
    updated.power_on()
    give_wifi(updated)
    connect(updated)


def test_an_interrupted_run_on_an_updated_board_starts_neither_version(updated):
    with of_flag(updated):
        assert updated.get("slot") == {"label": "ota_0", "state": ""}
    # Had the person taken the flag away by hand, the version that ran would run.
    assert updated.get("slot") == {"label": "/app/b", "state": "valid"}


@contextmanager
def of_flag(board):
    """The flag of a run that goes no further; taken away by hand at the end."""
    board.power_cut()
    with of_board(board.state) as filesystem:
        filesystem.write("/maintenance", b"make flash\n")
    board.power_on()
    yield
    board.power_cut()
    with of_board(board.state) as filesystem:
        filesystem.remove("/maintenance")
    board.power_on()


def test_failed_starts_of_the_application_before_do_not_count(board, identity):
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    counts = "import esp32; n = esp32.NVS('expresslink'); "
    on_board(board, counts + "n.set_i32('failed', 7)")
    code, said = flash(board.repl)
    assert code == 0, said
    with pytest.raises(subprocess.CalledProcessError) as caught:
        on_board(board, counts + "n.get_i32('failed')")
    assert b"ESP_ERR_NVS_NOT_FOUND" in caught.value.stdout + caught.value.stderr


def test_the_room_that_our_application_takes_is_free(board, identity):
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    # Hardly anything is left beside it.
    on_board(
        board,
        "import os; s = os.statvfs('/'); f = open('/big', 'wb')\n"
        "for i in range(s[3] - 30): f.write(bytes(4096))\n"
        "f.close()",
    )
    code, said = flash(board.repl)
    assert code == 0, said


def on_board(board, code):
    """Run `code` at the board's prompt."""
    return subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", board.repl, "exec", code],
        check=True,
        timeout=60,
        capture_output=True,
    )


def test_a_board_without_identity_needs_one(board):
    code, said = flash(board.repl)
    assert code == 1
    assert "this board has no identity yet" in said
    # Nothing was changed on it.
    code, said = flash(board.repl)
    assert "this board has no identity yet" in said


def test_an_interrupted_run_leaves_a_board_that_waits(board, identity):
    tool = subprocess.Popen(
        [sys.executable, "-m", "tools.flash", "--port", board.repl, *map(str, identity)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    board.wait_line("ready")
    # The flag is set and files are on their way.
    tool.kill()
    tool.wait()
    board.power_cut()
    board.order({"power": "on"})
    code, said = flash(board.repl, *identity)
    assert code == 0, said
    board.wait_ready()
    give_wifi(board)
    connect(board)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--key": "other-key.pem"}, "the device key does not belong to the device certificate"),
        ({"--cert": "missing.pem"}, "missing.pem: No such file or directory"),
        ({"--cert": "key.pem"}, "the device certificate is not a certificate in PEM form"),
        ({"--ca": "cert.pem"}, "the root CA is not a CA certificate"),
        ({"--endpoint": ""}, "ENDPOINT, CERT and KEY belong together; missing: ENDPOINT"),
    ],
)
def test_a_wrong_identity_is_refused_before_the_board_is_touched(
    cloud, identity, tmp_path, change, message
):
    other = issue_birth(cloud.state, "other")
    (tmp_path / "other-key.pem").write_bytes(other.key_pem)
    options = [str(option) for option in identity]
    for name, value in change.items():
        options[options.index(name) + 1] = str(tmp_path / value) if value else ""
    code, said = flash(tmp_path / "no-port", *options)
    assert code == 1
    assert message in said
    assert "PRIVATE" not in said


def test_a_port_that_is_not_there(tmp_path, identity):
    code, said = flash(tmp_path / "no-port", *identity)
    assert code == 1
    assert "cannot open" in said
    assert "Serial ports of this machine" in said


def test_a_port_where_no_prompt_answers(board, identity):
    code, said = flash(board.link, *identity)
    assert code == 1
    assert "no MicroPython prompt" in said


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (("esp32", "Generic ESP32 module with ESP32", (1, 24, 1), 10**6, 10**5), "1.24.1 is too"),
        (("rp2", "Pico with RP2040", (1, 28, 0), 10**6, 10**5), "an ESP32 is needed"),
        (
            ("esp32", "ESP32 module with ESP32", (1, 25, 0), 10**5, 10**5),
            "97 KiB free on the filesystem",
        ),
        (
            ("esp32", "ESP32C6 module with ESP32C6", (1, 25, 0), 10**6, 10**5),
            "name a board with BOARD=",
        ),
    ],
)
def test_what_cannot_run_us_is_refused(described, message):
    class Stub:
        port = "port"

        def describe(self):
            return described

    with pytest.raises(FlashError, match=message):
        _check(Stub())


@pytest.mark.parametrize(
    ("machine", "board"),
    [
        ("Generic ESP32 module with ESP32", "ESP32-DevKitC"),
        ("Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", "ESP32-S3-DevKitC-1"),
        ("ESP32C3 module with ESP32C3", "ESP32-C3-ExpressLink"),
    ],
)
def test_the_board_is_chosen_by_the_chip(machine, board):
    class Stub:
        port = "port"

        def describe(self):
            return "esp32", machine, (1, 25, 0), 10**6, 10**5

    assert _check(Stub()) == board


def test_what_goes_onto_a_board():
    files = application()
    assert {"/boot.py", "/main.py", "/app/a/firmware/app.mpy", "/app/a/lib/mqtt.mpy"} <= set(files)
    assert not [name for name in files if "test" in name or name.endswith(".pyc")]
