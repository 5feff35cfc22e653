"""MQTT-based file delivery in the local cloud, seen from a device that sends raw packets."""

import base64
import hashlib
import json
import random
import time

import cbor2
import pytest

from tests_host.system.cloud_client import Device, connected
from tools.cloud import packets as p
from tools.cloud.control import ControlError
from tools.cloud.process import CloudProcess

DATA = random.Random(5).randbytes(10_000)


class Reader:
    """A connected device that reads one stream, in one format."""

    def __init__(self, cloud, device, form="cbor", stream="s1", quiet=False):
        self.client = connected(cloud, device)
        self.form = form
        self.root = f"$aws/things/{device.thing}/streams/{stream}/"
        if not quiet:
            for kind in ("description", "data", "rejected"):
                assert self.client.subscribe((f"{self.root}{kind}/{form}", 0)) == (0,)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.socket.close()

    def ask(self, kind, body):
        if not isinstance(body, bytes):
            body = cbor2.dumps(body) if self.form == "cbor" else json.dumps(body).encode()
        self.client.publish(f"{self.root}{kind}/{self.form}", body)

    def read(self):
        """The next message: (description, data or rejected; object, with `p` as bytes)."""
        packet = self.client.read()
        assert isinstance(packet, p.Publish), packet
        kind = packet.topic.removeprefix(self.root).removesuffix("/" + self.form)
        body = (cbor2.loads if self.form == "cbor" else json.loads)(packet.payload)
        if self.form == "json" and "p" in body:
            body["p"] = base64.b64decode(body["p"], validate=True)
        return kind, body

    def blocks(self, body, count):
        """The data messages of a request, as they come."""
        self.ask("get", body)
        got = []
        for _ in range(count):
            kind, block = self.read()
            assert kind == "data", block
            got.append(block)
        return got

    def rejected(self, kind, body):
        self.ask(kind, body)
        which, answer = self.read()
        assert which == "rejected", answer
        assert set(answer) <= {"o", "m", "c"} and answer["m"]
        return answer["o"]


@pytest.fixture(scope="module", autouse=True)
def _no_traceback(_cloud):
    """Whatever clients and faults do, the cloud itself has no accident."""
    before = len(_cloud.log())
    yield
    assert "Traceback" not in _cloud.log()[before:]


@pytest.fixture(scope="module")
def device(_cloud):
    made = Device(_cloud.state, "streams_1")
    control = _cloud.control
    control.put_file("dir/ten thousand".replace(" ", "_"), DATA)
    control.put_file("empty", b"")
    control.put_stream("s1", {0: "dir/ten_thousand", 255: "empty"}, "text")
    return made


@pytest.fixture(params=["cbor", "json"])
def reader(cloud, device, request):
    with Reader(cloud, device, request.param) as made:
        yield made


# -- the way that works --


def test_describe(cloud, reader):
    reader.ask("describe", {"c": "tok"})
    kind, answer = reader.read()
    files = [{"f": 0, "z": 10_000}, {"f": 255, "z": 0}]
    assert (kind, answer) == ("description", {"c": "tok", "s": 1, "d": "text", "r": files})
    assert cloud.control.stream("s1")["files"][0]["etag"] == hashlib.md5(DATA).hexdigest()


def test_a_file_block_by_block(reader):
    got = b""
    for index in range(3):
        (block,) = reader.blocks({"c": "rdy", "f": 0, "l": 4096, "o": index, "n": 1}, 1)
        assert (block["c"], block["f"], block["i"]) == ("rdy", 0, index)
        assert block["l"] == len(block["p"]) == min(4096, 10_000 - 4096 * index)
        got += block["p"]
    assert got == DATA


def test_a_whole_file_by_default(cloud, reader):
    """Without o, n and b: from the first block on, as much as one request gives."""
    blocks = reader.blocks({"f": 0, "l": 1024, "s": 1}, 10)
    assert b"".join(block["p"] for block in blocks) == DATA
    assert "c" not in blocks[0]
    assert reader.client.silent(0.1)
    entry = cloud.control.stream_requests("s1")[-1]
    assert entry["blocks"] == list(range(10)) and entry["sent"] == 10


def test_the_bitmap(cloud, device):
    """Blocks 20, 21, 24 and 43, least significant bit first."""
    bits = bytes([0x13, 0, 0x80])
    with Reader(cloud, device, "json") as reader:
        for text in ("0x130080", "130080"):
            body = {"f": 0, "l": 256, "o": 15, "b": text, "n": 9}
            wanted = [15, 16, 19, 38]
            assert [block["i"] for block in reader.blocks(body, 4)] == wanted
    with Reader(cloud, device) as reader:
        body = {"c": "rdy", "f": 0, "l": 256, "o": 15, "b": bits, "n": 3}
        assert [block["i"] for block in reader.blocks(body, 3)] == wanted[:3]  # n is a cap
        assert reader.client.silent(0.1)
        # Bits behind the end of the file stand for nothing.
        body = {"f": 0, "l": 4096, "o": 0, "b": b"\xfe" + bytes(12286), "n": 32}
        assert [block["i"] for block in reader.blocks(body, 2)] == [1, 2]
        for body in ({"f": 0, "l": 4096, "b": b""}, {"f": 0, "l": 4096, "n": 0}):
            reader.ask("get", body)
            assert reader.client.silent(0.1)


def test_the_worked_request_of_the_cbor_form(cloud, device):
    hex_ = "a6 61 63 63 72 64 79 61 66 00 61 6c 19 04 00 61 6f 00 61 62 41 03 61 6e 02"
    with Reader(cloud, device) as reader:
        blocks = reader.blocks(bytes.fromhex(hex_), 2)
        assert [block["i"] for block in blocks] == [0, 1]
        assert b"".join(block["p"] for block in blocks) == DATA[:2048]


def test_one_request_gives_128_kib(cloud, device):
    data = random.Random(6).randbytes(300_000)
    cloud.control.put_file("large", data)
    cloud.control.put_stream("s2", ["large"])
    with Reader(cloud, device, stream="s2") as reader:
        got = bytearray()
        for offset, count in ((0, 128), (128, 128), (256, 37)):
            for block in reader.blocks({"f": 0, "l": 1024, "o": offset, "n": 98304}, count):
                assert block["i"] * 1024 == len(got)
                got += block["p"]
        assert got == data
        (block,) = reader.blocks({"f": 0, "l": 131072, "o": 2}, 1)
        assert block["l"] == 300_000 - 2 * 131072
    cloud.control.remove_stream("s2")


def test_the_messages_of_an_answer_do_not_wait_for_each_other(reader):
    """With Nagle's algorithm every second message would be 40 ms late."""
    pauses = []
    for _ in range(10):
        reader.ask("get", {"f": 0, "l": 1024, "n": 3})
        reader.read()
        start = time.monotonic()
        reader.read()
        reader.read()
        pauses.append(time.monotonic() - start)
    assert min(pauses) < 0.02


def test_versions_and_changed_files(cloud, device):
    cloud.control.put_file("changing", b"old" * 100)
    assert cloud.control.put_stream("s3", ["changing"]) == 1
    assert cloud.control.put_stream("s3", ["changing"]) == 2
    with Reader(cloud, device, stream="s3") as reader:
        assert reader.rejected("get", {"s": 1, "f": 0, "l": 256}) == "VersionMismatch"
        reader.blocks({"s": 2, "f": 0, "l": 256}, 2)
        cloud.control.put_file("changing", b"new" * 100)
        assert reader.rejected("get", {"f": 0, "l": 256}) == "ETagMismatch"
        cloud.control.remove_file("changing")
        assert reader.rejected("get", {"f": 0, "l": 256}) == "ResourceNotFound"
        cloud.control.remove_stream("s3")
        assert reader.rejected("describe", {}) == "ResourceNotFound"


def test_streams_outlive_the_cloud(tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    with CloudProcess(tmp_path / "cloud") as cloud:
        device = Device(cloud.state, "kept")
        cloud.control.put_file("k", tmp_path / "file")
        cloud.control.put_stream("s1", ["k"])
        cloud.restart()
        (tmp_path / "file").unlink()
        with Reader(cloud, device) as reader:
            assert b"".join(b["p"] for b in reader.blocks({"f": 0, "l": 8192}, 2)) == DATA


# -- what is refused --


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"l": 256}, "InvalidRequest"),
        ({"f": 0}, "InvalidRequest"),
        ({"f": "0", "l": 256}, "InvalidRequest"),
        ({"f": 0, "l": 256.0}, "InvalidRequest"),
        ({"f": 0, "l": True}, "InvalidRequest"),
        ({"f": 0, "l": 256, "x": 1}, "InvalidRequest"),
        ({"f": 0, "l": 256, "c": "x" * 65}, "InvalidRequest"),
        ({"f": 0, "l": 256, "c": 5}, "InvalidRequest"),
        ({"f": 256, "l": 256}, "InvalidRequest"),
        ({"f": 7, "l": 256}, "ResourceNotFound"),
        ({"f": 0, "l": 255}, "BlockSizeOutOfBounds"),
        ({"f": 0, "l": 131073}, "BlockSizeOutOfBounds"),
        ({"f": 0, "l": 256, "o": -1}, "OffsetOutOfBounds"),
        ({"f": 0, "l": 256, "o": 98305}, "OffsetOutOfBounds"),
        ({"f": 0, "l": 256, "o": 40}, "OffsetOutOfBounds"),
        ({"f": 0, "l": 256, "n": 98305}, "BlockCountLimitExceeded"),
        ({"f": 0, "l": 256, "n": -1}, "BlockCountLimitExceeded"),
        ({"f": 0, "l": 256, "s": 2}, "VersionMismatch"),
        ([], "InvalidRequest"),
    ],
)
def test_bad_requests(cloud, reader, body, code):
    assert reader.rejected("get", body) == code
    entry = cloud.control.stream_requests("s1")[-1]
    assert (entry["status"], entry["code"]) == ("REJECTED", code) and entry["rule"]


def test_bad_forms_and_names(cloud, device):
    with Reader(cloud, device) as reader:
        for payload in (b"", b"\xff", b"\xa1\x61", b"\xa0\x00"):
            assert reader.rejected("get", payload) == "InvalidCbor"
        body = {"f": 0, "l": 256, "b": bytes(12288)}
        assert reader.rejected("get", body) == "BlockBitmapLimitExceeded"
        assert reader.rejected("get", {"f": 0, "l": 256, "b": "03"}) == "InvalidRequest"
        assert reader.rejected("describe", {"x": 1}) == "InvalidRequest"
    with Reader(cloud, device, "json") as reader:
        assert reader.rejected("get", b"{") == "InvalidJson"
        for text in ("0x1", "zz", 3):
            assert reader.rejected("get", {"f": 0, "l": 256, "b": text}) == "InvalidRequest"
    for name, code in (("none", "ResourceNotFound"), ("a.b", "InvalidTopic")):
        with Reader(cloud, device, stream=name) as reader:
            assert reader.rejected("get", {"f": 0, "l": 256}) == code
            assert reader.rejected("describe", {}) == code


def test_nothing_comes_to_one_who_has_not_subscribed(cloud, device):
    with Reader(cloud, device, quiet=True) as reader:
        reader.ask("get", {"f": 0, "l": 4096})
        reader.ask("describe", {})
        assert reader.client.silent()
        assert cloud.control.stream_requests("s1")[-2]["sent"] == 0


@pytest.mark.parametrize(
    ("stream", "files", "words"),
    [
        ("a b", ["empty"], "stream id"),
        ("x", [], "1 to 50"),
        ("x", ["empty"] * 51, "1 to 50"),
        ("x", {256: "empty"}, "file id"),
        ("x", {"-1": "empty"}, "file id"),
        ("x", ["not_there"], "no file not_there"),
        ("x", "empty", "list of keys"),
    ],
)
def test_streams_that_cannot_be_made(cloud, device, stream, files, words):
    with pytest.raises(ControlError, match=words):
        cloud.control.put_stream(stream, files)


# -- faults --

ALL = {"c": "mine", "f": 0, "l": 1024}


def indices(reader, count):
    return [block["i"] for block in reader.blocks(ALL, count)]


def test_drop_duplicate_and_reorder(cloud, device):
    with Reader(cloud, device) as reader:
        number = cloud.control.fault("drop", at="streams", every=3)
        assert indices(reader, 7) == [0, 1, 3, 4, 6, 7, 9]
        cloud.control.clear(number)
        number = cloud.control.fault("duplicate", at="streams", every=5)
        assert indices(reader, 12) == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9]
        cloud.control.clear(number)
        cloud.control.fault("reorder", at="streams", count=1)
        assert indices(reader, 10) == list(range(9, -1, -1))
        assert indices(reader, 10) == list(range(10))


def test_blocks_that_lie(cloud, device):
    with Reader(cloud, device) as reader:

        def differing(count=10):
            """The one block that is not as it should be."""
            blocks = reader.blocks(ALL, count)
            true = [(b["p"], b["l"]) == (_true(b["i"]), len(_true(b["i"]))) for b in blocks]
            assert true.count(False) == 1
            return blocks[true.index(False)]

        cloud.control.fault("flip", at="streams", every=4, count=1)
        block = differing()
        changed = [a ^ b for a, b in zip(block["p"], _true(3), strict=True) if a != b]
        assert block["i"] == 3 and changed == [1]
        cloud.control.fault("wrong-size", at="streams", by=-24, count=1)
        block = differing()
        assert block["l"] == len(block["p"]) == 1000
        cloud.control.fault("wrong-size", at="streams", by=100, count=1)
        assert len(differing()["p"]) == 1124
        cloud.control.fault("wrong-length", at="streams", by=7, count=1)
        block = differing()
        assert (block["l"], len(block["p"])) == (1031, 1024)
        cloud.control.fault("wrong-size", at="streams", by=5000, request="describe", count=1)
        reader.ask("describe", {})
        assert reader.read()[1]["r"][0]["z"] == 15_000


def _true(index):
    return DATA[index * 1024 : (index + 1) * 1024]


def test_silent_refuse_foreign_and_delay(cloud, device):
    with Reader(cloud, device) as reader:
        cloud.control.fault("silent", at="streams", count=1)
        reader.ask("get", ALL)
        assert reader.client.silent()
        assert cloud.control.stream_requests("s1")[-1]["status"] == "UNANSWERED"
        cloud.control.fault("refuse", at="streams", error="Unauthorized", count=1)
        assert reader.rejected("get", ALL) == "Unauthorized"
        cloud.control.fault("foreign", at="streams", when="before", count=1)
        blocks = reader.blocks(ALL, 11)
        assert blocks[0]["c"] != "mine" and blocks[0]["p"] == bytes(1024)
        assert b"".join(block["p"] for block in blocks[1:]) == DATA
        cloud.control.fault("foreign", at="streams", error="InternalError", count=1)
        reader.ask("get", {**ALL, "n": 1})
        assert [reader.read()[0] for _ in range(2)] == ["rejected", "data"]
        cloud.control.fault("delay", at="streams", ms=100, count=1)
        assert indices(reader, 10) == [*range(1, 10), 0]


def test_the_connection_breaks_in_mid_download(cloud, device):
    cloud.control.fault("close", at="streams", every=4)
    with Reader(cloud, device) as reader:
        reader.ask("get", ALL)
        got = [q for q in reader.client.closed() if isinstance(q, p.Publish)]
        assert len(got) == 3
    with Reader(cloud, device) as reader:
        assert indices(reader, 10) == list(range(10))
