"""Makes a virtual board: flash with bootable slot, filesystem with the factory data.

The filesystem is the one that a board gets (tools/fleet/factory_image.py), made here or read from
a file that the fleet tool has made.
"""

import ast
import json
import os
import secrets
from pathlib import Path

from tools import factory
from tools.fleet import factory_image, factory_layout
from tools.sim import app_record, espimage, flash, partition_table, romfs
from tools.sim.filesystem import Filesystem

BOARD = "ESP32-DevKitC"
# The data of the image that a new board boots: no application of its own, run the source tree.
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


def _identities(cloud, identity, uid):
    if identity == "birth":
        from tools.cloud.identity import issue_birth

        made = issue_birth(Path(cloud), uid)
        return {"birth": (made.cert_pem, made.key_pem)}
    if identity == "claim":
        return factory.claim_of_cloud(cloud)
    return {}


def endpoint(cloud):
    """`host:port` of the local cloud in the folder `cloud`. Raises MakeError."""
    try:
        return factory.of_cloud(cloud)["endpoint"]
    except ValueError as error:
        raise MakeError(str(error)) from None


def _factory_files(cloud, identity, uid):
    if cloud is None:
        if identity != "none":
            raise MakeError(f"an identity of kind {identity} needs --cloud")
        return {}
    try:
        given = factory.of_cloud(cloud) | _identities(cloud, identity, uid)
        return factory.factory_files(board=BOARD, **given)
    except ValueError as error:
        raise MakeError(str(error)) from None


def _layout_name(place):
    # What the fleet tool calls a filesystem in this place.
    for name, layout in factory_layout.LAYOUTS.items():
        if (layout.address, layout.size) == (place.address, place.size):
            return name
    raise KeyError(place)


def _read_image(path, table):
    # (image, what board.json says of it, the board's row)
    try:
        image = path.read_bytes()
    except OSError as error:
        raise MakeError(f"{path}: {error.strerror}") from None
    place = partition_table.find(table, "vfs")
    if len(image) != place.size:
        raise MakeError(
            f"{path} has {len(image)} bytes and this virtual module's filesystem {place.size}"
            f" (--partitions {partition_table.name_of(table)}): make it with --layout"
            f" {_layout_name(place)}"
        )
    try:
        files = factory_image.contents(image)
        info = factory_image.description(files)
        row = board_row(info.get("board", BOARD))
    except factory_image.ImageError as error:
        raise MakeError(f"{path}: {error}") from None
    except KeyError:
        raise MakeError(f"{path} is for a board that is not known") from None
    return (
        image,
        {
            "board": info.get("board", BOARD),
            "identity": factory_image.certificate_id(files)[0],
            "endpoint": info.get("endpoint"),
            # Its own application is what `--stock` runs then.
            "stock": "image" if "/main.py" in files else None,
        },
        row,
    )


def write_source_mark(chip, row):
    """Put the image that stands for the source tree where `chip` boots first."""
    address = espimage.DROM[row["chip"]]
    first = next(p.label for p in chip.table if p.type == flash.APP)
    chip.write(first, espimage.build([(address, SOURCE_MARK)], row["chip"]))


def make(state, cloud, identity, blank=False, image=None, table=flash.TABLE):
    """Make a board in the folder `state`. identity: birth, claim or none. Raises MakeError.

    blank: a stock board, with nothing on its filesystem. image: the file that holds the
    filesystem; cloud and identity do not matter then. table: of partition_table.TABLES.
    """
    # A random address of the locally administered kind is the board's serial number.
    mac = bytearray(secrets.token_bytes(6))
    mac[0] = mac[0] & 0xFC | 0x02
    uid = mac.hex()
    row = board_row()
    made = {"board": BOARD, "identity": identity, "endpoint": None, "stock": None}
    filesystem = None
    if image is not None:
        filesystem, said, row = _read_image(Path(image), table)
        made |= said
    elif not blank:
        files = _factory_files(cloud, identity, uid)
        filesystem = factory_image.build(files, partition_table.find(table, "vfs").size)
        made["endpoint"] = endpoint(cloud) if files else None
    path = state / "flash.bin"
    unfinished = state / "flash.new"
    unfinished.unlink(missing_ok=True)
    chip = flash.Flash.create(unfinished, table)
    try:
        write_source_mark(chip, row)
        if filesystem is not None:
            chip.write("vfs", filesystem)
    finally:
        chip.close()
    made |= {"uid": uid, "blank": blank, "partitions": partition_table.name_of(table)}
    (state / "board.json").write_text(json.dumps(made))
    os.replace(unfinished, path)


def install_stock(state, chip, source):
    """Put the application's `.mpy -O3` files onto the filesystem, as the flash tool does.

    boot.py and main.py go to the root, the packages to /app/a, which is made the folder that
    runs. Does nothing when they are there, when the board was made from an image that had an
    application, or when an update has put another one in its place: False in that last case.
    """
    made = json.loads((state / "board.json").read_text())
    if made["stock"] == "image":
        return True
    contents = factory_image.application(source)
    digest = factory_image.digest(contents)
    if made["stock"] == digest:
        return True
    filesystem = Filesystem(chip)
    if made["stock"] is not None and app_record.updated(filesystem, made["stock"]):
        return False
    # With it goes the record: without one, a runs.
    if "app" in filesystem.names("/"):
        filesystem.remove("/app")
    for name, data in contents.items():
        filesystem.write(name, data)
    filesystem.save()
    made["stock"] = digest
    (state / "board.json").write_text(json.dumps(made))
    return True
