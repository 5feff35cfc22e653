"""Copies of the source tree with something of the tests' own in front of main.py."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_DEVICE = Path(__file__).parent / "device"


def tree(folder: Path, name: str, begin: str) -> Path:
    """The source tree, copied into `folder`, with `device/<name>.py` beside main.py, which
    begins with the lines `begin`; for `python -m tools.sim --source`."""
    for part in ("firmware", "lib"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    shutil.copy(ROOT / "boot.py", folder / "boot.py")
    shutil.copy(_DEVICE / f"{name}.py", folder)
    (folder / "main.py").write_text(begin + (ROOT / "main.py").read_text())
    return folder
