"""Updates as a host and a fleet manager see them: a module of files, a cloud, a terminal."""

import random

import pytest

from tests_host.boards import KINDS
from tests_host.system.conftest import connect, give_wifi, next_event
from tests_host.updates import (
    host_image,
    image,
    module_image,
    ota_event,
    read_all,
    thing_of,
    wait_state,
)


def up(module):
    """The module connected, its STARTUP taken; the name of its thing."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    return thing_of(module)


def test_a_host_image(module, cloud):
    thing = up(module)
    data = random.Random(1).randbytes(300_000)
    update = host_image(cloud, thing, data, version="spring 24")
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 2 spring 24"
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 5 300000"
    assert read_all(module) == data
    assert update.status()[0] == "IN_PROGRESS"
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert module.command(b"AT+OTA?") == b"OK 0"
    assert update.ended()[0] == "SUCCEEDED"
    assert module.command(b"AT+OTA READ 1").startswith(b"ERR19 ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_image_replaces_the_version(make_module, cloud, kind):
    module = make_module(*KINDS[kind])
    give_wifi(module)
    thing = up(module)
    update = module_image(cloud, thing, image(kind, "9.1.0"))
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 1 9.1.0"
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA?") == b"OK 4 9.1.0"
    assert module.command(b"AT+OTA APPLY") == b"OK"
    module.wait_ready()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert ota_event(module) == b"APPLIED 9.1.0"
    assert module.command(b"AT+CONF? Version") == b"OK 9.1.0"
    assert update.ended() == ("SUCCEEDED", "accepted 9.1.0")
    wait_state(module, 0)
    # It stays.
    module.power_cut()
    module.power_on()
    assert module.command(b"AT+CONF? Version") == b"OK 9.1.0"


def test_a_host_that_fetches_no_message_does_not_hold_up_a_forced_update(
    make_module, cloud, operator
):
    module = make_module("--heap", "96")
    give_wifi(module)
    thing = up(module)
    assert module.command(b"AT+CONF Topic1=junk") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    root = module.command(b"AT+CONF? TopicRoot").split()[1].decode()
    for size in [300] * 60 + [4500] * 6:
        operator.publish(root + "/junk", b"x" * size)
    update = module_image(cloud, thing, image("slot", "9.3.0"), force=True)
    assert update.ended(90) == ("SUCCEEDED", "accepted 9.3.0")
    assert module.command(b"AT+CONF? Version") == b"OK 9.3.0"
