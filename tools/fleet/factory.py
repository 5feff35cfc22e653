"""`fleet factory`: from certificates to images that are flashed onto chips."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, track

from firmware.board import BOARDS
from tools import factory as factory_data
from tools.fleet import (
    factory_flash,
    factory_identity,
    factory_image,
    factory_layout,
    factory_make,
    factory_units,
)
from tools.fleet.words import Sentences

_AMAZON = Path(__file__).resolve().parents[1] / "flash" / "amazon_roots.pem"
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_FLASH_SIZES = {f"{size}MB": size * factory_layout.MIB for size in (4, 8, 16, 32)}


@click.group()
def factory():
    """Make modules' images for the factory."""


def _which_modules(command):
    """The options that say which modules are meant."""
    options = (
        click.option("--count", type=int, metavar="N", help="So many modules, counted."),
        click.option("--prefix", metavar="TEXT", help="What their serials begin with: el-."),
        click.option("--start", type=int, metavar="N", help="The first one's number: 1."),
        click.option(
            "--serials",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="CSV file with the columns serial and, optional, thing and about.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _units(count, prefix, start, serials):
    """A list of Unit, None when nothing was said."""
    if count is not None and serials is not None:
        raise ValueError("--count and --serials exclude each other")
    if count is None and (prefix is not None or start is not None):
        raise ValueError("--prefix and --start go with --count")
    if start is not None and start < 0:
        raise ValueError("--start is a number from 0 on")
    if serials is not None:
        try:
            # Spreadsheets put a mark at the beginning.
            with open(serials, newline="", encoding="utf-8-sig") as file:
                return factory_units.listed(file, serials.name)
        except OSError as error:
            raise ValueError(f"{serials}: {error.strerror}") from None
    if count is not None:
        return factory_units.counted(
            count, "el-" if prefix is None else prefix, 1 if start is None else start
        )
    return None


def _layout(board, name, micropython, flash_size):
    """(Layout, firmware's bytes or None)."""
    chip = BOARDS[board]["chip"]
    if micropython is None:
        if flash_size is not None:
            raise ValueError("--flash-size goes with --micropython; else --layout says it")
        return factory_layout.LAYOUTS[name or factory_layout.USUAL[chip]], None
    firmware = factory_identity.read(micropython)
    try:
        found = factory_layout.of_firmware(firmware, chip, _FLASH_SIZES.get(flash_size))
    except factory_layout.LayoutError as error:
        raise ValueError(f"{micropython}: {error}") from None
    if name is not None:
        wanted = factory_layout.LAYOUTS[name]
        if (wanted.address, wanted.size) != (found.address, found.size):
            raise ValueError(
                f"{micropython} has its filesystem at {found.address:#x} with {found.size:#x}"
                f" bytes; {name} means {wanted.address:#x} with {wanted.size:#x}"
            )
    return found, firmware


def _given(cloud, endpoint, ntp, ca, ota_cert, about):
    """What all modules have in common, as arguments of `factory_files`."""
    if cloud is not None:
        given = factory_data.of_cloud(cloud)
    elif not endpoint:
        raise ValueError("say where the modules connect: --endpoint, or --cloud")
    else:
        given = {"ntp": "pool.ntp.org", "roots_pem": _AMAZON.read_bytes()}
    given["about"] = about
    if endpoint:
        given["endpoint"] = endpoint
    if ntp:
        given["ntp"] = ntp
    if ca:
        given["roots_pem"] = factory_identity.read(ca)
    if ota_cert:
        given["ota_cert_pem"] = factory_identity.read(ota_cert)
    return given


def _source_kind(cloud, identity, cert, key, claim_cert, claim_key, identities):
    """Which identity is meant: `cert`, `claim`, `folder`, `cloud-birth`, `cloud-claim`, `none`."""
    if bool(cert) != bool(key):
        raise ValueError("--cert and --key belong together")
    if bool(claim_cert) != bool(claim_key):
        raise ValueError("--claim-cert and --claim-key belong together")
    files = {"cert": cert, "claim": claim_cert, "folder": identities}
    named = [name for name, value in files.items() if value]
    if len(named) > 1:
        raise ValueError("these are two identities; a module has one")
    if named and identity is not None:
        raise ValueError(f"--identity {identity} and files are two identities; a module has one")
    if named:
        return named[0]
    if identity == "none":
        return "none"
    if cloud is not None:
        return f"cloud-{identity or 'birth'}"
    raise ValueError(
        "no identity: give --cert and --key, --claim-cert, --claim-key and --template,"
        " --identities or --cloud (or --identity none)"
    )


def _choose_units(units, kind, thing, serial):
    if units is not None:
        if thing is not None or serial is not None:
            raise ValueError("--thing and --serial are for one module")
        if kind == "cert" and len(units) > 1:
            raise ValueError(
                f"one device certificate for {len(units)} modules: each needs one of its own"
                " (--identities, --cloud)"
            )
        return units
    if kind == "folder" and serial is None:
        raise ValueError("--identities needs --serials, --count or --serial")
    if kind == "cloud-birth" and serial is None and thing is None:
        return factory_units.counted(1, "el-", 1)
    return [factory_units.Unit(serial, thing)]


@factory.command(cls=Sentences)
@click.option("--out", type=_FOLDER, required=True, help="The folder to make.")
@click.option("--cloud", type=_FOLDER, metavar="DIR", help="Take all from a local cloud's folder.")
@click.option(
    "--identity",
    type=click.Choice(["birth", "claim", "none"]),
    help="Which one the cloud gives (birth), or none.",
)
@click.option("--endpoint", metavar="HOST[:PORT]", help="Where the modules connect.")
@click.option("--ntp", metavar="HOST[:PORT]", help="Time server; default: pool.ntp.org.")
@click.option("--ca", type=_FILE, help="Server root certificates, PEM; default: Amazon's.")
@click.option("--cert", type=_FILE, help="Device certificate of one module, PEM.")
@click.option("--key", type=_FILE, help="Its private key, PEM.")
@click.option("--identities", type=_FOLDER, help="Folder with certificates/ and keys/ (see csr).")
@click.option("--claim-cert", type=_FILE, help="Claim certificate, PEM.")
@click.option("--claim-key", type=_FILE, help="Its private key, PEM.")
@click.option("--template", metavar="NAME", help="Provisioning template for the claim.")
@click.option("--ota-cert", type=_FILE, help="Certificate that module images are checked with.")
@click.option("--board", type=click.Choice(sorted(BOARDS)), default="ESP32-DevKitC")
@click.option("--about", metavar="TEXT", help="The value of About.")
@click.option("--thing", metavar="NAME", help="Thing name of one module.")
@click.option("--serial", metavar="TEXT", help="Serial number of one module.")
@_which_modules
@click.option(
    "--layout",
    type=click.Choice(list(factory_layout.LAYOUTS)),
    help="Where the filesystem lies; default: what is usual for the board.",
)
@click.option("--micropython", type=_FILE, help="The firmware's .bin file, which says it better.")
@click.option("--flash-size", type=click.Choice(list(_FLASH_SIZES)), help="Of the chip.")
@click.option("--data-only", is_flag=True, help="Without the application (it is frozen in).")
@click.option("--port", default="PORT", help="The board's port, for the commands.")
@click.pass_obj
def make(
    obj, out, cloud, identity, board, layout, micropython, flash_size, data_only, port, **options
):
    """Make the images of one module or many, all or none, in a new folder."""
    cloud = cloud or (obj or {}).get("cloud")
    factory_make.check_out(out)
    pick = lambda *names: {name: options[name] for name in names}  # noqa: E731
    kind = _source_kind(
        cloud, identity, **pick("cert", "key", "claim_cert", "claim_key", "identities")
    )
    units = _units(**pick("count", "prefix", "start", "serials"))
    units = _choose_units(units, kind, **pick("thing", "serial"))
    place, firmware = _layout(board, layout, micropython, flash_size)
    given = _given(cloud, **pick("endpoint", "ntp", "ca", "ota_cert", "about"))
    source = factory_identity.Single()
    read = factory_identity.read
    if kind == "cert":
        source = factory_identity.Single((read(options["cert"]), read(options["key"])))
    elif kind == "claim":
        given["claim"] = (read(options["claim_cert"]), read(options["claim_key"]))
    elif kind == "folder":
        source = factory_identity.Files(options["identities"])
    elif kind == "cloud-claim":
        given |= factory_data.claim_of_cloud(cloud)
    elif kind == "cloud-birth":
        source = factory_identity.LocalCloud(cloud)
    if options["template"]:
        given["template"] = options["template"]
    application = {} if data_only else factory_image.application()
    order = factory_make.Order(board, place, given, source, units, application, firmware, port)
    console = Console(highlight=False, soft_wrap=True)
    quiet = len(units) == 1 or not console.is_terminal
    with Progress(console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("making", total=len(units))
        made = factory_make.make(order, out, lambda: progress.advance(task))
    _tell(order, made, out, console)


def _tell(order, made, out, console):
    count = f"{len(made)} module{'s' if len(made) > 1 else ''}"
    place = f"a filesystem of {order.layout.size // 1024} KiB at {order.layout.address:#x}"
    console.print(f"{count} for {order.board} in {out}, each {place}", markup=False)
    if len(made) == 1:
        one = made[0]
        name = f", thing {one.thing}" if one.thing else ""
        console.print(f"identity: {one.identity}{name}", markup=False)
    if made[0].identity == "claim" and len(made) > 1:
        console.print("note: with a claim one image would do for all; these differ in the serial")
    console.print("\n" + factory_flash.command(order, made[0].image), markup=False)
    if len(made) > 1:
        console.print("flash.txt has such a line for each")


@factory.command(cls=Sentences)
@click.option("--out", type=_FOLDER, required=True, help="The folder to make.")
@_which_modules
def csr(out, **which):
    """Make a key and a certificate request for each module, for a real authority.

    What it signs goes into certificates/ as <serial>.pem; then `make --identities`.
    """
    units = _units(**which)
    if units is None:
        raise ValueError("say for which modules: --count or --serials")
    console = Console()
    with factory_make.folder(out) as unfinished:
        for name in ("keys", "csr", "certificates"):
            (unfinished / name).mkdir()
        quiet = not console.is_terminal
        for unit in track(units, "making", console=console, transient=True, disable=quiet):
            factory_identity.request(unfinished, unit)
    click.echo(f"{len(units)} requests in {out}/csr, the keys in {out}/keys")
    click.echo(f"put the certificates into {out}/certificates as <serial>.pem")


@factory.command(cls=Sentences)
@click.argument("image", type=_FILE)
def show(image):
    """Say what is in an image, and whether it is whole. Keys are not shown."""
    try:
        files = factory_image.contents(factory_identity.read(image))
        names = factory_image.verify(files)
        info = factory_image.description(files)
    except factory_image.ImageError as error:
        raise ValueError(f"{image}: {error}") from None
    identity, number = factory_image.certificate_id(files)
    for name, text in sorted(info.items()):
        click.echo(f"{name}: {text}")
    click.echo(f"identity: {identity}")
    if number:
        click.echo(f"certificate: {number}")
    application = len(files) - len(names) - 1
    click.echo(f"factory files: {', '.join(names)}")
    click.echo(f"other files: {application}")


@factory.command(cls=Sentences)
@click.argument("folder", type=_FOLDER)
def check(folder):
    """Compare every file that `make` has put into a folder with its SHA-256."""
    count = factory_make.compare(folder)
    click.echo(f"{count} files are as they were made")


@factory.command()
def layouts():
    """Where the filesystem lies in the known flash layouts."""
    for layout in factory_layout.LAYOUTS.values():
        click.echo(f"{layout.name:13} {layout.address:#09x} {layout.size:#09x}  {layout.evidence}")
