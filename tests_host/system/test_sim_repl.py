"""A virtual stock board: mpremote finds a REPL there and can install an application."""

import subprocess
import sys
import time

import pytest

from tests_host.system.sim_apps import REMOTE, Remote

LOOP = """
import time
print("looping")
while True:
    time.sleep_ms(10)
"""


@pytest.fixture
def stock(tmp_path):
    repl = tmp_path / "repl"
    with Remote(tmp_path / "board", "--blank", "--repl", repl) as board:
        board.repl = repl
        yield board


def mpremote(board, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", str(board.repl), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_blank_board_has_an_empty_filesystem_and_says_what_it_is(stock):
    assert mpremote(stock, "exec", "import os; print(os.listdir('/'))") == "['boot.py']\n"
    assert "esp32" in mpremote(stock, "eval", "__import__('os').uname().sysname")


def test_files_that_mpremote_copies_run_after_a_reset(stock, tmp_path):
    mpremote(stock, "fs", "mkdir", ":extra", "+", "fs", "cp", REMOTE / "main.py", ":main.py")
    mpremote(stock, "reset")
    end = time.monotonic() + 5
    while not stock.event():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert stock.value("os.listdir('/')") == ["boot.py", "extra", "main.py"]


def test_ctrl_c_stops_a_running_script(stock, tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(LOOP)
    mpremote(stock, "fs", "cp", script, ":main.py", "+", "reset")
    end = time.monotonic() + 5
    while "looping" not in stock.console():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert mpremote(stock, "exec", "print(6 * 7)").strip().endswith("42")
    assert "KeyboardInterrupt" in stock.console()
