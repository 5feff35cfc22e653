"""Makes the stand-ins cost the firmware's heap less: fewer names.

MicroPython keeps every name that a module mentions in its heap, for ever. On a board the stand-ins
are C code in flash, so what their names cost is nobody's business but ours. Constants that nobody
mentions are left out; what only one file can see becomes _0, _1, …, which all files share.
"""

import ast
from collections import Counter


def _private(name):
    return name.startswith("_") and not name.startswith("__")


class _Renamer(ast.NodeTransformer):
    """names: of variables, functions, parameters. attributes: of what objects have."""

    def __init__(self, names, attributes):
        self._names = names
        self._attributes = attributes
        self._in_class = False

    def visit_Name(self, node):
        known = self._attributes if self._in_class else self._names
        node.id = known.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self._names.get(node.arg, node.arg)
        return node

    def visit_Global(self, node):
        node.names = [self._names.get(name, name) for name in node.names]
        return node

    def visit_alias(self, node):
        node.asname = self._names.get(node.asname, node.asname)
        return node

    def visit_Attribute(self, node):
        node.attr = self._attributes.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        known = self._attributes if self._in_class else self._names
        node.name = known.get(node.name, node.name)
        was, self._in_class = self._in_class, False
        node = self.generic_visit(node)
        self._in_class = was
        return node

    def visit_ClassDef(self, node):
        node.name = self._names.get(node.name, node.name)
        node.bases = [self.visit(base) for base in node.bases]
        was, self._in_class = self._in_class, True
        node.body = [self.visit(inner) for inner in node.body]
        self._in_class = was
        return node


class _Pruner(ast.NodeTransformer):
    """Leaves out `NAME = literal` where nobody mentions NAME."""

    def __init__(self, mentioned):
        self._mentioned = mentioned

    def visit_Assign(self, node):
        target = node.targets[0]
        plain = isinstance(target, ast.Name) and isinstance(node.value, ast.Constant)
        if plain and target.id.isupper() and target.id not in self._mentioned:
            return None
        return node


def _class_names(tree):
    """What the bodies of classes define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                yield getattr(inner, "name", None)
                for target in getattr(inner, "targets", ()):
                    yield getattr(target, "id", None)


def _inherits(tree):
    """Whether a class here has its base in another file."""
    here = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return any(
        not isinstance(base, ast.Name) or base.id not in here
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )


def _globals_of(tree):
    """What the module defines for itself and others."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            # Locals too: a parameter of the same name elsewhere then keeps its name, no more.
            yield node.id


class Shortener:
    """sources: the texts of the stand-ins and of all that uses them."""

    def __init__(self, sources):
        self._mentioned = set()
        self._keywords = set()
        self._texts = set()
        # In how many files an attribute appears.
        self._attributes = Counter()
        for source in sources:
            tree = ast.parse(source)
            self._look_at(tree)
            self._attributes.update(self._attributes_of(tree))

    def _look_at(self, tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._mentioned.add(node.id)
            elif isinstance(node, ast.Attribute):
                self._mentioned.add(node.attr)
            elif isinstance(node, ast.alias):
                self._mentioned.add(node.name)
            elif isinstance(node, ast.keyword):
                self._keywords.add(node.arg)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # getattr() and its like are given names as texts.
                self._texts.add(node.value)

    @staticmethod
    def _attributes_of(tree):
        found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        return found | set(_class_names(tree))

    def __call__(self, source):
        """The source (text) of one stand-in, shortened."""
        tree = _Pruner(self._mentioned).visit(ast.parse(source))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and _private(node.id):
                names.add(node.id)
            elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
                names.add(node.arg)
            elif isinstance(node, ast.alias) and node.asname and _private(node.asname):
                names.add(node.asname)
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and _private(node.name):
                names.add(node.name)
        given_away = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        names -= {name for name in _globals_of(tree) if not _private(name)}
        names -= self._keywords | given_away | set(_class_names(tree)) | self._texts
        attributes = {
            name
            for name in self._attributes_of(tree)
            if name and _private(name) and self._attributes[name] == 1
        } - self._texts
        if _inherits(tree):
            # The base's attributes have short names too, and these could be the same.
            attributes.clear()
        renamer = _Renamer(
            {name: f"_{i}" for i, name in enumerate(sorted(names))},
            {name: f"_{i}" for i, name in enumerate(sorted(attributes))},
        )
        return ast.unparse(ast.fix_missing_locations(renamer.visit(tree)))
