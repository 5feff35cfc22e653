"""Copies of the source tree with something of the tests' own in front of a boot script."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_DEVICE = Path(__file__).parent / "device"


def tree(folder: Path, name: str, begin: str, script="main.py", without=()) -> Path:
    """The source tree, copied into `folder`, with `device/<name>.py` beside `script` (main.py or
    boot.py), which begins with the lines `begin`; for `python -m tools.sim --source`.

    without: patterns of file and folder names that are left out."""
    for part in ("firmware", "lib"):
        ignore = shutil.ignore_patterns("__pycache__", *without)
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    shutil.copy(_DEVICE / f"{name}.py", folder)
    for each in ("boot.py", "main.py"):
        text = (ROOT / each).read_text()
        (folder / each).write_text(begin + text if each == script else text)
    return folder
