"""`python -m tests_host.fuzz lines|cuts|updates`: long runs; `make test` has the short ones."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tests_host.fuzz import flood
from tests_host.fuzz.cut_board import Damage
from tests_host.fuzz.cuts import Cuts
from tests_host.fuzz.update_cuts import KINDS, UpdateCuts
from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule


@click.group()
def main():
    """Hostile lines, power cuts, and power cuts in updates."""


@main.command()
@click.argument("count", type=int)
@click.option("--seed", type=int, default=1, help="The same seed gives the same lines.")
@click.option("--heap", default="96", help="KiB, for the road inside the VM.")
@click.option("--online/--offline", default=True, help="Also through a connected module.")
def lines(count, seed, heap, online):
    """COUNT hostile lines inside the VM, and a twentieth of them through the terminal."""
    with tempfile.TemporaryDirectory() as name, CloudProcess(Path(name) / "cloud") as cloud:
        folder = Path(name)
        try:
            done = flood.run_inside(folder / "in", cloud.state, count, seed, "--heap", heap)
            click.echo(f"inside the VM, heap {heap}: {done}")
            for connected in (False, True) if online else (False,):
                state = folder / f"terminal-{connected}"
                with VirtualModule(state, cloud.state, "--heap", heap) as module:
                    done = flood.run_terminal(module, count // 20, seed, connected)
                click.echo(f"terminal, {'connected' if connected else 'offline'}: {done}")
        except flood.Wrong as wrong:
            click.echo(str(wrong), err=True)
            sys.exit(1)


@main.command()
@click.option("--all", "every", is_flag=True, help="At every operation of every command.")
@click.option("--sample", type=int, default=200, help="So many, at places chosen by the seed.")
@click.option("--seed", type=int, default=1)
@click.option("--rounds", type=int, default=10, help="Of --all, on an ever older filesystem.")
def cuts(every, sample, seed, rounds):
    """Power cuts in the middle of everything that writes to the flash."""
    with tempfile.TemporaryDirectory() as name, CloudProcess(Path(name) / "cloud") as cloud:
        try:
            with Cuts(Path(name), cloud, seed) as run:
                if every:
                    run.all(rounds)
                else:
                    run.sample(sample)
        except Damage as damage:
            click.echo(f"seed {seed}: {damage}", err=True)
            sys.exit(1)
        finally:
            click.echo(str(run.tally))


@main.command()
@click.option("--all", "every", is_flag=True, help="At every operation of every kind of update.")
@click.option("--sample", type=int, default=40, help="So many, at places chosen by the seed.")
@click.option("--seed", type=int, default=1)
@click.option("--kind", type=click.Choice(list(KINDS)), multiple=True, default=list(KINDS))
@click.option("--share", type=int, default=0, help="Of --all: which one of several runs.")
@click.option("--of", type=click.IntRange(1), default=1, help="Of --all: how many runs.")
def updates(every, sample, seed, kind, share, of):
    """Power cuts in the middle of updates. --all takes 10 minutes for slots, and two to three
    hours for bundles; with --of 2 and --share 0 or 1 two runs can divide that."""
    failed = False
    for each in kind:
        with tempfile.TemporaryDirectory() as name, CloudProcess(Path(name) / "cloud") as cloud:
            run = UpdateCuts(Path(name) / "run", cloud, seed, each, *KINDS[each])
            try:
                with run:
                    if every:
                        run.all(share, of, click.echo)
                    else:
                        run.sample(sample)
            except Damage as damage:
                click.echo(f"{each}, seed {seed}: {damage}", err=True)
                failed = True
            finally:
                click.echo(f"{each}: {run.tally}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
