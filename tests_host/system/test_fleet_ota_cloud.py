"""`fleet ota` against the running local cloud, with a module that a test plays."""

import base64
import hashlib
import http.client
import json
import queue
import ssl
import subprocess
import sys
import urllib.parse
import uuid

import cbor2
import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests_host.system.cloud_client import Device, context
from tests_host.unit.factory_parts import fleet
from tools.fleet import image_bundle, image_header
from tools.sim import romfs

BLOCK = 65536


class Player:
    """A module that does what the test says: takes jobs, loads files, tells how far it is."""

    def __init__(self, cloud):
        self.device = Device(cloud.state, f"ota-{uuid.uuid4().hex[:8]}")
        self.thing = self.device.thing
        self._root = f"$aws/things/{self.thing}/"
        self._got = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=self.thing)
        self._client.tls_set_context(context(self.device))
        self._client.on_message = lambda _c, _u, m: self._got.put((m.topic, m.payload))
        self._client.on_subscribe = lambda *_: self._got.put(("subscribed", b""))
        self._client.connect("localhost", cloud.info["mqtt"])
        self._client.loop_start()

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()

    def _ask(self, topic, payload, answer):
        self._client.publish(self._root + topic, payload, 1)
        got, data = self._got.get(timeout=10)
        assert got == self._root + answer, data
        return data

    def take(self):
        """The next job's execution, started."""
        data = self._ask("jobs/start-next", b"{}", "jobs/start-next/accepted")
        return json.loads(data)["execution"]

    def tell(self, job, status, **details):
        body = json.dumps({"status": status, "statusDetails": details})
        self._ask(f"jobs/{job}/update", body, f"jobs/{job}/update/accepted")

    def stream(self, name, size):
        """The file of a stream, block by block."""
        # The answers to jobs come unasked, those of streams do not.
        self._client.subscribe(f"{self._root}streams/{name}/data/cbor", 1)
        assert self._got.get(timeout=10) == ("subscribed", b"")
        parts = []
        for number in range(-(-size // BLOCK)):
            wanted = cbor2.dumps({"f": 0, "l": BLOCK, "o": number, "n": 1})
            root = f"streams/{name}/"
            answer = cbor2.loads(self._ask(root + "get/cbor", wanted, root + "data/cbor"))
            assert answer["i"] == number
            parts.append(answer["p"])
        return b"".join(parts)

    def load(self, url):
        """What is at a URL; no certificate of its own is shown."""
        place = urllib.parse.urlsplit(url)
        trust = ssl.create_default_context(cafile=self.device.ca)
        connection = http.client.HTTPSConnection(place.netloc, context=trust, timeout=10)
        connection.request("GET", f"{place.path}?{place.query}")
        answer = connection.getresponse()
        assert answer.status == 200
        data = answer.read()
        connection.close()
        return data


@pytest.fixture
def players(cloud):
    made = [Player(cloud) for _ in range(2)]
    yield made
    for player in made:
        player.close()


@pytest.fixture
def player(players):
    return players[0]


@pytest.fixture
def image(tmp_path):
    """A small module image."""
    code = b"M\x06\x03\x1f"
    files = {"firmware/app.mpy": code * 3000, "firmware/version.mpy": code}
    payload = image_bundle.pack(files)
    labels = {"vendor": "maker", "model": "any", "chip": "any", "version": "3.2.1"}
    header = image_header.of_payload(payload, kind=image_header.BUNDLE, security=0, **labels)
    path = tmp_path / "app-3.2.1.img"
    path.write_bytes(header.pack() + payload)
    return path


def good(cloud, *words):
    code, said = fleet("--cloud", cloud.state, "ota", *words)
    assert code == 0, said
    return said


def bad(cloud, *words):
    code, said = fleet("--cloud", cloud.state, "ota", *words)
    assert code != 0, said
    return said


def order(cloud, player, *words):
    """Order an update; the job's id."""
    return good(cloud, "create", "--thing", player.thing, *words).split()[-1]


def check_signature(cloud, text, data):
    signer = x509.load_pem_x509_certificate((cloud.state / "signer.pem").read_bytes())
    signature = base64.b64decode(text, validate=True)
    signer.public_key().verify(signature, data, ec.ECDSA(hashes.SHA256()))


def test_a_module_image_by_stream(cloud, player, image):
    key = cloud.state / "signer.key"
    job = order(cloud, player, "--type", 101, "--file", image, "--sign", key, "--force")
    assert job.startswith("AFR_OTA-") and len(job) <= 44
    assert good(cloud, "status", job) == f"{player.thing} QUEUED\n"
    taken = player.take()
    assert taken["jobId"] == job
    document = taken["jobDocument"]["afr_ota"]
    [file] = document["files"]
    assert document["protocols"] == ["MQTT"]
    signature = file.pop("sig-sha256-ecdsa")
    assert file == {
        "filepath": "app-3.2.1.img",
        "filesize": image.stat().st_size,
        "fileid": 0,
        "certfile": None,
        "fileType": 101,
        "update_data_url": None,
        "auth_scheme": None,
        "version": "3.2.1",
        "vendor": "maker",
        "model": "any",
        "force": "YES",
    }
    data = player.stream(document["streamname"], file["filesize"])
    assert data == image.read_bytes()
    check_signature(cloud, signature, data)
    player.tell(job, "IN_PROGRESS", receive="2/3")
    assert good(cloud, "status", job) == f"{player.thing} IN_PROGRESS 2/3\n"
    player.tell(job, "SUCCEEDED", reason="accepted v3.2.1")
    assert good(cloud, "status", job) == f"{player.thing} SUCCEEDED accepted v3.2.1\n"
    assert f"{job} COMPLETED module image app-3.2.1.img 3.2.1\n" in good(cloud, "list")


@pytest.mark.parametrize("simple", [False, True])
def test_an_image_by_url(cloud, player, image, simple):
    how = ("--simple",) if simple else ("--protocol", "http")
    key = cloud.state / "signer.key"
    order(cloud, player, "--type", 101, "--file", image, "--sign", key, *how)
    document = player.take()["jobDocument"]
    if simple:
        assert set(document) == {"action", "url", "size", "sig-sha256-ecdsa"}
        assert (document["action"], document["size"]) == ("OTA", image.stat().st_size)
        url, signature = document["url"], document["sig-sha256-ecdsa"]
    else:
        assert document["afr_ota"]["protocols"] == ["HTTP"]
        assert "streamname" not in document["afr_ota"]
        [file] = document["afr_ota"]["files"]
        assert file["auth_scheme"] == "aws.s3.presigned"
        url, signature = file["update_data_url"], file["sig-sha256-ecdsa"]
    data = player.load(url)
    assert data == image.read_bytes()
    check_signature(cloud, signature, data)


def test_an_unsigned_host_image_with_a_strange_name(cloud, player, tmp_path):
    path = tmp_path / "höst ${x} image.bin"
    path.write_bytes(hashlib.sha256(b"host").digest() * 10000)
    words = ("--type", 202, "--file", path, "--version", "spring 24")
    job = order(cloud, player, *words)
    document = player.take()["jobDocument"]["afr_ota"]
    [file] = document["files"]
    assert file["sig--"] is None
    assert (file["filepath"], file["version"]) == (path.name, "spring 24")
    assert not {"force", "vendor", "model"} & set(file)
    assert player.stream(document["streamname"], file["filesize"]) == path.read_bytes()
    player.tell(job, "SUCCEEDED")
    order(cloud, player, *words, "--protocol", "http")
    [file] = player.take()["jobDocument"]["afr_ota"]["files"]
    assert player.load(file["update_data_url"]) == path.read_bytes()


def start(cloud, *words):
    command = [sys.executable, "-m", "tools.fleet", "--cloud", cloud.state, "ota", *words]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=romfs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(stream, begins):
    for line in stream:
        if line.startswith(begins):
            return line
    raise AssertionError(f"no line {begins}")


def test_waiting_for_two_modules(cloud, players, image):
    one, two = players
    key = cloud.state / "signer.key"
    words = ("--type", 101, "--file", image, "--sign", key, "--wait")
    run = start(cloud, "create", "--thing", one.thing, "--thing", two.thing, *words)
    try:
        wait_for_line(run.stderr, f"{two.thing} QUEUED")
        job = one.take()["jobId"]
        one.tell(job, "IN_PROGRESS", receive="1/2")
        wait_for_line(run.stderr, f"{one.thing} IN_PROGRESS 1/2")
        one.tell(job, "SUCCEEDED", reason="accepted")
        two.take()
        two.tell(job, "FAILED", reason="wrong signature")
        out, errors = run.communicate(timeout=20)
    finally:
        run.kill()
        run.communicate()
    assert out.splitlines() == [
        f"{one.thing} SUCCEEDED accepted",
        f"{two.thing} FAILED wrong signature",
        f"job {job}",
    ]
    assert run.returncode == 1
    assert f"{two.thing} FAILED wrong signature" in errors


def test_waiting_ends_well_or_at_its_timeout(cloud, player, image):
    words = ("create", "--thing", player.thing, "--type", 202, "--file", image, "--wait")
    run = start(cloud, *words)
    try:
        wait_for_line(run.stderr, f"{player.thing} QUEUED")
        job = player.take()["jobId"]
        player.tell(job, "SUCCEEDED")
        out, _ = run.communicate(timeout=20)
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == 0
    assert out == f"{player.thing} SUCCEEDED\njob {job}\n"
    said = bad(cloud, *words, "--timeout", 0.5)
    assert said.splitlines()[-1].startswith("job AFR_OTA-")
    assert f"{player.thing} QUEUED" in said


def test_cancelling(cloud, players, image):
    one, two = players
    words = ("--thing", two.thing, "--type", 202, "--file", image)
    job = order(cloud, one, *words)
    one.take()
    # What is in progress goes on unless it is forced.
    said = good(cloud, "cancel", job).splitlines()
    hint = "what has begun goes on; --force ends it too"
    assert said == [f"{one.thing} IN_PROGRESS", f"{two.thing} CANCELED", hint]
    said = good(cloud, "cancel", job, "--force").splitlines()
    assert said == [f"{one.thing} CANCELED", f"{two.thing} CANCELED"]
    assert f"{job} CANCELED host image app-3.2.1.img\n" in good(cloud, "list")
    assert "there is no job nobody" in bad(cloud, "cancel", "nobody")
    assert "there is no job nobody" in bad(cloud, "status", "nobody")


def test_an_order_that_fails_leaves_nothing_behind(cloud, player, image):
    before = cloud.control.files(), cloud.control.streams(), cloud.control.jobs()
    for how in ("mqtt", "http"):
        words = ("--thing", "nobody", "--type", 202, "--file", image, "--protocol", how)
        assert "there is no thing nobody" in bad(cloud, "create", "--thing", player.thing, *words)
    assert before == (cloud.control.files(), cloud.control.streams(), cloud.control.jobs())


def test_a_cloud_that_is_not_there(tmp_path):
    code, said = fleet("--cloud", tmp_path, "ota", "list")
    assert code == 1
    assert "no cloud has run in" in said
