"""A new version is on trial, and the record of the job is damaged, or of a form that the new
version does not know: the trial is settled all the same, and the job with it."""

from __future__ import annotations

import binascii
import random
import struct

import pytest

from tests_host.boards import boards_of, both
from tests_host.system.conftest import connect, next_event
from tests_host.system.test_ota_outcomes import OTHER, Target
from tests_host.updates import host_image, image, ota_event, wait_state
from tests_host.versions import broken, flipped
from tools.sim import flash
from tools.sim.filesystem import of_board

_RECORD = "/config/ota"
_MAGIC = b"\xe1\x02"


def _value(text):
    """A file of the store that is whole, with `text` in it (store.py)."""
    return _MAGIC + struct.pack("<L", binascii.crc32(text, binascii.crc32(b"ota"))) + text


DAMAGES = {
    "one bit": lambda data: flipped(data, 8 * 20),
    "empty": lambda data: b"",
    "not JSON": lambda data: _value(data[6:-1]),
    "another form": lambda data: _value(data[6:].replace(b'"format": 1', b'"format": 7')),
}


def _select(state):
    """What activate() writes into otadata: the slot that does not run is to be tried."""
    chip = flash.Flash(state / "flash.bin")
    numbers = []
    for at in (0, 4096):
        number, _, state, _ = struct.unpack("<L20sLL", chip.read("otadata", at, 32))
        # Blank, or of a version that was not accepted: then the first slot runs.
        numbers.append(0 if number == 0xFFFFFFFF or state in (3, 4) else number)
    number = (max(numbers) or 1) + 1
    packed = struct.pack("<L", number)
    new = packed + b"\xff" * 20 + struct.pack("<LL", 0, binascii.crc32(packed, 0xFFFFFFFF))
    at = 4096 * (numbers[0] > numbers[1])
    chip.write("otadata", new.ljust(4096, b"\xff"), at)
    chip.close()


def _try(board, damage):
    """APPLY as it is in flash when the power is lost before the restart, and the record comes to
    harm: the next start is the trial."""
    module = board.module
    module.power_cut()
    if board.kind == "slot":
        _select(module.state)
    with of_board(module.state) as filesystem:
        if board.kind == "bundle":
            other = "a" if filesystem.read("/app/record")[3:4] == b"b" else "b"
            record = b"OXB" + other.encode() + b"n"
            filesystem.write("/app/record", record + struct.pack("<L", binascii.crc32(record)))
            filesystem.remove(f"/app/{other}/fresh")
        good = filesystem.read(_RECORD)
        changed = DAMAGES[damage](good)
        assert changed != good
        filesystem.write(_RECORD, changed)
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"


@pytest.fixture(scope="module")
def boards(_cloud, tmp_path_factory):
    """Function that gives the board of a kind; each is started once."""
    with boards_of(Target, _cloud, tmp_path_factory) as get:
        yield get


@pytest.fixture
def board(boards, cloud, request):
    """The board with slots, or that of the kind which the test asks for."""
    found = boards(getattr(request, "param", "slot"))
    found.version = found.module.command(b"AT+CONF? Version")
    yield found
    found.tidy()


def _number(board):
    """The next version for this board, as text: none comes twice."""
    last = board.version[3:].decode()
    return "9.1.0" if not last.startswith("9.") else f"9.{int(last.split('.')[1]) + 1}.0"


@both
def test_a_version_that_the_cloud_does_not_accept(board):
    update = board.ready(broken("impatient", board.kind, "9.0.1"))
    board.cloud.control.fault("refuse", at="connect", code=5)
    _try(board, "one bit")
    assert board.module.command(b"AT+OTA?") == b"OK 3 trial 9.0.1"
    # Nobody restarts it but itself.
    board.startup()
    board.back(update, "not accepted: refused by the endpoint, code 5")
    assert not board.module.event()


@both
def test_a_restart_during_the_trial(board):
    update = board.ready(image(board.kind, "9.0.2"))
    board.cloud.control.fault("refuse", at="connect", code=5)
    _try(board, "empty")
    assert board.module.command(b"AT+OTA?") == b"OK 3 trial 9.0.2"
    board.module.power_cut()
    board.module.power_on()
    assert next_event(board.module) == b"OK 2 0 STARTUP"
    board.back(update, OTHER)


@pytest.mark.parametrize(
    ("board", "damage"),
    [*(("slot", damage) for damage in DAMAGES), ("bundle", "one bit"), ("bundle", "another form")],
    indirect=["board"],
)
def test_a_version_that_the_cloud_accepts(board, damage):
    """It connects by itself, stays, and the job has succeeded."""
    version = _number(board)
    update = board.ready(image(board.kind, version))
    # Another one waits behind it, and has nothing to do with it.
    behind = host_image(board.cloud, board.thing, random.Random(7).randbytes(5000))
    _try(board, damage)
    assert ota_event(board.module) == b"APPLIED " + version.encode()
    assert update.ended() == ("SUCCEEDED", "accepted " + version)
    assert ota_event(board.module) == b""
    assert behind.status()[0] == "QUEUED"
    assert board.module.command(b"AT+OTA?").startswith(b"OK 2 ")
    assert board.module.command(b"AT+OTA FLUSH") == b"OK"
    assert behind.ended()[0] == "FAILED"
    wait_state(board.module, 0)
    for _ in range(2):
        board.module.power_cut()
        board.module.power_on()
        assert next_event(board.module) == b"OK 2 0 STARTUP"
        assert board.module.command(b"AT+CONF? Version") == b"OK " + version.encode()
        assert board.module.command(b"AT+DIAG INFO slot").split()[2:] == []
    connect(board.module)
    assert not board.module.event()


@both
def test_a_version_whose_records_have_another_form(board):
    """It does not know whose trial it is: the version before does, and the cloud."""
    update = board.ready(broken("stranger", board.kind, "9.0.5"))
    board.cloud.control.fault("refuse", at="connect", code=5)
    board.apply()
    # Its own start, and the one in which it has given up.
    board.startup(2)
    board.back(update, OTHER)
    update = board.ready(broken("stranger", board.kind, "9.0.6"))
    board.apply()
    board.startup()
    assert ota_event(board.module) == b"APPLIED 9.0.6"
    assert board.module.command(b"AT+CONF? Version") == b"OK 9.0.6"
    assert update.ended() == ("SUCCEEDED", "accepted 9.0.6")


def test_more_jobs_than_can_be_listed(board):
    version = _number(board)
    update = board.ready(image("slot", version))
    board.module.power_cut()
    behind = [f"AFR_OTA-{n:032x}" for n in range(45)]
    for job in behind:
        board.cloud.control.create_job(job, [board.thing], {"x": 1})
    _try(board, "one bit")
    assert ota_event(board.module) == b"APPLIED " + version.encode()
    assert update.ended() == ("SUCCEEDED", "accepted " + version)
    for job in behind:
        board.cloud.control.wait_job(job, 30)
        assert board.cloud.control.execution(job, board.thing)["status"] == "REJECTED"


def test_the_job_is_gone(board):
    """It was deleted, or another image's has taken its place: nothing is told of that one."""
    version = _number(board)
    update = board.ready(image("slot", version))
    board.module.power_cut()
    board.cloud.control.delete_job(update.job, force=True)
    other = host_image(board.cloud, board.thing, random.Random(8).randbytes(5000))
    _try(board, "empty")
    assert ota_event(board.module) == b"APPLIED " + version.encode()
    assert ota_event(board.module) == b""
    assert board.module.command(b"AT+OTA?").startswith(b"OK 2 ")
    assert other.status()[0] == "QUEUED"


def test_without_a_trial_a_damaged_record_is_a_job_taken_up_anew(board):
    update = board.ready(image("slot", _number(board)))
    board.module.power_cut()
    with of_board(board.module.state) as filesystem:
        filesystem.write(_RECORD, flipped(filesystem.read(_RECORD), 8 * 20))
    board.module.power_on()
    assert next_event(board.module) == b"OK 2 0 STARTUP"
    assert board.module.command(b"AT+OTA?") == b"OK 0"
    assert board.module.command(b"AT+CONF? Version") == board.version
    assert board.module.command(b"AT+CONNECT?") == b"OK 0"
    connect(board.module)
    assert ota_event(board.module) == b""
    assert board.module.command(b"AT+OTA?").startswith(b"OK 1 ")
    assert board.module.command(b"AT+OTA FLUSH") == b"OK"
    assert update.ended() == ("FAILED", "flushed by the host")
