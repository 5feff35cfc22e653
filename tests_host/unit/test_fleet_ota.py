"""`fleet ota`: which orders are refused, what stands in a job document, how far a job is."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests_host.certificates import self_signed
from tests_host.unit import factory_parts as parts
from tests_host.unit.factory_parts import fleet
from tools.cloud import pki
from tools.fleet import image_bundle, image_header, ota_local, ota_order, ota_watch, signing
from tools.fleet.ota_cloud import CloudError, Execution
from tools.fleet.ota_order import OrderError


@pytest.fixture
def image(tmp_path):
    code = b"M\x06\x03\x1f"
    payload = image_bundle.pack({"firmware/app.mpy": code, "firmware/version.mpy": code})
    labels = {"vendor": "maker", "model": "Board-1", "chip": "any", "version": "1.2.3"}
    header = image_header.of_payload(payload, kind=image_header.BUNDLE, security=0, **labels)
    path = tmp_path / "app.img"
    path.write_bytes(header.pack() + payload)
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "host.bin"
    path.write_bytes(b"for the host")
    return path


def file_of(order, **place):
    [file] = order.document(**place)["afr_ota"]["files"]
    return file


# -- orders --


def test_what_a_module_image_says_of_itself_is_in_the_job(image):
    file = file_of(ota_order.make(101, image), stream="s")
    assert {name: file[name] for name in ("version", "vendor", "model")} == {
        "version": "1.2.3",
        "vendor": "maker",
        "model": "Board-1",
    }
    assert "force" not in file
    assert file_of(ota_order.make(101, image, force=True), stream="s")["force"] == "YES"
    ota_order.make(101, image, version="1.2.3")
    with pytest.raises(OrderError, match=r"1\.2\.3, not 1\.2\.4"):
        ota_order.make(101, image, version="1.2.4")


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_signature_in_the_job(image, kind):
    key = pki.make_key(kind)
    order = ota_order.make(101, image, key=key)
    name = {"ec": "sig-sha256-ecdsa", "rsa": "sig-sha256-rsa"}[kind]
    certificate = pki.x509.load_pem_x509_certificate(self_signed("signer", key))
    file = file_of(order, stream="s")
    assert "sig--" not in file
    signing.verify(image.read_bytes(), signing.read_signature(file[name]), certificate)
    simple = ota_order.make(101, image, key=key, simple=True).document(url="https://x/y")
    assert set(simple) == {"action", "url", "size", name}
    signing.verify(image.read_bytes(), signing.read_signature(simple[name]), certificate)


def test_an_unsigned_job(plain, image):
    assert file_of(ota_order.make(202, plain), stream="s")["sig--"] is None
    simple = ota_order.make(101, image, simple=True)
    assert simple.by_url
    assert set(simple.document(url="u")) == {"action", "url", "size"}


def test_the_document_of_each_protocol(plain):
    by_stream = ota_order.make(202, plain).document(stream="name")["afr_ota"]
    assert (by_stream["protocols"], by_stream["streamname"]) == (["MQTT"], "name")
    assert by_stream["files"][0]["auth_scheme"] is None
    order = ota_order.make(202, plain, protocol="http")
    by_url = order.document(url="https://x/y")["afr_ota"]
    assert by_url["protocols"] == ["HTTP"]
    assert "streamname" not in by_url
    assert by_url["files"][0]["update_data_url"] == "https://x/y"
    assert by_url["files"][0]["auth_scheme"] == "aws.s3.presigned"


@pytest.mark.parametrize(
    ("type_", "how", "why"),
    [
        (100, {}, "no type 100: 101 module image"),
        (101, {}, "OXLIMAGE"),
        (202, {"force": True}, "only a module image"),
        (202, {"simple": True}, "simple form"),
        (202, {"version": ""}, "1 to 64"),
        (202, {"version": "a\nb"}, "1 to 64"),
        (202, {"version": "x" * 65}, "1 to 64"),
        (103, {}, "no certificate"),
        (107, {}, "no certificate"),
        (204, {}, "no certificate"),
    ],
)
def test_orders_that_are_refused(plain, type_, how, why):
    with pytest.raises(ValueError, match=why):
        ota_order.make(type_, plain, **how)


def test_a_damaged_image_is_sent_only_on_purpose(image):
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        ota_order.make(101, image)
    order = ota_order.make(101, image, unchecked=True, version="9.9.9")
    assert order.data == data
    assert file_of(order, stream="s")["version"] == "9.9.9"


def test_an_empty_file(plain):
    plain.write_bytes(b"")
    with pytest.raises(OrderError, match="empty"):
        ota_order.make(202, plain)


def test_what_no_stream_carries(plain):
    with open(plain, "wb") as file:
        file.truncate(24 * 1024 * 1024 + 1)
    with pytest.raises(OrderError, match="--protocol http"):
        ota_order.make(202, plain)
    assert ota_order.make(202, plain, protocol="http").by_url


def test_certificates(tmp_path):
    path = tmp_path / "new.pem"
    one, two = self_signed("one", ca=True), self_signed("two", ca=True)
    path.write_bytes(one)
    for type_ in (103, 107, 204):
        file = file_of(ota_order.make(type_, path), stream="s")
        assert (file["fileType"], file["sig--"]) == (type_, None)
        with pytest.raises(OrderError, match="signed already"):
            ota_order.make(type_, path, key=pki.make_key())
    path.write_bytes(one + two)
    ota_order.make(107, path)
    for type_ in (103, 204):
        with pytest.raises(OrderError, match="2 certificates"):
            ota_order.make(type_, path)
    certificate = pki.x509.load_pem_x509_certificate(one)
    path.write_bytes(certificate.public_bytes(parts.serialization.Encoding.DER))
    ota_order.make(103, path)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "which cloud?"),
        (("--thing", "a"), "named twice"),
        (("--sign", "FILE"), "no private key"),
    ],
)
def test_the_command_refuses(plain, words, why):
    words = [str(plain) if word == "FILE" else word for word in words]
    given = ("ota", "create", "--thing", "a", "--type", 202, "--file", plain, *words)
    code, said = fleet(*given)
    assert code != 0
    assert why in said


def test_two_clouds_are_one_too_many(tmp_path):
    code, said = fleet("--cloud", tmp_path, "--aws", "x", "ota", "list")
    assert code == 2
    assert "say one" in said


# -- how far it is --


@pytest.mark.parametrize(
    ("status", "details", "done", "line"),
    [
        ("QUEUED", {}, 0.0, "t QUEUED"),
        ("IN_PROGRESS", {"receive": "16/64"}, 0.25, "t IN_PROGRESS 16/64"),
        ("IN_PROGRESS", {"receive": "5/0"}, 0.0, "t IN_PROGRESS 5/0"),
        ("IN_PROGRESS", {"receive": "9/3"}, 1.0, "t IN_PROGRESS 9/3"),
        ("IN_PROGRESS", {"progress": "50%"}, 0.5, "t IN_PROGRESS"),
        ("IN_PROGRESS", {"progress": "soon"}, 0.0, "t IN_PROGRESS"),
        ("SUCCEEDED", {"reason": "accepted v1"}, 1.0, "t SUCCEEDED accepted v1"),
        ("FAILED", {"reason": "no", "receive": "1/2"}, 0.5, "t FAILED no"),
    ],
)
def test_an_execution_in_one_line(status, details, done, line):
    execution = Execution("t", status, details)
    assert (execution.done, execution.line) == (done, line)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["reason", "receive", "progress"]), st.text()))
def test_details_of_any_kind_are_shown(details):
    execution = Execution("t", "IN_PROGRESS", details)
    assert 0.0 <= execution.done <= 1.0
    assert execution.line.startswith("t IN_PROGRESS")


def test_the_job_s_id_is_told_when_the_cloud_goes_away(plain, monkeypatch):
    class Gone:
        interval = 0.001

        def create(self, job, things, order):
            self.job = job

        def executions(self, job):
            raise CloudError("it has gone")

    gone = Gone()
    monkeypatch.setattr(ota_local, "LocalCloud", lambda folder: gone)
    words = ("--thing", "a", "--type", 202, "--file", plain, "--wait")
    code, said = fleet("--cloud", plain.parent, "ota", "create", *words)
    assert code == 1
    assert said == f"Error: it has gone\njob {gone.job}\n"


class FakeCloud:
    """Tells one step after the other."""

    def __init__(self, *steps):
        self._steps = list(steps)

    def executions(self, job):
        assert job == "job"
        return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_waiting_writes_each_change_once():
    one, two = Execution("a", "QUEUED"), Execution("b", "QUEUED")
    work, done = Execution("a", "IN_PROGRESS"), Execution("a", "SUCCEEDED")
    cloud = FakeCloud([one, two], [work, two], [work, two], [done, Execution("b", "FAILED")])
    log = io.StringIO()
    assert ota_watch.wait(cloud, "job", 10, 0.001, log)[0] == done
    assert log.getvalue().split("\n") == [
        "a QUEUED", "b QUEUED", "a IN_PROGRESS", "a SUCCEEDED", "b FAILED", ""
    ]  # fmt: skip


def test_waiting_ends_at_its_time():
    cloud = FakeCloud([Execution("a", "QUEUED")])
    assert ota_watch.wait(cloud, "job", 0.01, 0.002, io.StringIO()) == [Execution("a", "QUEUED")]


def test_bars_for_many_modules(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    names = [f"module-{number}" for number in range(40)]
    first = [Execution(name, "QUEUED") for name in names]
    busy = [*first[:-1], Execution(names[-1], "IN_PROGRESS", {"receive": "[1/2]"})]
    last = [Execution(name, "SUCCEEDED") for name in names[:-1]]
    last.append(Execution(names[-1], "FAILED", {"reason": "[red]bad[/red]"}))
    screen = Screen()
    ota_watch.wait(FakeCloud(first, busy, last), "job", 10, 0.001, screen)
    shown = screen.getvalue()
    assert "40 modules" in shown
    assert "39 succeeded, 1 not" in shown
    # The one that failed is seen, with its words as they are, and not all the others.
    end = shown[shown.rindex("40 modules") :]
    assert "module-39" in end
    assert "[red]bad[/red]" in end
    assert end.count("module-") == 16


def test_the_document_is_json_within_the_limit(image):
    order = ota_order.make(101, image, key=pki.make_key("rsa"))
    assert len(json.dumps(order.document(stream="s" * 44))) < 32768
