"""The central's side of CONFMODE over Bluetooth LE: the wire format, the client, and the way to a
real radio, as far as a stand-in for `bleak` can show it."""

import asyncio
import inspect
import json
import os
import sys
import types

import pytest
from click.testing import CliRunner

from tools.fleet import ble_wire as wire
from tools.fleet.ble import ble
from tools.fleet.ble_client import Client, ClientError
from tools.fleet.ble_link import BleakLink

HELLO = {"protocol": 1, "name": "ExpressLink-ab12cd", "key": False, "nonce": "0f" * 16}
# Some systems write UUIDs in capitals.
SHOWN = wire.SERVICE.upper()
KEYED = {**HELLO, "key": True, "salt": "00112233445566778899aabbccddeeff", "rounds": 2000}


# The wire format. The values of these two stand in docs/ble.md too.


def test_a_session_by_numbers():
    session = wire.Session(b"correct horse", KEYED, nonce=b"\xf0" * 16)
    proof = "dbb6235f74ebb852c294a0b7cf588994ed88688e1d5509d4de2c2d28cda66a15"
    assert session.proof().hex() == proof


def test_frames_by_numbers():
    assert [frame.hex() for frame in wire.frames(b'{"apply":true}', 1, 20)] == [
        "81000e00" + "681ab941" + b'{"apply":tru'.hex(),
        "0101" + b"e}".hex(),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 999},
        {"rounds": 10**9},
        {"rounds": "2000"},
        {"rounds": None},
        {"salt": "zz"},
        {"nonce": "00"},
        {"nonce": 7},
    ],
)
def test_a_hello_that_is_unreasonable(change):
    with pytest.raises(wire.WireError):
        wire.Session(b"correct horse", {**KEYED, **change})


def test_what_the_module_seals_is_checked():
    theirs = wire.Session(b"correct horse", KEYED, nonce=b"\xf0" * 16)
    ours = wire.Session(b"correct horse", KEYED, nonce=b"\xf0" * 16)
    sealed = theirs._incoming.close(2, b"text")
    for damaged in (sealed[:-1], sealed[:20], b"", bytes(len(sealed)), sealed[:-1] + b"\0"):
        with pytest.raises(wire.WireError):
            ours.unseal(wire.HELLO, damaged)
    with pytest.raises(wire.WireError):
        ours.unseal(wire.KEY, sealed)
    assert ours.unseal(wire.HELLO, sealed) == b"text"
    with pytest.raises(wire.WireError, match="again"):
        ours.unseal(wire.HELLO, sealed)


# A module and a radio that are not there.


class Peripheral:
    """Answers as a module does. hello: what it shows; replies: results for each message."""

    def __init__(self, hello=HELLO, replies=()):
        self.hello = hello
        self.replies = list(replies)
        self.messages = []
        self.assemblers = {uuid: wire.Assembler() for uuid in wire.PLACES}
        self.notify = None
        self.mtu = 100
        self.writes = 0
        self.vanish = None

    def write(self, uuid, value):
        self.writes += 1
        assert len(value) <= self.mtu - 3
        message = self.assemblers[uuid].take(value)
        if message is None:
            return
        self.messages.append((uuid, message))
        for reply in self.replies.pop(0) if self.replies else [{"code": 1}]:
            raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            for frame in wire.frames(raw, len(self.messages), self.mtu - 3):
                self.notify(frame)


class FakeClient:
    def __init__(self, device, disconnected_callback=None):
        self.device = device
        self.gone = disconnected_callback
        self.is_connected = False
        self.services = self

    def get_characteristic(self, specifier):
        if specifier != wire.HELLO or self.device.peripheral.hello is None:
            return None
        return types.SimpleNamespace(
            max_write_without_response_size=self.device.peripheral.mtu - 3
        )

    async def connect(self):
        if self.device.peripheral.vanish == "connect":
            raise sys.modules["bleak"].exc.BleakError("not reachable")
        self.is_connected = True

    async def disconnect(self):
        self.is_connected = False
        self.gone(self)

    async def start_notify(self, char_specifier, callback):
        assert char_specifier == wire.HELLO
        self.device.peripheral.notify = lambda value: callback(None, bytearray(value))

    async def read_gatt_char(self, char_specifier):
        assert char_specifier == wire.HELLO
        return bytearray(json.dumps(self.device.peripheral.hello).encode())

    async def write_gatt_char(self, char_specifier, data, response=None):
        assert response is True
        peripheral = self.device.peripheral
        if peripheral.vanish == "write":
            await self.disconnect()
            raise sys.modules["bleak"].exc.BleakError("disconnected")
        if peripheral.vanish == "answer":
            await self.disconnect()
            return
        peripheral.write(char_specifier, bytes(data))


@pytest.fixture
def air(monkeypatch):
    """Function that puts a peripheral into the air of a stand-in for `bleak`."""
    fake = types.ModuleType("bleak")
    fake.exc = types.SimpleNamespace(BleakError=type("BleakError", (Exception,), {}))
    fake.devices = []

    class Scanner:
        @staticmethod
        async def find_device_by_filter(filterfunc, timeout=10.0):
            for device in fake.devices:
                shown = types.SimpleNamespace(
                    service_uuids=device.services, local_name=device.local_name
                )
                if filterfunc(device, shown):
                    return device
            return None

    fake.BleakScanner = Scanner
    fake.BleakClient = FakeClient
    monkeypatch.setitem(sys.modules, "bleak", fake)

    def add(peripheral, services=(SHOWN,), name="ExpressLink-ab12cd"):
        fake.devices.append(
            types.SimpleNamespace(
                peripheral=peripheral, services=list(services), local_name=name, name=None
            )
        )
        return peripheral

    return add


def test_the_stand_in_is_like_bleak():
    try:
        import bleak
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("bleak is not installed")
    for ours, theirs in (
        (FakeClient.__init__, bleak.BleakClient.__init__),
        (FakeClient.start_notify, bleak.BleakClient.start_notify),
        (FakeClient.read_gatt_char, bleak.BleakClient.read_gatt_char),
        (FakeClient.write_gatt_char, bleak.BleakClient.write_gatt_char),
    ):
        names = list(inspect.signature(theirs).parameters)
        mine = list(inspect.signature(ours).parameters)
        assert mine[1] == names[1] or names[1].startswith("address")
        assert set(mine[2:]) <= set(names)
    assert "timeout" in inspect.signature(bleak.BleakScanner.find_device_by_filter).parameters
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.service import BleakGATTServiceCollection

    assert isinstance(BleakGATTCharacteristic.max_write_without_response_size, property)
    names = inspect.signature(BleakGATTServiceCollection.get_characteristic).parameters
    assert list(names)[1] == "specifier"
    assert isinstance(bleak.BleakClient.services, property)
    assert isinstance(bleak.BleakClient.is_connected, property)
    assert issubclass(bleak.exc.BleakError, Exception)


async def configured(link, values, passkey=None, lines=None, **files):
    client = Client(link, (lines if lines is not None else []).append)
    try:
        await client.open(passkey)
        await client.configure(values, **files)
    finally:
        await client.close()


DONE = [{"code": 1, "reason": "checking"}, {"code": 2}]


def test_a_module_is_configured(air):
    air(Peripheral(), services=["0000180f-0000-1000-8000-00805f9b34fb"])
    air(Peripheral(), name="ExpressLink-other")
    module = air(Peripheral(replies=[[{"code": 1}], [{"code": 1}], DONE]))
    lines = []
    link = BleakLink("ExpressLink-ab12cd")
    values = {"ssid": "Lab ü", "pwd": "secret123"}
    asyncio.run(configured(link, values, lines=lines, certificate=b"c" * 900, key=b"k" * 121))
    assert module.messages[0] == (wire.CERTIFICATE, b"c" * 900)
    assert module.messages[1] == (wire.KEY, b"k" * 121)
    uuid, text = module.messages[2]
    assert uuid == wire.CONFIGURATION
    assert "Lab ü".encode() in text
    assert json.loads(text) == {**values, "apply": True}
    assert lines[0] == "connected to ExpressLink-ab12cd"
    assert not link.connected


def failure(link, values=None, passkey=None):
    with pytest.raises(ClientError) as caught:
        asyncio.run(configured(link, values or {"ssid": "Lab", "pwd": "secret123"}, passkey))
    return caught.value


@pytest.mark.parametrize("code", [3, 4, 5, 8, 9, 10, 11, 12, 99, 55])
def test_a_refusal_is_told_with_its_reason(air, code):
    air(Peripheral(replies=[[{"code": code, "about": "configuration", "reason": "because"}]]))
    error = failure(BleakLink())
    assert error.code == code
    assert "because" in str(error) and "configuration" in str(error)
    assert wire.MEANINGS.get(code, "55") in str(error)


def test_nobody_is_there(air):
    assert "no module found" in str(failure(BleakLink()))


@pytest.mark.parametrize(
    ("when", "text"),
    [("connect", "not reachable"), ("write", "disconnected"), ("answer", "connection is lost")],
)
def test_the_module_vanishes(air, when, text):
    air(Peripheral()).vanish = when
    assert text in str(failure(BleakLink()))


def test_a_device_without_the_characteristics(air):
    air(Peripheral(None))
    assert "no module" in str(failure(BleakLink()))


def test_another_device(air):
    air(Peripheral({"hello": "there"}))
    assert "language" in str(failure(BleakLink()))


def test_a_newer_module(air):
    air(Peripheral({**HELLO, "protocol": 2}))
    assert "protocol 2" in str(failure(BleakLink()))


def test_a_key_is_not_given_away(air):
    # Neither to a module that asks for one when we have none, nor the other way round.
    module = air(Peripheral(KEYED))
    assert "asks for the key" in str(failure(BleakLink()))
    assert module.messages == []
    module.hello = HELLO
    assert "asks for no key" in str(failure(BleakLink(), passkey=b"correct horse"))
    assert module.messages == []


def test_a_module_that_does_not_know_the_key(air):
    module = air(Peripheral(KEYED, replies=[[{"code": 0, "proof": "00" * 32}]]))
    assert "another one" in str(failure(BleakLink(), passkey=b"correct horse"))
    assert len(module.messages) == 1


def test_junk_from_the_module(air):
    air(Peripheral(replies=[[b"\xff\xfe"]]))
    assert "makes no sense" in str(failure(BleakLink()))


def test_without_bleak(monkeypatch):
    monkeypatch.setitem(sys.modules, "bleak", None)
    with pytest.raises(ClientError, match="pip install bleak"):
        BleakLink()
    result = CliRunner().invoke(ble, ["show"])
    assert result.exit_code == 1
    assert "pip install bleak" in result.output


# The command line.


def test_the_passphrase_is_asked_for_and_not_shown(air):
    module = air(Peripheral(replies=[DONE]))
    result = CliRunner().invoke(ble, ["configure", "--ssid", "Lab"], input="secret123\n")
    assert result.exit_code == 0, result.output
    assert "secret123" not in result.output
    assert json.loads(module.messages[0][1]) == {"ssid": "Lab", "pwd": "secret123", "apply": True}


def test_endpoint_and_thing(air, tmp_path):
    module = air(Peripheral(replies=[[{"code": 1}], [{"code": 1}], DONE]))
    (tmp_path / "c").write_bytes(b"certificate")
    (tmp_path / "k").write_bytes(b"private key")
    files = ["--cert", str(tmp_path / "c"), "--keyfile", str(tmp_path / "k"), "--thing", "t1"]
    result = CliRunner().invoke(ble, ["configure", "--endpoint", "broker.test:8884", *files])
    assert result.exit_code == 0, result.output
    assert [message for _, message in module.messages[:2]] == [b"certificate", b"private key"]
    said = json.loads(module.messages[2][1])
    assert said == {"host": "broker.test", "port": 8884, "thing": "t1", "apply": True}
    assert "private key" not in result.output.replace("private key accepted", "")


def test_an_open_network(air):
    module = air(Peripheral(replies=[DONE]))
    result = CliRunner().invoke(ble, ["configure", "--ssid", "Lab", "--open-network"])
    assert result.exit_code == 0, result.output
    assert json.loads(module.messages[0][1]) == {"ssid": "Lab", "apply": True}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to configure"),
        (["--cert", __file__], "go together"),
        (["--ssid", "x", "--open-network", "--endpoint", "h:x"], "host or host:port"),
        (["--ssid", "x", "--open-network", "--virtual", "no-such-folder"], "does not exist"),
    ],
)
def test_what_makes_no_sense(air, arguments, text):
    result = CliRunner().invoke(ble, ["configure", *arguments])
    assert result.exit_code == 2
    assert text in result.output


def test_no_virtual_module(tmp_path):
    result = CliRunner().invoke(ble, ["show", "--virtual", str(tmp_path)])
    assert result.exit_code == 1
    assert "no virtual module runs" in result.output


def test_show(air):
    air(Peripheral())
    result = CliRunner().invoke(ble, ["show"])
    assert json.loads(result.output) == HELLO
