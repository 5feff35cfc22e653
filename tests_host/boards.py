"""Boards of both kinds, connected and up to date: what tests of updates order updates for."""

from __future__ import annotations

import contextlib
import time

import pytest

from tests_host.system.conftest import connect, give_wifi
from tests_host.updates import module_image, ota_event, thing_of, wait_state
from tools.sim.module import VirtualModule

KINDS = {"slot": (), "bundle": ("--stock",)}

# For tests with a fixture `board` that is given the kind.
both = pytest.mark.parametrize("board", KINDS, indirect=True)


class Board:
    """A module that is connected, and what is needed to order updates for it."""

    def __init__(self, kind, module, cloud):
        self.kind = kind
        self.module = module
        self.cloud = cloud
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
        connect(module)
        self.thing = thing_of(module)
        self.version = module.command(b"AT+CONF? Version")

    def order(self, data, **how):
        """A job for a module image, whatever is in it."""
        return module_image(self.cloud, self.thing, data, unchecked=True, **how)

    def accept(self, data, **how):
        """An update that is proposed and accepted."""
        update = self.order(data, **how)
        assert ota_event(self.module, 15) == b""
        assert self.module.command(b"AT+OTA ACCEPT") == b"OK"
        return update

    def ready(self, data, **how):
        """An update that waits for APPLY."""
        update = self.accept(data, **how)
        event = ota_event(self.module, 15)
        assert event == b"", (event, update.status())
        assert self.module.command(b"AT+OTA?").startswith(b"OK 4 ")
        return update

    def flush(self, update):
        """Away with what waits."""
        assert self.module.command(b"AT+OTA FLUSH") == b"OK"
        assert update.ended() == ("FAILED", "flushed by the host")

    def tidy(self):
        """After a case, however it went: no job, no event, a connection."""
        self.cloud.control.clear()
        self.cloud.control.set(url_life=0.0)
        for job in self.cloud.control.jobs():
            self.cloud.control.delete_job(job["job"], force=True)
        if self.module.command(b"AT+CONNECT?") != b"OK 1":
            connect(self.module)
        wait_state(self.module, 0, 15)
        # What is still to be told of a job may end in one more event.
        until = time.monotonic() + 15
        while b"AFR_OTA" in (said := self.module.command(b"AT+DIAG INFO updates")):
            assert time.monotonic() < until, said
            time.sleep(0.05)
        while self.module.event():
            self.module.command(b"AT+EVENT?")


@contextlib.contextmanager
def boards_of(made_as, cloud, folders, *options):
    """A function that gives the board of a kind, an object of the class `made_as`; each is started
    once. folders: pytest's `tmp_path_factory`; options: of every virtual module."""
    made = {}
    modules = []

    def get(kind):
        if kind not in made:
            module = VirtualModule(folders.mktemp(kind), cloud.state, *KINDS[kind], *options)
            module.start()
            modules.append(module)
            give_wifi(module)
            made[kind] = made_as(kind, module, cloud)
        return made[kind]

    yield get
    for module in modules:
        module.stop()
