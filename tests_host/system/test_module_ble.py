"""CONFMODE over Bluetooth LE, from a central on the PC to the event on the host's port."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from random import Random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests_host.certificates import self_signed
from tests_host.system.conftest import connect, give_wifi, next_event
from tools.cloud.identity import issue_birth
from tools.fleet import ble_wire as wire
from tools.fleet.ble_client import Client, ClientError
from tools.fleet.ble_link import VirtualLink
from tools.sim import romfs
from tools.sim.central import CentralError, Faults

KEY = b"correct horse battery"
GOOD = {"ssid": "sim-ap", "pwd": "sim-passphrase"}


def begin(module, name=b"Pump 7", key=KEY):
    """CONFMODE over Bluetooth LE, the STARTUP event taken."""
    if module.event():
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+CONF ConfTransport=ble") == b"OK"
    reply = module.command(b"AT+CONFMODE " + name + (b"," + key if key else b""))
    assert reply == b"OK CONFMODE ENABLED"


def status(module):
    reply = module.command(b"AT+DIAG INFO confmode")
    assert reply == b"OK" or reply.startswith(b"OK ")
    return reply[3:]


class Talk:
    """A client whose coroutines are run to their end."""

    def __init__(self, module, key=KEY, mtu=247, faults=None, patient=True):
        self.link = VirtualLink(module.state, mtu)
        self.central = self.link.central
        if faults:
            self.central.faults = faults
        self.client = Client(self.link)
        self._key = key
        self._patient = patient

    def __enter__(self):
        """Connected, and proved to know the key; one that has just gone may still count."""
        until = time.monotonic() + 5
        while True:
            try:
                asyncio.run(self.client.open(self._key))
                return self
            except ClientError as error:
                if error.code != 11 or time.monotonic() > until or not self._patient:
                    self.central.close()
                    raise
                self.central.wait_disconnected()

    def __exit__(self, *_):
        self.central.close()

    def send(self, uuid, message):
        if isinstance(message, dict):
            message = json.dumps(message).encode()
        asyncio.run(self.client.send(uuid, message))

    def result(self, seconds=10):
        return asyncio.run(self.client.result(seconds))

    def say(self, uuid, message):
        """Send, and the result code."""
        self.send(uuid, message)
        return self.result()["code"]

    def configure(self, values, certificate=None, key=None):
        asyncio.run(self.client.configure(values, certificate, key))


def configure(module, values=GOOD, **files):
    with Talk(module) as talk:
        talk.configure(values, **files)


def restarted(module):
    """Wait for the restart that follows a configuration."""
    module.wait_ready()
    assert next_event(module) == b"OK 2 0 STARTUP"


def kept(module):
    restarted(module)
    assert next_event(module, 30) == b"OK 7 0 CONFMODE"


def not_kept(module, reason):
    """The configuration fails: no event, the reason can be asked for."""
    restarted(module)
    until = time.monotonic() + 40
    while status(module).startswith(b"ble, trying"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert status(module) == reason
    assert not module.event()


# It works.


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("mtu", [None, 23, 247])
def test_a_module_is_configured_and_connects(make_module, cloud, key, mtu):
    module = make_module()
    begin(module, key=key)
    with Talk(module, key, mtu) as talk:
        assert talk.client.hello["name"] == "Pump 7"
        assert talk.client.hello["key"] is bool(key)
        talk.configure({**GOOD, "host": "localhost", "port": cloud.mqtt})
    kept(module)
    assert status(module) == b"joined sim-ap"
    assert module.command(b"AT+CONF? SSID") == b"OK sim-ap"
    assert module.command(b"AT+CONF? EndPoint") == b"OK localhost:%d" % cloud.mqtt
    connect(module)


def test_long_writes(make_module):
    # Frames of 512 bytes over a connection whose packets hold 20.
    module = make_module()
    begin(module)
    with Talk(module, mtu=None) as talk:
        message = json.dumps({**GOOD, "apply": True}).encode()
        sealed = talk.client._session.seal(wire.CONFIGURATION, message)
        (frame,) = wire.frames(sealed, 77, 512)
        talk.central.write(wire.CONFIGURATION, frame)
        assert [talk.result()["code"], talk.result()["code"]] == [1, 2]
    kept(module)


def test_what_is_advertised(make_module):
    module = make_module()
    uid = module.get("uid")
    assert len(uid) == 12
    begin(module, b"", b"")
    with Talk(module, b"") as talk:
        # It goes on, so that others can be told that it is busy.
        until = time.monotonic() + 5
        while not (seen := talk.central.scan()):
            assert time.monotonic() < until
        assert seen["name"] == "ExpressLink-" + uid[-6:]
        assert seen["services"] == [wire.SERVICE]
        assert talk.central.characteristics() == list(wire.PLACES)
        assert talk.client.hello["open"] == "anybody near can listen"
    assert b"open: anybody near can listen" in status(module)
    assert module.command(b"AT+RESET") == b"OK"
    restarted(module)
    assert not module.event()


def test_a_certificate_and_its_key(make_module, cloud):
    module = make_module("--identity", "none")
    made = issue_birth(cloud.state, "thing-by-ble")
    begin(module)
    values = {**GOOD, "thing": "thing-by-ble", "host": "localhost", "port": cloud.mqtt}
    configure(module, values, certificate=made.cert_pem, key=made.key_pem)
    kept(module)
    assert module.command(b"AT+CONF? ThingName") == b"OK thing-by-ble"
    connect(module)
    assert b"PRIVATE" not in module.console().encode()
    assert "sim-passphrase" not in module.console()


def der(pem):
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def foreign_key():
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def test_a_certificate_and_a_foreign_key(make_module, cloud):
    module = make_module()
    made = issue_birth(cloud.state, "thing-by-ble-2")
    begin(module)
    with Talk(module) as talk:
        with pytest.raises(ClientError, match="does not belong") as caught:
            talk.configure(GOOD, der(made.cert_pem), foreign_key())
        assert caught.value.code == 8
        # Corrected in the same connection.
        talk.configure(GOOD, key=made.key_pem)
    kept(module)


def test_an_rsa_key(make_module):
    module = make_module()
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    begin(module)
    configure(module, certificate=self_signed("rsa", key), key=pem)
    kept(module)
    assert module.command(b"AT+DIAG INFO identity") == b"OK trial"


def fleet(*arguments, **secrets):
    return subprocess.run(
        [sys.executable, "-m", "tools.fleet", "ble", *map(str, arguments)],
        cwd=romfs.ROOT,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_from_the_command_line(make_module, cloud, tmp_path):
    module = make_module("--identity", "none")
    made = issue_birth(cloud.state, "thing-by-ble-6")
    (tmp_path / "cert").write_bytes(made.cert_pem)
    (tmp_path / "key").write_bytes(made.key_pem)
    begin(module)
    shown = fleet("show", "--virtual", module.state)
    assert json.loads(shown.stdout)["name"] == "Pump 7"
    arguments = ["configure", "--virtual", module.state, "--key", "--ssid", "sim-ap"]
    arguments += ["--endpoint", f"localhost:{cloud.mqtt}", "--thing", "thing-by-ble-6"]
    arguments += ["--cert", tmp_path / "cert", "--keyfile", tmp_path / "key"]
    secrets = {"EXPRESSLINK_PASSPHRASE": "sim-passphrase", "EXPRESSLINK_KEY": "wrong horse!"}
    refused = fleet(*arguments, **secrets)
    assert refused.returncode == 1
    assert "access denied (wrong key)" in refused.stderr
    done = fleet(*arguments, **{**secrets, "EXPRESSLINK_KEY": KEY.decode()})
    assert done.returncode == 0, done.stderr
    assert "sim-passphrase" not in done.stdout + done.stderr
    kept(module)
    connect(module)


# What is wrong is told, and nothing comes of it.


def test_wrong_key(make_module):
    module = make_module()
    begin(module)
    for i in range(3):
        with pytest.raises(ClientError) as caught:
            Talk(module, b"wrong horse battery").__enter__()
        assert caught.value.code == 3, i
    time.sleep(0.5)
    paused = time.monotonic()
    assert b"pause" in status(module)
    probe = VirtualLink(module.state).central
    assert probe.scan() is None
    with pytest.raises(CentralError):
        probe.connect(0)
    while probe.scan() is None:
        assert time.monotonic() - paused < 10
        time.sleep(0.05)
    assert time.monotonic() - paused > 3.5
    probe.close()
    configure(module)
    kept(module)


def test_three_wrong_proofs_in_one_connection(make_module):
    module = make_module()
    begin(module)
    with Talk(module) as talk:
        pass
    talk = Talk(module, b"wrong horse battery")
    asyncio.run(talk.link.connect())
    for _ in range(3):
        talk.client.hello = json.loads(asyncio.run(talk.link.read(wire.HELLO)))
        with pytest.raises(ClientError) as caught:
            asyncio.run(talk.client._prove(b"wrong horse battery"))
        assert caught.value.code == 3
    assert talk.central.wait_disconnected(5)


def test_nothing_is_accepted_without_the_proof(make_module):
    module = make_module()
    begin(module)
    talk = Talk(module)
    asyncio.run(talk.link.connect())
    for uuid in (wire.CONFIGURATION, wire.CERTIFICATE, wire.KEY):
        assert talk.say(uuid, {**GOOD, "apply": True}) == 3
    talk.central.close()
    assert status(module).startswith(b"ble Pump 7")


LONG = {**GOOD, "host": "h" * 200}


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (Faults(lost=[3]), 9),
        (Faults(lost=[0]), 9),
        (Faults(damaged={2: 100}), 10),
        (Faults(damaged={0: 9 * 8}), 10),
    ],
)
def test_lost_and_damaged_frames(make_module, faults, code):
    module = make_module()
    begin(module, key=b"")
    with Talk(module, b"", 23, faults) as talk:
        assert talk.say(wire.CONFIGURATION, LONG) == code
        # Told once, and the next message counts.
        talk.configure(GOOD)
    kept(module)


def test_repeated_frames_do_no_harm(make_module):
    module = make_module()
    begin(module)
    with Talk(module, mtu=23, faults=Faults(repeated=range(6, 100))) as talk:
        talk.configure(GOOD)
    kept(module)


def test_frames_that_do_not_come(make_module):
    module = make_module()
    begin(module, key=b"")
    with Talk(module, b"", 23) as talk:
        frames = wire.frames(json.dumps(LONG).encode(), 1, 20)
        for frame in frames[:5]:
            talk.central.write(wire.CONFIGURATION, frame)
        started = time.monotonic()
        assert talk.result()["code"] == 4
        assert 4.5 < time.monotonic() - started < 7
        for frame in frames[5:]:
            talk.central.write(wire.CONFIGURATION, frame)
        assert talk.central.notification(0.2) is None
        talk.configure(GOOD)
    kept(module)


def test_a_central_that_vanishes_in_the_middle(make_module, cloud):
    module = make_module()
    give_wifi(module)
    made = issue_birth(cloud.state, "thing-by-ble-3")
    begin(module)
    # In the proof, the certificate, and the key.
    for at in (3, 10, 40, 60):
        with pytest.raises((CentralError, ClientError)):
            with Talk(module, mtu=23, faults=Faults(vanish=at)) as talk:
                talk.configure({"ssid": "other", "thing": "x"}, made.cert_pem, made.key_pem)
        assert module.command(b"AT+CONF? SSID") == b"OK sim-ap"
        # The next one is served when the module has seen that this one is gone.
        until = time.monotonic() + 20
        while b"waiting" not in module.command(b"AT+DIAG INFO confmode"):
            assert time.monotonic() < until
            time.sleep(0.1)
    # Nothing is left of what was sent.
    with Talk(module) as talk:
        assert talk.say(wire.CONFIGURATION, {"thing": "y"}) == 1
        assert talk.say(wire.CONFIGURATION, {"apply": True}) == 1
        assert talk.result() == {"code": 5, "reason": "certificate", "about": "configuration"}
        talk.configure(GOOD, made.cert_pem, made.key_pem)
    kept(module)


def test_a_second_central(make_module):
    module = make_module()
    begin(module)
    with Talk(module) as talk:
        with pytest.raises(ClientError, match="busy") as caught:
            Talk(module, patient=False).__enter__()
        assert caught.value.code == 11
        silent = VirtualLink(module.state).central
        silent.connect()
        assert silent.wait_disconnected(8)
        talk.configure(GOOD)
    kept(module)


@pytest.mark.parametrize(
    ("uuid", "message", "code"),
    [
        (wire.CONFIGURATION, b"x" * 1025, 8),
        (wire.CERTIFICATE, b"x" * 2561, 8),
        (wire.KEY, b"x" * 2049, 8),
        (wire.CERTIFICATE, b"x" * 2560, 8),
        (wire.CONFIGURATION, b"{", 99),
        (wire.CONFIGURATION, b"\xff" * 1024, 99),
        (wire.CONFIGURATION, b"[" * 1024, 99),
        (wire.CONFIGURATION, {"ssid": "Lab", "pwd": "short"}, 8),
        (wire.CONFIGURATION, {"host": "no host at all"}, 8),
        (wire.HELLO, {"nonce": "00" * 16, "proof": "00" * 32}, 8),
    ],
)
@pytest.mark.parametrize("key", [KEY, b""])
def test_what_makes_no_sense(make_module, uuid, message, code, key):
    module = make_module()
    begin(module, key=key)
    with Talk(module, key) as talk:
        if uuid == wire.HELLO and key:
            asyncio.run(talk.client.send(uuid, json.dumps(message).encode()))
            assert talk.result()["code"] == 8
        else:
            assert talk.say(uuid, message) == code
        assert talk.say(wire.CONFIGURATION, {"ssid": "Lab", "pwd": "long enough"}) == 1


def test_secrets_cannot_be_read_back(make_module):
    module = make_module()
    begin(module, key=b"")
    with Talk(module, b"") as talk:
        talk.send(wire.CONFIGURATION, GOOD)
        talk.send(wire.KEY, b"\x30\x03abc")
        for uuid in (wire.CONFIGURATION, wire.KEY, wire.CERTIFICATE):
            assert talk.central.read(uuid) == b"{}"
        assert json.loads(talk.central.read(wire.HELLO))["protocol"] == 1


def test_a_stack_without_memory_for_notifications(make_module):
    module = make_module()
    begin(module)
    with Talk(module) as talk:
        talk.central.choke(20)
        talk.configure(GOOD)
    kept(module)


# After the restart.


def test_wrong_wifi_passphrase(make_module):
    module = make_module()
    give_wifi(module)
    begin(module)
    configure(module, {"ssid": "sim-ap", "pwd": "not the passphrase", "host": "elsewhere"})
    not_kept(module, b"wrong passphrase")
    assert module.command(b"AT+CONF? EndPoint") != b"OK elsewhere"
    connect(module)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    begin(module)
    with Talk(module) as talk:
        assert talk.client.hello["last"] == "wrong passphrase"


def test_a_network_that_is_not_there(make_module):
    module = make_module()
    begin(module)
    configure(module, {"ssid": "elsewhere", "pwd": "some passphrase"})
    not_kept(module, b"not found")
    assert module.command(b"AT+CONF? SSID") == b"OK"


def test_during_the_trial(make_module):
    module = make_module()
    begin(module)
    configure(module, {"ssid": "sim-ap", "pwd": "not the passphrase"})
    restarted(module)
    assert status(module) == b"ble, trying sim-ap"
    assert module.command(b"AT+CONNECT").startswith(b"ERR14")
    assert module.command(b"AT+CONFMODE").startswith(b"ERR17")
    assert module.command(b"AT+RESET") == b"OK"
    restarted(module)
    # The host did not want it.
    time.sleep(0.5)
    assert status(module) == b""
    assert not module.event()


def test_power_cuts_during_the_trial(make_module):
    module = make_module()
    module.wifi(up=False)
    begin(module)
    configure(module)
    restarted(module)
    module.power_cut()
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert status(module) == b"ble, trying sim-ap"
    module.power_cut()
    module.wifi(up=True)
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert next_event(module, 30) == b"OK 7 0 CONFMODE"
    assert module.command(b"AT+CONF? SSID") == b"OK sim-ap"


def test_a_trial_that_always_ends_in_a_power_cut_is_given_up(make_module):
    module = make_module()
    module.wifi(up=False)
    begin(module)
    configure(module)
    restarted(module)
    for _ in range(2):
        module.power_cut()
        module.power_on()
        assert next_event(module) == b"OK 2 0 STARTUP"
        assert status(module) == b"ble, trying sim-ap"
    module.power_cut()
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    time.sleep(0.3)
    assert status(module) == b"power lost in each of 3 tries"
    module.power_cut()
    module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert status(module) == b""


def test_power_cut_while_the_candidate_is_written_or_kept(make_module):
    """At every flash operation from the last message on: the old values or the new ones."""
    module = make_module()
    outcomes = set()
    for operations in range(1, 100, 7):
        while module.event():
            module.command(b"AT+EVENT?")
        assert module.command(b"AT+CONF SSID=old") == b"OK"
        assert module.command(b"AT+CONF Passphrase=old passphrase") == b"OK"
        begin(module)
        with Talk(module) as talk:
            module.fail_after(operations)
            try:
                talk.configure({**GOOD, "host": "localhost", "port": 1})
            except ClientError:
                assert module.get("state") == "off"
        until = time.monotonic() + 5
        while module.get("state") != "off" and time.monotonic() < until:
            if module.event() and module.command(b"AT+EVENT?") == b"OK 7 0 CONFMODE":
                break
            time.sleep(0.01)
        time.sleep(0.1)
        if module.get("state") == "off":
            module.power_on()
        else:
            module.fail_after(0)
        until = time.monotonic() + 5
        while status(module).startswith(b"ble, trying"):
            assert time.monotonic() < until
            time.sleep(0.02)
        values = (module.command(b"AT+CONF? SSID"), module.command(b"AT+CONF? EndPoint"))
        assert values[0] in (b"OK old", b"OK sim-ap")
        assert (values[0] == b"OK sim-ap") == (values[1] == b"OK localhost:1"), values
        outcomes.add(values[0])
        module.command(b"AT+CONF EndPoint=localhost:2")
    assert outcomes == {b"OK old", b"OK sim-ap"}


# The host's port meanwhile.


def longest_answer(module, work):
    """The longest time (s) that the port took to answer while `work` ran in another thread."""
    failed = []

    def run():
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    longest = 0
    while thread.is_alive():
        started = time.monotonic()
        assert module.command(b"AT") == b"OK"
        longest = max(longest, time.monotonic() - started)
    thread.join()
    if failed:
        raise failed[0]
    return longest


def test_the_port_answers_while_a_central_talks(make_module, cloud):
    module = make_module()
    made = issue_birth(cloud.state, "thing-by-ble-4")
    begin(module)

    def work():
        with Talk(module) as talk:
            for _ in range(5):
                assert talk.say(wire.CERTIFICATE, made.cert_pem) == 1
                assert talk.say(wire.KEY, made.key_pem) == 1
                assert talk.say(wire.CONFIGURATION, b"x" * 1024) == 99
            assert talk.say(wire.KEY, foreign_key()) == 1
            talk.send(wire.CONFIGURATION, {**GOOD, "apply": True})
            assert talk.result()["code"] == 1
            assert "belong" in talk.result()["reason"]

    longest = longest_answer(module, work)
    print(f"longest answer {longest * 1000:.0f} ms")
    assert longest < 0.25


def test_commands_during_confmode(make_module):
    module = make_module()
    begin(module)
    with Talk(module) as talk:
        for line, reply in (
            (b"AT+CONNECT", b"ERR14"),
            (b"AT+CONFMODE", b"ERR17"),
            (b"AT+SLEEP 1", b"ERR17"),
            (b"AT+DIAG PING localhost", b"ERR6"),
            (b"AT+CONF SSID=by the host", b"OK"),
            (b"AT+CONF? SSID", b"OK by the host"),
            (b"AT+DIAG SCAN", b"OK"),
        ):
            assert module.command(line).startswith(reply), line
        talk.configure(GOOD)
    kept(module)


@pytest.mark.parametrize("heap", [96, 100, 104])
def test_with_little_memory(make_module, cloud, heap):
    module = make_module("--heap", str(heap))
    made = issue_birth(cloud.state, f"thing-by-ble-{heap}")
    begin(module)
    values = {**GOOD, "thing": f"thing-by-ble-{heap}", "host": "localhost", "port": cloud.mqtt}
    configure(module, values, certificate=made.cert_pem, key=made.key_pem)
    kept(module)
    connect(module)


def test_where_memory_is_lacking_the_key_is_checked_after_the_restart(make_module, cloud):
    module = make_module("--heap", "88")
    made = issue_birth(cloud.state, "thing-by-ble-5")
    thing = module.command(b"AT+CONF? ThingName")
    begin(module)
    configure(module, certificate=made.cert_pem, key=foreign_key())
    not_kept(module, b"the key does not belong to the certificate")
    assert module.command(b"AT+CONF? SSID") == b"OK"
    assert module.command(b"AT+CONF? ThingName") == thing
    give_wifi(module)
    connect(module)


def junk(random):
    """A frame that is random, or nearly right."""
    kind = random.randrange(4)
    if kind == 0:
        return random.randbytes(random.randrange(0, 60))
    text = random.choice(
        [
            json.dumps({"ssid": "x" * random.randrange(40), "pwd": "y" * random.randrange(80)}),
            json.dumps({"host": "h", "port": random.randrange(-5, 70000)}),
            json.dumps({random.choice(["apply", "thing", "hex"]): random.choice([1, "", [], {}])}),
            json.dumps({"nonce": "00" * random.randrange(20), "proof": "zz"}),
            '{"ssid":' * random.randrange(60),
            "-----BEGIN PRIVATE KEY-----\n" + "A" * random.randrange(99) + "\n-----END X-----",
            "0" + "\x03abc",
            "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("latin-1"),
        ]
    ).encode()
    frames = wire.frames(text, random.randrange(128), 244)
    frame = bytearray(random.choice(frames))
    if kind == 1:
        bit = random.randrange(len(frame) * 8)
        frame[bit // 8] ^= 1 << bit % 8
    return bytes(frame)


@pytest.mark.parametrize("key", [KEY, b""])
def test_junk_of_all_kinds(make_module, key):
    module = make_module()
    begin(module, key=key)
    random = Random(20261121)
    central = VirtualLink(module.state).central
    central.connect()
    for _ in range(400):
        try:
            central.write(random.choice(wire.PLACES), junk(random))
        except CentralError:
            # It was let go.
            central.connect(20)
    central.close()
    assert module.command(b"AT") == b"OK"
    assert "Traceback" not in module.console()
    assert status(module).startswith(b"ble Pump 7")
    time.sleep(0.2)
    with Talk(module, key) as talk:
        talk.configure(GOOD)
    kept(module)
