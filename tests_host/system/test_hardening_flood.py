"""Hosts and clouds without manners: nobody reads, nobody stops, RESET in the middle of it all."""

import os
import random
import select
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests_host.fuzz import oracle, terminal
from tests_host.fuzz.certificates import certificate
from tests_host.system.conftest import connect, give_wifi, next_event

SEED = 20261121


def in_step(module):
    """The port answers, and answers what was asked."""
    for number in range(3):
        assert module.command(b"AT+CONF Topic16=step %d" % number) == b"OK"
        assert module.command(b"AT+CONF? Topic16") == b"OK step %d" % number
    assert "Traceback" not in module.console()


def heap_used(module):
    reply = module.command(b"AT+DIAG HEAP").split()
    return int(reply[reply.index(b"used") + 1])


def push(module, data, seconds):
    """Write as much of `data` as the terminal takes within `seconds`, reading nothing."""
    view = memoryview(data)
    end = time.monotonic() + seconds
    while view and time.monotonic() < end:
        if select.select([], [module.fileno()], [], 0.1)[1]:
            view = view[os.write(module.fileno(), view[:4096]) :]
    return len(data) - len(view)


def drain(module, quiet=0.5):
    """All that comes until nothing has come for `quiet` seconds."""
    data = b""
    while select.select([module.fileno()], [], [], quiet)[0]:
        data += os.read(module.fileno(), 65536)
    return data


# The host.


@pytest.mark.parametrize("online", [False, True], ids=["offline", "connected"])
def test_a_host_that_sends_and_does_not_read(make_module, online):
    module = make_module()
    give_wifi(module)
    if online:
        connect(module)
    line = b"AT+CONF? Certificate\n"
    sent = push(module, line * 5000, 3)
    # The module waits for its reader, then the bytes of the host are lost, and it says nothing.
    assert sent > 8192
    assert module.get("state") == "running"
    data = drain(module)
    # The terminal is open again; a cut line may be left in the buffer.
    module.write(b"\n")
    data += drain(module)
    replies = data.split(b"\n")[:-1]
    assert 10 < len(replies) <= sent // len(line) + 1
    certificate = max(set(replies), key=replies.count)
    for reply in replies:
        # Lines may have run into each other where bytes were lost.
        oracle.reply_code(reply)
    assert replies.count(certificate) > len(replies) * 0.9
    in_step(module)
    if online:
        assert module.command(b"AT+SEND a b", timeout=31) == b"OK"
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"


@pytest.mark.parametrize("options", [("--baud", "230400"), ()], ids=["paced", "unpaced"])
def test_a_host_that_reads_slowly(make_module, options):
    module = make_module(*options)
    # The longest replies there are: certificates line by line, a value full of escapes.
    assert module.command(b"AT+CONF Topic1=" + b"\\A\\\\" * 128) == b"OK"
    lines = [b"AT+CONF? RootCA pem", b"AT+CONF? Topic1", b"AT+CONF? Certificate", b"AT"] * 6
    expected = []
    for line in lines[:4]:
        module.write(line + b"\n")
        expected.append(drain(module, 0.2))
    module.write(b"\n".join(lines) + b"\n")
    data = b""
    wanted = b"".join(expected) * 6
    end = time.monotonic() + 60
    while len(data) < len(wanted) and time.monotonic() < end:
        time.sleep(0.002)
        if select.select([module.fileno()], [], [], 1)[0]:
            data += os.read(module.fileno(), 100)
    assert data == wanted
    in_step(module)


def test_reset_in_the_middle_of_a_line(module):
    for half in (b"AT+CONF SSID=half", b"AT", b"AT+", b"AT+CONF Topic1=" + b"x" * 5000, b"\\"):
        module.write(half)
        time.sleep(0.01)
        module.pin("RESET", 0)
        module.pin("RESET", 1)
        module.wait_ready()
        # What was before the reset is forgotten; the rest is a line of its own.
        module.write(b"-rest\n")
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        assert module.command(b"AT+EVENT?") == b"OK"
        assert module.command(b"AT+CONF? SSID") == b"OK sim-ap"
    in_step(module)


def test_reset_in_the_middle_of_commands(module):
    """RESET at 30 random moments of commands that take time: the old or the new value, STARTUP
    once, and nothing of the old reply behind it."""
    random_ = random.Random(SEED)
    values = {b"sim-ap"}
    for turn in range(30):
        new = b"network %d" % turn
        line = random_.choice(
            (b"CONF SSID=" + new, b"CONF? RootCA pem", b"CONNECT", b"DIAG SCAN", b"DIAG INFO")
        )
        module.write(b"AT+" + line + b"\n")
        time.sleep(random_.random() * 0.02)
        module.pin("RESET", 0)
        module.flush()
        module.pin("RESET", 1)
        module.wait_ready()
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP", line
        assert module.command(b"AT+EVENT?") == b"OK", line
        value = module.command(b"AT+CONF? SSID")[3:]
        assert value in values | {new}, line
        values = {value}
        assert module.command(b"AT+DIAG INFO lost") == b"OK"
    in_step(module)


@pytest.mark.parametrize(
    "line", [b"RESET", b"FACTORY_RESET", b"SLEEP2 1", b"SLEEP1 1"], ids=lambda line: line.decode()
)
def test_a_host_that_goes_on_sending_while_the_module_restarts_or_sleeps(module, line):
    """What comes meanwhile is lost or answered, never half of both; then all is well."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    module.write(b"AT+" + line + b"\n")
    assert module.read_line() == b"OK"
    until = time.monotonic() + 1.5
    replies = oracle.Replies()
    while time.monotonic() < until:
        module.write(b"AT+CONF? QoS\n" * 5)
        replies.add(module.read(0.005))
    module.write(b"\n")
    replies.add(drain(module))
    assert set(replies.lines) <= {b"OK 1", b"ERR2 PARSE ERROR", b"OK", b"ERR3 COMMAND NOT FOUND"}
    assert replies.lines.count(b"OK 1") > 20
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+EVENT?") == b"OK"
    in_step(module)


def test_a_host_that_goes_on_sending_to_a_dozing_module(module):
    """In mode 0 the port stays: every line is answered."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+SLEEP 1") == b"OK"
    for _ in range(60):
        replies = terminal.talk(module, b"AT+CONF? QoS\nAT+SLEEP 1\n" * 5, 10)
        assert replies.lines == [b"OK 1", b"OK"] * 5
        time.sleep(0.02)
    assert module.command(b"AT+EVENT?") == b"OK"
    in_step(module)


@pytest.mark.parametrize(
    ("start", "reply"),
    [
        (b"", None),
        (b"AT+CONF Topic1=", b"ERR1 OVERFLOW"),
        (b"AT", b"ERR2 PARSE ERROR"),
        (b"at+", b"ERR1 OVERFLOW"),
    ],
)
def test_a_megabyte_without_a_line_end(module, start, reply):
    in_step(module)
    heap_used(module)
    before = heap_used(module)
    for fill in (b"z", b"\x00", b"\\", b"\r"):
        module.write(start)
        module.write(fill * (1 << 20), timeout=60)
        assert module.read(0.05) == b""
        module.write(b"\n")
        if reply:
            assert module.read_line() == reply
    in_step(module)
    assert heap_used(module) <= before + 256


def test_an_at_at_the_end_of_a_megabyte(module):
    module.write(b"\xff" * (1 << 20), timeout=60)
    assert module.command(b"AT") == b"OK"
    module.write(b"\xff" * (1 << 20), timeout=60)
    assert module.command(b"AT+CONF? TechSpec") == b"OK v0.5"


def test_a_pem_pasted_into_a_command(module, cloud):
    """Its lines are noise but for the first, which belongs to the command."""
    pem = (cloud.state / "ca.pem").read_bytes()
    while any(oracle.judge(line).codes for line in pem.split(b"\n")):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = certificate("x", key, "x", key, authority=True)
    for command, reply in (
        (b"AT+CONF Topic1=", b"OK"),
        (b"AT+CONF RootCA=", b"ERR23 INVALID SIGNATURE"),
        (b"AT+SEND a ", b"ERR6 NO CONNECTION"),
        (b"AT+CONF? ", b"ERR10 INVALID KEY NAME"),
        (b"AT+NOSUCH ", b"ERR3 COMMAND NOT FOUND"),
        (b"AT", b"ERR2 PARSE ERROR"),
    ):
        module.write(command + pem)
        assert module.read_line().startswith(reply), command
        in_step(module)


class Odd:
    """Certificates whose PEM form is hard to tell from commands: every group of four characters
    of an extension is `AT+e`."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())

    def pem(self):
        """One with lines that begin with `AT+`, and lines that hold it elsewhere."""
        for offset in range(3):
            pem = self._made(b"\0" * offset + b"\x01\x3f\x9e" * 100)
            lines = pem.split(b"\n")
            if sum(line.startswith(b"AT+eAT+e") for line in lines) >= 3:
                return pem
        raise AssertionError("the base64 is not as it was meant")

    def _made(self, content):
        plain = x509.load_pem_x509_certificate(
            certificate("odd", self._key, "odd", self._key, authority=True)
        )
        return (
            x509.CertificateBuilder()
            .subject_name(plain.subject)
            .issuer_name(plain.issuer)
            .public_key(self._key.public_key())
            .serial_number(plain.serial_number)
            .not_valid_before(plain.not_valid_before_utc)
            .not_valid_after(plain.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), content),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_pem_that_looks_like_commands(module, ending):
    pem = Odd().pem()
    module.write(b"AT+CONF HOTAcertificate=pem" + ending)
    module.write(pem.replace(b"\n", ending))
    assert module.read_line() == b"OK"
    assert drain(module, 0.2) == b""
    assert module.command(b"AT+CONF? HOTAcertificate")[3:] == pem.replace(b"\n", b"\\A")
    in_step(module)


def test_a_root_of_amazon_that_holds_at_plus(module):
    from tools.sim.romfs import ROOT

    bundle = (ROOT / "tools" / "flash" / "amazon_roots.pem").read_bytes()
    assert b"AT+" in bundle.upper()
    module.write(b"AT+CONF RootCA=pem\n" + bundle)
    # A bundle ends when nothing follows for 2 s.
    assert module.read_line(timeout=5) == b"OK"
    assert module.command(b"AT+CONF? RootCA")[3:] == bundle.replace(b"\n", b"\\A")
    in_step(module)


def test_a_command_in_the_middle_of_a_paste(module, cloud):
    pem = (cloud.state / "signer.pem").read_bytes().splitlines(keepends=True)
    for at in range(len(pem)):
        module.write(b"AT+CONF HOTAcertificate=pem\n" + b"".join(pem[:at]) + b"AT+CONF? QoS\n")
        assert module.read_line().startswith(b"ERR23 INVALID SIGNATURE"), at
        assert module.read_line() == b"OK 1", at
        in_step(module)
    assert module.command(b"AT+CONF? HOTAcertificate") == b"OK"


# The cloud.


def info(module, name):
    return int(module.command(b"AT+DIAG INFO " + name)[3:])


@pytest.fixture
def flooded(module, cloud):
    """(module that is connected with Topic1=flood, function that publishes numbered messages)."""
    connect(module)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    for line in (b"CONF Topic1=flood", b"SUBSCRIBE1"):
        assert module.command(b"AT+" + line) == b"OK"
    thing = module.command(b"AT+CONF? ThingName")[3:].decode()

    def publish(count, size, qos=1):
        for number in range(count):
            payload = b"%06d" % number + b"x" * (size - 6)
            assert cloud.control.publish(f"{thing}/flood", payload, qos=qos) == 1

    return module, publish


def ask_all_the_time(module, cloud):
    """Flood the module with questions while the thread `cloud` runs and until nothing is left:
    (numbers of the messages got, OVERRUN events, MSG events)."""
    got, overruns, arrivals = [], 0, 0
    batch = b"AT+EVENT?\nAT+GET1\nAT+CONF? QoS\nnoise\nAT+GET1\nAT+NOSUCH\n" * 10
    silent = 0
    while silent < 3:
        answered = terminal.talk(module, batch, 50).lines
        assert len(answered) == 50
        assert set(answered[2::5]) == {b"OK 1"}
        assert set(answered[4::5]) == {b"ERR3 COMMAND NOT FOUND"}
        events = answered[0::5]
        assert set(events) <= {b"OK", b"OK 4 0 OVERRUN flood", b"OK 1 1 MSG"}
        overruns += events.count(b"OK 4 0 OVERRUN flood")
        arrivals += events.count(b"OK 1 1 MSG")
        # In the order in which they were asked for.
        messages = [
            reply for i, reply in enumerate(answered) if i % 5 in (1, 3) and reply != b"OK"
        ]
        got += [int(reply[3:9]) for reply in messages]
        quiet = not messages and set(events) == {b"OK"}
        silent = silent + 1 if quiet and not cloud.is_alive() else 0
    return got, overruns, arrivals


def test_thousands_of_messages_while_the_host_floods(flooded):
    """Three times 900 messages; the host asks all the time. Each message is either got, in order,
    or lost with an event that names its topic; every line gets its reply."""
    module, publish = flooded
    got, overruns = 0, 0
    # As many as the cloud keeps for a client that is slow.
    for _ in range(3):
        cloud = threading.Thread(target=publish, args=(900, 60))
        cloud.start()
        numbers, told, _ = ask_all_the_time(module, cloud)
        cloud.join()
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 899
        got += len(numbers)
        overruns += told
    lost = info(module, b"messages-lost")
    assert info(module, b"messages-received") == 2700
    assert got + lost == 2700
    assert overruns <= lost
    assert module.command(b"AT+STAT? Overflow") == (b"OK 1" if lost else b"OK 0")
    assert module.command(b"AT+STAT? overflow") == b"OK 0"
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    in_step(module)


def test_more_messages_than_there_is_room_for(flooded):
    """Nobody reads 500 messages: the newest stay, the oldest are lost with an event each, as far
    as there is room for events, and the pin tells."""
    module, publish = flooded
    publish(500, 200)
    until = time.monotonic() + 20
    while info(module, b"messages-received") < 500:
        assert time.monotonic() < until
    lost = info(module, b"messages-lost")
    assert lost > 400
    assert module.event() == 1
    events = []
    while (event := module.command(b"AT+EVENT?")) != b"OK":
        events.append(event)
    assert len(events) == 32
    assert set(events) <= {b"OK 1 1 MSG", b"OK 4 0 OVERRUN flood"}
    assert events[-2:] == [b"OK 4 0 OVERRUN flood", b"OK 1 1 MSG"]
    assert module.event() == 0
    assert info(module, b"events-dropped") == 500 + lost - 32
    assert module.command(b"AT+STAT? Overflow") == b"OK 1"
    assert module.command(b"AT+STAT? Overflow") == b"OK 0"
    kept = []
    while (message := module.command(b"AT+GET1")) != b"OK":
        kept.append(int(message[3:9]))
    assert kept == list(range(lost, 500))
    in_step(module)


LARGE = {
    "backslashes": b"\\" * 5000,
    "line ends": b"\n" * 5000,
    "NUL": b"\x00" * 5000,
    "every byte": bytes(range(256)) * 19 + b"\xff" * 136,
    "CR LF": b"\r\n" * 2500,
}


@pytest.mark.parametrize("kind", LARGE)
def test_the_longest_messages_of_awkward_bytes(flooded, cloud, kind):
    module, _ = flooded
    thing = module.command(b"AT+CONF? ThingName")[3:].decode()
    payload = LARGE[kind]
    assert len(payload) == 5000
    for _ in range(3):
        cloud.control.publish(f"{thing}/flood", payload, qos=1)
        assert next_event(module) == b"OK 1 1 MSG"
        escaped = payload.replace(b"\\", b"\\\\").replace(b"\n", b"\\A")
        assert module.command(b"AT+GET1") == b"OK " + escaped
        # One byte more is dropped whole.
        cloud.control.publish(f"{thing}/flood", payload + b"\n", qos=1)
        assert next_event(module) == b"OK 4 0 OVERRUN flood"
        assert module.command(b"AT+GET1") == b"OK"
        assert module.command(b"AT+STAT? Overflow") == b"OK 1"
    in_step(module)


def test_a_host_that_does_not_read_while_the_cloud_floods(flooded):
    """Neither reads nor stops; the module catches up when it does, and loses no reply's end."""
    module, publish = flooded
    cloud = threading.Thread(target=publish, args=(300, 500))
    cloud.start()
    push(module, b"AT+GET1\nAT+EVENT?\n" * 3000, 2)
    cloud.join()
    data = drain(module)
    module.write(b"\n")
    data += drain(module)
    for reply in data.split(b"\n")[:-1]:
        oracle.reply_code(reply)
    in_step(module)
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    assert module.command(b"AT+SEND a b", timeout=31) == b"OK"
