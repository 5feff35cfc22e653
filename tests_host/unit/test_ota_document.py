"""Job documents: what is read in good ones, and what every other one is refused with."""

import base64
import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.ota import document
from firmware.ota.document import DocumentError
from tools.fleet import ota_order, signing

SIGNATURE = base64.b64encode(bytes(range(71))).decode()

STREAM = {
    "afr_ota": {
        "protocols": ["MQTT"],
        "streamname": "AFR_OTA-5b1f7f1e-1",
        "files": [
            {
                "filepath": "/device/fw.bin",
                "filesize": 366816,
                "fileid": 3,
                "certfile": "ota_cert.pem",
                "fileType": 101,
                "update_data_url": None,
                "auth_scheme": None,
                "sig-sha256-ecdsa": SIGNATURE,
            }
        ],
    }
}
URL = {
    "afr_ota": {
        "protocols": ["HTTP"],
        "files": [
            {
                "filepath": None,
                "filesize": 1,
                "fileid": 0,
                "certfile": None,
                "fileType": 202,
                "update_data_url": "https://bucket.s3.amazonaws.com/fw.bin?X-Amz-Expires=1",
                "auth_scheme": "aws.s3.presigned",
                "sig--": None,
            }
        ],
    }
}
SIMPLE = {"action": "OTA", "url": "https://h/a/fw.img?x=1/2", "sig-sha256-ecdsa": SIGNATURE}


def changed(template, where=(), **fields):
    """A copy with members set, `...` removes one; where: the members on the way there."""
    made = copy.deepcopy(template)
    place = made
    for name in where:
        place = place[name]
    for name, value in fields.items():
        name = name.replace("_in_", "-").replace("none", "--")
        if value is ...:
            place.pop(name, None)
        else:
            place[name] = value
    return made


FILE = ("afr_ota", "files", 0)


def refused(made):
    with pytest.raises(DocumentError) as error:
        document.parse(made)
    (reason,) = error.value.args
    assert isinstance(reason, bytes)
    assert 0 < len(reason) < 60
    return reason


def test_a_stream():
    job = document.parse(STREAM)
    assert (job.type, job.size, job.file_id) == (101, 366816, 3)
    assert (job.stream, job.url) == (b"AFR_OTA-5b1f7f1e-1", None)
    assert (job.algorithm, job.signature) == (b"ecdsa", bytes(range(71)))
    assert job.detail == b"/device/fw.bin"
    assert (job.version, job.vendor, job.model, job.force) == (b"", b"", b"", False)


def test_a_url():
    job = document.parse(URL)
    assert (job.type, job.size, job.stream) == (202, 1, None)
    assert job.url == b"https://bucket.s3.amazonaws.com/fw.bin?X-Amz-Expires=1"
    assert (job.algorithm, job.signature) == (b"", b"")
    assert job.detail == b"fw.bin"


def test_both_ways():
    made = changed(STREAM, ("afr_ota",), protocols=["HTTP", "MQTT"])
    made = changed(made, FILE, update_data_url="https://h/x")
    job = document.parse(made)
    assert (job.stream, job.url) == (b"AFR_OTA-5b1f7f1e-1", b"https://h/x")


def test_the_simple_form():
    job = document.parse(SIMPLE)
    assert (job.type, job.size, job.url) == (101, None, b"https://h/a/fw.img?x=1/2")
    assert (job.stream, job.algorithm, job.detail) == (None, b"ecdsa", b"fw.img")
    job = document.parse(changed(SIMPLE, size=7, version="1.2.3", force="yes"))
    assert (job.size, job.version, job.detail, job.force) == (7, b"1.2.3", b"1.2.3", True)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("how", [{}, {"protocol": "http"}, {"simple": True}])
def test_what_the_tools_order(tmp_path: Path, kind, how):
    from tools.cloud import pki

    path = tmp_path / "app.img"
    path.write_bytes(b"x" * 300)
    key = pki.make_key(kind)
    order = ota_order.make(101, path, unchecked=True, force=True, version="9", key=key, **how)
    made = order.document(*(("s", None) if not how else (None, "https://h/app.img")))
    job = document.parse(json.loads(json.dumps(made)))
    assert (job.type, job.size) == (101, 300)
    assert job.signature == order.signature.value
    assert job.algorithm == {"ec": b"ecdsa", "rsa": b"rsa"}[kind]
    assert job.signature == signing.read_signature(order.signature.text)
    if "simple" not in how:
        assert (job.version, job.force, job.detail) == (b"9", True, b"9")


def test_no_module_image_without_a_signature():
    for made in (
        changed(STREAM, FILE, sig_in_sha256_in_ecdsa=None),
        changed(STREAM, FILE, sig_in_sha256_in_ecdsa=...),
        changed(URL, FILE, fileType=101),
        changed(SIMPLE, sig_in_sha256_in_ecdsa=...),
        changed(SIMPLE, sig_in_sha256_in_ecdsa=None),
    ):
        assert refused(made) == b"module image is not signed"


@pytest.mark.parametrize("value", ["", "x", "QQ", "QQ==QQ==", "QU JD", "QUJD\n", "QR==", 5, [],
                                   False, {}, "é" * 8, "QUJD" * 172])  # fmt: skip
def test_signatures_that_are_none(value):
    for template in (STREAM, URL):
        made = changed(template, FILE, **{"sig-sha256-ecdsa": value})
        assert refused(made) == b"signature is not base64"


def test_signatures_of_other_kinds():
    for name in ("sig-sha1-ecdsa", "sig-sha256-ed25519", "sig-", "sig--"):
        made = changed(URL, FILE, none=...) if name == "sig--" else copy.deepcopy(URL)
        made["afr_ota"]["files"][0][name] = SIGNATURE
        assert refused(made) == b"signature of a kind that is not served"
    made = changed(STREAM, FILE, **{"sig-sha256-rsa": SIGNATURE})
    assert refused(made) == b"more than one signature"
    assert document.parse(changed(STREAM, FILE, **{"sig-sha256-rsa": None})).algorithm == b"ecdsa"


def test_where_labels_are_looked_for():
    """D39: files[0], its attributes, afr_ota; null is nothing."""
    made = changed(STREAM, ("afr_ota",), version="c", force="yEs", vendor="v")
    assert document.parse(made).version == b"c"
    assert document.parse(made).force
    made["afr_ota"]["files"][0]["attributes"] = {"version": "b", "model": "m", "force": "no"}
    job = document.parse(made)
    assert (job.version, job.model, job.vendor, job.force) == (b"b", b"m", b"v", False)
    made["afr_ota"]["files"][0]["version"] = None
    assert document.parse(made).version == b"b"
    made["afr_ota"]["files"][0]["version"] = "ä"
    made["afr_ota"]["files"][0]["force"] = "True"
    assert document.parse(made).force
    made["afr_ota"]["files"][0]["force"] = True
    job = document.parse(made)
    assert (job.version, job.detail, job.force) == ("ä".encode(), "ä".encode(), True)
    made["afr_ota"]["files"][0]["attributes"] = ["version"]
    assert document.parse(made).model == b""


@pytest.mark.parametrize("value", ["NO", "", "1", 1, 1.0, [], {}, False, "YES ", ["YES"]])
def test_what_does_not_force(value):
    assert not document.parse(changed(STREAM, FILE, force=value)).force


@pytest.mark.parametrize("value", [5, True, [], {}, "a\nb", "\x7f", "x" * 129, "ä" * 65,
                                   "\ud800", "\x85", "v" * 10**6])  # fmt: skip
def test_labels_that_are_none(value):
    for name in ("version", "vendor", "model"):
        reason = refused(changed(STREAM, FILE, **{name: value}))
        assert reason == name.encode() + b" is no text, or too long"


def test_what_is_shown_of_a_path():
    for path, shown in (
        ("a\r\n\x00b\x7f\u0085", b"a???b??"),
        ("x" * 500, b"x" * 128),
        ("ä" * 100, "ä".encode() * 64),
        ("x" + "ä" * 100, b"x" + "ä".encode() * 63),
        ("a\ud800b", b"a?b"),
        (5, b""),
        (None, b""),
    ):
        assert document.parse(changed(STREAM, FILE, filepath=path)).detail == shown


@pytest.mark.parametrize("value", [0, -1, 1.0, "5", None, True, 1 << 30, 10**400, [], ...])
def test_sizes(value):
    assert refused(changed(STREAM, FILE, filesize=value)).startswith(b"filesize")
    if value is not ... and value is not None:
        assert refused(changed(SIMPLE, size=value)).startswith(b"size")


@pytest.mark.parametrize("value", [-1, 256, 1.5, "0", None, False, 10**400, ...])
def test_file_ids(value):
    assert refused(changed(STREAM, FILE, fileid=value)).startswith(b"fileid")


@pytest.mark.parametrize("value", [-1, 256, 101.0, "101", None, True, ...])
def test_types_that_are_none(value):
    assert refused(changed(STREAM, FILE, fileType=value)).startswith(b"fileType")


@pytest.mark.parametrize("value", [0, 1, 100, 102, 104, 201, 203, 205, 255])
def test_types_that_are_not_served(value):
    made = changed(STREAM, FILE, fileType=value)
    assert refused(made) == b"fileType %d is not served" % value


@pytest.mark.parametrize("value", ["", "a/b", "a+", "#", "a b", "ä", "x" * 129, 5, None, [],
                                   "a\x00", "$aws", ...])  # fmt: skip
def test_stream_names(value):
    assert refused(changed(STREAM, ("afr_ota",), streamname=value)).startswith(b"streamname")


@pytest.mark.parametrize("value", ["", "http://h/x", "https", "ftp://h/x", "https:/h", "x",
                                   "https://h/ x", "https://h/\n", "https://h/ä", 5, None, [],
                                   "https://h/" + "x" * 2048, ...])  # fmt: skip
def test_urls(value):
    assert refused(changed(URL, FILE, update_data_url=value)).startswith(b"update_data_url")
    assert refused(changed(SIMPLE, url=value)).startswith(b"url")


@pytest.mark.parametrize(
    "made",
    [
        *(None, True, 5, 1.5, "afr_ota", [], [STREAM], {}),
        {"action": "ota"},
        {"action": "blink", "url": "https://h/x"},
        *({"afr_ota": value} for value in (5, "x", [], {}, True)),
        *(changed(STREAM, ("afr_ota",), files=value)
          for value in (None, [], {}, 5, [None], [[]], "x", [{}, {}], [{}], ...)),
        *(changed(STREAM, ("afr_ota",), protocols=value)
          for value in (None, [], "MQTT", {"MQTT": 1}, ["mqtt"], [5], [None], [["MQTT"]], ...)),
    ],
)  # fmt: skip
def test_what_is_no_update(made):
    refused(made)


def test_a_simple_form_beside_an_afr_ota_counts_for_nothing():
    assert document.parse({**SIMPLE, **URL}).type == 202


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["afr_ota", "protocols", "streamname", "files", "filepath", "filesize", "fileid", "fileType",
     "update_data_url", "sig-sha256-ecdsa", "sig-sha256-rsa", "sig--", "version", "vendor",
     "model", "force", "attributes", "action", "url", "size"]
)  # fmt: skip


@settings(max_examples=600)
@given(
    st.sampled_from([STREAM, URL, SIMPLE]),
    st.lists(st.tuples(st.integers(0, 2), _NAMES, _JSON), min_size=1, max_size=4),
)
def test_any_member_of_any_type(template, changes):
    """Either a reason, or a job whose fields are what they ought to be."""
    made = copy.deepcopy(template)
    for depth, name, value in changes:
        places = [made]
        update = made.get("afr_ota")
        if isinstance(update, dict):
            places.append(update)
            files = update.get("files")
            if isinstance(files, list) and files and isinstance(files[0], dict):
                places.append(files[0])
        places[min(depth, len(places) - 1)][name] = value
    try:
        job = document.parse(made)
    except DocumentError as error:
        assert isinstance(error.args[0], bytes)
        return
    assert job.type in (101, 103, 107, 202, 204)
    assert job.size is None or (type(job.size) is int and 0 < job.size < 1 << 30)
    assert job.stream or job.url
    assert job.url is None or job.url.startswith(b"https://")
    assert bool(job.algorithm) == bool(job.signature)
    assert job.algorithm or job.type != 101
    assert type(job.force) is bool
    for text in (job.version, job.vendor, job.model, job.detail):
        assert len(text) <= 128
        assert not any(c < 32 or c == 127 for c in text)
        text.decode()


@given(_JSON)
def test_any_json(made):
    refused(made)
