"""The parts of the local cloud's jobs, streams and files: engine, blocks, ranges, faults."""

import pytest

from tools.cloud import job_engine, stream_request
from tools.cloud.faults import FaultTable
from tools.cloud.file_server import Unsatisfiable, parse_range
from tools.cloud.files import FileError, FileStore
from tools.cloud.job_engine import Engine, JobError
from tools.cloud.registry import Registry
from tools.cloud.settings import Settings
from tools.cloud.stream_request import Get, read_get


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "cloud") as opened:
        opened.add_thing("a")
        opened.add_thing("b")
        yield opened


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def notices():
    return []


@pytest.fixture
def engine(registry, clock, notices):
    return Engine(registry, Settings(), lambda *what: notices.append(what), clock)


# -- the engine --


def test_the_order_of_the_list(engine, clock):
    for job in ("j1", "j2", "j3"):
        engine.create(job, ["a"], {})
        clock.now += 1
    for job in ("j3", "j2"):
        engine.update("a", job, "IN_PROGRESS")
        clock.now += 1
    # In progress before queued; within both, by the time of queueing and not of starting.
    assert [e.job for e in engine.store.pending("a")] == ["j2", "j3", "j1"]


def test_jobs_of_one_moment_keep_their_order(engine):
    for job in ("z", "y", "x"):
        engine.create(job, ["a"], {})
    assert [e.job for e in engine.store.pending("a")] == ["z", "y", "x"]


def test_which_changes_are_told(engine, notices):
    def told():
        got = list(notices)
        notices.clear()
        return got

    engine.create("j1", ["a", "b"], {})
    assert told() == [("a", True, True), ("b", True, True)]
    engine.create("j2", ["a"], {})
    assert told() == [("a", True, False)]
    engine.start_next("a")
    engine.update("a", "j1", "IN_PROGRESS", {"p": "1"})
    assert told() == []
    engine.update("a", "j1", "FAILED")
    assert told() == [("a", True, True)]
    engine.cancel("j1")
    assert told() == [("b", True, True)]
    engine.delete("j1")
    assert told() == []
    engine.delete("j2", force=True)
    assert told() == [("a", True, True)]


def test_a_job_made_again_under_its_name_is_another_one(engine, clock, notices):
    engine.create("j1", ["a"], {})
    clock.now += 1
    notices.clear()
    engine.delete("j1", force=True)
    engine.create("j1", ["a"], {"n": 2})
    assert notices == 2 * [("a", True, True)]


def test_the_two_timers(engine, clock):
    engine.create("j1", ["a"], {}, timeout=10)
    assert engine.seconds_left(engine.execution("j1", "a")) is None
    engine.start_next("a", step_minutes=2)
    assert engine.seconds_left(engine.execution("j1", "a")) == 120
    clock.now += 100
    engine.update("a", "j1", "IN_PROGRESS", step_minutes=20)
    assert engine.seconds_left(engine.execution("j1", "a")) == 500
    # The job's own timer started with the execution and is never set again.
    clock.now += 499
    engine.sweep()
    assert engine.execution("j1", "a").status == "IN_PROGRESS"
    clock.now += 1
    engine.sweep()
    found = engine.execution("j1", "a")
    assert (found.status, found.version) == ("TIMED_OUT", 4)
    assert engine.job("j1").status == "COMPLETED"
    assert engine.seconds_left(found) is None


def test_a_queued_execution_does_not_time_out(engine, clock):
    engine.create("j1", ["a"], {}, timeout=1)
    clock.now += 1e6
    engine.sweep()
    assert engine.execution("j1", "a").status == "QUEUED"


def test_a_refused_update_changes_nothing(engine):
    engine.create("j1", ["a"], {})
    with pytest.raises(JobError) as caught:
        engine.update("a", "j1", "FAILED", {"p": "1"}, expected_version=2, step_minutes=5)
    assert caught.value.code == "VersionMismatch" and caught.value.execution.version == 1
    found = engine.execution("j1", "a")
    assert (found.status, found.details, found.step_end) == ("QUEUED", {}, None)


def test_a_job_that_cannot_be_made_leaves_nothing(engine):
    with pytest.raises(JobError, match="no thing c"):
        engine.create("j1", ["a", "c"], {})
    assert engine.store.jobs() == [] and engine.store.pending("a") == []


def test_jobs_touch_nobodys_rights(engine, registry):
    registry.changed()
    engine.create("j1", ["a"], {})
    engine.start_next("a")
    assert not registry.changed()
    registry.add_thing("c")
    assert registry.changed()


def test_a_change_of_rights_is_not_hidden_by_a_job(engine, registry):
    registry.changed()
    registry.add_thing("c")
    engine.create("j1", ["a"], {})
    assert registry.changed()


def test_details_at_their_limits():
    job_engine.check_details({"k" * 128: "v" * 1024})
    for bad in ({"k" * 129: "v"}, {"k": "v" * 1025}, {"k": "\x7f"}, {"k\n": "v"}, ["k"], None):
        with pytest.raises(JobError):
            job_engine.check_details(bad)


# -- blocks of a stream --


def test_blocks_of_a_bitmap():
    asked = Get(None, 0, 256, 20, 512, bytes([0x13, 0x00, 0x80]))
    assert asked.blocks(1 << 20) == [20, 21, 24, 43]
    assert asked.blocks(25 * 256) == [20, 21, 24]
    assert asked.blocks(25 * 256 - 256 + 1) == [20, 21, 24]
    assert asked.blocks(24 * 256) == [20, 21]


def test_blocks_are_capped_at_128_kib():
    assert len(Get(None, 0, 256, 0, 98304, None).blocks(1 << 24)) == 512
    assert len(Get(None, 0, 100_000, 0, 98304, None).blocks(1 << 24)) == 1
    assert len(Get(None, 0, 4096, 0, 98304, b"\xff" * 100).blocks(1 << 24)) == 32


def test_defaults_of_a_request():
    assert read_get("cbor", {"f": 3, "l": 4096, "o": None}) == Get(None, 3, 4096, 0, 32, None)
    assert stream_request.token({}) is None
    assert stream_request.token({"c": "x" * 64}) == "x" * 64
    with pytest.raises(stream_request.StreamRefusal):
        stream_request.token({"c": "é" * 33})  # 66 bytes
    with pytest.raises(stream_request.StreamRefusal):
        stream_request.token({"c": "\ud800" * 65})


# -- ranges and URLs --


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 9)),
        ("bytes=3-3", (3, 3)),
        ("bytes=3-99", (3, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-30", (0, 9)),
        (" bytes=1-2 ", (1, 2)),
        ("bytes=2-1", None),
        ("bytes=1-2,3-4", None),
        ("bytes=+1-2", None),
        ("bytes=\u0661-2", None),
        ("Bytes=1-2", None),
    ],
)
def test_ranges(header, part):
    assert parse_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-10", "bytes=-0", "bytes=99999999999-"])
def test_ranges_without_a_byte(header):
    with pytest.raises(Unsatisfiable):
        parse_range(header, 10)


@pytest.fixture
def files(registry, tmp_path, clock):
    return FileStore(registry, tmp_path / "files", tmp_path / "key", clock)


def query(url):
    return dict(pair.split("=") for pair in url.partition("?")[2].split("&"))


def test_a_url_ends_to_the_second(files, clock):
    given = query(files.url("k", 60))
    clock.now += 59.9
    assert files.refusal("k", given) is None
    clock.now += 0.1
    assert "expired" in files.refusal("k", given)
    assert "signature" in files.refusal("other", given)
    assert "signature" in files.refusal("k", {**given, "X-Amz-Expires": "x"})
    assert "signature" in files.refusal("k", {**given, "X-Amz-Signature": "\u00e9\ud800"})


def test_placeholders(files):
    files.put("dir/k", b"x")
    place = "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/dir/k}"
    files.check_placeholders(place)
    with pytest.raises(FileError, match="dir/no"):
        files.check_placeholders(place.replace("dir/k", "dir/no"))
    filled = files.fill({"a": [f"<{place}>", 5, None], "b": {"c": "${other}"}}, 60)
    assert filled["b"] == {"c": "${other}"} and filled["a"][1:] == [5, None]
    assert filled["a"][0].startswith("<https://localhost:0/files/dir/k?X-Amz-Date=")
    assert filled["a"][0].endswith(">")


def test_a_file_that_cannot_be_read_leaves_nothing(files, tmp_path):
    with pytest.raises(FileError, match="No such file"):
        files.put("k", tmp_path / "missing")
    assert files.files() == [] and list((tmp_path / "files").iterdir()) == []


# -- the grammar of faults --


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "drop", "at": "files"},
        {"kind": "drop", "at": "jobs", "direction": "in"},
        {"kind": "drop", "at": "jobs", "packet": "PUBLISH"},
        {"kind": "reorder", "at": "jobs"},
        {"kind": "reorder"},
        {"kind": "flip", "at": "jobs"},
        {"kind": "wrong-size", "at": "files"},
        {"kind": "wrong-size", "at": "streams", "by": 0},
        {"kind": "wrong-length", "at": "streams", "by": "1"},
        {"kind": "stall", "at": "streams"},
        {"kind": "stall", "at": "files", "bytes": -1},
        {"kind": "close", "at": "jobs", "bytes": 5},
        {"kind": "redirect", "at": "files", "code": 200},
        {"kind": "redirect", "at": "files", "to": 5},
        {"kind": "refuse", "at": "files", "code": 200},
        {"kind": "refuse", "at": "files", "error": "X"},
        {"kind": "refuse", "at": "files", "client": "x"},
        {"kind": "duplicate", "at": "files"},
        {"kind": "foreign", "at": "files"},
        {"kind": "silent", "at": "jobs", "request": "put"},
        {"kind": "silent", "at": "defender", "request": "get"},
        {"kind": "silent", "at": "tls", "request": "get"},
    ],
)
def test_faults_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=r"."):
        FaultTable().set(values)


def test_faults_name_a_request_or_none():
    faults = FaultTable()
    faults.set({"kind": "silent", "at": "jobs", "request": "update"})
    assert faults.take("silent", at="jobs", request="get") is None
    assert faults.take("silent", at="streams", request="update") is None
    assert faults.take("silent", at="jobs", request="update") is not None
    faults.set({"kind": "silent", "at": "jobs"})
    assert faults.take("silent", at="jobs", request="get") is not None


def test_defaults_of_faults():
    faults = FaultTable()
    assert faults.set({"kind": "refuse", "at": "files"}).code == 403
    assert faults.set({"kind": "redirect", "at": "files"}).code == 307
    assert faults.set({"kind": "refuse", "at": "connect"}).code == 3
    assert faults.set({"kind": "close", "at": "files", "bytes": 9}).count == 1
    stall = faults.set({"kind": "stall", "at": "files"})
    assert faults.stands(stall)
    faults.clear("stall")
    assert not faults.stands(stall)
