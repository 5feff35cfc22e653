"""What a start finds of an update, and whose job a trial is when its record is lost, on the
MicroPython VM."""
# vm-file: heap=128

import json
import sys

from firmware import ota
from firmware.cloud.execution import Execution, JobError


class Slots:
    """Where versions lie: ota_1 runs, on trial or not. on_trial may raise what is put there."""

    trial = False
    asked = 0

    @classmethod
    def on_trial(cls):
        cls.asked += 1
        if isinstance(cls.trial, Exception):
            raise cls.trial
        return cls.trial

    @staticmethod
    def running():
        return b"ota_1"


class Module:
    """A module with a store that holds `value`; it refuses to write with the error `refuses`."""

    def __init__(self, value=None, trial=False, refuses=None):
        self.store = self
        self.config = {b"Version": b"2.0.0"}
        self.value = value
        self.refuses = refuses
        self.lost = []
        Slots.trial = trial
        Slots.asked = 0
        ota.slots = Slots

    def read(self, name):
        return self.value

    def write(self, name, value):
        assert name == "ota"
        if self.refuses:
            raise self.refuses
        self.value = value

    def find(self):
        from firmware.ota import resume

        return resume.find(self)


def loaded():
    """The parts of updates in memory, but for those that other parts of this test need."""
    return [name for name in sys.modules if name.startswith("firmware.ota.")]


def record(**fields):
    made = {"format": 1, "phase": 4, "job": "j", "type": 101, "done": 0, "version": "2.0.0"}
    made.update(fields)
    return json.dumps(made).encode()


def test_nothing():
    module = Module()
    assert module.find() is None
    assert module.value is None
    assert loaded() == []


def test_a_record_is_what_it_is():
    for phase in (1, 2, 3, 4, 5):
        module = Module(record(phase=phase, job="mine"), True)
        found = module.find()
        assert (found.phase, found.job) == (phase, "mine")
        assert module.value == record(phase=phase, job="mine")
        assert loaded() == ["firmware.ota.record"]
    assert Slots.asked == 0


def test_a_trial_without_a_record_gets_one():
    other = (record(format=2), record(phase=0), record(phase=6), b"", b"{}", b"[]", b"[1", b"\xff")
    for value in (None,) + other:
        module = Module(value, True)
        found = module.find()
        assert (found.phase, found.type, found.job) == (4, 101, "")
        assert found.data["version"] == "2.0.0"
        assert found.data["slot"] == found.data["area"] == "ota_1"
        assert found.data["force"] is False
        if value is None:
            # It is there after a restart too, for the version before above all.
            again = Module(module.value, False).find()
            assert again.data == found.data
        else:
            # What another version has written is for that one.
            assert module.value == value
        # Not on trial it is lost, as what has not been understood is.
        module = Module(value, False)
        assert module.find() is None
        assert module.value == value
        assert loaded() == []


def test_a_flash_that_refuses():
    found = Module(None, True, OSError(28)).find()
    assert (found.phase, found.data["slot"], found.data["version"]) == (4, "ota_1", "2.0.0")
    # Whether it is a trial cannot be said: the module starts.
    assert Module(None, OSError(5)).find() is None


# ---- whose -------------------------------------------------------------------------------------


def document(kind=101, version=None, **fields):
    file = {"filepath": "x", "filesize": 1000, "fileid": 0, "fileType": kind}
    file["sig-sha256-ecdsa"] = "MAYCAQECAQE="
    if version:
        file["version"] = version
    file.update(fields)
    return {"afr_ota": {"streamname": "s", "protocols": ["MQTT"], "files": [file]}}


class Jobs:
    """Jobs of the cloud in its order: (id, status, document or JobError). too_many: they cannot be
    listed."""

    def __init__(self, *jobs, too_many=False):
        self.jobs = jobs
        self.too_many = too_many
        self.described = []

    async def next(self):
        for job, status, found in self.jobs:
            return Execution(job, status, 3, {}, found)

    async def pending(self):
        if self.too_many:
            raise JobError(b"too long")
        return [job[0] for job in self.jobs]

    async def describe(self, name):
        self.described.append(name)
        for job, status, found in self.jobs:
            if job == name:
                if isinstance(found, Exception):
                    raise found
                made = Execution(job, status, 3, {}, found)
                made.too_long = found == "lost"
                return made


async def whose(*jobs, asked=None, too_many=False):
    from firmware.ota import resume

    cloud = Jobs(*jobs, too_many=too_many)
    found = await resume.whose(cloud, "2.0.0")
    if asked is not None:
        assert cloud.described == asked, cloud.described
    return found


DOING = b"IN_PROGRESS"
WAITS = b"QUEUED"


async def test_the_module_image_in_progress():
    assert await whose(("a", DOING, document(version="2.0.0"))) == "a"
    # AWS's own tools do not tell the version.
    assert await whose(("a", DOING, document())) == "a"
    simple = {"action": "OTA", "url": "https://x/y", "sig-sha256-ecdsa": "MAYCAQECAQE="}
    assert await whose(("a", DOING, simple)) == "a"


async def test_behind_others():
    others = (
        ("certificate", DOING, document(103)),
        ("host", DOING, document(202)),
        ("other", DOING, document(version="3.0.0")),
        ("rubbish", DOING, {"x": 1}),
        ("none", DOING, None),
        ("gone", DOING, JobError(b"ResourceNotFound")),
        ("ended", b"SUCCEEDED", document()),
    )
    names = [job[0] for job in others]
    mine = ("mine", DOING, document(version="2.0.0"))
    assert await whose(*others[:-1], mine, asked=names[:-1] + ["mine"]) == "mine"
    assert await whose(*others[:-1], ("q", WAITS, document())) == ""
    assert await whose(*others[-1:], mine) == "mine"


async def test_none():
    assert await whose(asked=[]) == ""
    queued = ("a", WAITS, document(version="2.0.0"))
    assert await whose(queued, queued, ("b", DOING, document()), asked=["a"]) == ""


async def test_more_than_can_be_listed():
    """The cloud has what is in progress come first."""
    mine = ("mine", DOING, document(version="2.0.0"))
    queued = ("a", WAITS, document(version="2.0.0"))
    assert await whose(mine, queued, too_many=True) == "mine"
    assert await whose(queued, mine, too_many=True) == ""
    assert await whose(too_many=True) == ""


async def test_a_document_that_there_was_no_room_for():
    """It may be ours: it is asked for again."""
    try:
        await whose(("a", DOING, "lost"), ("b", DOING, document()))
    except JobError as error:
        assert error.code == b"no memory"
    else:
        raise AssertionError("another one's job")
    # One that waits is none of ours.
    assert await whose(("a", WAITS, "lost")) == ""


async def test_a_cloud_that_cannot_say():
    for code in (b"no answer", b"InternalError", b"RequestThrottled"):
        try:
            await whose(("a", DOING, JobError(code)), ("b", DOING, document()))
        except JobError as error:
            assert error.code == code
        else:
            raise AssertionError("another one's job")
