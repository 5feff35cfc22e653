"""A local cloud for the run, and a way to show figures of a test that went well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.cloud.process import CloudProcess


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("system")


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """The cloud of these tests."""
    with CloudProcess(tmp_path_factory.mktemp("cloud")) as process:
        yield process


@pytest.fixture
def tell(capfd, record_property, request):
    """Function that shows a line on the run's terminal, though the test has passed."""

    def show(text):
        record_property("figures", str(text))
        with capfd.disabled():
            print(f"\n{request.node.name}: {text}", file=sys.__stderr__, flush=True)

    return show
