"""New versions that do not do: each leaves the board to the version before, the job with a reason
and the host with an event; and what comes to harm between the download and the proof."""

from __future__ import annotations

import random
import time

import pytest

from tests_host.boards import Board, boards_of, both
from tests_host.system.conftest import connect, next_event
from tests_host.updates import image, module_image, ota_event, wait_state
from tests_host.versions import broken, flipped, small
from tools.sim import flash
from tools.sim.filesystem import of_board

OTHER = "restarted before it was accepted"


class Target(Board):
    """A board, and how its new versions may end."""

    def apply(self):
        """Restart with it."""
        assert self.module.command(b"AT+OTA APPLY") == b"OK"

    def back(self, update, why, timeout=20):
        """The version before runs again, and says why to the host, and to the cloud as soon as
        there is a connection."""
        event = ota_event(self.module, timeout)
        assert event.startswith(b"FAILED ") and why in event.decode(), event
        assert self.module.command(b"AT+CONF? Version") == self.version
        self.cloud.control.clear()
        if self.module.command(b"AT+CONNECT?") != b"OK 1":
            connect(self.module)
        status, reason = update.ended(15)
        assert status == "FAILED" and why in reason
        wait_state(self.module, 0, 15)

    def startup(self, boots=1):
        """Wait for so many starts; the event of the last one taken."""
        for _ in range(boots):
            self.module.wait_ready(20)
        assert next_event(self.module) == b"OK 2 0 STARTUP"


@pytest.fixture(scope="module")
def boards(_cloud, tmp_path_factory):
    """Function that gives the board of a kind; each is started once."""
    with boards_of(Target, _cloud, tmp_path_factory) as get:
        yield get


@pytest.fixture
def board(boards, cloud, request):
    """The board with slots, or that of the kind which the test asks for."""
    found = boards(getattr(request, "param", "slot"))
    yield found
    found.tidy()


@both
@pytest.mark.parametrize("how", ["crashes", "damaged", "hangs", "restarts"])
def test_a_version_that_cannot_prove_itself(board, how):
    update = board.ready(broken(how, board.kind, "9.1.0"))
    board.apply()
    # One that crashes before it is ready prints nothing.
    board.startup(1 if how in ("crashes", "damaged") else 2)
    board.back(update, OTHER)
    # It is no worse than before.
    again = board.ready(small(board.kind))
    assert board.module.command(b"AT+OTA FLUSH") == b"OK"
    assert again.ended() == ("FAILED", "flushed by the host")


@both
def test_a_version_that_the_cloud_does_not_accept(board):
    """While it is on trial, no update is touched, and nothing is flushed."""
    update = board.ready(broken("impatient", board.kind, "9.1.0"))
    board.cloud.control.fault("refuse", at="connect", code=5)
    board.apply()
    board.startup()
    assert board.module.command(b"AT+OTA?") == b"OK 3 trial 9.1.0"
    assert board.module.command(b"AT+OTA FLUSH").startswith(b"ERR21 ")
    assert board.module.command(b"AT+OTA APPLY").startswith(b"ERR19 ")
    second = module_image(board.cloud, board.thing, small(board.kind), unchecked=True)
    board.startup()
    event = ota_event(board.module)
    assert event.startswith(b"FAILED not accepted: refused by the endpoint, code 5"), event
    assert second.status()[0] == "QUEUED"
    board.cloud.control.clear()
    connect(board.module)
    assert update.ended()[0] == "FAILED"
    assert ota_event(board.module) == b""
    assert board.module.command(b"AT+OTA?") == b"OK 1 " + second.job.encode() + b".bin"


@both
@pytest.mark.parametrize("how", ["RESET", "AT+RESET", "power"])
def test_a_restart_during_the_trial(board, how):
    update = board.ready(image(board.kind, "9.1.0"))
    board.cloud.control.fault("refuse", at="connect", code=5)
    board.apply()
    board.startup()
    assert board.module.command(b"AT+CONF? Version") == b"OK 9.1.0"
    assert board.module.command(b"AT+OTA?") == b"OK 3 trial 9.1.0"
    if how == "power":
        board.module.power_cut()
        board.module.power_on()
        assert next_event(board.module) == b"OK 2 0 STARTUP"
    else:
        if how == "RESET":
            board.module.pin("RESET", 0)
            board.module.pin("RESET", 1)
        else:
            assert board.module.command(b"AT+RESET") == b"OK"
        board.startup()
    board.back(update, OTHER)


def test_what_waits_for_apply_comes_to_harm_in_its_slot(board):
    """Any bit of the image: it is not started."""
    update = board.ready(image("slot", "9.1.0"))
    module = board.module
    module.power_cut()
    path = module.state / "flash.bin"
    whole = path.read_bytes()
    place = flash.Flash(path).find("ota_1")
    size = len(image("slot", "9.1.0")) - 256
    dice = random.Random(4)
    for bit in (0, 8 * size - 1, *(dice.randrange(8 * size) for _ in range(3))):
        at = place.address + bit // 8
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit % 8]) + whole[at + 1 :])
        module.power_on()
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        assert module.command(b"AT+OTA?") == b"OK 4 9.1.0"
        assert module.command(b"AT+OTA APPLY").startswith(b"ERR21 ")
        assert module.command(b"AT+OTA?") == b"OK 0"
        assert module.command(b"AT+CONF? Version") == board.version
        module.power_cut()
    module.power_on()
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    status, reason = update.ended()
    assert status == "FAILED" and reason
    # The next one comes to the same place.
    assert board.module.command(b"AT+OTA?") == b"OK 0"
    board.ready(small("slot"))
    assert board.module.command(b"AT+OTA FLUSH") == b"OK"


def test_what_waits_for_apply_comes_to_harm_in_its_folder(board, boards):
    board = boards("bundle")
    update = board.ready(image("bundle", "9.1.0"))
    module = board.module
    module.power_cut()
    with of_board(module.state) as filesystem:
        name = "/app/b/firmware/app.mpy"
        filesystem.write(name, flipped(filesystem.read(name), 9))
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    board.apply()
    board.startup()
    board.back(update, OTHER)
    board.tidy()


# From here on another version runs, on both boards.


def renew(board):
    """Have version 9.1.0 run."""
    if board.module.command(b"AT+CONF? Version") == b"OK 9.1.0":
        return
    update = board.ready(image(board.kind, "9.1.0"))
    board.apply()
    board.startup()
    assert ota_event(board.module) == b"APPLIED 9.1.0"
    assert update.ended() == ("SUCCEEDED", "accepted 9.1.0")
    wait_state(board.module, 0)
    assert board.module.command(b"AT+CONF? Version") == b"OK 9.1.0"


@both
def test_a_good_version_after_all_of_that(board):
    renew(board)


def test_flipped_bits_of_otadata_while_an_image_waits(board):
    """Whatever is there: one of the two versions runs, both of them verified, and the next update
    works."""
    renew(board)
    update = board.ready(image("slot", "9.2.0"))
    module = board.module
    module.power_cut()
    path = module.state / "flash.bin"
    chip = flash.Flash(path)
    good = chip.read("otadata")
    used = [at for at in (0, 4096) if good[at : at + 4] != b"\xff" * 4]
    dice = random.Random(5)
    # In the number, the state, the CRC; what is not read; and all of it erased.
    bits = [8 * at + bit for at in used for bit in (0, 8 * 24, 8 * 28, dice.randrange(256))]
    seen = set()
    for changed in [*(flipped(good, bit) for bit in bits), b"\xff" * len(good)]:
        chip.write("otadata", changed)
        module.power_on()
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        version = module.command(b"AT+CONF? Version")
        seen.add(version)
        assert version in (b"OK 9.1.0", b"OK 9.2.0")
        assert module.command(b"AT+OTA?") in (b"OK 4 9.2.0", b"OK 0")
        module.power_cut()
    print("otadata:", len(bits) + 1, "faults,", seen)
    chip.close()
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    # The version that waits runs already, and is so.
    if module.command(b"AT+OTA?") == b"OK 4 9.2.0":
        assert module.command(b"AT+OTA APPLY").startswith((b"OK", b"ERR21"))
        assert module.command(b"AT+OTA FLUSH") == b"OK"
    connect(module)
    assert update.ended()[0] in ("FAILED", "SUCCEEDED")
    while module.event():
        module.command(b"AT+EVENT?")
    wait_state(module, 0)
    after = board.ready(image("slot", "9.3.0"))
    board.apply()
    board.startup()
    assert ota_event(module) == b"APPLIED 9.3.0"
    assert after.ended()[0] == "SUCCEEDED"


@pytest.mark.parametrize("board", ["bundle"], indirect=True)
def test_flipped_bits_of_the_boot_record(board):
    module = board.module
    renew(board)
    module.power_cut()
    with of_board(module.state) as filesystem:
        good = filesystem.read("/app/record")
    dice = random.Random(6)
    values = [flipped(good, bit) for bit in dice.sample(range(8 * len(good)), 4)]
    for value in [*values, b"", good + b"x"]:
        with of_board(module.state) as filesystem:
            filesystem.write("/app/record", value)
        module.power_on()
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        # The folder a is still whole.
        assert module.command(b"AT+CONF? Version") == board.version
        assert module.command(b"AT+OTA?") == b"OK 0"
        module.power_cut()
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    connect(module)
    update = board.ready(image("bundle", "9.4.0"))
    board.apply()
    board.startup()
    assert ota_event(module) == b"APPLIED 9.4.0"
    assert update.ended()[0] == "SUCCEEDED"
    # It stays.
    time.sleep(0.1)
    module.power_cut()
    module.power_on()
    assert module.command(b"AT+CONF? Version") == b"OK 9.4.0"
