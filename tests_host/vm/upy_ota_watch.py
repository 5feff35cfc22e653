"""When a trial is begun, and that it ends, on the MicroPython VM."""
# vm-file: heap=128

import asyncio
import json
import sys

from firmware import ota
from firmware.ota import watch
from firmware.ota.watch import Watch

# Seconds in which a version on trial has to be accepted, at the very most.
LIMIT = 720


class Work:
    """What is to be done: `ends` says how, and `trials` notes what was asked for."""

    ends = None
    trials = []

    @staticmethod
    async def run(module, trial):
        Work.trials.append(trial)
        if Work.ends:
            raise Work.ends


class Module:
    """A module without a connection, with a record in `phase`; its version is 2.0.0."""

    def __init__(self, phase=4, version="2.0.0"):
        self.store = self.session = self.board = self
        self.config = {b"Version": b"2.0.0"}
        self.uptime = 0
        self.resets = 0
        self.lost = []
        self.data = {"format": 1, "phase": phase, "job": "j", "type": 101, "done": 0}
        self.data["version"] = version
        self.up = False
        self.connections = 1
        self.identity = self
        self.on_trial = self.doubted = False
        ota.work = Work
        Work.trials = []
        Work.ends = None
        self.watch = Watch(self, lambda: 100000, 4, 0)

    def read(self, name):
        return json.dumps(self.data).encode() if name == "ota" else None

    def connected(self):
        return self.up

    def reset(self):
        self.resets += 1


async def turn(module, uptime, ends=None):
    """Let it have its turn at that uptime; the resets that there have been."""
    module.uptime = uptime
    Work.ends = ends
    module.watch.turn()
    for _ in range(3):
        await asyncio.sleep_ms(0)
    assert not module.watch.busy
    return module.resets


async def begun(**how):
    """A module that has started, with what it found to do."""
    module = Module(**how)
    module.watch.start()
    for _ in range(3):
        await asyncio.sleep_ms(0)
    return module


async def test_a_start_settles_what_an_earlier_one_began():
    for phase in (1, 2, 3, 4, 5):
        module = await begun(phase=phase)
        assert module.watch.record.phase == phase
        assert Work.trials == ([True] if phase == 4 else [])
        assert await turn(module, 10000) == 0
        # It has been.
        assert Work.trials == ([True] if phase == 4 else [])


async def test_a_start_without_a_record_looks_no_further():
    """Nearly every start; what was lost is another matter."""
    asked = []

    class Nothing:
        @staticmethod
        def find(module):
            asked.append(module)

    ota.resume = sys.modules["firmware.ota.resume"] = Nothing
    try:
        for data, lost, asks in ((None, [], 0), (None, ["topics"], 0), (None, ["ota"], 1)):
            module = Module()
            module.read = lambda name, data=data: data
            module.lost = lost
            module.watch.start()
            assert len(asked) == asks
            asked.clear()
    finally:
        del ota.resume, sys.modules["firmware.ota.resume"]


async def test_a_trial_that_comes_to_no_end_is_reset_after_the_limit():
    for failure in (MemoryError(), ValueError("x"), OSError(5)):
        module = Module()
        Work.ends = failure
        module.watch.start()
        await asyncio.sleep_ms(0)
        assert module.resets == 0
        assert await turn(module, 300, failure) == 0
        assert await turn(module, LIMIT - 60, failure) == 0
        assert await turn(module, LIMIT, failure) == 0
        # Not before its pause is over.
        assert module.watch.after > LIMIT
        count = len(Work.trials)
        assert await turn(module, LIMIT + 1, failure) == 0
        assert len(Work.trials) == count
        assert await turn(module, LIMIT + 60, failure) == 1
        assert Work.trials == [True] * (count + 1)


async def test_one_second_behind_the_limit():
    module = Module()
    module.uptime = LIMIT
    Work.ends = MemoryError()
    module.watch.start()
    await asyncio.sleep_ms(0)
    assert module.resets == 0
    module = Module()
    module.uptime = LIMIT + 1
    Work.ends = MemoryError()
    module.watch.start()
    await asyncio.sleep_ms(0)
    assert module.resets == 1


async def test_a_trial_that_ends_late_is_not_reset():
    module = Module()
    module.uptime = LIMIT + 100
    module.watch.start()
    await asyncio.sleep_ms(0)
    assert (module.resets, Work.trials) == (0, [True])


async def test_the_version_before_is_not_reset_for_what_it_cannot_tell():
    """It runs again, has the record of the trial, and no memory to tell of it."""
    module = Module(version="3.0.0")
    module.uptime = LIMIT + 100
    Work.ends = MemoryError()
    module.watch.start()
    await asyncio.sleep_ms(0)
    assert (module.resets, Work.trials) == (0, [True])
    assert await turn(module, LIMIT + 200, MemoryError()) == 0
    assert Work.trials == [True, True]
    # Nor once it could.
    assert await turn(module, LIMIT + 300) == 0
    assert Work.trials == [True] * 3
    module.up = True
    assert await turn(module, LIMIT + 400, ValueError()) == 0
    assert Work.trials == [True] * 3 + [False]


async def test_jobs_that_fail_reset_nothing():
    module = await begun()
    module.up = True
    assert await turn(module, LIMIT + 1, ValueError("x")) == 0
    assert Work.trials == [True, False]
    # Nor when the trial has yet to be settled.
    module = Module()
    Work.ends = MemoryError()
    module.watch.start()
    await asyncio.sleep_ms(0)
    module.uptime = LIMIT + 1
    await module.watch._work(False)
    assert (module.resets, Work.trials) == (0, [True, False])
    # And it still has to be, whatever else there was to do.
    Work.ends = None
    await module.watch._work(False)
    assert await turn(module, LIMIT + 100) == 0
    assert Work.trials == [True, False, False, True]


async def test_how_long_it_pauses():
    module = await begun(phase=1)
    module.up = True
    await turn(module, 100, MemoryError())
    assert (module.watch.after, module.watch.status) == (105, b"no memory")
    await turn(module, 104)
    assert len(Work.trials) == 1
    await turn(module, 105, ValueError())
    assert (module.watch.after, module.watch.status) == (165, b"internal error, ValueError")
    assert await turn(module, 164) == 0
    assert len(Work.trials) == 2
    module.watch.connection = 1
    await turn(module, 165)
    assert Work.trials == [False] * 3
    # Nothing more is to be looked into.
    await turn(module, 1000)
    assert len(Work.trials) == 3


async def test_no_memory_behind_the_work_does_not_end_it():
    """Dropping what it was done with takes some too."""
    died = []
    asyncio.get_event_loop().set_exception_handler(lambda loop, context: died.append(context))

    def refuse(names):
        raise MemoryError

    module = Module()
    drop, watch.drop = watch.drop, refuse
    try:
        Work.ends = MemoryError()
        module.watch.start()
        for _ in range(3):
            await asyncio.sleep_ms(0)
    finally:
        watch.drop = drop
    assert len(died) == 1 and Work.trials == [True]
    assert await turn(module, 10) == 0
    assert Work.trials == [True] * 2
    assert await turn(module, 100) == 0
    assert Work.trials == [True] * 2
