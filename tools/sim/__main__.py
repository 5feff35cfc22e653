"""`python -m tools.sim`: run one virtual module."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from pathlib import Path

import click

from tools.sim import access_points, flash, manufacture, partition_table, process, romfs
from tools.sim.board import Board, BoardError
from tools.sim.control import Control
from tools.sim.options import Options


def _access_points(values):
    pairs = []
    for value in values:
        ssid, colon, passphrase = value.partition(":")
        if not ssid or not colon or not (not passphrase or 8 <= len(passphrase) <= 63):
            raise click.BadParameter(
                f"{value!r} is not SSID:PASS with a passphrase of 8 to 63 characters, or none",
                param_hint="--ap",
            )
        pairs.append((ssid, passphrase))
    return tuple(pairs) or (access_points.DEFAULT,)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_NO_SLOTS = "a board without slots has a stock image: --partitions plain needs --stock or --blank"
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--state", type=_FOLDER, required=True, help="The board's folder.")
@click.option("--cloud", type=_FOLDER, help="The local cloud's folder.")
@click.option("--link", type=_FILE, help="Symbolic link to make to the UART's terminal.")
@click.option("--control", type=_FILE, help="Unix socket for commands to the board.")
@click.option("--identity", type=click.Choice(["birth", "claim", "none"]), default="birth")
@click.option("--factory-image", type=_FILE, help="The filesystem of a new board.")
@click.option("--ap", multiple=True, metavar="SSID:PASS", help="An access point; repeatable.")
@click.option("--heap", type=click.IntRange(16, 65536), metavar="KIB", help="Limit the heap.")
@click.option("--stock", is_flag=True, help="Run .mpy files from the board's filesystem.")
@click.option(
    "--partitions",
    type=click.Choice(list(partition_table.TABLES)),
    help="A new board's table: with hota (ota, usual), without (shared), without slots (plain).",
)
@click.option("--baud", type=click.IntRange(300, 4000000), metavar="N", help="Pace the UART.")
@click.option("--timing", type=click.Choice(["fast", "esp32"]), default="fast")
@click.option("--portal-port", type=click.IntRange(1, 65535), metavar="N")
@click.option("--repl", type=_FILE, help="Symbolic link to make to the REPL's terminal.")
@click.option("--blank", is_flag=True, help="A stock board without an application.")
@click.option("--verbose", is_flag=True, help="Show the board's console.")
@click.option("--source", type=_FOLDER, hidden=True, default=romfs.ROOT)
def main(ap, baud, timing, portal_port, state, source, **given):
    """The virtual module: prints `ready` each time its STARTUP has been queued."""
    if given["blank"] and given["factory_image"]:
        raise click.UsageError("--blank and --factory-image exclude each other")
    if given["partitions"] == "plain" and not (given["stock"] or given["blank"]):
        raise click.UsageError(_NO_SLOTS)
    state.mkdir(parents=True, exist_ok=True)
    options = Options(
        state=state.resolve(),
        source=source.resolve(),
        access_points=_access_points(ap),
        baud=baud or 0,
        slow=timing == "esp32",
        portal_port=portal_port or _free_port(),
        vm=os.environ.get("MICROPYTHON") or None,
        **given,
    )
    with contextlib.ExitStack() as stack:
        try:
            error = _run(options, stack)
        except (BoardError, manufacture.MakeError, process.VmError, ValueError) as caught:
            error = str(caught)
    if error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _lock(folder, stack):
    file = stack.enter_context(open(folder / "lock", "w"))  # noqa: SIM115 - closed by the stack
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BoardError(f"another virtual module runs on {folder}") from None


def _link(path, target, stack):
    # Replaces a link that an earlier run left, and nothing else.
    if path.is_symlink():
        path.unlink()
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise BoardError(f"{path} exists and is no symbolic link") from None
    except OSError as error:
        raise BoardError(f"{path}: {error.strerror}") from None

    def remove():
        if path.is_symlink() and os.readlink(path) == target:
            path.unlink()

    stack.callback(remove)


def _compare(options, table):
    # A board that exists keeps what it was made with, as a real one does.
    has = partition_table.name_of(table)
    if options.partitions not in (None, has):
        click.echo(f"note: this board exists, with --partitions {has}", err=True)
    made = json.loads((options.state / "board.json").read_text()).get("endpoint")
    if made and options.cloud and made != manufacture.endpoint(options.cloud):
        now = manufacture.endpoint(options.cloud)
        click.echo(f"note: this board was made for {made}; the cloud listens on {now}", err=True)


def _prepare(options, chip):
    # Compares what there is with what was asked for, and installs the application.
    _compare(options, chip.table)
    if not (partition_table.slots(chip.table) or options.stock or options.blank):
        raise BoardError(_NO_SLOTS)
    if options.stock and not manufacture.install_stock(options.state, chip, options.source):
        click.echo(
            "note: an update runs on this board; the source tree is not installed", err=True
        )


def _run(options, stack):
    _lock(options.state, stack)
    os.umask(0o077)
    if not (options.state / "flash.bin").exists():
        manufacture.make(
            options.state,
            options.cloud,
            options.identity,
            options.blank,
            options.factory_image,
            partition_table.TABLES[options.partitions or "ota"],
        )
    elif options.factory_image:
        click.echo("note: this board exists; --factory-image is for a new one", err=True)
    chip = flash.Flash(options.state / "flash.bin")
    try:
        _prepare(options, chip)
    finally:
        chip.close()
    board = Board(options, lambda line: click.echo(line))
    if options.link:
        _link(options.link, board.wire.path, stack)
    if options.repl:
        from tools.sim.repl import Repl

        board.repl = Repl(board)
        _link(options.repl, board.repl.path, stack)
    if options.control:
        stack.callback(Control(board, str(options.control)).close)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: board.stop())
    return board.run()


if __name__ == "__main__":
    main()
