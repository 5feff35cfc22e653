"""Certificates by update jobs where memory is short, the connection breaks, the power fails."""

import time

import pytest

from tests_host.conformance.certificates import Certificates
from tests_host.system.conftest import connect, give_wifi, next_event
from tests_host.updates import Update, ota_event, thing_of


@pytest.fixture
def certificates(cloud):
    return Certificates(cloud.state)


def order(cloud, thing, kind, data, **how):
    return Update(cloud, thing, kind, data, unchecked=True, **how)


def up(module):
    """The module connected, its STARTUP taken; the name of its thing."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    return thing_of(module)


@pytest.mark.parametrize("protocol", ["mqtt", "http"])
def test_with_little_memory(make_module, cloud, certificates, protocol):
    module = make_module("--heap", "96")
    give_wifi(module)
    thing = up(module)
    for kind, name, key in (
        (103, "ota-next", b"OTAcertificate"),
        (107, "amazon", b"RootCA"),
        (107, "five", b"RootCA"),
        (204, "host-first", b"HOTAcertificate"),
        (204, "host-rsa", b"HOTAcertificate"),
        (204, "host-last", b"HOTAcertificate"),
        (107, "root", b"RootCA"),
    ):
        update = order(cloud, thing, kind, certificates.pem(name), protocol=protocol)
        # New roots still have to make a connection (D13).
        done = " taken, on trial" if kind == 107 else " applied"
        assert update.ended() == ("SUCCEEDED", key.decode() + done), name
        assert ota_event(module) == b"APPLIED " + key
        shown = certificates.pem(name).replace(b"\n", b"\\A")
        assert module.command(b"AT+CONF? " + key) == b"OK " + shown
    assert module.command(b"AT+CONNECT?") == b"OK 1"


def test_the_connection_is_lost_while_it_is_loaded(module, cloud, certificates):
    thing = up(module)
    cloud.control.fault("silent", at="streams", client=thing)
    update = order(cloud, thing, 103, certificates.pem("ota-next"))
    update.is_in("IN_PROGRESS")
    cloud.control.kick(thing)
    assert next_event(module) == b"OK 3 0 CONLOST"
    cloud.control.clear()
    connect(module)
    assert update.ended()[0] == "SUCCEEDED"
    assert ota_event(module) == b"APPLIED OTAcertificate"


def test_the_power_fails_before_the_cloud_is_told(module, cloud, certificates):
    """Applied a second time it is the same, and told then."""
    thing = up(module)
    cloud.control.fault("silent", at="jobs", request="update", client=thing)
    update = order(cloud, thing, 107, certificates.pem("root"))
    # Nothing is told, nothing is begun without telling.
    time.sleep(0.5)
    module.power_cut()
    cloud.control.clear()
    module.power_on()
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    assert update.ended()[0] == "SUCCEEDED"


def test_power_cuts_while_it_is_written(module, cloud, certificates):
    """The old one or the new one, never none; and the job ends."""
    names = ["signer", "ota-next", "ota-third"]
    shown = [b"OK " + certificates.pem(name).replace(b"\n", b"\\A") for name in names]
    for operation, name in ((1, "ota-next"), (3, "ota-third")):
        thing = up(module)
        module.fail_after(operation)
        update = order(cloud, thing, 103, certificates.pem(name))
        until = time.monotonic() + 10
        while module.get("state") != "off" and update.status()[0] != "SUCCEEDED":
            assert time.monotonic() < until
            time.sleep(0.05)
        module.fail_after(0)
        module.power_cut()
        module.power_on()
        assert module.command(b"AT+CONF? OTAcertificate") in shown
        assert up(module) == thing
        assert update.ended() == ("SUCCEEDED", "OTAcertificate applied")
        assert module.command(b"AT+CONF? OTAcertificate") == shown[names.index(name)]
        module.power_cut()
        module.power_on()


def test_a_job_that_is_cancelled_while_it_is_loaded(module, cloud, certificates):
    thing = up(module)
    cloud.control.fault("silent", at="streams", client=thing)
    update = order(cloud, thing, 103, certificates.pem("ota-next"))
    update.is_in("IN_PROGRESS")
    cloud.control.cancel_job(update.job, True)
    cloud.control.clear()
    # The next one has its turn.
    after = order(cloud, thing, 204, certificates.pem("host-first"))
    assert after.ended()[0] == "SUCCEEDED"
    assert update.status()[0] == "CANCELED"
