"""`python -m tools.fleet`: makes modules, sets them up, looks after them."""

import importlib

import click

# Command -> (module, name in it, line for the help). Loaded when asked for: a package that is
# missing then hinders nobody else.
_COMMANDS = {
    "ble": ("tools.fleet.ble", "ble", "Configure a module over Bluetooth LE."),
    "factory": ("tools.fleet.factory", "factory", "Make modules' images for the factory."),
    "image": ("tools.fleet.image", "image", "Make, show and check images for updates."),
    "ota": ("tools.fleet.ota", "ota", "Order updates, and watch them."),
    "sign": ("tools.fleet.sign", "sign", "Sign a file for an update."),
    "verify": ("tools.fleet.sign", "verify", "Check the signature of a file."),
}
_OURS = ("tools", "firmware", "lib")


class _Fleet(click.Group):
    """The commands above, each imported when it is used."""

    def list_commands(self, ctx):
        return sorted(_COMMANDS)

    def get_command(self, ctx, name):
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in _OURS:
                raise
            raise click.ClickException(
                f"`{name}` needs the Python package {package}, which is not installed"
            ) from None

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


@click.command(cls=_Fleet)
@click.option(
    "--cloud",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder of a local cloud to work with.",
)
@click.option("--aws", metavar="PROFILE", help="Profile of an AWS account to work with.")
@click.pass_context
def main(ctx, cloud, aws):
    """The fleet manager: makes modules, sets them up, looks after them."""
    if cloud and aws:
        raise click.UsageError("--cloud and --aws are two clouds; say one")
    # What the commands find in `ctx.obj`: where the cloud is.
    ctx.obj = {"cloud": cloud, "aws": aws}


if __name__ == "__main__":
    main(prog_name="fleet")
