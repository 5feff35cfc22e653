"""Power cuts in the middle of updates, at places chosen by a seed (all: `-m tests_host.fuzz
updates --all`)."""

import pytest

from tests_host.fuzz.update_cuts import KINDS, UpdateCuts

SEED = 20261122


@pytest.mark.parametrize(("kind", "count"), [("slot", 9), ("bundle", 4)])
def test_power_cuts_in_updates(tmp_path, cloud, tell, kind, count):
    with UpdateCuts(tmp_path / "run", cloud, SEED, kind, *KINDS[kind]) as run:
        run.sample(count)
    tell(run.tally)
    assert run.tally.count >= count / 2
    # Both versions came to run, and some were refused.
    assert {end.split()[1] for end in run.tally.ends} == {"SUCCEEDED", "FAILED"}
