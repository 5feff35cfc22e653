"""CONFMODE's manager on the MicroPython VM: its beginning, its end, and what is left of it."""
# vm-file: timeout=60 heap=160

import asyncio
import sys

from tests_host.vm.confmode_parts import Module


class Transport:
    """begins, ends: what `begin` and `end` raise, one a call."""

    begins = ()
    ends = ()

    def __init__(self, manager, module, name, key):
        self.manager = manager
        self.begins = list(Transport.begins)
        self.ends = list(Transport.ends)

    async def begin(self):
        if self.begins:
            raise self.begins.pop(0)

    async def end(self):
        if self.ends:
            raise self.ends.pop(0)

    def status(self):
        return b"fake"


def _manager(module, begins=(), ends=(), **options):
    from firmware.confmode import manager

    Transport.begins = begins
    Transport.ends = ends
    made = manager.Manager(module, b"softap", b"lab", b"", **options)
    made._make = lambda: Transport(made, module, b"lab", b"")
    return made


async def test_success_makes_an_event_and_drops_the_code():
    module = Module()
    made = _manager(module)
    await made.begin()
    assert module.confmode is made
    assert made.status() == b"fake"
    made.finish(True, b"joined")
    made.finish(False, b"too late")
    await made.end(False, b"later still")
    assert module.calls == ["review 1", "leave", "event 7", "review 0"], module.calls
    assert module.confmode is None
    assert module.conf_result == b"joined"
    assert "firmware.confmode.manager" not in sys.modules


async def test_the_end_drops_the_code_of_either_transport():
    from firmware.confmode import candidate, intake, sealing, softap

    made = _manager(Module())
    assert all(part.__name__ in sys.modules for part in (candidate, intake, sealing, softap))
    assert "lib.http_parser" in sys.modules
    await made.begin()
    await made.end(True, b"joined")
    kept = [name for name in sys.modules if name.startswith(("firmware.confmode.", "lib."))]
    assert kept == [], kept


async def test_an_end_without_success_makes_no_event():
    module = Module()
    made = _manager(module)
    await made.begin()
    await made.end(False, b"restart")
    assert module.calls == ["review 1", "leave", "review 0"]
    assert module.conf_result == b"restart"


async def test_a_beginning_that_fails_leaves_nothing():
    for error, why in (
        (MemoryError(), b"no memory"),
        (ImportError(), b"this build has no softap"),
        (OSError(12), b"[Errno 12] ENOMEM"),
        (OSError("Wifi Not Started"), b"Wifi Not Started"),
        (RuntimeError("Wifi Unknown Error 0x3014"), b"Wifi Unknown Error 0x3014"),
        (None, b"because"),
    ):
        # Dropped by the end of each, and so another module each time.
        from firmware.confmode import manager

        module = Module()
        made = _manager(module, [error or manager.ManagerError(b"because")])
        try:
            await made.begin()
        except manager.ManagerError as caught:
            assert caught.args[0] == why, caught
        else:
            raise AssertionError("no error")
        assert module.confmode is None
        assert module.conf_result == why
        assert "leave" in module.calls


async def test_memory_that_is_lacking_at_the_end():
    module = Module()
    made = _manager(module, ends=[MemoryError(), MemoryError()])
    await made.begin()
    await made.end(True, b"done")
    assert module.calls == ["review 1", "leave", "event 7", "review 0"]


async def test_a_radio_that_does_not_obey_at_the_end():
    for error in (OSError("Wifi Not Started"), RuntimeError("Wifi Unknown Error 0x3001")):
        module = Module()
        made = _manager(module, ends=[error])
        await made.begin()
        await made.end(True, b"done")
        assert module.calls == ["review 1", "leave", "event 7", "review 0"]


async def test_nobody_comes():
    module = Module()
    made = _manager(module, idle_s=1)
    await made.begin()
    for _ in range(4):
        await asyncio.sleep_ms(400)
        made.touched()
    assert module.confmode
    await asyncio.sleep_ms(1600)
    assert module.confmode is None
    assert module.conf_result == b"no client for 1 s"
