"""Downloads over links that fail, restarts in their middle, and what the host sees meanwhile."""

from __future__ import annotations

import random
import time

import pytest

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

DATA = random.Random(7).randbytes(260_000)
_BLOCK = 4096


@pytest.fixture
def thing(module, cloud):
    """The connected module's thing; its jobs go at the end."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    yield thing_of(module)
    for job in cloud.control.jobs():
        cloud.control.delete_job(job["job"], force=True)


def half(module, cloud, thing, protocol="mqtt"):
    """A host image of which 20 blocks or more have arrived; the others come slowly."""
    if protocol == "mqtt":
        cloud.control.fault("delay", at="streams", ms=350)
    else:
        cloud.control.fault("stall", at="files", bytes=100_000)
    update = host_image(cloud, thing, DATA, protocol=protocol)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    until = time.monotonic() + 20
    while reached(cloud, update) < 20:
        assert time.monotonic() < until, update.status()
        time.sleep(0.05)
    return update


def reached(cloud, update):
    """Blocks that the module has told of."""
    found = cloud.control.execution(update.job, update.thing)
    return int(found["details"].get("receive", "0/").split("/")[0])


def asked(cloud, update):
    """How many requests for the file there have been so far."""
    return len(cloud.control.stream_requests(update.job))


def goes_on(module, cloud, update, before, least):
    """The download ends well; nothing before the block `least` was asked for again."""
    assert ota_event(module, 30) == b""
    again = cloud.control.stream_requests(update.job)[before:]
    blocks = [block for request in again for block in request["blocks"]]
    assert min(blocks) >= least, (min(blocks), least)
    assert read_all(module) == DATA
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"


def test_wifi_is_lost(module, cloud, thing):
    update = half(module, cloud, thing)
    module.wifi(up=False)
    assert next_event(module, 30) == b"OK 3 0 CONLOST"
    there = reached(cloud, update)
    assert module.command(b"AT+OTA?").startswith(b"OK 3")
    module.wifi(up=True)
    cloud.control.clear()
    before = asked(cloud, update)
    connect(module)
    goes_on(module, cloud, update, before, there)


def test_disconnect(module, cloud, thing):
    update = half(module, cloud, thing)
    there = reached(cloud, update)
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    cloud.control.clear()
    time.sleep(0.5)
    before = asked(cloud, update)
    assert module.command(b"AT+OTA?").startswith(b"OK 3")
    connect(module)
    goes_on(module, cloud, update, before, there)


@pytest.mark.parametrize("how", ["RESET", "AT+RESET", "power"])
def test_a_restart(module, cloud, thing, how):
    """It goes on where it was last written down: every 64 KiB."""
    update = half(module, cloud, thing)
    if how == "AT+RESET":
        assert module.command(b"AT+RESET") == b"OK"
        module.wait_ready()
    elif how == "RESET":
        module.pin("RESET", 0)
        module.pin("RESET", 1)
        module.wait_ready()
    else:
        module.power_cut()
        module.power_on()
    assert next_event(module) == b"OK 2 0 STARTUP"
    cloud.control.clear()
    assert module.command(b"AT+OTA?").startswith(b"OK 3")
    before = asked(cloud, update)
    connect(module)
    goes_on(module, cloud, update, before, 65_536 // _BLOCK)


def test_the_cloud_restarts(module, cloud, thing):
    update = half(module, cloud, thing)
    cloud.restart()
    assert next_event(module, 30) == b"OK 3 0 CONLOST"
    connect(module)
    goes_on(module, cloud, update, 0, 20)


def test_https_is_cut_off(module, cloud, thing):
    """As by a stream: what is there stays."""
    update = half(module, cloud, thing, "http")
    cloud.control.kick(thing)
    assert next_event(module, 30) == b"OK 3 0 CONLOST"
    cloud.control.clear()
    before = len(cloud.control.downloads())
    connect(module)
    assert ota_event(module, 30) == b""
    # Or none at all: the file's server need not know of the other connection.
    for again in cloud.control.downloads()[before:]:
        assert int(again["range"].removeprefix("bytes=").partition("-")[0]) >= 20 * _BLOCK
    assert read_all(module) == DATA
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"


@pytest.mark.parametrize("protocol", ["mqtt", "http"])
def test_the_host_goes_on_meanwhile(module, cloud, thing, operator, protocol):
    """It is answered soon, its messages go both ways, and it gets none of the module's own."""
    for line in (b"AT+CONF Topic1=up", b"AT+CONF Topic2=down", b"AT+SUBSCRIBE2"):
        assert module.command(line).startswith(b"OK"), line
    operator.subscribe(thing + "/up")
    if protocol == "mqtt":
        cloud.control.fault("delay", at="streams", ms=60)
    update = host_image(cloud, thing, DATA, protocol=protocol)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    slowest, sent, got = [], 0, []
    state = b"OK 3"
    while state.startswith(b"OK 3"):
        for line in (b"AT", b"AT+OTA?", b"AT+SEND1 m%d" % sent):
            began = time.monotonic()
            state = module.command(line) if line == b"AT+OTA?" else state
            if line != b"AT+OTA?":
                assert module.command(line).startswith(b"OK"), line
            if not line.startswith(b"AT+SEND"):
                slowest.append(time.monotonic() - began)
        operator.publish(thing + "/down", b"d%d" % sent)
        sent += 1
        reply = module.command(b"AT+GET2")
        if reply != b"OK":
            got.append(reply)
        assert module.command(b"AT+GET0") == b"OK"
    assert state.startswith(b"OK 5 ")
    slowest.sort()
    print(
        protocol, len(slowest), "answers, slowest", [round(1000 * s) for s in slowest[-3:]], "ms"
    )
    # A machine under load pauses by itself now and then.
    assert slowest[-1] < 0.5 and slowest[int(len(slowest) * 0.95)] < 0.1
    assert sent >= 3
    assert len(operator.wait(sent)) == sent
    until = time.monotonic() + 5
    while len(got) < sent and time.monotonic() < until:
        reply = module.command(b"AT+GET2")
        if reply != b"OK":
            got.append(reply)
    assert got == [b"OK d%d" % n for n in range(sent)]
    assert read_all(module) == DATA
    assert module.command(b"AT+OTA CLOSE") == b"OK"
    assert update.ended()[0] == "SUCCEEDED"


@pytest.mark.parametrize("protocol", ["mqtt", "http"])
def test_with_96_kib(make_module, cloud, protocol):
    """A version from the offer to the proof, with the heap of a board."""
    module = make_module("--heap", "96")
    give_wifi(module)
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(module)
    update = module_image(cloud, thing_of(module), image("slot", "9.1.0"), protocol=protocol)
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(module) == b""
    assert module.command(b"AT+OTA APPLY") == b"OK"
    module.wait_ready()
    assert next_event(module) == b"OK 2 0 STARTUP"
    assert ota_event(module) == b"APPLIED 9.1.0"
    assert update.ended() == ("SUCCEEDED", "accepted 9.1.0")
    wait_state(module, 0)
