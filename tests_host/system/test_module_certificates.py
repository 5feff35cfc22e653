"""Pasting certificates: every way in which a paste may end (7.10.2)."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests_host.certificates import self_signed
from tests_host.conformance.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(cloud_folder, _cloud):
    return Certificates(cloud_folder)


def test_the_rest_of_a_damaged_block_is_no_command(make_module, certificates):
    module = make_module()
    lines = certificates.pem("host-first").splitlines(keepends=True)
    # Lines that would be answered if they were taken for commands.
    lines[2:3] = [b"!damaged!\n", b"QQAT\n", b"ATQQ\n"]
    module.write(b"AT+CONF HOTAcertificate=pem\n" + b"".join(lines))
    assert module.read_line().startswith(b"ERR23 INVALID SIGNATURE ")
    assert module.command(b"AT+CONF? HOTAcertificate") == b"OK"
    assert module.command(b"AT+DIAG INFO noise") == b"OK 0"


def test_a_line_that_is_too_long_ends_with_the_block(make_module, certificates):
    module = make_module()
    block = certificates.pem("host-first")
    block = block.replace(b"-----END", b"A" * 6000 + b"\nATQQ\n-----END")
    module.write(b"AT+CONF HOTAcertificate=pem\n" + block)
    assert module.read_line().startswith(b"ERR23 INVALID SIGNATURE ")
    assert module.command(b"AT") == b"OK"


def test_a_command_right_behind_a_bundle(make_module, certificates):
    module = make_module()
    module.write(b"AT+CONF RootCA=pem\n" + certificates.pem("five") + b"AT+CONF? TechSpec\n")
    assert module.read_line(1) == b"OK"
    assert module.read_line(1) == b"OK v0.5"
    assert module.command(b"AT+DIAG INFO root-ca") == b"OK trial"


@pytest.mark.parametrize("command", [b"AT", b"AT+RESET", b"AT+CONNECT?", b"at+get", b"AT+GET12"])
def test_a_command_in_the_middle_is_answered(make_module, certificates, command):
    module = make_module()
    half = b"".join(certificates.pem("host-first").splitlines(keepends=True)[:3])
    module.write(b"AT+CONF HOTAcertificate=pem\n" + half + command + b"\n")
    assert module.read_line() == b"ERR23 INVALID SIGNATURE no end of the certificate came"
    assert module.read_line().startswith((b"OK", b"ERR8"))


@pytest.mark.parametrize("which", ["damaged", "too many"])
def test_the_rest_of_a_bundle_is_no_command(make_module, certificates, which):
    module = make_module()
    bundle = certificates.pem("six")
    if which == "damaged":
        bundle = bundle.replace(b"\n", b"\n!\n", 2)
    module.write(b"AT+CONF RootCA=pem\n" + bundle + b"QQAT\n")
    reply = module.read_line(20)
    assert reply.startswith(b"ERR23 INVALID SIGNATURE ")
    assert (b"too many" in reply) == (which == "too many")
    assert module.command(b"AT+DIAG INFO noise") == b"OK 0"
    assert module.command(b"AT+DIAG INFO root-ca") == b"OK proven"


def test_roots_that_tls_cannot_use_are_refused(make_module):
    module = make_module()
    key = ed25519.Ed25519PrivateKey.generate()
    pem = self_signed("odd", key, ca=True, digest=None).replace(b"\n", b"\\A")
    reply = module.command(b"AT+CONF RootCA=" + pem)
    assert reply == b"ERR23 INVALID SIGNATURE not usable for TLS"
    assert module.command(b"AT+DIAG INFO root-ca") == b"OK proven"


def test_two_pastes_one_behind_the_other(make_module, certificates):
    module = make_module()
    for name in ("host-first", "host-next"):
        module.write(b"AT+CONF HOTAcertificate=pem\r\n")
        module.write(certificates.pem(name).replace(b"\n", b"\r\n"))
    assert [module.read_line(), module.read_line()] == [b"OK", b"OK"]
    shown = module.command(b"AT+CONF? HOTAcertificate")
    assert shown == b"OK " + certificates.pem("host-next").replace(b"\n", b"\\A")


def test_messages_arrive_while_a_certificate_is_pasted(make_module, certificates, operator):
    module = make_module("--heap", "96")
    for line in (b"SSID=sim-ap", b"Passphrase=sim-passphrase", b"Topic1=in"):
        assert module.command(b"AT+CONF " + line) == b"OK"
    assert module.command(b"AT+CONNECT", timeout=60) == b"OK 1 CONNECTED"
    thing = module.command(b"AT+CONF? ThingName")[3:].decode()
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    lines = certificates.pem("host-first").splitlines(keepends=True)
    module.write(b"AT+CONF HOTAcertificate=pem\n")
    for line in lines:
        module.write(line)
        operator.publish(f"{thing}/in", b"x" * 100)
    assert module.read_line() == b"OK"
    until = time.monotonic() + 10
    count = 0
    while count < len(lines):
        assert time.monotonic() < until, count
        count += module.command(b"AT+GET1") != b"OK"


def test_keys_that_could_never_verify_anything_are_refused(make_module):
    module = make_module()
    key = ec.generate_private_key(ec.SECP384R1())
    pem = self_signed("p384", key).replace(b"\n", b"\\A")
    reply = module.command(b"AT+CONF HOTAcertificate=" + pem)
    assert reply.startswith(b"ERR23 INVALID SIGNATURE ")
    assert module.command(b"AT+CONF? HOTAcertificate") == b"OK"
