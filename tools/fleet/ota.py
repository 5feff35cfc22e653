"""`fleet ota …`: updates ordered, watched and cancelled, in a local cloud or in AWS."""

import sys
import uuid
from pathlib import Path

import click

from tools.fleet import ota_order, ota_watch, signing
from tools.fleet.ota_cloud import CloudError
from tools.fleet.sign import passphrase
from tools.fleet.words import Sentences

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def ota():
    """Order updates of modules and hosts, and watch them."""


def _cloud(ctx, **given):
    """The cloud that `--cloud` or `--aws` names."""
    if ctx.obj["cloud"]:
        from tools.fleet.ota_local import LocalCloud

        return LocalCloud(ctx.obj["cloud"])
    if ctx.obj["aws"]:
        try:
            from tools.fleet import ota_aws
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"--aws needs the Python package {error.name}, which is not installed"
            ) from None
        return ota_aws.AwsCloud(*ota_aws.clients(ctx.obj["aws"]), **given)
    raise click.UsageError("which cloud? fleet --cloud DIR ota …, or fleet --aws PROFILE ota …")


def _told(executions):
    for execution in executions:
        click.echo(execution.line)


@ota.command(cls=Sentences)
@click.option("--thing", "things", multiple=True, required=True, help="May be given repeatedly.")
@click.option(
    "--type", "type_", type=int, required=True, metavar="N", help="101, 103, 107, 202, 204."
)
@click.option("--file", type=_FILE, required=True, help="What is sent.")
@click.option("--version", help="Shown to the host; a module image has its own.")
@click.option("--force", is_flag=True, help="A module image: do not ask the host.")
@click.option(
    "--protocol", type=click.Choice(ota_order.PROTOCOLS), default="mqtt", show_default=True
)
@click.option("--simple", is_flag=True, help="The simple form of job document, with a URL.")
@click.option("--sign", "key", type=_FILE, metavar="KEY", help="Sign with this private key.")
@click.option("--unchecked", is_flag=True, help="Send the file whatever is in it (for tests).")
@click.option("--bucket", envvar="EXPRESSLINK_BUCKET", help="AWS: S3 bucket for the file.")
@click.option("--role", envvar="EXPRESSLINK_ROLE", help="AWS: ARN of the role that reads it.")
@click.option("--wait", is_flag=True, help="Show how far it is, until it has ended.")
@click.option("--timeout", type=float, metavar="S", help="With --wait: seconds, then give up.")
@click.pass_context
def create(ctx, things, type_, file, key, bucket, role, wait, timeout, **how):
    """Order an update of some modules.

    The last word printed is the job's id. With --wait the exit code is 1 unless all have
    succeeded.
    """
    if len(set(things)) != len(things):
        raise click.UsageError("a thing is named twice")
    private = None if key is None else signing.load_key(key, passphrase())
    order = ota_order.make(type_, file, key=private, **how)
    if type_ == ota_order.MODULE and private is None:
        click.echo("not signed: modules reject it (--sign KEY)", err=True)
    cloud = _cloud(ctx, bucket=bucket, role=role)
    # The prefix of the jobs that FreeRTOS's update agents look at.
    job = f"AFR_OTA-{uuid.uuid4()}"
    cloud.create(job, list(things), order)
    good = not wait or _waited(cloud, job, timeout)
    click.echo(f"job {job}")
    if not good:
        ctx.exit(1)


def _waited(cloud, job, timeout):
    """Whether the job has succeeded everywhere; the job goes on whatever ends the waiting."""
    try:
        try:
            executions = ota_watch.wait(cloud, job, timeout, cloud.interval, sys.stderr)
        except KeyboardInterrupt:
            executions = cloud.executions(job)
    except CloudError as error:
        # Told here, so that the job's id is printed after it.
        click.echo(f"Error: {error}", err=True)
        return False
    _told(executions)
    return all(execution.status == "SUCCEEDED" for execution in executions)


@ota.command(cls=Sentences)
@click.argument("job")
@click.pass_context
def status(ctx, job):
    """Tell how far JOB is: a line for each thing."""
    _told(_cloud(ctx).executions(job))


@ota.command("list", cls=Sentences)
@click.pass_context
def list_(ctx):
    """Tell which jobs there are, the newest last."""
    for job in _cloud(ctx).jobs():
        click.echo(f"{job.id} {job.status} {job.description}".rstrip())


@ota.command(cls=Sentences)
@click.argument("job")
@click.option("--force", is_flag=True, help="Also where it is in progress.")
@click.pass_context
def cancel(ctx, job, force):
    """Cancel JOB where it has not begun, and tell how it is everywhere."""
    cloud = _cloud(ctx)
    cloud.cancel(job, force)
    executions = cloud.executions(job)
    _told(executions)
    if not force and any(execution.status == "IN_PROGRESS" for execution in executions):
        click.echo("what has begun goes on; --force ends it too", err=True)
