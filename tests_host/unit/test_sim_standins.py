"""The stand-ins offer what the stubs of the ESP32 port document, and nothing else."""

import ast
from pathlib import Path

import pytest

from tools.sim import romfs

DEVICE = romfs.ROOT / "tools" / "sim" / "device"
TYPINGS = romfs.ROOT / ".venv" / "typings"

# stand-in module -> file of it, file of its stub
MODULES = {
    "machine": ("machine.py", "machine.pyi"),
    "network": ("network.py", "network.pyi"),
    "bluetooth": ("bluetooth.py", "bluetooth.pyi"),
    "esp32": ("esp32.py", "esp32.pyi"),
    "socket": ("socket.py", "socket.pyi"),
    "time": ("time.py", "time.pyi"),
    "tls": ("sim_tls.py", "tls.pyi"),
    "os": ("os.py", "stdlib/os/__init__.pyi"),
}

# What MicroPython's own C code asks of a stream object; Python code does not call it.
STREAM_PROTOCOL = {"ioctl"}
# Documented for ESP32 (quick reference, library pages) though the stubs miss them.
MISSING_IN_STUBS = {
    # The library page gives it all four by name.
    ("esp32", "Partition.find"),
    ("tls", "SSLContext.verify_mode"),
    ("tls", "SSLContext.verify_callback"),
    ("os", "VfsFat"),
    ("os", "VfsLfs2"),
    ("os", "mount"),
    ("os", "umount"),
}


def parse(path):
    return ast.parse(Path(path).read_text())


def flat(body):
    # Stubs put some definitions under `if`.
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from flat(node.body)
            yield from flat(node.orelse)
        else:
            yield node


def imported_class(tree, name):
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [a.name for a in node.names]:
            for inner in parse(DEVICE / f"{node.module}.py").body:
                if getattr(inner, "name", None) == name:
                    return inner
    return None


def members(body, tree=None):
    """{public name: list of its definitions} of a module's or class's body."""
    found = {}
    for node in flat(body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, []).append(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                inner = imported_class(tree, name) if tree else None
                found.setdefault(name, []).append(inner or node)
    return {n: d for n, d in found.items() if not n.startswith("_") or n == "__init__"}


def keywords(function):
    """Names that a caller may use as keywords; None when any name will do."""
    if function.args.kwarg:
        return None
    names = [a.arg for a in function.args.args + function.args.kwonlyargs]
    return {name for name in names if name not in ("self", "cls") and not name.startswith("_")}


def documented_keywords(functions):
    names = set()
    for function in functions:
        some = keywords(function)
        if some is None:
            return None
        names |= some
    return names


def compare(where, ours, documented, path=""):
    for name, definitions in ours.items():
        full = path + name
        if name in STREAM_PROTOCOL or (where, full) in MISSING_IN_STUBS:
            continue
        if name == "__init__" and name not in documented:
            continue
        assert name in documented, f"{where}.{full} is not documented"
        mine, theirs = definitions[-1], documented[name]
        if isinstance(mine, ast.ClassDef):
            for other in theirs:
                if isinstance(other, ast.ClassDef):
                    theirs_in = members(other.body)
                    compare(where, members(mine.body), theirs_in, full + ".")
                    break
            else:
                pytest.fail(f"{where}.{full} is documented as no class")
        elif isinstance(mine, ast.FunctionDef):
            functions = [t for t in theirs if isinstance(t, ast.FunctionDef)]
            allowed = documented_keywords(functions)
            if not functions or allowed is None:
                continue
            used = keywords(mine)
            assert used is not None, f"{where}.{full} takes any keyword"
            assert used <= allowed, f"{where}.{full} takes {sorted(used - allowed)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_standin_has_only_documented_names_and_keywords(name):
    mine, stub = MODULES[name]
    tree = parse(DEVICE / mine)
    compare(name, members(tree.body, tree), members(parse(TYPINGS / stub).body))


@pytest.mark.parametrize(
    "addition",
    [
        "def invented(): pass",
        "class WDT:\n    def feed(self, harder): pass",
        "class WDT:\n    def stop(self): pass",
        "def unique_id(*, long=False): pass",
        "INVENTED = 1",
    ],
)
def test_the_comparison_sees_an_addition(addition):
    ours = members(ast.parse(addition).body)
    with pytest.raises(AssertionError):
        compare("machine", ours, members(parse(TYPINGS / "machine.pyi").body))


def constants(tree, path=""):
    for node in flat(tree.body):
        if isinstance(node, ast.ClassDef):
            yield from constants(node, path + node.name + ".")
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant):
                yield path + target.id, node.value.value


# The stubs differ from the port's C code in these: the name of the TLS version, and a name that
# MicroPython takes from the wheel.
DIFFERENT = {("tls", "MBEDTLS_VERSION")}


@pytest.mark.parametrize("name", MODULES)
def test_constants_have_the_documented_values(name):
    mine, stub = MODULES[name]
    documented = dict(constants(parse(TYPINGS / stub)))
    for constant, value in constants(parse(DEVICE / mine)):
        if constant in documented and documented[constant] is not ... and value is not None:
            if (name, constant) not in DIFFERENT:
                assert documented[constant] in (value, Ellipsis), f"{name}.{constant}"
