"""Modules that are needed once in a while, dropped from memory after use.

Code that is not frozen into the image costs memory as long as Python knows it.
"""

import sys


def drop(names):
    """Forget the modules `names`: one text, dotted names with a space around each. Raises
    MemoryError; what has been dropped by then makes room for the rest.

    In small steps: splitting the text would need one large piece of memory."""
    start = 0
    while start < len(names):
        end = names.find(" ", start)
        if end < 0:
            end = len(names)
        path = names[start:end]
        start = end + 1
        if path in sys.modules:
            dot = path.rfind(".")
            package = sys.modules[path[:dot]]
            name = path[dot + 1 :]
            # Both or none: the name in its package holds the module too.
            if hasattr(package, name):
                delattr(package, name)
            del sys.modules[path]
