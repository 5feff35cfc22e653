"""The commands of the module through its terminal, without a cloud where none is needed."""

from tests_host.system.conftest import reset

# Line sent -> reply expected, on a module that has just started; no connection.
OFFLINE = [
    (b"AT", b"OK"),
    (b"at", b"OK"),
    (b"garbage AT", b"OK"),
    (b"ATX", b"ERR2 PARSE ERROR"),
    (b"AT CONNECT", b"ERR2 PARSE ERROR"),
    (b"AT+", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+NOSUCH", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+" + b"A" * 33, b"ERR3 COMMAND NOT FOUND"),
    (b"AT+SHADOW", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+JOB", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+DEFENDER", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+EVENT", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+TIME", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+CONNECT1", b"ERR4 PARAMETER ERROR"),
    (b"AT+CONNECT now", b"ERR4 PARAMETER ERROR"),
    (b"AT+RESET?", b"ERR22 INVALID QUERY"),
    (b"AT+SEND?", b"ERR22 INVALID QUERY"),
    (b"AT+GET1x", b"ERR2 PARSE ERROR"),
    (b"AT+CONF?SSID", b"ERR2 PARSE ERROR"),
    (b"AT+CONF", b"ERR4 PARAMETER ERROR"),
    (b"AT+CONF SSID", b"ERR4 PARAMETER ERROR"),
    (b"AT+CONF =x", b"ERR9 INVALID KEY LENGTH"),
    (b"AT+CONF 01234567890123456=x", b"ERR9 INVALID KEY LENGTH"),
    (b"AT+CONF S-SID=x", b"ERR10 INVALID KEY NAME"),
    (b"AT+CONF Nothing=x", b"ERR11 UNKNOWN KEY"),
    (b"AT+CONF VERSION=HELLO", b"ERR12 KEY READONLY"),
    (b"AT+CONF Certificate=pem", b"ERR12 KEY READONLY"),
    (b"AT+CONF? Passphrase", b"ERR13 KEY WRITEONLY"),
    (b"AT+CONF? Nothing", b"ERR11 UNKNOWN KEY"),
    (b"AT+CONF?", b"ERR9 INVALID KEY LENGTH"),
    (b"AT+CONF SSID=\\q", b"ERR5 INVALID ESCAPE"),
    (b"AT+CONF SSID=x\\", b"ERR5 INVALID ESCAPE"),
    (b"AT+CONF? TechSpec", b"OK v0.5"),
    (b"AT+conf? techspec", b"OK v0.5"),
    (b"AT+CONF? Defender", b"OK 0"),
    (b"AT+CONF? QoS", b"OK 1"),
    (b"AT+CONF? IPv4Address", b"OK 0.0.0.0"),
    (b"AT+CONF? IPv6Address", b"OK ::"),
    (b"AT+CONF? Topic1", b"OK"),
    (b"AT+CONF? HOTAcertificate", b"OK"),
    (b"AT+CONF? APN", b"ERR11 UNKNOWN KEY"),
    (b"AT+STAT? overflow", b"OK 0"),
    (b"AT+STAT? Nothing", b"ERR11 UNKNOWN KEY"),
    (b"AT+STAT?", b"ERR11 UNKNOWN KEY"),
    (b"AT+STAT Overflow", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+WHERE?", b"ERR16 LOCATION NOT AVAILABLE"),
    (b"AT+CONFMODE " + b"n" * 33, b"ERR4 PARAMETER ERROR name"),
    (b"AT+CONFMODE name,1234567", b"ERR4 PARAMETER ERROR key, 8 to 63 ASCII characters"),
    (b"AT+SHADOW", b"ERR3 COMMAND NOT FOUND"),
    (b"AT+SLEEP 0", b"ERR4 PARAMETER ERROR seconds, 1 to 2147483"),
    (b"AT+SLEEP1 2147484", b"ERR4 PARAMETER ERROR seconds, 1 to 2147483"),
    (b"AT+DIAG", b"ERR4 PARAMETER ERROR known: LOG HEAP INFO SCAN PING"),
    (b"AT+DIAG LOG", b"OK 3 INFO"),
    (b"AT+DIAG LOG warn", b"OK"),
    (b"AT+DIAG log", b"OK 2 WARN"),
    (b"AT+DIAG LOG 3", b"OK"),
    (b"AT+DIAG LOG 5", b"ERR4 PARAMETER ERROR level, 0 to 4"),
    (b"AT+DIAG INFO mode", b"OK configuration"),
    (b"AT+DIAG INFO nothing", b"ERR4 PARAMETER ERROR no such name"),
    (b"AT+DIAG PING", b"ERR4 PARAMETER ERROR which host"),
    (b"AT+DIAG PING localhost", b"ERR6 NO CONNECTION no SSID"),
    (b"AT+CONNECT?", b"OK 0"),
    (b"AT+DISCONNECT", b"OK 0 DISCONNECTED"),
    (b"AT+TIME?", b"ERR15 TIME NOT AVAILABLE"),
    (b"AT+SEND1 x", b"ERR8 TOPIC UNDEFINED"),
    (b"AT+SEND0 x", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+SEND17 x", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+SEND99999999999999999999 x", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+SEND data x", b"ERR6 NO CONNECTION"),
    (b"AT+SEND a/+ x", b"ERR4 PARAMETER ERROR wildcard in topic"),
    (b"AT+SEND /a/b/c/d/e/f/g/h/i x", b"ERR4 PARAMETER ERROR topic with over 7 slashes"),
    (b"AT+SEND  x", b"ERR4 PARAMETER ERROR empty topic"),
    (b"AT+SEND", b"ERR4 PARAMETER ERROR empty topic"),
    (b"AT+SUBSCRIBE", b"ERR4 PARAMETER ERROR"),
    (b"AT+SUBSCRIBE0", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+SUBSCRIBE2", b"ERR8 TOPIC UNDEFINED"),
    (b"AT+UNSUBSCRIBE17", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+UNSUBSCRIBE2", b"ERR8 TOPIC UNDEFINED"),
    (b"AT+GET", b"OK"),
    (b"AT+GET0", b"OK"),
    (b"AT+GET17", b"ERR7 TOPIC OUT OF RANGE"),
    (b"AT+GET2", b"ERR8 TOPIC UNDEFINED"),
    (b"AT+CONF Topic2=t", b"OK"),
    (b"AT+SUBSCRIBE2", b"ERR6 NO CONNECTION"),
    (b"AT+UNSUBSCRIBE2", b"ERR6 NO CONNECTION"),
    (b"AT+SEND2 x", b"ERR6 NO CONNECTION"),
    (b"AT+GET2", b"OK"),
    (b"AT+CONNECT", b"ERR14 UNABLE TO CONNECT no SSID is set"),
    (b"AT+EVENT?", b"OK 2 0 STARTUP"),
    (b"AT+EVENT?", b"OK"),
]


def test_every_line_gets_its_reply_and_the_next_line_works(make_module):
    module = make_module()
    wrong = []
    for line, expected in OFFLINE:
        for ending in (b"", b"\r"):
            if line == b"AT+EVENT?" and ending:
                continue
            got = module.command(line + ending)
            if got != expected:
                wrong.append((line[:60], expected, got))
        assert module.command(b"AT") == b"OK"
    assert not wrong


def test_noise_gets_no_reply(make_module):
    module = make_module()
    module.write(b"hello\n\r\n\x00\xff\n" + b"z" * 20000 + b"\n")
    assert module.command(b"AT") == b"OK"


def test_lines_over_the_limit(make_module):
    module = make_module()
    line = b"AT+CONF Topic1=" + b"x" * (5120 - 15)
    assert module.command(line) == b"ERR4 PARAMETER ERROR"
    assert module.command(line + b"x") == b"ERR1 OVERFLOW"
    assert module.command(b"AT+CONF Topic1=" + b"x" * 100000) == b"ERR1 OVERFLOW"
    assert module.command(b"AT") == b"OK"


def test_a_line_in_single_bytes(make_module):
    module = make_module()
    for byte in b"junk AT+CONF Topic1=a\\Ab\r\n":
        module.write(bytes([byte]))
    assert module.read_line() == b"OK"
    assert module.command(b"AT+CONF? Topic1") == b"OK a\\Ab"


def test_values_survive_a_reset_and_topics_do_not(make_module):
    module = make_module()
    values = {b"SSID": b"caf\xc3\xa9 \\\\ = x", b"EndPoint": b"example.com:1", b"Defender": b"60"}
    for key, value in values.items():
        assert module.command(b"AT+CONF " + key + b"=" + value) == b"OK"
    assert module.command(b"AT+CONF Topic1=t") == b"OK"
    reset(module)
    assert module.command(b"AT+EVENT?") == b"OK"
    for key, value in values.items():
        assert module.command(b"AT+CONF? " + key) == b"OK " + value
    assert module.command(b"AT+CONF? Topic1") == b"OK"


def test_certificates_as_pem_and_on_one_line(make_module, cloud):
    from cryptography import x509

    module = make_module()
    root = (cloud.state / "ca.pem").read_bytes()
    assert module.command(b"AT+CONF? RootCA pem") == b"OK pem"
    lines = []
    while not lines or lines[-1] != b"-----END CERTIFICATE-----":
        lines.append(module.read_line())
    assert b"\n".join(lines) + b"\n" == root
    escaped = module.command(b"AT+CONF? RootCA")
    assert escaped == b"OK " + root.replace(b"\n", b"\\A")
    device = module.command(b"AT+CONF? Certificate")
    certificate = x509.load_pem_x509_certificate(device[3:].replace(b"\\A", b"\n"))
    name = module.command(b"AT+CONF? ThingName")[3:].decode()
    assert certificate.subject.rfc4514_string() == f"CN={name}"
    assert module.command(b"AT+CONF? Certificate der") == b"ERR4 PARAMETER ERROR"


def test_without_a_device_certificate(make_module):
    module = make_module("--identity", "none")
    assert module.command(b"AT+CONF? Certificate") == b"OK"
    assert module.command(b"AT+CONF SSID=sim-ap") == b"OK"
    assert module.command(b"AT+CONNECT") == b"ERR14 UNABLE TO CONNECT no device certificate"
