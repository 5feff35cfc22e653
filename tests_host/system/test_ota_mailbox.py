"""The host's image through the terminal: read back byte for byte, wherever it lies, over restarts;
what may and may not take its place (guide 7.1, 7.2.4 to 7.2.8, 7.6)."""

import random
import time

import pytest

from tests_host.system.conftest import connect, give_wifi, next_event, reset
from tests_host.updates import (
    host_image,
    image,
    module_image,
    ota_event,
    read_all,
    thing_of,
    wait_state,
)
from tools.sim.flash import Flash

SIZE = 300_000
# Partition table of the board -> where its host images lie.
PLACES = {"ota": "hota", "shared": "ota_1", "plain": None}
GONE = b"ERR19 HOST IMAGE NOT AVAILABLE"


def board(make_module, table):
    """A module with this partition table and, frozen, little memory."""
    # Without slots there is a stock image.
    options = ["--stock"] if table == "plain" else ["--heap", "96"]
    module = make_module("--partitions", table, *options)
    give_wifi(module)
    return module


def up(module):
    """The module connected, its STARTUP taken; the name of its thing."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    return thing_of(module)


def arrive(module, cloud, thing, data, **how):
    """Have `data` delivered, accept it, and wait until it can be read; the job."""
    update = host_image(cloud, thing, data, **how)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 5 %d" % len(data)
    return update


def content(seed, size=SIZE):
    return random.Random(seed).randbytes(size)


def part(module, line):
    """The bytes that a READ gives."""
    words = module.command(line).split()
    assert words[0] == b"OK" and len(words) == 4, words
    data = bytes.fromhex(words[2].decode())
    assert int(words[1], 16) == len(data)
    assert words[3] == b"%04X" % (sum(data) % 65536)
    return data


@pytest.mark.parametrize("table", PLACES)
def test_an_image_survives_restarts_and_is_read_byte_for_byte(make_module, cloud, table):
    module = board(make_module, table)
    thing = up(module)
    data = content(table)
    update = arrive(module, cloud, thing, data)
    if PLACES[table]:
        # A slot's first sector is left blank: nothing that a bootloader could start.
        blank = 4096 if table == "shared" else 0
        kept = Flash(module.state / "flash.bin").read(PLACES[table], 0, blank + SIZE)
        assert kept == b"\xff" * blank + data
    found = b"".join(part(module, b"AT+OTA READ 1024") for _ in range(40))
    assert found == data[: 40 * 1024]

    reset(module)
    assert module.command(b"AT+OTA?") == b"OK 5 %d" % SIZE
    # The pointer is at the beginning again; no connection is needed.
    assert part(module, b"AT+OTA READ 700") == data[:700]
    assert module.command(b"AT+OTA SEEK 40960") == b"OK A000"
    for _ in range(20):
        found += part(module, b"AT+OTA READ 1024")

    # The power goes while a chunk is on its way to the host.
    module.write(b"AT+OTA READ 1024\nAT+OTA READ 1024\n")
    module.read(5)
    module.power_cut()
    module.flush()
    module.power_on()
    assert module.command(b"AT+OTA?") == b"OK 5 %d" % SIZE
    assert module.command(b"AT+OTA SEEK %d" % len(found)) == b"OK %X" % len(found)
    while len(found) < SIZE:
        found += part(module, b"AT+OTA READ 1024")
    assert found == data
    assert module.command(b"AT+OTA READ 1024") == b"OK 00"

    # Closed without a connection: told at the next one.
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert module.command(b"AT+OTA READ 1") == GONE
    assert update.status()[0] == "IN_PROGRESS"
    connect(module)
    assert update.ended() == ("SUCCEEDED", "closed by the host")


@pytest.mark.parametrize("table", ["ota", "plain"])
def test_random_access(make_module, cloud, table):
    module = board(make_module, table)
    thing = up(module)
    data = content(1, 20_001)
    arrive(module, cloud, thing, data)
    dice = random.Random(2)
    for _ in range(60):
        address = dice.choice((dice.randrange(len(data)), 4096 * dice.randrange(5), 20_000))
        size = dice.choice((1, 2, 255, 256, 257, 1023, 1024, 5000))
        assert module.command(b"AT+OTA SEEK %d" % address) == b"OK %X" % address
        assert part(module, b"AT+OTA READ %d" % size) == data[address : address + min(size, 1024)]
    assert module.command(b"AT+OTA SEEK 20001") == b"OK 4E21"
    assert module.command(b"AT+OTA READ 1") == b"OK 00"
    assert module.command(b"AT+OTA SEEK 20002") == b"ERR20 INVALID ADDRESS"
    assert read_all(module, 333) == data


def test_a_full_mailbox_takes_no_second_image(module, cloud):
    thing = up(module)
    data = content(3, 9_000)
    first = arrive(module, cloud, thing, data)
    for size in (5_000, 0x100001):
        second = host_image(cloud, thing, content(4, size))
        assert second.ended() == ("REJECTED", "busy, the mailbox is full")
    for offered in (module_image(cloud, thing, image("slot", "9.3.0")),):
        assert offered.ended() == ("REJECTED", "busy, the mailbox is full")
    assert read_all(module) == data
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert first.ended()[0] == "SUCCEEDED"
    # Empty, it takes the next.
    third = arrive(module, cloud, thing, content(5, 9_000))
    assert read_all(module) == content(5, 9_000)
    assert module.command(b"AT+OTA FLUSH") == b"OK"
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert third.ended() == ("FAILED", "flushed by the host")


def test_an_image_that_fits_nowhere(make_module, cloud):
    module = board(make_module, "plain")
    thing = up(module)
    update = host_image(cloud, thing, bytes(1_048_577))
    status, reason = update.ended()
    assert (status, reason) == ("REJECTED", "too large, at most 1048576 bytes")
    assert module.command(b"AT+OTA?") == b"OK 0"


@pytest.mark.parametrize("table", ["ota", "shared"])
def test_a_forced_update_empties_the_mailbox(make_module, cloud, table):
    module = board(make_module, table)
    thing = up(module)
    first = arrive(module, cloud, thing, content(6, 50_000))
    assert part(module, b"AT+OTA READ 16") == content(6, 50_000)[:16]
    second = module_image(cloud, thing, image("slot", "9.3.0"), force=True)
    assert ota_event(module) == b"FAILED overridden by a forced update"
    assert module.command(b"AT+OTA READ 16") == GONE
    assert first.ended() == ("FAILED", "overridden by a forced update")
    assert second.ended()[0] == "SUCCEEDED"
    wait_state(module, 0)
    assert module.command(b"AT+CONF? Version") == b"OK 9.3.0"
    assert module.command(b"AT+OTA READ 1") == GONE


def test_flush_without_a_connection_is_told_at_the_next(module, cloud):
    thing = up(module)
    update = arrive(module, cloud, thing, content(7, 9_000))
    assert module.command(b"AT+DISCONNECT").startswith(b"OK")
    assert module.command(b"AT+OTA FLUSH") == b"OK"
    for line in (b"AT+OTA READ 1", b"AT+OTA SEEK", b"AT+OTA SEEK 1"):
        assert module.command(line) == GONE
    # What is flushed stays so over a restart.
    module.power_cut()
    module.power_on()
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert update.status()[0] == "IN_PROGRESS"
    connect(module)
    assert update.ended() == ("FAILED", "flushed by the host")
    # With nothing there: OK.
    assert module.command(b"AT+OTA FLUSH") == b"OK"
    assert module.command(b"AT+OTA CLOSE") == b"OK"


def test_a_refused_image_cannot_be_read(module, cloud):
    """One that is signed, by a key that the module does not know (D34)."""
    thing = up(module)
    update = host_image(cloud, thing, content(8, 9_000), sign=cloud.state / "signer.key")
    status, reason = update.ended()
    assert status in ("REJECTED", "FAILED") and "HOTAcertificate" in reason
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert module.command(b"AT+OTA READ 1") == GONE


def _cut(module, line, operations):
    """Send `line` with the power to die at that flash operation, and switch on again; whether it
    died."""
    module.fail_after(operations)
    module.write(line + b"\n")
    until = time.monotonic() + 10
    while module.get("state") != "off" and time.monotonic() < until:
        if b"\n" in module.read(0.02):
            return False
    module.flush()
    module.power_on()
    return True


@pytest.mark.parametrize(
    ("table", "word"), [("ota", b"CLOSE"), ("shared", b"FLUSH"), ("plain", b"CLOSE")]
)
def test_a_cut_while_it_is_given_back_leaves_all_of_it_or_nothing(make_module, cloud, table, word):
    module = board(make_module, table)
    thing = up(module)
    data = content(10, 6_000)
    update = arrive(module, cloud, thing, data)
    module.power_cut()
    flash = module.state / "flash.bin"
    full = flash.read_bytes()
    left = gone = 0
    step = 0
    while True:
        step += 1
        with open(flash, "r+b") as file:
            file.write(full)
        module.power_on()
        if not _cut(module, b"AT+OTA " + word, step):
            break
        state = module.command(b"AT+OTA?")
        if state == b"OK 0":
            gone += 1
            assert module.command(b"AT+OTA READ 1") == GONE
        else:
            left += 1
            assert state == b"OK 5 6000"
            assert read_all(module) == data
            assert module.command(b"AT+OTA " + word) == b"OK"
            assert module.command(b"AT+OTA?") == b"OK 0"
        module.power_cut()
    print("cuts:", left, "left all of it,", gone, "nothing")
    assert left and gone
    connect(module)
    assert update.ended()[0] == ("SUCCEEDED" if word == b"CLOSE" else "FAILED")


@pytest.mark.parametrize("table", ["ota", "plain"])
def test_nothing_is_read_before_it_is_complete(make_module, cloud, table):
    module = board(make_module, table)
    thing = up(module)
    data = content(9, 100_000)
    update = host_image(cloud, thing, data)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA READ 1") == GONE
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert module.command(b"AT+OTA?").startswith(b"OK 2 ")
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    # The power goes in the middle of the download, at a flash operation.
    # To a partition that are two operations a block.
    module.fail_after(45 if PLACES[table] else 750)
    until = time.monotonic() + 20
    while module.get("state") != "off":
        assert time.monotonic() < until
        time.sleep(0.02)
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert module.command(b"AT+OTA?").startswith(b"OK 3")
    assert module.command(b"AT+OTA READ 1") == GONE
    connect(module)
    assert ota_event(module) == b""
    assert read_all(module) == data
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"
