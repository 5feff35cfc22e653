"""The report: which clause is shown by which tests, and what is missing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from tests_host.conformance import catalogue
from tests_host.conformance.catalogue import Clause

_CLAUSES = re.compile(r"^(?:(?:D\d+|Table \d|\d[\d.]*),?)+ ")


@dataclass(frozen=True)
class Result:
    """What became of one test: passed, failed or skipped; the clauses that it names."""

    nodeid: str
    clauses: tuple[str, ...]
    outcome: str

    @property
    def name(self) -> str:
        """A short name: the title of a transcript's block, else the function's without its
        parameters."""
        name = self.nodeid.split("::", 1)[-1]
        if name.startswith("test["):
            # Clauses, which may be a Table with its space, then the title.
            return _CLAUSES.sub("", name[5:-1])
        return name.split("[")[0].removeprefix("test_").replace("_", " ")


class Collector:
    """A pytest plugin that gathers results; those of workers come through it too."""

    def __init__(self):
        self._found: dict[str, Result] = {}

    def pytest_runtest_logreport(self, report):
        """Called for each phase of each test: a failure in any of them is one of the test."""
        clauses = dict(report.user_properties).get("clauses")
        if clauses is None or (report.when != "call" and report.outcome == "passed"):
            return
        known = self._found.get(report.nodeid)
        if known is None or report.outcome == "failed":
            self._found[report.nodeid] = Result(report.nodeid, tuple(clauses), report.outcome)

    @property
    def results(self) -> list[Result]:
        """All results, in the order in which the tests ended."""
        return list(self._found.values())


@dataclass
class Report:
    """clauses: the catalogue. results: what the tests have shown."""

    clauses: dict[str, Clause]
    results: list[Result]

    def tests(self, number: str) -> list[Result]:
        """The tests of a clause."""
        return [result for result in self.results if number in result.clauses]

    def gaps(self) -> list[str]:
        """Clauses without a test that was run, though they need one."""
        named = {n for r in self.results if r.outcome != "skipped" for n in r.clauses}
        return catalogue.gaps(named, self.clauses)

    def failed(self) -> list[Result]:
        """The tests that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def good(self) -> bool:
        """Whether nothing failed and nothing is missing."""
        return not self.failed() and not self.gaps() and bool(self.results)

    def status(self, clause: Clause) -> str:
        """One of: passed, failed, gap, heading, planned, not testable."""
        if any(result.outcome == "failed" for result in self.tests(clause.number)):
            return "failed"
        if clause.number in self.gaps():
            return "gap"
        if clause.heading:
            return "heading"
        if clause.planned:
            return "planned"
        if clause.reason:
            return "not testable"
        return "passed"

    def summary(self) -> list[str]:
        """Counts, one a line."""
        lines = []
        parts = {
            "clauses and tables of chapters 3 to 9": [c for c in self._all() if c.chapter != "D"],
            "decisions": [c for c in self._all() if c.chapter == "D"],
        }
        for name, clauses in parts.items():
            counts = Counter(self.status(clause) for clause in clauses)
            shown = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
            lines.append(f"{len(clauses)} {name}: {shown}")
        ended = Counter(result.outcome for result in self.results)
        lines.append(
            f"{len(self.results)} tests: "
            + ", ".join(f"{count} {outcome}" for outcome, count in sorted(ended.items()))
        )
        gaps = self.gaps()
        lines.append(f"{len(gaps)} gaps" + (f": {', '.join(gaps)}" if gaps else ""))
        lines += [f"failed: {', '.join(r.clauses)}: {r.name}" for r in self.failed()]
        return lines

    def _all(self):
        return self.clauses.values()

    def markdown(self) -> str:
        """The whole report."""
        out = ["# Conformance to the ExpressLink programmer's guide v0.5", ""]
        out += [f"- {line}" for line in self.summary()]
        out += ["", "## Deviations", ""]
        for clause in self._all():
            if clause.deviation:
                out.append(f"- **{clause.number}** {clause.title}: {clause.deviation}")
        names = {"Table": "Tables", "D": "Decisions"}
        chapter = None
        # Tables behind the chapters, for they stand in several of them.
        for clause in sorted(self._all(), key=_place):
            if clause.chapter != chapter:
                chapter = clause.chapter
                out += ["", f"## {names.get(chapter, f'Chapter {chapter}')}", ""]
                out += ["| clause | what | status | tests, or why there is none |"]
                out += ["|---|---|---|---|"]
            out.append(self._row(clause))
        return "\n".join(out) + "\n"

    def _row(self, clause: Clause) -> str:
        status = self.status(clause)
        tests = self.tests(clause.number)
        shown = "; ".join(
            _cell(name) + (f", {count} times" if count > 1 else "") + _unless_passed(outcome)
            for (name, outcome), count in Counter((t.name, t.outcome) for t in tests).items()
        )
        if not tests:
            shown = "see its parts" if clause.heading else clause.reason
            shown = f"comes with {clause.planned}" if clause.planned else shown
        elif clause.planned:
            shown += f"; the rest comes with {clause.planned}"
        count = f"{len(tests)}: " if tests else ""
        return f"| {clause.number} | {_cell(clause.title)} | {status} | {count}{shown} |"


def _place(clause: Clause):
    order = {"Table": 10, "D": 11}
    return order.get(clause.chapter) or int(clause.chapter)


def _unless_passed(outcome: str) -> str:
    return "" if outcome == "passed" else f" ({outcome})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
