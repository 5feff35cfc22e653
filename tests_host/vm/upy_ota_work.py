"""What updates do about an endpoint that closes the connection at them, on the MicroPython VM."""
# vm-file: heap=96

from errno import ECONNRESET, EHOSTUNREACH

from firmware import ota
from firmware.ota import work
from lib.mqtt_codec import BY_SERVER, KEEPALIVE, MQTTException

CLOSED = MQTTException(BY_SERVER, "closed")


class Module:
    """A module whose connection ends for `lost` while jobs are asked for, and its watch."""

    record = mailbox = renewal = None
    cuts = 0
    works = False
    uptime = 100
    after = long = connections = 0
    status = b""

    def __init__(self):
        self.updates = self.session = self
        self.lost = None
        self.up = False

    def connected(self):
        return self.up


class Agent:
    @staticmethod
    async def run(module):
        return False


async def _cut(module, *reasons):
    """Look for work in one connection after the other, each of which ends for a reason."""
    ota.agent = Agent
    for reason in reasons:
        module.lost = reason
        await work.run(module, False)


async def test_after_the_first_look_at_which_the_endpoint_closes_there_is_a_long_pause():
    for reason in (CLOSED, OSError(ECONNRESET)):
        module = Module()
        await _cut(module, reason)
        assert module.after == 100 + 3600 and module.status == b"closed by the endpoint"
        # Each is longer, up to a day.
        for hours in (2, 4, 8, 16, 24, 24):
            await _cut(module, reason)
            assert module.after == 100 + hours * 3600


async def test_where_it_has_worked_once_it_is_the_third_in_a_row():
    module = Module()
    module.works = True
    await _cut(module, CLOSED, CLOSED)
    assert (module.after, module.cuts) == (0, 2)
    module.up = True
    await _cut(module, CLOSED)
    assert module.cuts == 0
    module.up = False
    await _cut(module, CLOSED, CLOSED)
    assert not module.after
    await _cut(module, CLOSED)
    assert module.after == 100 + 3600


async def test_a_network_that_fails_is_nobody_who_closes():
    module = Module()
    await _cut(module, MQTTException(KEEPALIVE, "silent"), OSError(EHOSTUNREACH), "dropped", None)
    assert (module.after, module.cuts, module.status) == (0, 0, b"")
