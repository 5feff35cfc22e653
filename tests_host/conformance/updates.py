"""What transcripts do with updates: the operator's orders, and what becomes of them.

    @order NAME TYPE FILE word …   order an update of the module; NAME is for the lines below
    @job NAME STATUS reason        the job gets this status, for this reason (a regular expression)
    @cancel NAME                   the operator cancels it, also when it is in progress
    @ota CODE                      the host asks OTA? until it says this
    @image NAME piece              the host reads the whole image, so many bytes at a time, and it
                                   is the file of that order
    @damage PARTITION              a bit in the middle of a partition's first 64 KiB turns over;
                                   the module is off

TYPE is a number of Table 5, or `simple`, the simple form of job for a module image. FILE is

    slot, bundle     a module image of this source tree, its version=9.1.0
    secure           … a slot image whose security version is 2
    impatient        … that gives up its trial after two seconds
    hopeless         … that resets the chip as soon as it is started
    header           only the header of one, with chip= and so on, and rubbish behind it
    random           size= random bytes
    text             text=
    a certificate    by its name (certificates.py), PEM; der: in front of the name, DER

and a word one of

    version= vendor= model= force=   labels; for a module image, its own are there unless `bare`
    in=              where they stand: file (also when left out), attributes, update
    by=              the certificate with whose key it is signed; none: not at all. A module image
                     is signed by `signer`
    tampered         the file is another one than was signed
    protocol=http    by a URL
    file.X= update.X=  another member of the document, as JSON
"""

import functools
import json
import random
import shlex
import shutil
import tempfile
from pathlib import Path

from tests_host import updates
from tools.cloud.control import ControlError
from tools.fleet import image_header, image_make, signing
from tools.sim import flash, romfs

_LABELS = ("version", "vendor", "model", "force")
_PATIENCE_S = 60
_RUBBISH = bytes(range(256)) * 40


def _tree(folder, changes):
    """A copy of the source tree in `folder`, with texts replaced: {path: (old, new)}."""
    for name, file in romfs.application(romfs.ROOT).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name, (old, new) in changes.items():
        text = (folder / name).read_text()
        assert old in text, f"{name} has no {old}"
        (folder / name).write_text(text.replace(old, new))
    return folder


@functools.cache
def _special(kind, version):
    """A slot image of a changed source tree."""
    changes = {
        "secure": {"firmware/version.py": ("SECURITY = 0", "SECURITY = 2")},
        "impatient": {"firmware/ota/trial.py": ("const(600000)", "const(2000)")},
        "hopeless": {"main.py": ("import sys", "import machine\nmachine.reset()\nimport sys")},
    }
    labels = image_make.Labels(version=version, security=2 if kind == "secure" else 0)
    with tempfile.TemporaryDirectory() as folder:
        return image_make.slot(labels, "esp32", _tree(Path(folder), changes[kind]))


def _header(fields):
    """A header that suits the virtual module, but for `fields`, and rubbish."""
    said = {
        "kind": image_header.SLOT,
        "vendor": image_header.VENDOR,
        "model": image_header.ANY,
        "chip": "esp32",
        "version": "9.1.0",
        "security": 0,
        **fields,
    }
    said["kind"] = int(said["kind"])
    said["security"] = int(said["security"])
    return image_header.of_payload(_RUBBISH, **said).pack() + _RUBBISH


def _file(stage, file, fields):
    """The bytes of a file."""
    version = fields.get("version", "9.1.0")
    if file in ("slot", "bundle"):
        return updates.image(file, version)
    if file in ("secure", "impatient", "hopeless"):
        return _special(file, version)
    if file == "header":
        names = ("kind", "vendor", "model", "chip", "version", "security")
        return _header({name: fields.pop(name) for name in names if name in fields})
    if file == "random":
        return random.Random(5).randbytes(int(fields.pop("size")))
    if file == "text":
        return fields.pop("text").encode()
    if file.startswith("der:"):
        return stage.certificates.der(file[4:])
    return stage.certificates.pem(file)


def _document(fields, labels, signature):
    """Function that changes a job's document as the words say."""

    def change(document):
        update = document.get("afr_ota", document)
        file = update["files"][0] if update is not document else document
        place = {"file": file, "update": update}.get(fields.pop("in", "file"))
        if place is None:
            place = file["attributes"] = {}
        place.update(labels)
        if signature:
            file[signature.field] = signature.text
        for name, value in fields.items():
            where, _, member = name.partition(".")
            {"file": file, "update": update}[where][member] = json.loads(value)
        return document

    return change


def _order(stage, text):
    name, kind, file, *words = shlex.split(text)
    fields = dict(word.partition("=")[::2] for word in words)
    how = {"simple": True} if kind == "simple" else {}
    if "protocol" in fields:
        how["protocol"] = fields.pop("protocol")
    type_ = 101 if kind == "simple" else int(kind)
    data = _file(stage, file, fields)
    labels = {label: fields.pop(label) for label in _LABELS if label in fields}
    bare = "bare" in fields
    fields.pop("bare", None)
    if type_ == 101 and not bare:
        header = image_header.parse(data)
        own = {"version": header.version, "vendor": header.vendor, "model": header.model}
        labels = {**own, **labels}
    by = fields.pop("by", "signer" if type_ == 101 else "none")
    key = None if by == "none" else stage.certificates.key_file(by)
    signature = None
    if "tampered" in fields:
        fields.pop("tampered")
        signature = signing.sign(data + b"x", signing.load_key(key))
    change = _document(fields, labels, signature)
    stage.orders[name] = (
        updates.Update(
            stage.cloud, stage.thing, type_, data, sign=key, change=change, unchecked=True, **how
        ),
        data,
    )


def _job(stage, text):
    name, status, *reason = text.split(" ", 2)
    update, _ = stage.orders[name]

    def there():
        found = update.status()
        if found[0] not in (status, "QUEUED", "IN_PROGRESS"):
            raise AssertionError(f"job {name} has ended: {found}, not {status}")
        return found[0] == status

    stage.until(there, f"job {name} {status}", _PATIENCE_S)
    if reason:
        stage.matches(reason[0], update.status()[1])


def _cancel(stage, text):
    update, _ = stage.orders[text]
    try:
        stage.cloud.control.cancel_job(update.job, True)
    except ControlError as error:
        raise AssertionError(f"not cancelled: {error}") from None


def _ota(stage, text):
    try:
        reply = updates.wait_state(stage.module, int(text), _PATIENCE_S)
    except AssertionError as error:
        console = "\n".join(stage.module.lines[-15:])
        raise AssertionError(f"OTA? stays at {error}, the console:\n{console}") from None
    stage.dialogue.append(f"(OTA? came to {reply.decode()})")


def _image(stage, text):
    name, piece = text.split()
    got = updates.read_all(stage.module, int(piece))
    assert got == stage.orders[name][1], f"the host has read {len(got)} bytes that are others"


def _damage(stage, text):
    chip = flash.Flash(stage.module.state / "flash.bin")
    try:
        sector = bytearray(chip.read(text, 32768, flash.SECTOR))
        sector[100] ^= 1
        chip.write(text, sector, 32768)
    finally:
        chip.close()


DIRECTIVES = {
    "order": _order,
    "job": _job,
    "cancel": _cancel,
    "ota": _ota,
    "image": _image,
    "damage": _damage,
}
