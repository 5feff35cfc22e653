"""10,000 hostile lines: as many replies as the guide says, no exception, no memory kept."""

import pytest

from tests_host.fuzz import flood
from tools.sim.module import VirtualModule

SEED = 20261121


def test_8000_hostile_lines_inside_the_vm(tmp_path, cloud, tell):
    tell(flood.run_inside(tmp_path, cloud.state, 8000, SEED, "--heap", "96"))


@pytest.mark.parametrize("online", [False, True], ids=["offline", "connected"])
def test_1000_hostile_lines_through_the_terminal(tmp_path, cloud, tell, online):
    with VirtualModule(tmp_path / "module", cloud.state, "--heap", "96") as module:
        tell(flood.run_terminal(module, 1000, SEED + 1, online))


def test_a_paced_line_loses_nothing(tmp_path, cloud, tell):
    with VirtualModule(tmp_path / "module", cloud.state, "--baud", "921600") as module:
        tell(flood.run_terminal(module, 300, SEED + 2, False))
