"""Starts that end by the watchdog or a fatal error: counted, cleared by an answer, too many."""

import shutil
import time

import pytest

from tests_host.system.sim_apps import REMOTE, Remote
from tools.sim import romfs
from tools.sim.filesystem import of_board
from tools.sim.module import VirtualModule

_COUNT = "esp32.NVS('expresslink').get_i32('failed')"


@pytest.fixture
def counted(tmp_path):
    """A board that runs the remote application after the module's own boot.py and main.py."""
    app = tmp_path / "app"
    (app / "firmware").mkdir(parents=True)
    (app / "firmware" / "__init__.py").write_text("")
    shutil.copy(romfs.ROOT / "firmware" / "starts.py", app / "firmware")
    shutil.copy(romfs.ROOT / "firmware" / "log.py", app / "firmware")
    remote = (REMOTE / "main.py").read_text()
    (app / "firmware" / "remote.py").write_text(
        remote.replace("asyncio.run(main())\n", "")
        .replace(
            "            return repr(eval(line, globals()))",
            "            if line.startswith('fatal'):\n                raise SystemError\n"
            "            return repr(eval(line, globals()))",
        )
        .replace("    except Exception as e:", "    except (ArithmeticError, OSError) as e:")
    )
    (app / "firmware" / "app.py").write_text(
        "import asyncio\nfrom firmware import remote\n"
        "class Module:\n    def main(self):\n        asyncio.run(remote.main())\n"
        "def make():\n    return Module()\n"
    )
    for name in ("boot.py", "main.py"):
        shutil.copy(romfs.ROOT / name, app)
    with Remote(tmp_path / "board", source=app) as board:
        yield board


def failed(board):
    return board.value("__import__('firmware.starts').starts.failed()")


def test_the_watchdog_and_fatal_errors_are_counted(counted):
    assert failed(counted) == 0
    counted.write(b"machine.WDT(timeout=200) and time.sleep(60)\n")
    counted.wait_ready(10)
    counted.flush()
    assert counted.value("machine.reset_cause()") == 3
    assert failed(counted) == 1
    counted.write(b"fatal\n")
    counted.wait_ready(10)
    counted.flush()
    assert failed(counted) == 2
    # Neither of these counts, and neither clears.
    counted.power_cut()
    counted.power_on()
    counted.pin("RESET", 0)
    counted.pin("RESET", 1)
    counted.wait_ready()
    counted.reboot("machine.reset()")
    counted.reboot("machine.soft_reset()")
    assert failed(counted) == 2
    counted.run("__import__('firmware.starts').starts.clear()")
    counted.power_cut()
    counted.power_on()
    assert failed(counted) == 0


def test_a_start_without_firmware_is_counted(tmp_path):
    """A frozen build whose application is broken: main.py says so, and resets."""
    app = tmp_path / "app"
    (app / "firmware").mkdir(parents=True)
    (app / "firmware" / "__init__.py").write_text("")
    (app / "firmware" / "app.py").write_text(
        "import esp32, machine\n"
        "try:\n"
        f"    count = {_COUNT}\n"
        "except OSError:\n"
        "    count = 0\n"
        "if count < 2:\n"
        "    raise ImportError('broken')\n"
        "print('seen', count)\n"
        "machine.Pin(26, machine.Pin.OUT)(1)\n"
        "import time\n"
        "time.sleep(60)\n"
    )
    for name in ("boot.py", "main.py"):
        shutil.copy(romfs.ROOT / name, app)
    with Remote(tmp_path / "board", source=app) as board:
        assert "seen 2" in board.console()
        assert board.console().count("ImportError: broken") == 2


# With the module's own firmware.

_TROUBLE = """
import os, machine, time
if "trouble" in os.listdir("/"):
    with open("/trouble") as file:
        kinds = file.read()
    with open("/trouble", "w") as file:
        file.write(kinds[1:])
    if kinds[:1] == "w":
        machine.WDT(timeout=300)
        time.sleep(60)
"""
# In the try of main.py, so that it is taken for the application's own.
_FATAL = """
        if "trouble" in os.listdir("/") and kinds[:1] == "f":
            raise RuntimeError("fatal")
"""


@pytest.fixture
def troubled(tmp_path):
    """A module whose next starts fail as the letters of the file /trouble say: w by the watchdog,
    f by an error."""
    tree = tmp_path / "tree"
    for part in ("firmware", "lib"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(romfs.ROOT / part, tree / part, ignore=ignore)
    shutil.copy(romfs.ROOT / "boot.py", tree)
    main = (romfs.ROOT / "main.py").read_text()
    begin = "    if not MAINTENANCE:"
    assert begin in main
    first = main.index(begin)
    line_end = main.index("\n", first)
    main = main[: line_end + 1] + _FATAL.lstrip("\n") + main[line_end + 1 :]
    (tree / "main.py").write_text(_TROUBLE + main)
    state = tmp_path / "module"
    with VirtualModule(state, None, "--identity", "none", "--source", tree) as module:
        yield module


def fail(module, kinds):
    """Power cut, failing starts, and one that comes up."""
    module.power_cut()
    with of_board(module.state) as filesystem:
        filesystem.write("/trouble", kinds.encode())
    module.power_on()


def info(module):
    """What DIAG INFO says, as a dictionary."""
    reply = module.command(b"AT+DIAG INFO")
    assert reply.startswith(b"OK ")
    return dict(line.partition(b" ")[::2] for line in reply[3:].split(b"\\A"))


def test_three_failed_starts_are_safe_mode_until_a_command_is_answered(troubled):
    fail(troubled, "wf")
    # The second failure was the last but one: this start works as usual, and nobody asks it.
    console = troubled.console()
    assert console.count("RuntimeError: fatal") == 1
    assert "safe mode" not in console
    fail(troubled, "w")
    assert troubled.console().count("safe mode after 3 failed starts") >= 1
    # STARTUP is queued, and answered: the count begins again.
    assert troubled.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    told = info(troubled)
    assert told[b"reason"] == b"safe mode after 3 failed starts", told
    time.sleep(1.5)
    troubled.power_cut()
    troubled.power_on()
    assert info(troubled)[b"reason"] == b""


def test_a_loss_of_power_does_not_clear_the_count(troubled):
    fail(troubled, "www")
    for _ in range(2):
        before = len(troubled.console())
        troubled.power_cut()
        troubled.power_on()
        assert "safe mode after 3 failed starts" in troubled.console()[before:]
