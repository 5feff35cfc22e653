"""Makes modules' images, all of an order or none, in a folder of their own.

images/<serial>.bin   a filesystem each, with its module's private key (mode 0600)
modules.csv           what was made
manifest.json         from what it was made, and the SHA-256 of each file
flash.txt             the commands that put it onto chips
micropython.bin       the firmware, when it was given
"""

import contextlib
import csv
import datetime
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from firmware.board import BOARDS
from tools import factory
from tools.fleet import factory_flash, factory_image
from tools.fleet.factory_identity import write_private

_CSV = ("serial", "thing", "identity", "certificate_id", "image", "sha256")


@dataclass(frozen=True)
class Order:
    """What is to be made. board: a name of `BOARDS`; layout: a Layout; given: what all modules
    have, as arguments of `factory_files`; source: the identities'; units: a list of Unit;
    application: {path: bytes} beside the factory data; firmware: bytes or None; port: of the
    board, for the commands."""

    board: str
    layout: object
    given: dict = field(repr=False)
    source: object = field(repr=False)
    units: list
    application: dict
    firmware: bytes | None = None
    port: str = "PORT"


@dataclass(frozen=True)
class Made:
    """A row of modules.csv; empty texts for what there is not."""

    serial: str
    thing: str
    identity: str
    certificate_id: str
    image: str
    sha256: str


def check_out(out):
    """Raise ValueError unless the folder `out` can be made."""
    out = Path(out)
    empty = out.is_dir() and not any(out.iterdir())
    if out.is_symlink() or (out.exists() and not empty):
        raise ValueError(f"{out} exists already; an order needs a folder of its own")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {out.absolute().parent}")


@contextlib.contextmanager
def folder(out, final=contextlib.nullcontext):
    """A new folder beside `out` that gets that name when the block ends well, and goes when it
    does not. Raises ValueError when there is something at `out`.

    final: makes the context in which it gets its name; when that ends badly the folder goes too.
    """
    check_out(out)
    out = Path(out).absolute()
    # Its mode is 0700.
    place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    unfinished = place
    try:
        yield unfinished
        with final():
            # An empty folder gives way.
            os.rename(unfinished, out)
            place = out
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def make(order, out, progress=lambda: None):
    """Make all modules of `order` into the new folder `out`; returns a list of Made.

    progress: called when a module is done. Raises ValueError, and then there is no folder and no
    cloud has heard of any module.
    """
    with folder(out, order.source.settle) as unfinished:
        (unfinished / "images").mkdir()
        made = []
        for unit in order.units:
            made.append(_module(order, unit, unfinished))
            progress()
        _register(unfinished / "modules.csv", made)
        if order.firmware is not None:
            (unfinished / "micropython.bin").write_bytes(order.firmware)
        (unfinished / "flash.txt").write_text(factory_flash.text(order, made))
        manifest = _manifest(order, made, unfinished)
        (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return made


def _module(order, unit, folder):
    given = order.given | order.source.of(unit)
    if unit.about is not None:
        given["about"] = unit.about
    try:
        files = factory.factory_files(board=order.board, serial=unit.serial, **given)
    except ValueError as error:
        if unit.serial is None or len(order.units) == 1:
            raise
        raise ValueError(f"{unit.serial}: {error}") from None
    image = factory_image.build(files | order.application, order.layout.size)
    path = f"images/{unit.file}"
    write_private(folder / path, image)
    identity, number = factory_image.certificate_id(files)
    return Made(
        unit.serial or "",
        given.get("thing") or "",
        identity,
        number,
        path,
        hashlib.sha256(image).hexdigest(),
    )


def _register(path, made):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_CSV)
        rows.writerows([getattr(one, name) for name in _CSV] for one in made)


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _manifest(order, made, folder):
    signer = order.given.get("ota_cert_pem")
    images = {one.image: one.sha256 for one in made}
    paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
    others = {path.name: _digest(path.read_bytes()) for path in paths}
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return {
        "made": now.isoformat(),
        "board": order.board,
        "chip": BOARDS[order.board]["chip"],
        "filesystem": {
            "layout": order.layout.name,
            "address": order.layout.address,
            "size": order.layout.size,
        },
        "endpoint": order.given["endpoint"],
        "ntp": order.given["ntp"],
        "roots": factory.fingerprints(order.given["roots_pem"], "root CA"),
        "ota_certificate": signer and factory.fingerprints(signer, "OTA certificate")[0],
        "template": order.given.get("template"),
        "modules": len(made),
        # SHA-256 of what lies in the image beside the factory data, and of the files here.
        "application": {path: _digest(data) for path, data in sorted(order.application.items())},
        "files": others | images,
    }


def compare(folder):
    """The number of files in an order's folder, all of them as the manifest says. Raises
    ValueError with the names of those that are not."""
    path = Path(folder) / "manifest.json"
    try:
        files = dict(json.loads(path.read_text())["files"])
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged") from None
    wrong = []
    for name, digest in files.items():
        file = Path(folder) / name
        if not file.is_file() or _digest(file.read_bytes()) != digest:
            wrong.append(name)
    if wrong:
        raise ValueError(f"{folder}: damaged or missing: {', '.join(wrong)}")
    return len(files)
