"""200 power cuts in the middle of what writes to the flash (all: `-m tests_host.fuzz cuts`)."""

from tests_host.fuzz.cuts import Cuts

SEED = 20261121


def test_200_power_cuts(tmp_path, cloud, tell):
    with Cuts(tmp_path, cloud, SEED) as run:
        run.sample(200)
    tell(run.tally)
    # Every command was cut, and both outcomes were met.
    assert set(run.tally.cuts) == {change.name for change in run.changes}
    assert run.tally.old and run.tally.new
