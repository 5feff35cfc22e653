"""A flash that is full, damaged, or of another version: the module boots, says STARTUP once, says
in `DIAG INFO` what it has lost, and keeps the rest, above all who it is."""

import random
import shutil

import pytest
from littlefs.errors import LittleFSError

from tests_host.fuzz.certificates import Certificates
from tools.sim.filesystem import of_board
from tools.sim.flash import SECTOR
from tools.sim.module import VirtualModule

SEED = 20261121

# Written before the damage, so that there is something to lose.
VALUES = {
    b"SSID": b"sim-ap",
    b"TopicRoot": b"some/root",
    b"Defender": b"3600",
    b"Passphrase": b"sim-passphrase",
}
CERTIFICATES = (b"OTAcertificate", b"HOTAcertificate", b"RootCA")
FIXED = (b"About", b"Version", b"ThingName")
ASKED = (*FIXED, b"Certificate", b"EndPoint", b"NTPServer", *CERTIFICATES, *VALUES)


class Board:
    """A board with a full configuration, put back as it was before each test."""

    def __init__(self, folder, cloud):
        self.module = VirtualModule(folder, cloud.state)
        self.module.start()
        self.initial = self.values()
        made = Certificates(cloud.state)
        values = {
            **VALUES,
            b"EndPoint": b"localhost:%d" % cloud.mqtt,
            b"NTPServer": b"localhost:%d" % cloud.sntp,
            b"HOTAcertificate": made.hosts[0],
            b"OTAcertificate": made.signers[0],
        }
        # Another value first: one that is the factory's would not be written.
        for key in (b"EndPoint", b"NTPServer"):
            assert self.ask(b"CONF " + key + b"=elsewhere") == b""
        for key, value in values.items():
            assert self.ask(b"CONF " + key + b"=" + value) == b"", key
        # A connection makes the clock write its file, and proves the first set of roots; the
        # second one is still on trial.
        self.proven, self.trial = made.roots[1], made.roots[0]
        assert self.ask(b"CONF RootCA=" + self.proven) == b""
        assert self.ask(b"CONNECT") == b"1 CONNECTED"
        assert self.ask(b"DISCONNECT") == b"0 DISCONNECTED"
        assert self.ask(b"CONF RootCA=" + self.trial) == b""
        self.before = self.values()
        self.module.power_cut()
        self._flash = self.module.state / "flash.bin"
        shutil.copy(self._flash, folder / "good.bin")

    def restore(self):
        self.module.power_cut()
        with open(self.module.state / "good.bin", "rb") as good, open(self._flash, "r+b") as chip:
            shutil.copyfileobj(good, chip, 1 << 20)

    def files(self):
        return of_board(self.module.state)

    def ask(self, line):
        reply = self.module.command(b"AT+" + line, timeout=60)
        assert reply.startswith(b"OK"), (line[:60], reply)
        return reply[3:]

    def values(self):
        return {
            key: self.module.command(b"AT+CONF? " + key)[3:]
            for key in ASKED
            if key != b"Passphrase"
        }

    def start(self):
        """Power on; STARTUP once, nothing on the console that is an exception."""
        seen = len(self.module.console())
        self.module.flush()
        self.module.power_on()
        assert self.module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        assert self.module.command(b"AT+EVENT?") == b"OK"
        console = self.module.console()[seen:]
        assert "Traceback" not in console, console[-2000:]

    def lost(self):
        return set(self.ask(b"DIAG INFO lost").decode().split())

    def faults(self):
        return set(self.ask(b"DIAG INFO identity-faults").decode().split())

    def works(self):
        """What the host would do next works: a value is kept, over a restart too."""
        assert self.ask(b"CONF SSID=after the damage") == b""
        self.module.power_cut()
        self.start()
        assert self.ask(b"CONF? SSID") == b"after the damage"


@pytest.fixture(scope="module")
def configured(_cloud, tmp_path_factory):
    made = Board(tmp_path_factory.mktemp("store") / "module", _cloud)
    yield made
    made.module.stop()


@pytest.fixture
def board(configured):
    configured.restore()
    return configured


def flip(data, random_, bits=1):
    """`data` with `bits` of its bits changed."""
    data = bytearray(data)
    for place in random_.sample(range(len(data) * 8), min(bits, len(data) * 8)):
        data[place // 8] ^= 1 << place % 8
    return bytes(data)


DAMAGES = {
    "one bit": lambda data, r: flip(data, r),
    "many bits": lambda data, r: flip(data, r, 40),
    "cut in half": lambda data, r: data[: len(data) // 2],
    "three bytes": lambda data, r: data[:3],
    "empty": lambda data, r: b"",
    "another version": lambda data, r: bytes([data[0] ^ 0xFF, data[1] + 1]) + data[2:],
    "without a header": lambda data, r: b"sim-ap",
    "longer": lambda data, r: data + b"\0" * 10,
}

# Files that hold keys, and what `CONF?` shows without them.
NAMES = [key.decode() for key in (*VALUES, b"EndPoint", b"NTPServer", *CERTIFICATES)]


def expect_lost(board, names):
    """Those keys are at their first value and named, the others as they were."""
    told = board.lost()
    now = board.values()
    for key, value in now.items():
        wanted = board.initial if key.decode() in names else board.before
        assert value == wanted[key], key
    assert names <= told, "not told at once"
    assert told <= names | {"RootCA.trial", "time"}
    assert board.faults() == set()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_others_stay(board, damage):
    random_ = random.Random(SEED)
    names = [name for name in NAMES if name != "RootCA"]
    for name in names:
        board.restore()
        with board.files() as fs:
            path = "/config/" + name
            fs.write(path, DAMAGES[damage](fs.read(path), random_))
        board.start()
        expect_lost(board, {name})


@pytest.mark.parametrize("damage", ["one bit", "empty"])
def test_damaged_roots_fall_back(board, damage):
    random_ = random.Random(SEED)

    def spoil(*names):
        board.restore()
        with board.files() as fs:
            for name in names:
                path = "/config/" + name
                fs.write(path, DAMAGES[damage](fs.read(path), random_))
        board.start()
        return board.lost()

    # The set on trial, then both: the proven set, then what the factory gave.
    assert "RootCA.trial" in spoil("RootCA.trial")
    assert board.ask(b"CONF? RootCA") == board.proven
    assert board.ask(b"CONNECT") == b"1 CONNECTED"
    assert {"RootCA", "RootCA.trial"} <= spoil("RootCA", "RootCA.trial")
    assert board.ask(b"CONF? RootCA") == board.initial[b"RootCA"]
    assert board.ask(b"CONNECT") == b"1 CONNECTED"


def test_all_files_damaged_at_once(board):
    random_ = random.Random(SEED)
    with board.files() as fs:
        names = set(fs.names("/config"))
        for name in names:
            fs.write("/config/" + name, flip(fs.read("/config/" + name), random_, 3))
    board.start()
    expect_lost(board, set(NAMES))
    assert board.ask(b"CONF? Certificate") == board.before[b"Certificate"]
    board.works()


def test_bits_anywhere_in_any_file(board):
    """60 boards, each with one to four random bits changed in files of /config."""
    random_ = random.Random(SEED)
    for _ in range(60):
        board.restore()
        spoilt = set()
        with board.files() as fs:
            for name in random_.sample(fs.names("/config"), random_.randint(1, 3)):
                spoilt.add(name)
                fs.write("/config/" + name, flip(fs.read("/config/" + name), random_))
        board.start()
        told = board.lost()
        for key, value in board.values().items():
            name = key.decode()
            if name in spoilt and not name.startswith("RootCA"):
                assert value == board.initial[key], (name, spoilt)
                assert name in told, (name, spoilt, told)
            elif not name.startswith("RootCA"):
                assert value == board.before[key], (name, spoilt)
        assert told <= spoilt
        assert board.faults() == set()


def test_files_that_have_changed_places(board):
    """A value is never taken for another key's: a passphrase is not shown as an SSID."""
    for first, second in (("SSID", "Passphrase"), ("EndPoint", "TopicRoot"), ("Defender", "SSID")):
        board.restore()
        with board.files() as fs:
            one, other = fs.read("/config/" + first), fs.read("/config/" + second)
            fs.write("/config/" + first, other)
            fs.write("/config/" + second, one)
        board.start()
        expect_lost(board, {first, second})


def test_folders_in_the_place_of_files(board):
    with board.files() as fs:
        for name in ("SSID", "Defender", "HOTAcertificate", "time"):
            fs.remove("/config/" + name)
            fs.fs.makedirs(f"/config/{name}/deeper")
    board.start()
    expect_lost(board, {"SSID", "Defender", "HOTAcertificate"})
    # The folder is in the way of a new value, and of a factory reset: it goes, or the module says
    # so; nothing else suffers, after a restart neither.
    reply = board.module.command(b"AT+CONF SSID=other")
    assert reply == b"OK" or reply.startswith(b"ERR4 PARAMETER ERROR "), reply
    reply = board.module.command(b"AT+FACTORY_RESET")
    if reply == b"OK":
        board.module.wait_ready()
        assert board.ask(b"CONF? SSID") == b""
        assert board.ask(b"CONF? TopicRoot") == board.initial[b"TopicRoot"]
    else:
        assert reply.startswith(b"ERR4 PARAMETER ERROR "), reply
    board.module.power_cut()
    board.start()
    assert board.ask(b"CONF TopicRoot=again") == b""
    assert board.ask(b"DIAG INFO mode") != b"idle"
    board.module.power_cut()
    board.start()
    assert board.ask(b"CONF? TopicRoot") == b"again"


def test_files_that_nobody_knows_are_left_alone(board):
    with board.files() as fs:
        for name in ("Unknown", "SSID.old", "a" * 200, "Topic1", "clearing.new"):
            fs.write("/config/" + name, b"whatever")
        for name in NAMES:
            fs.write(f"/config/{name}.new", b"half a val")
        fs.write("/config/Passphrase.new", b"")
    board.start()
    assert board.values() == board.before
    # It may say that they are no values, but not that a value was lost.
    assert not board.lost() & {*NAMES, "RootCA.trial", "time"}
    board.works()


def test_a_factory_reset_that_a_power_cut_left_unfinished_is_finished(board):
    """Whatever the note of what is to be cleared looks like, the module boots."""
    random_ = random.Random(SEED)
    for note in (b"", b"junk", b"\xe1\x01\0\0\0\0", b"\xff" * 300, random_.randbytes(50)):
        board.restore()
        with board.files() as fs:
            fs.write("/config/clearing", note)
        board.start()
        assert board.values() == board.before, note
        board.works()


def test_no_folder(board):
    with board.files() as fs:
        fs.remove("/config")
    board.start()
    assert board.values() == board.initial
    board.works()


def test_a_file_in_the_place_of_the_folder(board):
    with board.files() as fs:
        fs.remove("/config")
        fs.write("/config", b"a file")
    board.start()
    assert board.values() == board.initial
    assert board.ask(b"DIAG INFO mode") == b"idle"
    assert b"flash" in board.ask(b"DIAG INFO reason")
    reply = board.module.command(b"AT+CONF SSID=other")
    assert reply.startswith(b"ERR4 PARAMETER ERROR not stored"), reply
    reply = board.module.command(b"AT+CONNECT")
    assert reply.startswith(b"ERR14 UNABLE TO CONNECT flash unusable"), reply


# The identity.

FACTORY = ("module.json", "cert.der", "key.der", "roots.der", "ota_cert.der", "sums")
NEEDED = {"module.json", "cert.der", "key.der", "roots.der"}


@pytest.mark.parametrize(
    "damage", ["one bit", "many bits", "cut in half", "empty", "removed", "folder"]
)
@pytest.mark.parametrize("name", FACTORY)
def test_a_damaged_file_of_the_identity_is_named(board, name, damage):
    random_ = random.Random(SEED)
    with board.files() as fs:
        path = "/factory/" + name
        data = fs.read(path)
        if damage in DAMAGES:
            fs.write(path, DAMAGES[damage](data, random_))
        else:
            fs.remove(path)
            if damage == "folder":
                fs.fs.mkdir(path)
    board.start()
    if (name, damage) not in (("sums", "removed"), ("sums", "empty"), ("sums", "folder")):
        assert board.faults() == {name}
    assert board.lost() == set()
    now = board.values()
    # What was written since is as it was, and so is what the other files say.
    for key in (*VALUES, b"EndPoint", b"NTPServer", b"HOTAcertificate", b"ThingName", b"Version"):
        if key != b"Passphrase":
            assert now[key] == board.before[key], key
    if name != "cert.der":
        assert now[b"Certificate"] == board.before[b"Certificate"]
    reply = board.module.command(b"AT+CONNECT", timeout=60)
    if name in NEEDED:
        assert reply.startswith(b"ERR14 UNABLE TO CONNECT "), reply
        assert name.encode() in reply
        assert board.ask(b"DIAG INFO mode") == b"idle"
    else:
        assert reply == b"OK 1 CONNECTED"
    assert board.module.command(b"AT") == b"OK"


def test_all_of_the_identity_damaged_or_gone(board):
    random_ = random.Random(SEED)
    with board.files() as fs:
        for name in FACTORY:
            fs.write("/factory/" + name, flip(fs.read("/factory/" + name), random_, 20))
    board.start()
    assert board.faults()
    assert board.lost() == set()
    assert board.ask(b"CONF? SSID") == b"sim-ap"
    assert board.module.command(b"AT+CONNECT").startswith(b"ERR14 UNABLE TO CONNECT ")
    board.restore()
    with board.files() as fs:
        fs.remove("/factory")
    board.start()
    assert board.ask(b"CONF? SSID") == b"sim-ap"
    assert board.module.command(b"AT+CONNECT").startswith(b"ERR14 UNABLE TO CONNECT ")


@pytest.mark.parametrize(
    "info",
    [b"[]", b"1", b'"x"', b"null", b"{}", b'{"board": 1}', b'{"board": "no such board"}',
     b'{"endpoint": []}', b'{"thing": null}', b'{"thing": ""}', b'{"about": "\xff"}', b"\xff\xfe"],
)  # fmt: skip
def test_a_description_that_is_json_and_no_description(board, info):
    """Without sums, as a board has it that was made before there were any."""
    with board.files() as fs:
        fs.remove("/factory/sums")
        fs.write("/factory/module.json", info)
    board.start()
    assert board.ask(b"CONF? SSID") == b"sim-ap"
    assert board.ask(b"CONF? Certificate") == board.before[b"Certificate"]
    assert board.module.command(b"AT") == b"OK"


# A full flash.


def fill(fs, leave):
    """Fill the filesystem but for `leave` blocks."""
    count = len(fs.fs.context.buffer) // SECTOR - fs.fs.used_block_count - leave
    while True:
        try:
            fs.write("/big", b"\xa5" * (count * SECTOR))
            return
        except LittleFSError:
            # The index of a large file takes a block now and then.
            fs.remove("/big")
            count -= 1


@pytest.mark.parametrize("leave", [0, 1, 2, 3])
def test_a_full_flash(board, leave):
    with board.files() as fs:
        fill(fs, leave)
    board.start()
    assert board.values() == board.before
    assert board.lost() == set()
    refused = 0
    # Short values fit into what the folder's log still has, long ones need blocks.
    for turn in range(40):
        for key, value in ((b"SSID", b"n%d" % turn), (b"EndPoint", b"h" * 200 + b"%d" % turn)):
            before = board.ask(b"CONF? " + key)
            reply = board.module.command(b"AT+CONF " + key + b"=" + value)
            after = board.ask(b"CONF? " + key)
            if reply == b"OK":
                assert after == value
            else:
                assert reply.startswith(b"ERR4 PARAMETER ERROR not stored, errno "), reply
                assert after == before
                refused += 1
    certificate = board.ask(b"CONF? HOTAcertificate")
    reply = board.module.command(b"AT+CONF RootCA=" + b"\\A".join([certificate] * 1))
    assert reply.startswith((b"OK", b"ERR4 PARAMETER ERROR not stored", b"ERR23 ")), reply
    now = board.values()
    board.module.power_cut()
    board.start()
    assert board.values() == now
    assert board.lost() == set()
    # A time that cannot be stored is no reason not to connect.
    for line in (b"SSID=sim-ap", b"EndPoint=" + board.before[b"EndPoint"]):
        board.module.command(b"AT+CONF " + line)
    if board.ask(b"CONF? SSID") == b"sim-ap" and b"localhost" in board.ask(b"CONF? EndPoint"):
        assert board.ask(b"CONNECT") == b"1 CONNECTED"
    # Space again: all is well again.
    board.module.power_cut()
    with board.files() as fs:
        fs.remove("/big")
    board.start()
    board.works()
    assert refused or leave > 0


def test_a_factory_reset_on_a_full_flash(board):
    with board.files() as fs:
        fill(fs, 0)
    board.start()
    reply = board.module.command(b"AT+FACTORY_RESET")
    if reply == b"OK":
        board.module.wait_ready()
        assert board.ask(b"CONF? SSID") == b""
    else:
        assert reply.startswith(b"ERR4 PARAMETER ERROR not cleared, errno "), reply
        assert board.values() == board.before
