"""Starts the MicroPython VM for tests: which binary, which path, how much heap, how long."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
# KiB of 32-bit words: about what an ESP32 without PSRAM leaves to an application.
DEFAULT_HEAP = 128
DEFAULT_TIMEOUT = 30


class VmError(AssertionError):
    """A VM process that failed, with all that it printed."""


def binary() -> str:
    """The VM: the environment variable MICROPYTHON, else the one beside this Python."""
    return os.environ.get("MICROPYTHON") or str(Path(sys.executable).parent / "micropython")


def command(args, heap: int = DEFAULT_HEAP) -> list:
    """The command line for a VM with `heap` KiB of 32-bit words (twice as many bytes here)."""
    return [binary(), "-X", f"heapsize={heap}wK", *map(str, args)]


def environment(extra=None) -> dict:
    """The environment of a VM process: imports come from the project root and frozen code only."""
    env = dict(os.environ, MICROPYPATH=f"{ROOT}:.frozen", PYTHONDONTWRITEBYTECODE="1")
    env.update({key: str(value) for key, value in (extra or {}).items()})
    return env


def popen(args, heap: int = DEFAULT_HEAP, env=None, **options) -> subprocess.Popen:
    """Start a VM process with pipes; the caller ends it."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.STDOUT)
    return subprocess.Popen(
        command(args, heap), env=environment(env), cwd=ROOT, text=True, **options
    )


def run(args, heap: int = DEFAULT_HEAP, timeout: float = DEFAULT_TIMEOUT, env=None) -> str:
    """Run a VM process to its end and return what it printed; VmError when it failed or hung."""
    process = popen(args, heap, env)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise VmError(f"the VM did not end within {timeout} s\n{output}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise VmError(f"the VM ended with {process.returncode}\n{output}")
    return output


def run_source(source: str, *args, **options) -> str:
    """Run MicroPython source text given as a string; `args` become sys.argv[1:]."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", prefix="vm_", delete=False) as file:
        file.write(textwrap.dedent(source))
    try:
        return run([file.name, *args], **options)
    finally:
        os.unlink(file.name)
