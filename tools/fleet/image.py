"""`fleet image …`: module images, made, shown and checked."""

import os
from pathlib import Path

import click

from tools.fleet import image_make
from tools.fleet.image_header import ANY, VENDOR
from tools.fleet.words import Sentences
from tools.sim import espimage, romfs

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_CHIPS = click.Choice(list(espimage.CHIPS))


@click.group()
def image():
    """Make, show and check images for updates of modules."""


def _made(command):
    """The options of every command that makes an image."""
    options = (
        click.option("--out", type=_OUT, required=True, metavar="FILE", help="The new image."),
        click.option("--version", metavar="A.B.C", help="Its version; default the source's."),
        click.option("--security", type=int, metavar="N", help="Security version; likewise."),
        click.option("--vendor", default=VENDOR, metavar="TEXT", show_default=True),
        click.option("--model", default=ANY, metavar="BOARD", show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


_source = click.option("--source", type=_FOLDER, default=romfs.ROOT, metavar="DIR", hidden=True)


def _labels(given):
    return image_make.Labels(given["version"], given["security"], given["vendor"], given["model"])


def _write(out, data):
    # A reader never finds half an image.
    fresh = out.with_name(out.name + ".new")
    fresh.write_bytes(data)
    os.replace(fresh, out)
    header = image_make.header_of(data)
    click.echo(f"{out}: version {header.version}, {len(data)} bytes")


@image.command(cls=Sentences)
@_made
@_source
def bundle(out, source, **given):
    """Make a bundle of this source tree, for boards with a stock MicroPython."""
    _write(out, image_make.bundle(_labels(given), source))


@image.command(cls=Sentences)
@click.option("--chip", type=_CHIPS, default="esp32", show_default=True)
@_made
@_source
def slot(out, chip, source, **given):
    """Make a slot image of this source tree, for the virtual module."""
    _write(out, image_make.slot(_labels(given), chip, source))


@image.command(cls=Sentences)
@click.argument("file", type=_FILE)
@click.option("--chip", type=_CHIPS, help="Refuse an image for another chip.")
@_made
def wrap(file, out, chip, **given):
    """Put our header before a real ESP32 image, with our code frozen into it.

    FILE is the application (.app-bin) or the firmware with bootloader and partition table.
    """
    _write(out, image_make.wrap(file.read_bytes(), _labels(given), chip))


@image.command(cls=Sentences)
@click.argument("file", type=_FILE)
def show(file):
    """Tell all about an undamaged image: header, chip, contents."""
    rows = image_make.description(file.read_bytes())
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:{width}}  {text}")


@image.command(cls=Sentences)
@click.argument("file", type=_FILE)
@click.option("--chip", type=_CHIPS, help="The chip it has to run on.")
@click.option("--model", metavar="BOARD", help="The board it has to be for.")
def check(file, chip, model):
    """Check a module image: header, CRC, SHA-256, and all that is in it."""
    header = image_make.header_of(file.read_bytes())
    for name, wanted in (("chip", chip), ("model", model)):
        said = getattr(header, name)
        if wanted is not None and said not in (wanted, ANY):
            raise ValueError(f"{file}: it is for the {name} {said}, not for {wanted}")
    click.echo(f"{file}: good, version {header.version}")
