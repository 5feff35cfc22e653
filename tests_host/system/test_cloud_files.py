"""The local cloud's files over HTTPS, seen from Python's own HTTP client without a certificate."""

import http.client
import json
import random
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests_host.system.cloud_client import Device
from tests_host.system.test_cloud_jobs import Thing
from tools.cloud.control import ControlError
from tools.cloud.process import CloudProcess

ROOT = Path(__file__).resolve().parents[2]
DATA = random.Random(7).randbytes(100_000)
KEY = "bucket/dir/fw-1.bin"


@pytest.fixture(scope="module", autouse=True)
def _no_traceback(_cloud):
    """Whatever clients and faults do, the cloud itself has no accident."""
    before = len(_cloud.log())
    yield
    assert "Traceback" not in _cloud.log()[before:]


@pytest.fixture(scope="module")
def store(_cloud):
    _cloud.control.put_file(KEY, DATA)
    _cloud.control.put_file("nothing", b"")
    return _cloud.control


@pytest.fixture(scope="module")
def context(_cloud):
    return ssl.create_default_context(cafile=str(_cloud.state / "ca.pem"))


@pytest.fixture
def url(cloud, store):
    return cloud.control.file_url(KEY)


@pytest.fixture
def fetch(cloud, store, context):
    """Function that asks for a URL: (status, headers, body); a body that is cut short raises."""

    def fetch(url, method="GET", **headers):
        parts = urlsplit(url)
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, context=context, timeout=5
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"{parts.path}?{parts.query}", headers=named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    return fetch


# -- the way that works --


def test_a_whole_file(cloud, fetch, url):
    status, headers, body = fetch(url)
    assert (status, body) == (200, DATA)
    assert headers["Accept-Ranges"] == "bytes" and headers["Content-Length"] == "100000"
    (stored,) = (f for f in cloud.control.files() if f["key"] == KEY)
    assert headers["ETag"] == f'"{stored["etag"]}"'
    assert len(url) < 1500 and url.startswith(f"https://localhost:{cloud.http}/")
    entry = cloud.control.downloads(KEY)[-1]
    assert (entry["status"], entry["sent"], entry["range"]) == (200, 100_000, None)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=4096-8191", 4096, 8191),
        ("bytes=99999-", 99_999, 99_999),
        ("bytes=98304-131071", 98_304, 99_999),
        ("bytes=-10", 99_990, 99_999),
        ("bytes=-200000", 0, 99_999),
    ],
)
def test_ranges(fetch, url, asked, first, last):
    status, headers, body = fetch(url, Range=asked)
    assert (status, body) == (206, DATA[first : last + 1])
    assert headers["Content-Range"] == f"bytes {first}-{last}/100000"
    status, headers, body = fetch(url, "HEAD", Range=asked)
    assert (status, body) == (206, b"")
    assert headers["Content-Length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", ["bytes=100000-", "bytes=100000-100001", "bytes=-0"])
def test_ranges_behind_the_end(fetch, url, asked):
    status, headers, body = fetch(url, Range=asked)
    assert status == 416 and headers["Content-Range"] == "bytes */100000"
    assert b"<Code>InvalidRange</Code>" in body


@pytest.mark.parametrize(
    "asked", ["bytes=5-4", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b", "bytes=-"]
)
def test_ranges_that_are_none(fetch, url, asked):
    assert fetch(url, Range=asked)[::2] == (200, DATA)


def test_an_empty_file(cloud, fetch):
    url = cloud.control.file_url("nothing")
    assert fetch(url)[::2] == (200, b"")
    assert fetch(url, Range="bytes=0-")[0] == 416


def test_conditions(fetch, url):
    tag = fetch(url, "HEAD")[1]["ETag"]
    assert fetch(url, If_Match=tag)[0] == 200
    assert fetch(url, If_Match='"other"')[0] == 412
    assert fetch(url, If_None_Match=tag)[::2] == (304, b"")
    assert fetch(url, If_Range=tag, Range="bytes=0-1")[0] == 206
    assert fetch(url, If_Range='"other"', Range="bytes=0-1")[::2] == (200, DATA)


def test_several_requests_on_one_connection(cloud, context, url):
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection("localhost", cloud.http, context=context, timeout=5)
    got = b""
    for at in range(0, len(DATA), 30_000):
        header = {"Range": f"bytes={at}-{at + 29_999}"}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=header)
        sock = connection.sock
        got += connection.getresponse().read()
        assert connection.sock is sock
    connection.close()
    assert got == DATA


# -- the right to read --


def test_a_url_is_good_for_its_file_and_time(cloud, fetch, url):
    path, _, query = url.partition("?")
    assert fetch(path)[0] == 403
    assert fetch(f"{path}?{query[:-1]}{'0' if query[-1] != '0' else '1'}")[0] == 403
    assert fetch(url.replace("X-Amz-Expires=1800", "X-Amz-Expires=1801"))[0] == 403
    assert fetch(url.replace(KEY, "nothing"))[0] == 403
    short = cloud.control.file_url(KEY, 1)
    assert fetch(short)[0] == 200
    time.sleep(1.1)
    status, _, body = fetch(short)
    assert status == 403 and b"<Code>AccessDenied</Code>" in body and b"expired" in body


def test_a_file_that_has_gone(cloud, fetch):
    cloud.control.put_file("going", b"x")
    url = cloud.control.file_url("going")
    cloud.control.remove_file("going")
    assert fetch(url)[0] == 404
    for call in (cloud.control.file_url, cloud.control.remove_file):
        with pytest.raises(ControlError, match="no file going"):
            call("going")


@pytest.mark.parametrize("key", ["", "/x", "a b", "a\n", "x" * 1025, "é"])
def test_keys_that_are_none(cloud, key):
    with pytest.raises(ControlError, match="key"):
        cloud.control.put_file(key, b"x")


def test_a_job_document_gets_a_fresh_url_each_time(cloud, store, fetch):
    device = Device(cloud.state, "files_1")
    place = "${aws:iot:s3-presigned-url:https://s3.eu-west-1.amazonaws.com/%s}" % KEY
    document = {
        "action": "OTA",
        "url": place,
        "files": [{"u": "${aws:iot:s3-presigned-url:nothing}"}],
    }
    cloud.control.create_job("ota", ["files_1"], document, url_life=60)
    with Thing(cloud, device) as thing:

        def describe():
            return thing.request("$next/get", {})["execution"]["jobDocument"]

        first = describe()
        assert "X-Amz-Expires=60&" in first["url"] and first["action"] == "OTA"
        assert fetch(first["url"])[2] == DATA
        assert fetch(first["files"][0]["u"])[2] == b""
        cloud.control.set(url_life=1)
        short = describe()["url"]
        time.sleep(1.1)
        assert fetch(short)[0] == 403
        cloud.control.set(url_life=0)
        assert fetch(describe()["url"])[0] == 200
    assert cloud.control.job("ota")["document"].count("${aws:iot") == 2
    cloud.control.delete_job("ota", force=True)


def test_files_and_urls_outlive_the_cloud(tmp_path):
    with CloudProcess(tmp_path) as cloud:
        cloud.control.put_file("kept", DATA)
        url = cloud.control.file_url("kept")
        cloud.restart()
        parts = urlsplit(url)
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        connection = http.client.HTTPSConnection("localhost", cloud.http, context=context)
        connection.request("GET", f"{parts.path}?{parts.query}")
        assert connection.getresponse().read() == DATA
        connection.close()
        assert (tmp_path / "private" / "files.key").stat().st_mode & 0o777 == 0o600
        # Contents that no key stands for any more do not stay.
        cloud.control.put_file("kept", b"new")
        cloud.control.put_file("copy", b"new")
        cloud.control.remove_file("kept")
        assert [path.read_bytes() for path in (tmp_path / "files").iterdir()] == [b"new"]


# -- faults --


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_refused(cloud, fetch, url, status):
    cloud.control.fault("refuse", at="files", code=status, count=1)
    assert fetch(url)[0] == status
    assert fetch(url)[0] == 200


def test_redirect(cloud, fetch, url):
    cloud.control.fault("redirect", at="files", to="https://other.example/x", code=302, count=1)
    status, headers, _ = fetch(url)
    assert (status, headers["Location"]) == (302, "https://other.example/x")
    cloud.control.fault("redirect", at="files", count=1)
    status, headers, _ = fetch(url)
    assert (status, headers["Location"]) == (307, url.replace("localhost", "127.0.0.1"))


@pytest.mark.parametrize("after", [0, 1, 40_000, 100_000])
def test_close_after_some_bytes(cloud, fetch, url, after):
    cloud.control.fault("close", at="files", bytes=after)
    if after == 100_000:
        assert fetch(url)[2] == DATA
    else:
        with pytest.raises(http.client.IncompleteRead) as caught:
            fetch(url)
        assert caught.value.partial == DATA[:after]
    assert cloud.control.downloads(KEY)[-1]["sent"] == after
    assert fetch(url)[0] == 200


def test_close_before_the_answer(cloud, fetch, url):
    cloud.control.fault("close", at="files")
    with pytest.raises(http.client.RemoteDisconnected):
        fetch(url)
    assert fetch(url)[0] == 200


def test_wrong_length(cloud, fetch, url):
    cloud.control.fault("wrong-length", at="files", by=-1000, count=1)
    assert fetch(url)[2] == DATA[:-1000]
    cloud.control.fault("wrong-length", at="files", by=1000, count=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        fetch(url)
    assert caught.value.partial == DATA


def test_flip(cloud, fetch, url):
    cloud.control.fault("flip", at="files", count=1)
    body = fetch(url)[2]
    assert [(i, a ^ b) for i, (a, b) in enumerate(zip(body, DATA, strict=True)) if a != b] == [
        (50_000, 1)
    ]


def test_stall_and_silent(cloud, context, fetch, url):
    parts = urlsplit(url)

    def ask():
        plain = socket.create_connection(("127.0.0.1", cloud.http), timeout=5)
        wrapped = context.wrap_socket(plain, server_hostname="localhost")
        wrapped.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return wrapped

    cloud.control.fault("stall", at="files", bytes=30_000)
    with ask() as sock:
        got = b""
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                piece = sock.recv(65536)
                assert piece
                got += piece
        assert got.partition(b"\r\n\r\n")[2] == DATA[:30_000]
        cloud.control.clear("stall")
        sock.settimeout(5)
        while not got.endswith(DATA[-100:]):
            got += sock.recv(65536)
        assert got.partition(b"\r\n\r\n")[2] == DATA
    cloud.control.fault("stall", at="files", bytes=100, ms=300, count=1)
    before = time.monotonic()
    assert fetch(url)[2] == DATA
    assert time.monotonic() - before >= 0.3
    cloud.control.fault("silent", at="files")
    with ask() as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_the_cloud_ends_while_a_download_stalls(tmp_path):
    with CloudProcess(tmp_path) as cloud:
        cloud.control.put_file("k", DATA)
        parts = urlsplit(cloud.control.file_url("k"))
        cloud.control.fault("stall", at="files")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        connection = http.client.HTTPSConnection("localhost", cloud.http, context=context)
        connection.request("GET", f"{parts.path}?{parts.query}")
        assert connection.getresponse().status == 200
        before = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - before < 3
        connection.close()
    assert "Traceback" not in cloud.log()


def test_the_log_tells_no_signature(cloud, fetch, url):
    fetch(url)
    fetch(url.partition("?")[0])
    assert url.rpartition("=")[2] not in cloud.log()


def test_the_command_line(cloud, fetch, tmp_path):
    def run(*words, code=0):
        command = [sys.executable, "-m", "tools.cloud", *words[:2], "--state", str(cloud.state)]
        done = subprocess.run(
            [*command, *words[2:]], cwd=ROOT, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    (tmp_path / "image").write_bytes(DATA)
    assert run("file", "put", "cli", str(tmp_path / "image"))["file"]["size"] == len(DATA)
    assert "cli" in [file["key"] for file in run("file", "list")["files"]]
    assert fetch(run("file", "url", "cli", "--seconds", "60")["url"])[2] == DATA
    assert run("stream", "put", "cli", "cli", "--description", "d")["version"] == 1
    assert run("stream", "show", "cli")["stream"]["files"][0]["size"] == len(DATA)
    assert "cli" in run("stream", "list")["streams"]
    assert run("stream", "requests", "cli") == {"stream_requests": []}
    run("stream", "remove", "cli")
    run("file", "remove", "cli")
    assert "no file cli" in run("file", "url", "cli", code=1)
    for words in (["stall", "--at", "files", "--bytes", "5"], ["flip", "--at", "streams"]):
        run("fault", "set", *words, "--count", "1")
    assert "jobs" in run("fault", "set", "silent", "--at", "tcp", "--request", "get", code=1)
