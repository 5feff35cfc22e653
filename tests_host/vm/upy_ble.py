"""CONFMODE over Bluetooth LE on the VM, without a radio: keys, messages, the candidate."""
# vm-file: heap=96

import asyncio
import json
from binascii import hexlify, unhexlify

from firmware.confmode import candidate, intake, sealing
from firmware.confmode.frames import split
from lib.hmac_sha256 import digest
from tests_host.vm.upy_x509 import EC_LEAF, EC_ROOT

SECRET = b"s" * 32
# The characteristics.
CONFIGURATION, HELLO, CERTIFICATE, KEY = 1, 2, 3, 4
NONCES = b"m" * 16 + b"c" * 16


async def test_stretch_is_pbkdf2():
    # RFC 7914, section 11, and others' published values for HMAC-SHA256.
    for rounds, wanted in (
        (1, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
        (2, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"),
        (4096, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
    ):
        assert await sealing.stretch(b"password", b"salt", rounds) == bytes.fromhex(wanted)


async def test_stretch_takes_the_longest_key():
    assert len(await sealing.stretch(b"k" * 63, b"0123456789abcdef", 1)) == 32


async def test_stretch_gives_way():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(0)

    task = asyncio.create_task(other())
    await sealing.stretch(b"password", b"salt", 400)
    task.cancel()
    assert turns >= 20


def refused(seal, place, data):
    try:
        seal.open(place, data)
    except ValueError:
        return True
    return False


def test_what_is_sealed_is_opened():
    ours = sealing.Seal(SECRET, b"module", NONCES)
    theirs = sealing.Seal(SECRET, b"module", NONCES)
    for size in (0, 1, 15, 16, 17, 100):
        text = b"x" * size
        sealed = ours.close(2, text)
        assert len(sealed) <= size + 52
        assert b"xxxx" not in sealed
        # As it comes from the receiver.
        assert theirs.open(2, bytearray(sealed)) == text


def test_a_forged_message_is_not_opened():
    ours = sealing.Seal(SECRET, b"module", NONCES)
    theirs = sealing.Seal(SECRET, b"module", NONCES)
    sealed = ours.close(1, b"0123456789")
    for i in range(len(sealed)):
        for bit in (1, 128):
            other = bytearray(sealed)
            other[i] ^= bit
            assert refused(theirs, 1, other), i
    for end in range(len(sealed)):
        assert refused(theirs, 1, sealed[:end])
    assert refused(theirs, 1, sealed + b"x")
    # For another characteristic, in the other direction, of another session.
    assert refused(theirs, 3, sealed)
    assert refused(sealing.Seal(SECRET, b"central", NONCES), 1, sealed)
    assert refused(sealing.Seal(SECRET, b"module", b"x" * 32), 1, sealed)
    assert theirs.open(1, sealed) == b"0123456789"


def test_a_message_counts_once():
    ours = sealing.Seal(SECRET, b"module", NONCES)
    theirs = sealing.Seal(SECRET, b"module", NONCES)
    first, second, third = ours.close(1, b"1"), ours.close(1, b"2"), ours.close(1, b"3")
    assert theirs.open(1, first) == b"1"
    assert refused(theirs, 1, first)
    # One that was lost on the way leaves a gap.
    assert theirs.open(1, third) == b"3"
    assert refused(theirs, 1, second)
    assert refused(theirs, 1, third)


def test_same():
    assert sealing.same(b"", b"")
    assert sealing.same(b"abc", bytearray(b"abc"))
    for other in (b"abd", b"ab", b"abcd", b"", b"Abc"):
        assert not sealing.same(b"abc", other)


# The conversation.


class Module:
    """What the intake and the candidate want of the module."""

    def __init__(self, ssid=b""):
        self.config = self.identity = self.store = self
        self.ssid = ssid
        self.thing = b"uid"
        self.files = {}

    def get(self, name):
        return self.ssid if name == b"SSID" else b""

    def check(self, name, value):
        if name == b"Passphrase":
            return not value or 8 <= len(value) <= 63
        return len(value) <= 32

    def write(self, name, value):
        self.files[name] = value


class Central:
    """Talks to an intake as a central would, frame by frame."""

    def __init__(self, module=None, secret=b""):
        self.said = []
        self.shown = b""
        self.seals = None
        self.number = 0
        self.intake = intake.Intake(
            module or Module(), secret, b'{"key":true', b"", self, self.show
        )

    def show(self, text):
        self.shown = text

    async def __call__(self, text):
        if self.seals:
            text = self.seals[1].open(HELLO, text)
        self.said.append(json.loads(text))

    async def send(self, place, message, room=100):
        """The results of a message."""
        if type(message) is dict:
            message = json.dumps(message).encode()
        if self.seals:
            message = self.seals[0].close(place, message)
        self.said.clear()
        self.number += 1
        for frame in split(message, self.number, room):
            await self.intake.take(place, frame)
        return [one["code"] for one in self.said]

    async def prove(self, secret):
        nonces = unhexlify(json.loads(self.shown)["nonce"]) + b"c" * 16
        proof = digest(secret, b"central proves ", nonces)
        said = {"nonce": hexlify(b"c" * 16).decode(), "proof": hexlify(proof).decode()}
        codes = await self.send(HELLO, said)
        if codes == [0]:
            theirs = digest(secret, b"module proves ", nonces)
            assert self.said[0]["proof"] == hexlify(theirs).decode()
            self.seals = (
                sealing.Seal(secret, b"central", nonces),
                sealing.Seal(secret, b"module", nonces),
            )
        return codes


async def test_a_configuration():
    central = Central()
    said = {"ssid": "Lab", "pwd": "secret123", "host": "broker.test", "port": 8883}
    assert await central.send(CONFIGURATION, said) == [1]
    assert central.intake.record is None
    assert await central.send(CONFIGURATION, {"apply": True}) == [1]
    assert central.intake.record == (
        {b"SSID": b"Lab", b"Passphrase": b"secret123", b"EndPoint": b"broker.test:8883"},
        b"",
    )


async def test_what_is_not_accepted():
    for code, message in (
        (99, b"{"),
        (99, b"\xff\xfe"),
        (99, b"[]"),
        (99, b"7"),
        (99, b"[" * 1000),
        (99, b'{"ssid":"\\ud83d\\ude00"}'),
        (5, {"apply": True}),
        (5, {"port": 1}),
        (5, {"thing": "t", "apply": True, "ssid": "Lab"}),
        (8, {"apply": False}),
        (8, {"apply": 1}),
        (8, {"ssid": 7}),
        (8, {"ssid": ""}),
        (8, {"ssid": "x" * 33}),
        (8, {"ssid": "Lab", "pwd": "short"}),
        (8, {"ssid": "Lab", "password": "secret123"}),
        (8, {"ssid": None}),
        (8, {"ssid": ["Lab"]}),
        (8, {"hex": "0"}),
        (8, {"hex": "zz"}),
        (8, {"host": "h", "port": "8883"}),
        (8, {"host": "h", "port": True}),
        (8, {"host": "h", "port": 0}),
        (8, {"host": "h", "port": 65536}),
        (8, {"host": "h:1", "port": 1}),
        (8, {"thing": ""}),
        (8, {"thing": "a b"}),
        (8, {"thing": "t" * 129}),
    ):
        central = Central()
        codes = await central.send(CONFIGURATION, message)
        assert codes[-1] == code, (message, central.said)
        assert central.intake.record is None
        # Nothing of it is kept, and the next one counts.
        assert await central.send(CONFIGURATION, {"apply": True}) == [1, 5], message


async def test_names_of_networks():
    for said, wanted in (
        ({"ssid": "Labor \u00fc \u2603"}, "Labor \u00fc \u2603".encode()),
        ({"hex": "00ff80"}, b"\x00\xff\x80"),
    ):
        central = Central()
        said["apply"] = True
        await central.send(CONFIGURATION, said)
        assert central.intake.record[0] == {b"SSID": wanted, b"Passphrase": b""}


async def test_the_network_that_is_set_already_will_do():
    central = Central(Module(b"Lab"))
    await central.send(CONFIGURATION, {"host": "broker.test", "apply": True})
    assert central.intake.record == ({b"EndPoint": b"broker.test"}, b"")


async def test_too_long():
    central = Central()
    for place, size in ((1, 1025), (3, 2561), (4, 2049)):
        assert await central.send(place, b"x" * size) == [8]
    # Without a key there is nothing to prove.
    assert await central.send(HELLO, {"nonce": "00" * 16, "proof": "00" * 32}) == [8]


async def test_junk_for_certificate_and_key():
    central = Central()
    junk = (
        b"x",
        b"\x30\x03ab",
        b"\x30\x03abcd",
        b"\x30\x82\x01",
        EC_LEAF[:-40],
        EC_LEAF + EC_ROOT,
    )
    encrypted = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
    for place in (CERTIFICATE, KEY):
        for message in junk + (b"-" * 100, encrypted, b"-----BEGIN PRIVATE KEY-----\n"):
            assert await central.send(place, message) == [8], message
    assert await central.send(CERTIFICATE, EC_LEAF) == [1]
    # A certificate without its key.
    assert await central.send(CONFIGURATION, {"ssid": "Lab", "apply": True}) == [1, 5]
    # What is no key, or no certificate, shows when they have to fit.
    for place, message in ((KEY, b"\x30\x03abc"), (KEY, EC_LEAF), (CERTIFICATE, b"\x30\x03abc")):
        assert await central.send(place, message) == [1]
        assert await central.send(CONFIGURATION, {"ssid": "Lab", "apply": True}) == [1, 8]
        assert central.intake.record is None


async def test_what_a_pem_file_may_have_beside():
    for text in (
        EC_LEAF,
        EC_LEAF.replace(b"\n", b"\r\n"),
        b"Bag Attributes: x\n" + EC_LEAF + b"more",
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        + EC_LEAF,
    ):
        central = Central()
        assert await central.send(CERTIFICATE, text) == [1]
        assert len(central.intake._certificate) == 275


async def test_nothing_without_the_key():
    central = Central(secret=SECRET)
    for place in (1, 3, 4):
        assert set(await central.send(place, b"x" * 300)) == {3}
    assert not central.intake.accepted
    nonces = [central.shown]
    for _ in range(2):
        assert await central.prove(b"x" * 32) == [3]
        assert central.shown not in nonces
        nonces.append(central.shown)
    assert central.intake.wrong == 2
    # MicroPython takes names that are no texts.
    for junk in (b"{}", b"x", b"{1:2}", {"nonce": "00", "proof": "00"}, {"nonce": 1, "proof": 2}):
        assert (await central.send(HELLO, junk))[0] in (5, 8, 99)
    assert not central.intake.accepted
    assert await central.prove(SECRET) == [0]
    assert central.intake.accepted
    assert await central.send(1, {"ssid": "Lab", "apply": True}) == [1]
    assert central.intake.record is not None


async def test_a_proof_is_good_once():
    central = Central(secret=SECRET)
    nonces = unhexlify(json.loads(central.shown)["nonce"]) + b"c" * 16
    said = {
        "nonce": hexlify(b"c" * 16).decode(),
        "proof": hexlify(digest(SECRET, b"central proves ", nonces)).decode(),
    }
    assert await central.send(HELLO, said) == [0]
    other = Central(secret=SECRET)
    assert await other.send(HELLO, said) == [3]
    # The module's own proof, sent back to it, is none.
    said["proof"] = hexlify(digest(SECRET, b"module proves ", nonces)).decode()
    assert await other.send(HELLO, said) == [3]


async def test_plain_messages_do_not_count_after_the_proof():
    central = Central(secret=SECRET)
    assert await central.prove(SECRET) == [0]
    seals, central.seals = central.seals, None
    central.intake._outgoing = None
    assert await central.send(1, {"ssid": "Lab", "apply": True}) == [3]
    central.intake._outgoing = sealing.Seal(SECRET, b"module", NONCES)
    central.seals = (seals[0], sealing.Seal(SECRET, b"module", NONCES))
    assert await central.send(1, {"ssid": "Lab", "apply": True}) == [1]


# The candidate.


def test_a_candidate_is_kept_whole():
    module = Module()
    values = {b"SSID": b"\x00\xff", b"Passphrase": b"", b"EndPoint": b"broker.test:8883"}
    for record in (b"", bytes(range(256)) * 12):
        candidate.propose(module, values, record)
        kept = module.files["candidate"]
        assert kept[0] == 0
        assert candidate._unpack(kept) == (values, record)
        for end in range(1, len(kept), 7):
            try:
                found = candidate._unpack(kept[:end])
            except (ValueError, IndexError):
                continue
            # Cut between two fields: a file cannot be, its checksum is over all of it.
            assert found != (values, record)
