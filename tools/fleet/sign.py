"""`fleet sign` and `fleet verify`: signatures of files that are sent as updates."""

import json
import os
from pathlib import Path

import click

from tools.fleet import signing
from tools.fleet.words import Sentences

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def signer_of(cloud, name):
    """A file of the local cloud's own signer: `signer.key` or `signer.pem`."""
    if cloud is None:
        raise click.UsageError("say --key, or whose signer is meant: fleet --cloud DIR sign …")
    path = Path(cloud) / name
    if not path.exists():
        raise ValueError(f"{path} is missing: start the local cloud on {cloud} first")
    return path


def passphrase():
    """The passphrase of the signing key, from the environment; None when there is none."""
    given = os.environ.get("EXPRESSLINK_SIGNING_PASSPHRASE")
    return None if given is None else given.encode()


@click.command(cls=Sentences)
@click.argument("file", type=_FILE)
@click.option("--key", type=_FILE, help="P-256 or RSA-2048, PEM or DER. Default: the cloud's.")
@click.option("--cert", type=_FILE, help="The certificate in the modules: has to fit the key.")
@click.option(
    "--form",
    type=click.Choice(["base64", "job", "signer"]),
    default="base64",
    show_default=True,
    help="The signature alone, as a member of a job document, or as AWS Signer's JSON.",
)
@click.pass_context
def sign(ctx, file, key, cert, form):
    """Sign FILE, and print the signature.

    The passphrase of an encrypted key is taken from the environment variable
    EXPRESSLINK_SIGNING_PASSPHRASE.
    """
    path = key or signer_of(ctx.obj["cloud"], "signer.key")
    private = signing.load_key(path, passphrase())
    if cert is not None and not signing.belongs(private, signing.load_certificate(cert)):
        raise ValueError(f"{path} is not the private key of {cert}")
    data = file.read_bytes()
    made = signing.sign(data, private)
    if form == "signer":
        click.echo(signing.signer_form(made, data))
    else:
        click.echo(made.text if form == "base64" else json.dumps({made.field: made.text}))


@click.command(cls=Sentences)
@click.argument("file", type=_FILE)
@click.option("--cert", type=_FILE, help="The signer's certificate. Default: the cloud's.")
@click.option(
    "--signature",
    required=True,
    metavar="TEXT|FILE",
    help="As `sign` prints it, in any form; a file with it; - reads it from standard input.",
)
@click.pass_context
def verify(ctx, file, cert, signature):
    """Check the signature of FILE as a module does."""
    path = cert or signer_of(ctx.obj["cloud"], "signer.pem")
    if signature == "-":
        text = click.get_text_stream("stdin").read()
    elif os.path.isfile(signature):
        text = Path(signature).read_bytes().decode("ascii", "replace")
    else:
        text = signature
    certificate = signing.load_certificate(path)
    signing.verify(file.read_bytes(), signing.read_signature(text), certificate)
    click.echo(f"{file}: the signature is good")
