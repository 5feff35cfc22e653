"""Table 2 as a whole: what each key is at first, who may do what, what a reset leaves of it."""

import re
import socket

import pytest

# (key, initial value as a regular expression, None where it cannot be read, a value to set, None
# where it cannot be set, whether a factory reset brings the initial value back)
TABLE_2 = [
    (b"About", rb"\S.* - \S.*", None, False),
    (b"Version", rb"\S+", None, False),
    (b"TechSpec", rb"v0\.5", None, False),
    (b"ThingName", rb"[0-9a-f]{12}", None, False),
    (b"Certificate", rb"-----BEGIN CERTIFICATE-----\\A.*", None, False),
    (b"EndPoint", rb"localhost:\d+", b"endpoint.example", True),
    (b"TopicRoot", rb"[0-9a-f]{12}", b"some/root", True),
    (b"Defender", rb"0", b"600", True),
    (b"SSID", rb"", b"some network", True),
    (b"Passphrase", None, b"some passphrase", True),
    # Of our own: D25.
    (b"NTPServer", rb"localhost:\d+", b"time.example:1", True),
]


def value(stage, key):
    """The value of a key, as bytes."""
    reply = stage.ask(b"AT+CONF? " + key)
    assert reply == b"OK" or reply.startswith(b"OK "), reply
    return reply[3:]


@pytest.mark.clause("Table 2", "3.6.7", "5.2.1.1", "5.2.2.1")
@pytest.mark.parametrize(("key", "initial", "other", "cleared"), TABLE_2, ids=lambda v: str(v))
def test_key(stage, key, initial, other, cleared):
    if initial is None:
        stage.must(b"AT+CONF? " + key, b"ERR13 KEY WRITEONLY")
    else:
        first = value(stage, key)
        assert re.fullmatch(initial, first, re.DOTALL)
    if other is None:
        stage.must(b"AT+CONF " + key + b"=x", b"ERR12 KEY READONLY")
        other = first
    else:
        stage.must(b"AT+CONF " + key + b"=" + other)
    if initial is None:
        return
    assert value(stage, key) == other
    stage.must(b"AT+RESET")
    stage.restarted()
    assert value(stage, key) == other
    stage.module.power_cut()
    stage.module.power_on()
    assert value(stage, key) == other
    stage.must(b"AT+FACTORY_RESET")
    stage.restarted()
    assert value(stage, key) == (first if cleared else other)
    stage.must(b"AT+EVENT?", b"OK 2 0 STARTUP")


@pytest.mark.clause("Table 2", "3.6.7")
def test_passphrase_is_kept_over_a_reset_and_cleared_by_a_factory_reset(stage):
    stage.wifi()
    stage.must(b"AT+RESET")
    stage.restarted()
    stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
    stage.must(b"AT+FACTORY_RESET")
    stage.restarted()
    stage.must(b"AT+CONF SSID=sim-ap")
    assert stage.ask(b"AT+CONNECT").startswith(b"ERR14 UNABLE TO CONNECT")


@pytest.mark.clause("Table 2")
def test_the_certificate_is_the_things_own(stage):
    from cryptography import x509

    pem = value(stage, b"Certificate").replace(b"\\A", b"\n")
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == f"CN={stage.thing}"


@pytest.mark.clause("D12")
def test_without_a_port_the_endpoint_is_called_on_8883(stage):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8883))
        except OSError:
            pytest.skip("port 8883 is taken by another program")
        listener.listen()
        listener.settimeout(10)
        stage.wifi()
        stage.must(b"AT+CONF EndPoint=localhost")
        stage.send(b"AT+CONNECT\n")
        caller, _ = listener.accept()
        # The host's name is in the hello as SNI, without a port.
        caller.settimeout(10)
        assert b"localhost" in caller.recv(1000)
        caller.close()
    assert stage.line().startswith(b"ERR14 UNABLE TO CONNECT")
