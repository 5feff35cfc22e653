"""What all tests share: the count of each kind at the end of a run."""

from collections import Counter

import pytest

# What they compare is to be seen when they fail.
pytest.register_assert_rewrite("tests_host.boards", "tests_host.updates")


def pytest_terminal_summary(terminalreporter):
    """Print how many tests of each kind (unit, vm, system, …) ended how."""
    kinds: dict[str, Counter] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            nodeid = getattr(report, "nodeid", "")
            if nodeid.startswith("tests_host/"):
                kinds.setdefault(nodeid.split("/")[1], Counter())[outcome] += 1
    terminalreporter.section("kinds")
    for kind, counts in sorted(kinds.items()):
        shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"{kind}: {shown}")
