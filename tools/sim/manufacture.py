"""Makes a virtual board: flash with bootable slot, filesystem with the factory data."""

import ast
import hashlib
import json
import os
import secrets
from pathlib import Path

from tools import factory
from tools.sim import espimage, flash, romfs
from tools.sim.filesystem import Filesystem

BOARD = "ESP32-DevKitC"
# The data of the image in ota_0 of a new board: no application of its own, run the source tree.
SOURCE_MARK = b"open-expresslink: run the source tree\n"


class MakeError(ValueError):
    """The board cannot be made; the text says why and what to do."""


def board_row(name=BOARD):
    """The row of `BOARDS` in firmware/board.py, read as data: it imports device modules."""
    path = romfs.ROOT / "firmware" / "board.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "BOARDS":
            return ast.literal_eval(node.value)[name]
    raise MakeError(f"{path} has no BOARDS")


def _cloud_info(cloud):
    path = Path(cloud) / "cloud.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise MakeError(f"{path} is missing: start the local cloud on {cloud} first") from None
    except ValueError:
        raise MakeError(f"{path} is damaged") from None


def _identities(cloud, identity, uid):
    if identity == "birth":
        from tools.cloud.identity import issue_birth

        made = issue_birth(Path(cloud), uid)
        return {"birth": (made.cert_pem, made.key_pem)}
    if identity == "claim":
        read = Path(cloud).joinpath
        return {"claim": (read("claim.pem").read_bytes(), read("claim.key").read_bytes())}
    return {}


def endpoint(cloud):
    """`host:port` of the local cloud in the folder `cloud`. Raises MakeError."""
    info = _cloud_info(cloud)
    return f"{info['host']}:{info['mqtt']}"


def _factory_files(cloud, identity, uid):
    if cloud is None:
        if identity != "none":
            raise MakeError(f"an identity of kind {identity} needs --cloud")
        return {}
    info = _cloud_info(cloud)
    host = info["host"]
    signer = Path(cloud) / "signer.pem"
    try:
        return factory.factory_files(
            endpoint=endpoint(cloud),
            ntp=f"{host}:{info['sntp']}" if "sntp" in info else host,
            board=BOARD,
            roots_pem=(Path(cloud) / "ca.pem").read_bytes(),
            ota_cert_pem=signer.read_bytes() if signer.exists() else None,
            **_identities(cloud, identity, uid),
        )
    except OSError as error:
        raise MakeError(f"{error.filename}: {error.strerror}") from None


def write_source_mark(chip, row):
    """Put the image that stands for the source tree into ota_0 of `chip`."""
    address = espimage.DROM[row["chip"]]
    chip.write("ota_0", espimage.build([(address, SOURCE_MARK)], row["chip"]))


def make(state, cloud, identity, blank=False):
    """Make a board in the folder `state`. identity: birth, claim or none. Raises MakeError.

    blank: a stock board, with nothing on its filesystem.
    """
    row = board_row()
    # A random address of the locally administered kind is the board's serial number.
    mac = bytearray(secrets.token_bytes(6))
    mac[0] = mac[0] & 0xFC | 0x02
    uid = mac.hex()
    files = {} if blank else _factory_files(cloud, identity, uid)
    path = state / "flash.bin"
    unfinished = state / "flash.new"
    unfinished.unlink(missing_ok=True)
    chip = flash.Flash.create(unfinished)
    try:
        write_source_mark(chip, row)
        if not blank:
            filesystem = Filesystem(chip, blank=True)
            for name, data in files.items():
                filesystem.write(name, data)
            filesystem.save()
    finally:
        chip.close()
    made = {"uid": uid, "board": BOARD, "identity": identity, "blank": blank, "stock": None}
    made["endpoint"] = endpoint(cloud) if files else None
    (state / "board.json").write_text(json.dumps(made))
    os.replace(unfinished, path)


def install_stock(state, chip, source):
    """Put the application's `.mpy -O3` files onto the filesystem, as the flash tool does.

    boot.py and main.py go to the root, the packages to /app/a. Does nothing when they are there.
    """
    contents = romfs.compiled(romfs.application(source))
    digest = hashlib.sha256()
    for name, data in sorted(contents.items()):
        digest.update(b"%s\0%d\0" % (name.encode(), len(data)))
        digest.update(data)
    made = json.loads((state / "board.json").read_text())
    if made["stock"] == digest.hexdigest():
        return
    filesystem = Filesystem(chip)
    if "app" in filesystem.names("/"):
        filesystem.remove("/app")
    for name, data in contents.items():
        filesystem.write(("/app/a/" if "/" in name else "/") + name, data)
    filesystem.save()
    made["stock"] = digest.hexdigest()
    (state / "board.json").write_text(json.dumps(made))
