"""`python -m tools.flash`: what `make flash` runs.

The order makes an interrupted run harmless: a flag comes first, boot.py honours it and starts
neither application nor watchdog, and it goes last, when all that was written has been read back.
A board that runs an updated version from /app/b goes on with that until then; afterwards /app/a
runs, and what an update has left is gone.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from firmware.board import BOARDS
from tools.factory import factory_files
from tools.flash.board import OLDEST, Board, FlashError
from tools.fleet.factory_image import application

_APP = "/app/a"
_FACTORY = "/factory"
# What the module keeps of an identity that a cloud has issued: it would count more than a new one.
_ISSUED = (
    "/config/Identity",
    "/config/Identity.trial",
    # What may still bring one: a change that was not carried out to its end, values from BLE.
    "/config/change",
    "/config/candidate",
)
_FLAG = "/maintenance"
# What updates leave (firmware/ota/folders.py): which folder runs, first, so that from then on it
# is the one that was written here; then the other version, one half unpacked, a received image.
_RECORD = ("/app/record", "/app/record.new")
_UPDATES = ("/app/b", "/app/part")
_IMAGE = "/ota/image"
_AMAZON = Path(__file__).with_name("amazon_roots.pem")

# Which of our boards a chip is, when the person does not say.
_BY_CHIP = {
    "ESP32S3": "ESP32-S3-DevKitC-1",
    "ESP32C3": "ESP32-C3-ExpressLink",
    "ESP32": "ESP32-DevKitC",
}

# Loads the application and the identity at the board's prompt, before the flag is taken away.
_TRY = """
import sys, machine
if "/app/a" not in sys.path:
    sys.path.insert(0, "/app/a")
import firmware.app
from firmware.config.factory import load
identity = load(machine.unique_id())
known = identity.certificate() or identity.claim()[0]
if identity.faults or not known or not identity.roots():
    raise ValueError("identity not readable: %s" % identity.faults)
"""

# The new application has not failed yet (firmware/starts.py).
_FORGET_FAILURES = """
import esp32
nvs = esp32.NVS("expresslink")
try:
    nvs.erase_key("failed")
    nvs.commit()
except OSError:
    pass
"""

# What the application prints on the console when it has come up (firmware/module.py).
_MARK = "module: ready"
_START_S = 20


def _pair(cert, key):
    return (Path(cert).read_bytes(), Path(key).read_bytes()) if cert else None


def _identity(
    board_name, endpoint, cert, key, claim_cert, claim_key, template, ca, thing, ntp
) -> dict[str, bytes]:
    """The factory files for the options given; none when none of them was."""
    birth = {"CERT": cert, "KEY": key}
    claim = {"CLAIM_CERT": claim_cert, "CLAIM_KEY": claim_key, "TEMPLATE": template}
    if not any((endpoint, *birth.values(), *claim.values())):
        return {}
    if any(birth.values()) and any(claim.values()):
        raise FlashError("a module has either a device certificate or a claim, these are both")
    needed = claim if any(claim.values()) else birth
    missing = [name for name, value in ({"ENDPOINT": endpoint} | needed).items() if not value]
    if missing:
        together = ", ".join(["ENDPOINT", *list(needed)[:-1]]) + " and " + list(needed)[-1]
        raise FlashError(f"{together} belong together; missing: {', '.join(missing)}")
    try:
        return factory_files(
            endpoint=endpoint,
            ntp=ntp,
            board=board_name,
            roots_pem=Path(ca or _AMAZON).read_bytes(),
            birth=_pair(cert, key),
            claim=_pair(claim_cert, claim_key),
            template=template or None,
            thing=thing,
        )
    except OSError as error:
        raise FlashError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise FlashError(str(error)) from None


def _check(board: Board) -> str:
    """Refuse what cannot run us; the name of our board for this chip."""
    system, machine, version, room, _heap = board.describe()
    number = ".".join(map(str, version))
    if system != "esp32":
        raise FlashError(f"{board.port} runs MicroPython {number} on {system}; an ESP32 is needed")
    if tuple(version[:2]) < OLDEST:
        raise FlashError(
            f"MicroPython {number} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed."
            " Flash a newer image with esptool first."
        )
    need = 400 * 1024
    if room < need:
        raise FlashError(f"{room // 1024} KiB free on the filesystem; {need // 1024} are needed")
    # "Generic ESP32S3 module with ESP32S3", for example.
    chip = machine.upper().rsplit(" WITH ", 1)[-1].replace("-", "")
    if chip not in _BY_CHIP:
        raise FlashError(f"the chip of {machine} is not known; name a board with BOARD=")
    return _BY_CHIP[chip]


def _folders(paths) -> list[str]:
    """Every folder that `paths` need, parents first."""
    found = set()
    for path in paths:
        for parent in Path(path).parents:
            if str(parent) != "/":
                found.add(str(parent))
    return sorted(found)


def _write(board: Board, files: dict[str, bytes], console: Console) -> int:
    """Write what differs from what is there; the number of files written."""
    there = board.digests(files)
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    changed = {path: files[path] for path in files if there[path] != wanted[path]}
    board.make_folders(_folders(files))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("writing", total=sum(map(len, changed.values())))
        for path, data in changed.items():
            progress.update(task, description=path)
            board.write(path, data, lambda count: progress.advance(task, count))
        progress.update(task, description="written")
    now = board.digests(changed)
    wrong = [path for path in changed if now[path] != wanted[path]]
    if wrong:
        raise FlashError(f"not what was written: {', '.join(wrong)}. Is the flash worn out?")
    return len(changed)


def _stale(board: Board, files, factory) -> list[str]:
    """What is on the board of an older application and, with a new identity, of the old one."""
    stale = [
        path
        for path in board.files(_APP)
        if path not in files and not any(file.startswith(path) for file in files)
    ]
    if factory:
        stale += [path for path in board.files(_FACTORY) if path not in factory]
        stale += [path for path in board.files("/config") if path in _ISSUED]
    return stale


def _settle(board: Board) -> int:
    """Let /app/a be what runs from the next start on; the number of files removed."""
    there = set(board.files("/app"))
    gone = [path for path in _RECORD if path in there]
    for folder in _UPDATES:
        if folder + "/" in there:
            gone += [*board.files(folder), folder + "/"]
    gone += [path for path in board.files("/ota") if path == _IMAGE]
    board.remove(gone)
    board.run(_FORGET_FAILURES)
    return sum(not path.endswith("/") for path in gone)


def _flash(port, name, identity_options, console) -> None:
    files = application()
    # Before the board is troubled: a wrong certificate is the likeliest mistake.
    _identity(name or "ESP32-DevKitC", **identity_options)
    board = Board(port)
    try:
        name = name or _check(board)
        factory = _identity(name, **identity_options)
        console.print(f"{port}: {name}")
        there = set(board.files(_FACTORY))
        if not factory and not there & {"/factory/cert.der", "/factory/claim_cert.der"}:
            raise FlashError(
                "this board has no identity yet: give ENDPOINT=, CERT= and KEY=, or CLAIM_CERT=,"
                " CLAIM_KEY= and TEMPLATE= in place of the last two (and CA= when the endpoint is"
                " not AWS)"
            )
        board.write(_FLAG, b"make flash\n")
        # A running application holds the heap and the watchdog; after a reset the flag keeps it
        # from starting.
        board.restart()
        stale = _stale(board, files, factory)
        board.remove(stale)
        count = _write(board, files | factory, console)
        console.print(f"{count} files written, {len(stale)} removed; read back and equal")
        board.run(_TRY)
        left = _settle(board)
        if left:
            console.print(f"{left} files of an update removed: /app/a is what runs now")
        board.remove([_FLAG])
        heard = board.restart_and_listen((_MARK, "Traceback"), _START_S)
    finally:
        board.close()
    lines = [line.strip() for line in heard.splitlines() if _MARK in line]
    if lines:
        console.print(f"the board says: {lines[0]}")
    elif "Traceback" in heard:
        tail = "\n  ".join(heard.splitlines()[-12:])
        raise FlashError(f"the application fails on this board. The console said:\n  {tail}")
    else:
        console.print(
            f"the application loads on this board, but nothing was heard in {_START_S} s after the"
            " restart: a port that the chip drops at a reset can miss it. Ask it: AT"
            + (f" (the port said: {board.lost})" if board.lost else "")
        )


@click.command()
@click.option("--port", required=True, help="serial port of the board's REPL")
@click.option("--board", type=click.Choice(sorted(BOARDS)), help="default: by the chip")
@click.option("--endpoint", default="", help="host or host:port of the AWS IoT endpoint")
@click.option("--cert", default="", help="device certificate, PEM")
@click.option("--key", default="", help="its private key, PEM")
@click.option("--claim-cert", default="", help="claim certificate, PEM, in place of the device's")
@click.option("--claim-key", default="", help="its private key, PEM")
@click.option("--template", default="", help="provisioning template that goes with the claim")
@click.option("--ca", default="", help="server root certificates, PEM; default: Amazon's")
@click.option("--thing", default=None, help="thing name; default: the chip's own number")
@click.option("--ntp", default="pool.ntp.org", help="time server, host or host:port")
def main(port, board, thing, **options) -> None:
    """Install the application and, when given, an identity on a board that runs MicroPython."""
    console = Console(highlight=False)
    options["thing"] = thing or None
    try:
        _flash(port, board, options, console)
    except FlashError as error:
        print(f"flash: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
