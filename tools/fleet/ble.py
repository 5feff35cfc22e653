"""`python -m tools.fleet ble …`: gives a module in CONFMODE its configuration by Bluetooth LE."""

import asyncio
import os
from pathlib import Path

import click

from tools.fleet.ble_client import Client, ClientError
from tools.fleet.ble_link import BleakLink, VirtualLink
from tools.fleet.ble_wire import HELLO

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def ble():
    """Configure a module over Bluetooth LE (AT+CONF ConfTransport=ble, AT+CONFMODE)."""


def _secret(prompt, variable, ask):
    """A secret from the environment, or typed in where nobody reads it."""
    given = os.environ.get(variable)
    if given is not None:
        return given
    return click.prompt(prompt, hide_input=True, default="", show_default=False) if ask else ""


def _values(ssid, open_network, endpoint, thing):
    values = {}
    if ssid is not None:
        values["ssid"] = ssid
        if not open_network:
            values["pwd"] = _secret("Wi-Fi passphrase", "EXPRESSLINK_PASSPHRASE", True)
    if endpoint:
        host, colon, port = endpoint.partition(":")
        values["host"] = host
        if colon:
            if not port.isdigit():
                raise click.BadParameter("host or host:port", param_hint="--endpoint")
            values["port"] = int(port)
    if thing:
        values["thing"] = thing
    return values


@ble.command()
@click.option("--name", help="The module's name; without it the first one that is found.")
@click.option("--virtual", type=_FOLDER, metavar="STATE", help="A virtual module's folder.")
@click.option("--ssid", help="The Wi-Fi network. Its passphrase is asked for.")
@click.option("--open-network", is_flag=True, help="The network has no passphrase.")
@click.option("--key", "has_key", is_flag=True, help="AT+CONFMODE was given a key: ask for it.")
@click.option("--endpoint", metavar="HOST[:PORT]")
@click.option("--thing", help="The thing's name, with --cert and --keyfile.")
@click.option("--cert", type=_FILE, help="The thing's certificate, PEM or DER.")
@click.option("--keyfile", type=_FILE, help="Its private key, PEM or DER, unencrypted.")
def configure(name, virtual, ssid, open_network, has_key, endpoint, thing, cert, keyfile):
    """Send a configuration, and have the module restart with it.

    Passphrase and key are asked for, or taken from the environment variables
    EXPRESSLINK_PASSPHRASE and EXPRESSLINK_KEY.
    """
    if bool(cert) != bool(keyfile):
        raise click.UsageError("--cert and --keyfile go together")
    if ssid is None and not (cert or endpoint):
        raise click.UsageError("nothing to configure: --ssid, --endpoint, or --cert")
    passkey = _secret("Key of AT+CONFMODE", "EXPRESSLINK_KEY", has_key)
    values = _values(ssid, open_network, endpoint, thing)
    try:
        link = VirtualLink(virtual) if virtual else BleakLink(name)
        asyncio.run(_configure(link, passkey.encode(), values, cert, keyfile))
    except ClientError as error:
        raise click.ClickException(str(error)) from None


async def _configure(link, passkey, values, cert, keyfile):
    client = Client(link, click.echo)
    try:
        await client.open(passkey)
        await client.configure(
            values,
            cert.read_bytes() if cert else None,
            keyfile.read_bytes() if keyfile else None,
        )
    finally:
        await client.close()


@ble.command()
@click.option("--name", help="The module's name; without it the first one that is found.")
@click.option("--virtual", type=_FOLDER, metavar="STATE", help="A virtual module's folder.")
def show(name, virtual):
    """Show what a module tells of itself before anybody has proved anything."""

    async def look():
        link = VirtualLink(virtual) if virtual else BleakLink(name)
        try:
            await link.connect()
            click.echo((await link.read(HELLO)).decode())
        finally:
            await link.close()

    try:
        asyncio.run(look())
    except ClientError as error:
        raise click.ClickException(str(error)) from None
