"""Makes an application in `.mpy` files cost less heap: fewer names.

MicroPython keeps every name that a file mentions in a table in the heap, for ever: one that is
loaded from the filesystem costs 7 bytes and its own length, and the table doubles when it is full.
Names that only one file can see become _0, _1, …, which all files share, and what a traceback
calls a file becomes the name under which it is imported, which is in the table anyway.

The compiled code is left alone: only texts in the table of names at the head of each file change,
each to one that is not in that table. So what a file does cannot change, as long as nothing else
knows those names; `hidden` says which these are.
"""

import ast
import builtins
import re
import symtable
from collections import Counter

# MicroPython documentation, "MicroPython .mpy files".
_MAGIC = b"M\x06"
_HEAD = 4

_SHORT = re.compile(r"_[0-9]+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SELF = ("self", "cls")


def _private(name):
    return name.startswith("_") and not name.startswith("__")


def _texts(tree):
    """The words in all texts but docstrings: getattr() and its like are given names as texts."""
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in said:
            value = node.value
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str):
                yield from _WORD.findall(value)


def _scopes(table):
    yield table
    for inner in table.get_children():
        yield from _scopes(inner)


class _File:
    """What one source file does with names."""

    def __init__(self, source, path):
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        # What other files, or the runtime, may know a name from.
        self.given = set(_texts(tree))
        for node in nodes:
            if isinstance(node, ast.keyword) and node.arg:
                self.given.add(node.arg)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.given.update((getattr(node, "module", None) or "").split("."))
                for alias in node.names:
                    self.given.update(alias.name.split("."))
        self.parameters = {node.arg for node in nodes if isinstance(node, ast.arg)} - set(_SELF)
        # Names that the code itself looks up, or that a module or a class has.
        self.looked_up = set()
        for scope in _scopes(symtable.symtable(source, path, "exec")):
            for symbol in scope.get_symbols():
                if scope.get_type() != "function" or symbol.is_global():
                    self.looked_up.add(symbol.get_name())
        self.functions = {
            node.name
            for node in nodes
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        self._attributes(nodes)

    def private(self):
        """Names that may be known in this file only."""
        parameters = self.parameters - self.looked_up - self.attributes
        kinds = self.looked_up | self.attributes
        return parameters | {name for name in kinds if _private(name)}

    def _attributes(self, nodes):
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        # Attributes that an object of a class in this file asks itself for.
        own = []
        # Those that a class in this file has or gives its objects.
        self.made = set()
        for node in classes:
            for inner in node.body:
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    self.made.add(inner.name)
                    first = inner.args.args[0].arg if inner.args.args else None
                    if first in _SELF:
                        own += _of(inner, first)
                else:
                    self.made |= {
                        part.id for part in ast.walk(inner) if isinstance(part, ast.Name)
                    }
        self.made |= {part.attr for part in own if isinstance(part.ctx, ast.Store)}
        known = set(map(id, own))
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        self.asked_of_others = {node.attr for node in attributes if id(node) not in known}
        self.attributes = {node.attr for node in attributes} | self.made
        self._classes = classes

    def bare(self, known):
        """The names of its classes, with those in `known`, that have no attributes of their own:
        exceptions that only have a name."""
        for node in self._classes:
            plain = all(isinstance(inner, (ast.Expr, ast.Pass)) for inner in node.body)
            if plain and all(_named(base) in known for base in node.bases):
                known = known | {node.name}
        return known

    def inherits(self, bare):
        """Whether a class has a base elsewhere that may have attributes of its own."""
        here = {node.name for node in self._classes}
        return any(
            _named(base) not in here | bare for node in self._classes for base in node.bases
        )


def _named(base):
    return base.id if isinstance(base, ast.Name) else None


def _of(tree, first):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _named(node.value) == first:
            yield node


def _bare(files):
    known = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    before = None
    while known != before:
        before = known
        for file in files:
            known = file.bare(known)
    return known


def hidden(sources, outside=()):
    """{path: names that nothing but that file can know} of an application.

    sources: {path: text} of its files; outside: texts of scripts that use it, whose names all stay
    as they are.
    """
    files = {path: _File(text, path) for path, text in sources.items()}
    given = set()
    for text in outside:
        given.update(_WORD.findall(text))
    bare = _bare(files.values())
    # In how many files there is an attribute of that name.
    attributes = Counter()
    for file in files.values():
        given |= file.given
        attributes.update(file.attributes)
        if file.inherits(bare):
            # The objects have attributes from another file too; these must not meet.
            given |= file.attributes
    for file in files.values():
        given |= {
            name for name in file.asked_of_others if attributes[name] > 1 or name not in file.made
        }
    return {path: file.private() - given for path, file in files.items()}


def _number(data, at):
    value = 0
    while True:
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at


def _after_counts(data):
    # (number of names, offset of the first); a number of objects is between.
    count, at = _number(data, _HEAD)
    return count, _number(data, at)[1]


def _packed(value):
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def table(data):
    """(names, offset of what follows) of a `.mpy` file: bytes, or a number for a name that every
    MicroPython has."""
    count, at = _after_counts(data)
    names = []
    for _ in range(count):
        length, at = _number(data, at)
        if length & 1:
            names.append(length >> 1)
            continue
        length >>= 1
        names.append(bytes(data[at : at + length]))
        at += length + 1
    return names, at


def _module(path):
    return path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def _rewritten(data, names, end):
    at = _after_counts(data)[1]
    pieces = [data[:at]]
    for name in names:
        if isinstance(name, int):
            pieces.append(_packed(name << 1 | 1))
        else:
            pieces += [_packed(len(name) << 1), name, b"\0"]
    return b"".join([*pieces, data[end:]])


def _shortened(data, path, private):
    names, end = table(data)
    texts = [name.decode("latin-1") for name in names if isinstance(name, bytes)]
    if any(map(_SHORT.fullmatch, texts)):
        raise ValueError(f"{path} has names like _0, which are what others are shortened to")
    changed = sorted(name.encode() for name in private.intersection(texts))
    short = {name: b"_%d" % number for number, name in enumerate(changed)}
    # The first one is what a traceback calls the file.
    names = [_module(path).encode(), *(short.get(name, name) for name in names[1:])]
    return _rewritten(data, names, end)


def shortened(compiled, sources, outside=()):
    """`compiled`, {path: bytes}, with shorter names in its `.mpy` files.

    sources: {path: text} of what these were made from, `.py` in place of `.mpy`; outside: as for
    `hidden`. The same sources make the same bytes. Raises ValueError for a source that has names
    like the short ones.
    """
    private = hidden(sources, outside)
    return {
        path: _shortened(data, path, private[path[:-3] + "py"]) if path.endswith(".mpy") else data
        for path, data in compiled.items()
    }
