"""Which names of an application nothing can know but the file that they are in.

Told from the sources alone, and on the safe side: a name is not hidden when there is any way for
another file, or for MicroPython, to use it.
"""

import ast
import builtins
import re
import symtable
from collections import Counter

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SELF = ("self", "cls")
# Classes of MicroPython that have no attribute with an underscore in front.
_PLAIN = {"asyncio.Event"} | {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception)
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _private(name):
    return name.startswith("_") and not name.startswith("__")


def _texts(nodes):
    """The words in all texts but docstrings: getattr() and its like are given names as texts."""
    said = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes:
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
        nodes = list(ast.walk(ast.parse(source)))
        # What others may know a name from: texts, keywords, what is imported.
        self.given = set(_texts(nodes))
        # Where classes may come from: {name here: (path, name there)}.
        self._imported = {}
        for node in nodes:
            if isinstance(node, ast.keyword) and node.arg:
                self.given.add(node.arg)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.given.update(alias.name.split("."))
            elif isinstance(node, ast.ImportFrom):
                self.given.update(node.module.split("."))
                for alias in node.names:
                    self.given.add(alias.name)
                    self._imported[alias.asname or alias.name] = (
                        node.module.replace(".", "/") + ".py",
                        alias.name,
                    )
        self.parameters = {node.arg for node in nodes if isinstance(node, ast.arg)} - set(_SELF)
        # Names that the code itself looks up, or that a module or a class has.
        self.looked_up = {
            symbol.get_name()
            for scope in _scopes(symtable.symtable(source, path, "exec"))
            for symbol in scope.get_symbols()
            if scope.get_type() != "function" or symbol.is_global()
        }
        self._classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self._attributes(nodes)

    def _attributes(self, nodes):
        # Attributes that an object of a class in this file is asked for by itself.
        own = []
        # Those that a class in this file has or gives its objects.
        self.made = set()
        for node in self._classes:
            for inner in node.body:
                if isinstance(inner, _FUNCTIONS):
                    self.made.add(inner.name)
                    own += _of_self(inner)
                elif isinstance(inner, ast.Assign):
                    self.made |= {target.id for target in inner.targets}
        self.made |= {part.attr for part in own if isinstance(part.ctx, ast.Store)}
        known = set(map(id, own))
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        self.asked_of_others = {node.attr for node in attributes if id(node) not in known}
        self.attributes = {node.attr for node in attributes} | self.made

    def private(self):
        """Names that may be hidden: parameters that are nothing else, and what begins with one
        underscore. Not those of classes: an exception's is shown to people."""
        kinds = self.looked_up | self.attributes
        private = {name for name in kinds if _private(name)}
        private -= {node.name for node in self._classes}
        return private | (self.parameters - kinds)

    def bases(self):
        """(path, name) of each class from elsewhere that a class here is made from; (None, None)
        when that is not known."""
        here = {node.name for node in self._classes}
        for node in self._classes:
            for base in map(ast.unparse, node.bases):
                if base not in _PLAIN and base not in here:
                    yield self._imported.get(base, (None, None))

    def has(self, name):
        """Whether the class `name` is made here."""
        return any(node.name == name for node in self._classes)

    def bare(self, name):
        """Whether it is a class that has no attributes: an exception with a name of its own."""
        return any(
            node.name == name
            and all(isinstance(inner, ast.Expr) for inner in node.body)
            and all(ast.unparse(base) in _PLAIN for base in node.bases)
            for node in self._classes
        )


def _of_self(method):
    first = method.args.args[0].arg if method.args.args else None
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == first and first in _SELF:
                yield node


def _families(files):
    """(groups of paths, paths of files of which a class has an unknown base). The files of a group
    have classes that are made from each other's."""
    family = {path: {path} for path in files}
    unknown = set()
    for path, file in files.items():
        for base, name in file.bases():
            if base not in files or not files[base].has(name):
                unknown.add(path)
            elif not files[base].bare(name):
                family[path] |= family[base]
                for member in family[path]:
                    family[member] = family[path]
    groups = {id(group): tuple(sorted(group)) for group in family.values()}
    return sorted(groups.values()), unknown


def hidden(sources, outside=()):
    """{paths of files whose classes inherit from each other, often only one: the names that
    nothing but these files can know}. Each name means the same in all files of a key.

    sources: {path: text} of the application's files; outside: texts of scripts that use it, whose
    names are all known.
    """
    files = {path: _File(text, path) for path, text in sources.items()}
    families, unknown = _families(files)
    known = set()
    for text in outside:
        known.update(_WORD.findall(text))
    # In how many families there is an attribute of that name.
    attributes = Counter()
    for family in families:
        attributes.update(set().union(*(files[path].attributes for path in family)))
    for path, file in files.items():
        known |= file.given
        if path in unknown:
            # Its objects have attributes that we do not know; ours must not meet them.
            known |= file.attributes
    found = {}
    for family in families:
        members = [files[path] for path in family]
        made = set().union(*(file.made for file in members))
        for file in members:
            known |= {
                name for name in file.asked_of_others if attributes[name] > 1 or name not in made
            }
        found[family] = set().union(*(file.private() for file in members))
    # A parameter that is no more than that in one file may be more in another one of its family.
    for family in families:
        kinds = set()
        for path in family:
            kinds |= files[path].looked_up | files[path].attributes
        found[family] -= known | {name for name in kinds if not _private(name)}
    return found
