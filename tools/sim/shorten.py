"""Shortens the private names of the stand-ins: each file's become _0, _1, …

MicroPython keeps every name that a module mentions in its heap, for ever. On a board the stand-ins
are C code in flash, so what their names cost is nobody's business but ours; names that several
files share cost once.
"""

import ast


def _private(name):
    return name.startswith("_") and not name.startswith("__")


class _Renamer(ast.NodeTransformer):
    def __init__(self, names):
        self._names = names

    def visit_Name(self, node):
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self._names.get(node.arg, node.arg)
        return node

    def visit_Global(self, node):
        node.names = [self._names.get(name, name) for name in node.names]
        return node

    def visit_alias(self, node):
        # `from x import y as _y`; names that another file gives away keep theirs.
        node.asname = self._names.get(node.asname, node.asname)
        return node

    def visit_FunctionDef(self, node):
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef


def shorten(source):
    """The source (text) with its private globals, locals and parameters shortened.

    Attributes keep their names, and so does whatever a class body defines: other files use them.
    """
    tree = ast.parse(source)
    names = set()
    kept = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            (names if node.asname else kept).add(node.asname or node.name)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                kept.add(getattr(inner, "name", None))
                for target in getattr(inner, "targets", ()):
                    kept.add(getattr(target, "id", None))
        elif isinstance(node, ast.keyword):
            # A keyword names a parameter, of this file or of another.
            kept.add(node.arg)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
    private = sorted(name for name in names - kept if _private(name))
    return ast.unparse(_Renamer({n: f"_{i}" for i, n in enumerate(private)}).visit(tree))
