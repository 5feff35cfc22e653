"""Orders updates for a virtual module, and follows them: what many tests need."""

from __future__ import annotations

import functools
import time
import uuid
from pathlib import Path

from tests_host.system.conftest import next_event
from tools.fleet import image_make, ota_local, ota_order, signing

SLOW = 30.0


@functools.cache
def image(kind: str, version: str, security: int = 0) -> bytes:
    """A module image of the source tree: `kind` bundle or slot, for the virtual module."""
    labels = image_make.Labels(version=version, security=security)
    if kind == "bundle":
        return image_make.bundle(labels)
    return image_make.slot(labels, "esp32")


class Update:
    """One job for one thing.

    data: the file. sign: a path of a key, or None. how: what `ota_order.make` takes; `change`: a
    function that is given the document before it is sent, and returns what is sent.
    """

    def __init__(self, cloud, thing, type_, data, sign=None, change=None, fields=None, **how):
        self.cloud = cloud
        self.thing = thing
        self.job = "AFR_OTA-" + uuid.uuid4().hex[:12]
        folder = Path(cloud.state) / "files-of-tests"
        folder.mkdir(exist_ok=True)
        path = folder / (self.job + ".bin")
        path.write_bytes(data)
        key = signing.load_key(Path(sign)) if sign else None
        order = ota_order.make(type_, path, key=key, **how)
        if change is None and not fields:
            ota_local.LocalCloud(cloud.state).create(self.job, [thing], order)
            return
        control = cloud.control
        name = order.key(self.job)
        control.put_file(name, str(path))
        control.put_stream(self.job, [name], "")
        url = f"${{aws:iot:s3-presigned-url:{name}}}"
        document = order.document(url=url) if order.by_url else order.document(stream=self.job)
        document = change(document) if change else document
        control.create_job(self.job, [thing], document, **(fields or {}))

    def status(self):
        """(status, reason) of the execution."""
        found = self.cloud.control.execution(self.job, self.thing)
        return found["status"], found["details"].get("reason", "")

    def ended(self, timeout=SLOW):
        """Wait until the job has ended; (status, reason)."""
        self.cloud.control.wait_job(self.job, timeout)
        return self.status()

    def is_in(self, status, timeout=SLOW):
        """Wait until the execution is in `status`."""
        until = time.monotonic() + timeout
        while self.status()[0] != status:
            assert time.monotonic() < until, self.status()
            time.sleep(0.05)


def signer(cloud):
    """The key that module images are signed with."""
    return Path(cloud.state) / "signer.key"


def module_image(cloud, thing, data, **how):
    """A signed job for a module image."""
    return Update(cloud, thing, ota_order.MODULE, data, sign=signer(cloud), **how)


def host_image(cloud, thing, data, **how):
    """A job for a host image, unsigned unless `sign` is given."""
    return Update(cloud, thing, ota_order.HOST, data, **how)


def thing_of(module):
    """The module's ThingName."""
    return module.command(b"AT+CONF? ThingName").decode().split()[1]


def wait_state(module, code, timeout=SLOW):
    """Wait until `OTA?` says `code`; its whole reply."""
    until = time.monotonic() + timeout
    while True:
        reply = module.command(b"AT+OTA?")
        if reply.split()[1:2] == [b"%d" % code]:
            return reply
        assert time.monotonic() < until, reply
        time.sleep(0.05)


def ota_event(module, timeout=SLOW):
    """Wait for an event, which has to be one of updates; its detail."""
    event = next_event(module, timeout)
    assert event.startswith(b"OK 5 0 OTA"), event
    return event[len(b"OK 5 0 OTA") :].strip()


def read_all(module, piece=1024):
    """The host's image by READ from the beginning."""
    assert module.command(b"AT+OTA SEEK") == b"OK 0"
    data = b""
    while True:
        words = module.command(b"AT+OTA READ %d" % piece).split()
        assert words[0] == b"OK", words
        count = int(words[1], 16)
        if not count:
            assert words == [b"OK", b"00"]
            return data
        part = bytes.fromhex(words[2].decode())
        assert len(part) == count
        assert int(words[3], 16) == sum(part) % 65536
        data += part
