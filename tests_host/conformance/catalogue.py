"""The list of clauses (`clauses.toml`), and which of them the tests name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomllib

_PATH = Path(__file__).parent / "clauses.toml"
_FIELDS = {"title", "heading", "planned", "reason", "deviation"}


@dataclass(frozen=True)
class Clause:
    """One clause of the guide or decision. `heading`: its parts say all; `planned`: the later
    part that it belongs to; `reason`: why it cannot be tested; `deviation`: how the module departs
    from it."""

    number: str
    title: str
    heading: bool = False
    planned: str = ""
    reason: str = ""
    deviation: str = ""

    @property
    def chapter(self) -> str:
        """The chapter's number; `Table` or `D` for those."""
        if self.number[0] in "DT":
            return self.number.split()[0].rstrip("0123456789")
        return self.number.split(".")[0]

    @property
    def wanted(self) -> bool:
        """Whether there has to be a test."""
        return not (self.heading or self.planned or self.reason)


def _clause(number: str, entry) -> Clause:
    if isinstance(entry, str):
        entry = {"title": entry}
    if set(entry) - _FIELDS or not entry.get("title"):
        raise ValueError(f"clause {number}: {entry}")
    if sum(bool(entry.get(field)) for field in ("heading", "planned", "reason")) > 1:
        raise ValueError(f"clause {number} has more than one reason to have no test")
    return Clause(number, **entry)


def load() -> dict[str, Clause]:
    """All clauses by number, in the order of the guide, the decisions last."""
    data = tomllib.loads(_PATH.read_text())
    entries = data["clauses"] | data["decisions"]
    if len(entries) != len(data["clauses"]) + len(data["decisions"]):
        raise ValueError("a clause and a decision have one number")
    return {number: _clause(number, entry) for number, entry in entries.items()}


def unknown(numbers, clauses: dict[str, Clause]) -> list[str]:
    """Those of `numbers` that the list does not have."""
    return [number for number in numbers if number not in clauses]


def gaps(named, clauses: dict[str, Clause]) -> list[str]:
    """Numbers that need a test and are not among `named`."""
    named = set(named)
    return [c.number for c in clauses.values() if c.wanted and c.number not in named]
