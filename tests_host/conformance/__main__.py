"""`python -m tests_host.conformance`: run the suite and write build/conformance.md.

Options go to pytest. Ends with 1 when a test fails, or when a clause that can be tested has none.
"""

import sys
from pathlib import Path

import pytest

from tests_host.conformance import catalogue
from tests_host.conformance.report import Collector, Report

_HERE = Path(__file__).parent
_REPORT = _HERE.parents[1] / "build" / "conformance.md"


def main(arguments):
    """Returns the exit code."""
    collector = Collector()
    code = pytest.main(["-q", "-n", "2", *arguments, str(_HERE)], plugins=[collector])
    report = Report(catalogue.load(), collector.results)
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(report.markdown())
    print("\n".join(report.summary()))
    print(f"{_REPORT.relative_to(_HERE.parents[1])} says more")
    return 0 if code == pytest.ExitCode.OK and report.good() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
