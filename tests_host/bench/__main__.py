"""`make bench`: runs every bench, prints a table, writes build/bench.json."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]

# In the order of the table. Each module has a function rows() -> list of rows (see rows.py).
_BENCHES = (
    "mqtt",
    "at",
    "commands",
    "crypto",
    "module",
    "credentials",
    "download",
    "mailbox",
    "sizes",
)


def _number(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}"


def main() -> int:
    """Exit code 1 when a goal was missed."""
    wanted = sys.argv[1:] or _BENCHES
    table = Table("what", "value", "unit", "peer", "peer's", "ratio", "goal", "met")
    rows = []
    for name in wanted:
        for row in importlib.import_module(f"tests_host.bench.{name}").rows():
            rows.append(row)
            met = {True: "yes", False: "[bold red]no[/]", None: ""}[row["met"]]
            table.add_row(
                row["name"],
                _number(row["value"]),
                row["unit"],
                row["peer"] or "",
                _number(row["peer_value"]),
                _number(row["ratio"]),
                str(row["goal"] or ""),
                met,
            )
    Console(width=150 if not sys.stdout.isatty() else None).print(table)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps(rows, indent=1))
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
