"""Collects `upy_*.py`: every `test_*` function in it runs in a MicroPython process of its own.

A function may be sync or async. A comment directly above it, or one that starts with `# vm-file:`
anywhere in the file, sets options: `# vm: heap=64 timeout=10` (heap in KiB of 32-bit words,
timeout in seconds). Plain pytest tests use the fixture `vm` to run a script on the VM.
"""

import ast
import re
import textwrap

import pytest

from tests_host.vm import runner
from tests_host.vm.fake_broker import FakeBroker

_OPTION = re.compile(r"(heap|timeout)=(\d+)")


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".py" and file_path.name.startswith("upy_"):
        return VmFile.from_parent(parent, path=file_path)
    return None


def pytest_pycollect_makemodule(module_path, parent):
    """Keeps pytest's own collector away from a file that is named on the command line."""
    if module_path.name.startswith("upy_"):
        return NotForCPython.from_parent(parent, path=module_path)
    return None


class NotForCPython(pytest.File):
    """A file without tests for CPython."""

    def collect(self):
        return []


class VmFile(pytest.File):
    """A file of tests that MicroPython runs; CPython only reads its names."""

    def collect(self):
        source = self.path.read_text()
        lines = source.splitlines()
        defaults = {}
        for line in lines:
            if line.startswith("# vm-file:"):
                defaults.update(_OPTION.findall(line))
        for node in ast.parse(source, str(self.path)).body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if not node.name.startswith("test_"):
                continue
            options = dict(defaults)
            above = lines[node.lineno - 2] if node.lineno > 1 else ""
            if above.startswith("# vm:"):
                options.update(_OPTION.findall(above))
            yield VmItem.from_parent(self, name=node.name, options=options, line=node.lineno - 1)


class VmItem(pytest.Item):
    """One function in one MicroPython process."""

    def __init__(self, *, options, line, **kwargs):
        super().__init__(**kwargs)
        self.options = {key: int(value) for key, value in options.items()}
        self.line = line
        self.add_marker("vm")

    def runtest(self):
        module = ".".join(self.path.relative_to(runner.ROOT).with_suffix("").parts)
        output = runner.run([runner.DRIVER, module, self.name], **self.options)
        self.add_report_section("call", "VM output", output)

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, runner.VmError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, self.line, self.name


@pytest.fixture
def vm():
    """Runs MicroPython source: `vm(source, *args, heap=KiB, timeout=s, env={})` -> its output."""
    return runner.run_source


def pytest_collection_modifyitems(items):
    for item in items:
        if {"vm", "mqtt_script"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("vm")


# What every script of an MQTT test begins with; its `async def main()` follows.
_MQTT_PRELUDE = """
import asyncio, gc, sys, time
from lib.mqtt import *
PORT = int(sys.argv[1])
def client(**options):
    return MQTTClient(b"c1", "127.0.0.1", PORT, **options)
async def failure(awaitable):
    try:
        await awaitable
    except Exception as error:
        return error
    raise AssertionError("no exception")
def small_send_buffer(c):
    # SOL_SOCKET, SO_SNDBUF: a PC's buffer would take megabytes, a board's takes 5,760 bytes.
    c._link.sock.setsockopt(1, 7, 8192)
"""


@pytest.fixture
def mqtt_script():
    """Runs `async def main()` of an MQTT client on the VM against a port: (source, port)."""

    def run(source, port, *args, **options):
        source = _MQTT_PRELUDE + textwrap.dedent(source) + "\nasyncio.run(main())\n"
        return runner.run_source(source, port, *args, **options)

    return run


@pytest.fixture
def dialogue(mqtt_script):
    """Runs a client's script against scripted servers, one per connection, and checks both."""

    def run(source, *servers, **options):
        with FakeBroker(*servers) as broker:
            try:
                output = mqtt_script(source, broker.port, **options)
            except runner.VmError as error:
                if broker.errors:
                    raise broker.errors[0] from error
                raise
            broker.check()
        return output

    return run
