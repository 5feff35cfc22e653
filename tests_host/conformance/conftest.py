"""The stage that the tests of this folder play on, and the marker that names clauses.

    @pytest.mark.clause("4.1.7.6", "D29")

says which clauses a test shows. A number that is not in `clauses.toml` ends the run.
"""

from pathlib import Path

import pytest

from tests_host.conformance import catalogue
from tests_host.conformance.stage import Stage
from tools.cloud.process import CloudProcess

_HERE = Path(__file__).parent
_FAILED = pytest.StashKey()


def pytest_configure(config):
    config.addinivalue_line("markers", "clause(*numbers): clauses of the guide that a test shows")


def named(item):
    """The clauses that a test names."""
    return [number for mark in item.iter_markers("clause") for number in mark.args]


def pytest_collection_modifyitems(items):
    clauses = catalogue.load()
    for item in items:
        if _HERE not in item.path.parents:
            continue
        item.add_marker("system")
        numbers = named(item)
        unknown = catalogue.unknown(numbers, clauses)
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: no clause {', '.join(unknown)}")
        # What the report is made from: it travels with the result, from a worker too.
        item.user_properties.append(("clauses", numbers))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def _stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance")
    with CloudProcess(folder / "cloud") as cloud:
        stage = Stage(cloud, folder)
        yield stage
        stage.close()


@pytest.fixture
def stage(_stage, request):
    """The worker's stage, in the state that every test starts from; checked at the end."""
    try:
        _stage.begin()
        yield _stage
        if not request.node.stash.get(_FAILED, True):
            _stage.finish()
    finally:
        _stage.end()
