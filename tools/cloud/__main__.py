"""`python -m tools.cloud`: run the local cloud, or talk to one that runs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import click

from tools.cloud import rules as rule_table
from tools.cloud import update_commands
from tools.cloud.control import Control, ControlError

_STATE = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The cloud's folder.",
)


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="Its folder.")
@click.option("--port", default=28883, show_default=True, help="MQTT port; 0 takes a free one.")
@click.option("--http-port", default=28443, show_default=True, help="HTTPS port; 0: a free one.")
@click.option("--ec", is_flag=True, help="P-256 leaf and intermediate instead of RSA.")
@click.option("--enforce-quotas", is_flag=True, help="Enforce throughput quotas.")
@click.option("--defender-minimum", default=0.0, help="Seconds between reports; AWS: 300.")
@click.option("--verbose", is_flag=True, help="Log more.")
@click.option("--rules", is_flag=True, help="Print the rules and end.")
@click.pass_context
def main(context, state, port, http_port, ec, enforce_quotas, defender_minimum, verbose, rules):
    """A strict, offline stand-in for AWS IoT Core. Prints `ready` when it listens."""
    if context.invoked_subcommand is not None:
        return
    if rules:
        click.echo(rule_table.as_markdown(), nl=False)
        return
    if state is None:
        raise click.UsageError("--state is missing")
    if defender_minimum < 0:
        raise click.UsageError("--defender-minimum takes seconds, zero or more")
    from tools.cloud.settings import Settings

    settings = Settings(enforce_quotas=enforce_quotas, defender_minimum=defender_minimum)
    _run(state, port, http_port, ec, settings, verbose)


def _run(state, port, http_port, ec, settings, verbose):
    # Imported here: the other commands start faster without them.
    from tools.cloud.listening import PortTaken
    from tools.cloud.log import OneLine
    from tools.cloud.server import AlreadyRunning, Cloud

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    cloud = Cloud(state, port, http_port, "ec" if ec else "rsa", settings)
    try:
        asyncio.run(cloud.run())
    except (PortTaken, AlreadyRunning) as error:
        click.echo(f"cloud: {error}", err=True)
        sys.exit(1)


def _ask(state: Path, request: dict) -> None:
    """Send one request and print the answer."""
    try:
        with Control(state) as control:
            click.echo(json.dumps(control.request(request)))
    except ControlError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def rules():
    """Print the table of rules."""
    click.echo(rule_table.as_markdown(), nl=False)


@main.command()
@_STATE
@click.argument("request")
def ctl(state, request):
    """Send one JSON object to the control socket, such as '{"get":"clients"}'."""
    try:
        message = json.loads(request)
    except ValueError as error:
        raise click.ClickException(f"not JSON: {error}") from None
    _ask(state, message)


@main.command()
@_STATE
@click.argument("view")
def show(state, view):
    """Show clients, counters, faults, closings, things, templates, jobs, files, settings…"""
    _ask(state, {"get": view})


@main.group()
def fault():
    """Set and clear faults."""


@fault.command("set")
@_STATE
@click.argument("kind")
@click.option("--at", help="tcp, tls, connect, live, or a service: defender, create, jobs…")
@click.option("--request", help="At jobs: get, start-next, describe, update; streams: get…")
@click.option("--client", help="Only this client id, or thing.")
@click.option("--count", type=int, help="Only so often.")
@click.option("--every", type=int, help="Only every n-th time.")
@click.option("--when", help="before, after or instead of a service's answer.")
@click.option("--packet", help="Packet type, such as PUBACK.")
@click.option("--direction", help="in (from the client) or out.")
@click.option("--ms", type=int, help="Milliseconds.")
@click.option("--code", type=int, help="CONNACK code; at files, status of HTTP.")
@click.option("--error", help="ErrorCode of a service's rejection.")
@click.option("--size", type=int, help="Bytes in a piece.")
@click.option("--which", help="Server certificate: expired, wrong-ca, wrong-name.")
@click.option("--filter", help="Topic filter.")
@click.option("--bytes", type=int, help="At files: after so many bytes of the body.")
@click.option("--by", type=int, help="How much a length or size is wrong by (-1).")
@click.option("--to", help="Where a redirect leads to.")
def fault_set(state, kind, **fields):
    """Set a fault: refuse, silent, delay, drop, duplicate, close, foreign, stall, flip…"""
    given = {name: value for name, value in fields.items() if value is not None}
    _ask(state, {"fault": {"kind": kind, **given}})


@fault.command("clear")
@_STATE
@click.argument("what", default="all")
def fault_clear(state, what):
    """Clear a fault by number, the faults of a kind, or all."""
    _ask(state, {"clear": int(what) if what.isdigit() else what})


@main.command()
@_STATE
@click.argument("client")
@click.option("--reset", is_flag=True, help="By a TCP reset.")
def kick(state, client, reset):
    """Close a live client's connection."""
    _ask(state, {"kick": {"client": client, "reset": reset}})


@main.command()
@_STATE
@click.argument("topic")
@click.argument("message")
@click.option("--qos", default=0)
@click.option("--retain", is_flag=True)
def publish(state, topic, message, qos, retain):
    """Publish as the cloud itself."""
    body = {"topic": topic, "text": message, "qos": qos, "retain": retain}
    _ask(state, {"publish": body})


@main.command()
@_STATE
@click.argument("client")
@click.argument("topic")
@click.argument("message")
@click.option("--qos", default=0)
def deliver(state, client, topic, message, qos):
    """Send to one client that need not have subscribed."""
    _ask(state, {"deliver": {"client": client, "topic": topic, "text": message, "qos": qos}})


@main.command()
@_STATE
@click.argument("thing")
def defender(state, thing):
    """Show the Device Defender reports of a thing, and what became of them."""
    _ask(state, {"defender": thing})


@main.command()
@_STATE
@click.argument("which")
@click.argument("status")
def certificate(state, which, status):
    """Set a certificate's status; WHICH is an id, the start of one, or a thing."""
    _ask(state, {"certificate": {"id": which, "status": status}})


@main.command()
@_STATE
@click.argument("which")
def forget(state, which):
    """Take a certificate out of the registry; WHICH as for `certificate`."""
    _ask(state, {"forget": which})


@main.command()
@_STATE
@click.argument("name")
def thing(state, name):
    """Show a thing: its attributes and certificates."""
    _ask(state, {"thing": name})


@main.group()
def template():
    """Provisioning templates; `show templates` lists them."""


@template.command("put")
@_STATE
@click.argument("name")
@click.argument("file", type=click.File(encoding="utf-8"))
def template_put(state, name, file):
    """Create template NAME, or give it a new body, from FILE (JSON; - is standard input)."""
    _ask(state, {"put_template": {"name": name, "body": file.read()}})


@template.command("get")
@_STATE
@click.argument("name")
def template_get(state, name):
    """Show template NAME."""
    _ask(state, {"template": name})


@template.command("remove")
@_STATE
@click.argument("name")
def template_remove(state, name):
    """Remove template NAME."""
    _ask(state, {"remove_template": name})


@template.command("enable")
@_STATE
@click.argument("name")
def template_enable(state, name):
    """Let template NAME provision."""
    _ask(state, {"put_template": {"name": name, "enabled": True}})


@template.command("disable")
@_STATE
@click.argument("name")
def template_disable(state, name):
    """Let template NAME provision nobody."""
    _ask(state, {"put_template": {"name": name, "enabled": False}})


@template.command("hook")
@_STATE
@click.argument("name")
@click.argument("answer")
def template_hook(state, name, answer):
    """Set the pre-provisioning hook of template NAME: allow, deny, none, or a hook in JSON."""
    known = {"allow": {"allowProvisioning": True}, "deny": {"allowProvisioning": False}}
    try:
        hook = None if answer == "none" else known.get(answer) or json.loads(answer)
    except ValueError as error:
        raise click.ClickException(f"not JSON: {error}") from None
    _ask(state, {"put_template": {"name": name, "hook": hook}})


update_commands.add(main, _STATE, _ask)

if __name__ == "__main__":
    main(prog_name="python -m tools.cloud")
