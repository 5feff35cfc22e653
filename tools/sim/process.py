"""One boot's VM process: what it is told, how it is started and how it ends."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tools.sim import romfs
from tools.sim.shorten import Shortener

_DEVICE = Path(__file__).parent / "device"
_START = _DEVICE / "start.py"
_LAUNCHER = Path(__file__).parent / "vm.py"

# KiB of 32-bit words that a frozen application's names may take, over and above the heap.
_NAMES = 80
# Heap in KiB of 32-bit words without --heap: plenty; a board has 150 to 200.
_PLENTY = 2048


class VmError(RuntimeError):
    """The VM cannot be started."""


def fixed_buffers(source):
    """`FIXED_BUFFERS` of firmware/app.py below `source`: bytes in buffers that are kept."""
    path = Path(source) / "firmware" / "app.py"
    if not path.is_file():
        return 0
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FIXED_BUFFERS":
            return _constant(node.value)
    return 0


def _constant(node):
    # A sum or a product of numbers; const() around it is allowed.
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "const":
        node = node.args[0]
    if isinstance(node, ast.BinOp):
        left, right = _constant(node.left), _constant(node.right)
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Add):
            return left + right
        raise VmError("FIXED_BUFFERS has to be a sum or a product of numbers")
    return ast.literal_eval(node)


@dataclass
class Boot:
    """What differs from boot to boot. cause, wake_reason: machine's numbers. image: a ROMFS
    from a slot, or None for the source tree; running: the slot's label."""

    cause: int
    wake_reason: int
    running: str
    image: bytes | None
    run_main: bool = True
    fds: dict = field(default_factory=dict)


class Vm:
    """Starts VMs for one board. `heap`: KiB of 32-bit words."""

    def __init__(self, options, made, row, partitions):
        self._options = options
        self._made = made
        self._row = row
        self._partitions = [[p.label, p.type, p.subtype, p.address, p.size] for p in partitions]
        self._state = options.state
        self._compiled = options.heap is not None
        self.heap = options.heap or _PLENTY
        self._ballast = fixed_buffers(options.source) if self._compiled else 0
        if self._compiled:
            files = romfs.application(_DEVICE)
            sources = [*files.values(), *romfs.application(options.source).values()]
            shorten = Shortener(path.read_text() for path in sources)
            standins = romfs.compiled(files, shorten)
            standins.pop("start.py")
            (self._state / "standins.img").write_bytes(romfs.image(standins))

    def _configuration(self, boot):
        tree = boot.image is None and not self._compiled and not self._options.stock
        application = not self._options.stock and not self._options.blank
        return {
            "flash": "flash.bin",
            "uid": self._made["uid"],
            "board": self._made["board"],
            "chip": self._row["chip"],
            "row": self._row,
            "partitions": self._partitions,
            "running": boot.running,
            "reset_cause": boot.cause,
            "wake_reason": boot.wake_reason,
            "source": str(self._options.source) if tree else None,
            "application": application or boot.image is not None,
            "ballast": self._ballast,
            # A frozen application's names are not in the heap (sim_names).
            "heap": self.heap,
            "names": _NAMES if self._compiled and (application or boot.image) else 0,
            "run_main": boot.run_main,
            "repl": self._options.repl is not None,
            "portal_port": self._options.portal_port,
            **boot.fds,
        }

    def _images(self, boot):
        # Writes the application's image when there is one; returns the names to map.
        names = ["standins"] if self._compiled else []
        if boot.image is not None:
            data = boot.image
        elif self._options.stock or self._options.blank:
            return names
        elif self._compiled:
            data = romfs.image(romfs.compiled(romfs.application(self._options.source)))
        else:
            return names
        (self._state / "app.img").write_bytes(data)
        return [*names, "app"]

    def start(self, boot, channel, bus, irq, radio, stdin, stdout):
        """Start the VM of `boot`; returns the Popen.

        channel: a Channel; bus, irq, radio: the VM's descriptors; stdin, stdout: what Popen
        takes.
        """
        boot.fds = {
            "uart_rx": channel.child_rx,
            "uart_tx": channel.child_tx,
            "bus": bus,
            "irq": irq,
            "radio": radio,
        }
        (self._state / "boot.json").write_text(json.dumps(self._configuration(boot)))
        (self._state / "standins").write_text("" if self._compiled else str(_DEVICE))
        try:
            return subprocess.Popen(
                self._command(self._images(boot)),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                pass_fds=list(boot.fds.values()),
                start_new_session=True,
            )
        except OSError as error:
            raise VmError(f"cannot start {self._options.vm}: {error.strerror}") from None

    def _command(self, names):
        frozen = self._compiled and "app" in names
        heap = self.heap + (_NAMES if frozen else 0)
        own = ["-X", f"heapsize={heap}wK"]
        if self._options.repl is not None:
            own.append("-i")
        own += [str(_START), str(self._state)]
        if self._options.vm:
            # A VM that maps nothing reads the images into its heap.
            size = sum((self._state / f"{name}.img").stat().st_size for name in names)
            own[1] = f"heapsize={heap + size // 1024 + 1}wK"
            return [_executable(self._options.vm), *own, *(f"{name}=" for name in names)]
        maps = [f"{name}={self._state / name}.img" for name in names]
        maps.append(f"registers={self._state / 'registers.bin'}+")
        return [sys.executable, "-I", "-S", str(_LAUNCHER), _wheel(), *maps, "--", *own]


def _wheel():
    spec = importlib.util.find_spec("micropython_run")
    if spec is None:
        raise VmError("the MicroPython wheel is not installed; name another VM in MICROPYTHON")
    return os.path.dirname(spec.origin)


def _executable(name):
    path = shutil.which(name)
    if path is None:
        raise VmError(f"MICROPYTHON names {name}, which is no executable")
    return path
