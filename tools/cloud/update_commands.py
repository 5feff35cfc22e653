"""The command line's groups `job`, `stream` and `file`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from tools.cloud.control import Control, ControlError


def add(main: click.Group, state, ask) -> None:
    """Give `main` the groups. `state`: the option for the cloud's folder; `ask(state, request)`
    sends one request and prints the answer."""
    main.add_command(_jobs(state, ask))
    main.add_command(_streams(state, ask))
    main.add_command(_files(state, ask))


def _jobs(state, ask) -> click.Group:
    @click.group()
    def job():
        """Jobs for things."""

    @job.command()
    @state
    @click.argument("name")
    @click.argument("file", type=click.File(encoding="utf-8"))
    @click.option("--thing", "things", multiple=True, required=True, help="Repeat for several.")
    @click.option("--description", default="")
    @click.option("--url-life", default=1800, show_default=True, help="Seconds, 60 to 3600.")
    @click.option("--timeout", type=int, help="Minutes that it may be in progress.")
    def create(state, name, file, things, **fields):
        """Create job NAME with the document in FILE (JSON; - is standard input)."""
        body = {"job": name, "things": list(things), "document": file.read(), **fields}
        ask(state, {"create_job": body})

    @job.command("list")
    @state
    def list_(state):
        """List all jobs."""
        ask(state, {"get": "jobs"})

    @job.command()
    @state
    @click.argument("name")
    def show(state, name):
        """Show job NAME with its document and executions."""
        ask(state, {"job": name})

    @job.command()
    @state
    @click.argument("name")
    @click.option("--timeout", default=0.0, help="Seconds; 0 waits for ever.")
    def watch(state, name, timeout):
        """Print each change of job NAME's executions, until it has none to be done."""
        try:
            _watch(state, name, timeout)
        except ControlError as error:
            raise click.ClickException(str(error)) from None

    @job.command()
    @state
    @click.argument("name")
    @click.option("--force", is_flag=True, help="Also what is in progress.")
    @click.option("--comment")
    def cancel(state, name, force, comment):
        """Cancel job NAME."""
        ask(state, {"cancel_job": {"job": name, "force": force, "comment": comment}})

    @job.command()
    @state
    @click.argument("name")
    @click.option("--force", is_flag=True, help="Also one that has not ended.")
    def delete(state, name, force):
        """Delete job NAME."""
        ask(state, {"delete_job": {"job": name, "force": force}})

    @job.command("cancel-execution")
    @state
    @click.argument("name")
    @click.argument("thing")
    @click.option("--force", is_flag=True, help="Also one in progress.")
    def cancel_execution(state, name, thing, force):
        """Cancel job NAME on THING alone."""
        ask(state, {"cancel_execution": {"job": name, "thing": thing, "force": force}})

    @job.command("remove-target")
    @state
    @click.argument("name")
    @click.argument("thing")
    def remove_target(state, name, thing):
        """THING is no target of job NAME any more."""
        ask(state, {"remove_target": {"job": name, "thing": thing}})

    @job.command()
    @state
    @click.argument("thing")
    def requests(state, thing):
        """Show what devices asked about THING's jobs, and what became of it."""
        ask(state, {"job_requests": thing})

    return job


def _watch(state: Path, name: str, timeout: float) -> None:
    end = time.monotonic() + timeout if timeout else None
    seen: dict[str, int] = {}
    with Control(state) as control:
        while True:
            job = control.job(name)
            if job is None:
                raise ControlError(f"there is no job {name}")
            for execution in job["executions"]:
                thing, version = execution["thing"], execution["version"]
                if seen.get(thing) != version:
                    seen[thing] = version
                    details = json.dumps(execution["details"])
                    click.echo(f"{thing} {version} {execution['status']} {details}")
            if not job["counts"].keys() & {"QUEUED", "IN_PROGRESS"}:
                click.echo(f"{name} {job['status']}")
                return
            if end is not None and time.monotonic() > end:
                raise ControlError(f"job {name} has not ended in {timeout:g} s")
            time.sleep(0.1)


def _streams(state, ask) -> click.Group:
    @click.group()
    def stream():
        """Streams: files that devices fetch over MQTT."""

    @stream.command()
    @state
    @click.argument("name")
    @click.argument("keys", nargs=-1, required=True)
    @click.option("--description", default="")
    def put(state, name, keys, description):
        """Make stream NAME of the files under KEYS (file ids 0, 1…), or change it."""
        body = {"stream": name, "files": list(keys), "description": description}
        ask(state, {"put_stream": body})

    @stream.command("list")
    @state
    def list_(state):
        """List all streams."""
        ask(state, {"get": "streams"})

    @stream.command()
    @state
    @click.argument("name")
    def show(state, name):
        """Show stream NAME."""
        ask(state, {"stream": name})

    @stream.command()
    @state
    @click.argument("name")
    def remove(state, name):
        """Remove stream NAME; its files stay."""
        ask(state, {"remove_stream": name})

    @stream.command()
    @state
    @click.argument("name")
    def requests(state, name):
        """Show what devices asked of stream NAME, and what became of it."""
        ask(state, {"stream_requests": name})

    return stream


def _files(state, ask) -> click.Group:
    @click.group()
    def file():
        """Files for streams and for HTTPS."""

    @file.command()
    @state
    @click.argument("key")
    @click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def put(state, key, path):
        """Keep the file PATH under KEY."""
        ask(state, {"put_file": {"key": key, "path": str(path.absolute())}})

    @file.command("list")
    @state
    def list_(state):
        """List all files."""
        ask(state, {"get": "files"})

    @file.command()
    @state
    @click.argument("key")
    @click.option("--seconds", default=1800, show_default=True)
    def url(state, key, seconds):
        """A URL with which anybody may read the file under KEY."""
        ask(state, {"file_url": {"key": key, "seconds": seconds}})

    @file.command()
    @state
    @click.argument("key")
    def remove(state, key):
        """Remove the file under KEY."""
        ask(state, {"remove_file": key})

    return file
