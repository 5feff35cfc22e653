"""Applications in files with short names: what a file does, and what others know of it, stays."""

import ast
import re

import pytest

from tools import loadable, names
from tools.fleet import factory_image, image_bundle, image_make
from tools.sim import romfs

FILES = romfs.application(romfs.ROOT)
SHORT = re.compile(rb"_[0-9]+")


@pytest.fixture(scope="module")
def compiled():
    return romfs.compiled(FILES)


@pytest.fixture(scope="module")
def plan(compiled):
    return loadable.plan(FILES, compiled)


@pytest.fixture(scope="module")
def short():
    return loadable.loadable(FILES)


def test_only_texts_in_the_table_of_names_change(compiled, plan, short):
    assert list(short) == list(compiled)
    for path, data in compiled.items():
        if not path.endswith(".mpy"):
            assert short[path] == data
            continue
        before, end = loadable.table(data)
        after, new_end = loadable.table(short[path])
        assert short[path][new_end:] == data[end:]
        assert short[path][:4] == data[:4]
        assert len(after) == len(before)
        # The first is the file's own name, for tracebacks.
        assert before[0] == path[:-4].encode() + b".py"
        assert after[0].replace(b".", b"/") in (path[:-4].encode(), path[:-13].encode())
        changed = {}
        for old, new in zip(before[1:], after[1:], strict=True):
            if old != new:
                changed[old.decode()] = new.decode()
        assert changed == {k: v for k, v in plan[path].items() if k.encode() in before[1:]}
        # No two names have become one.
        assert len(set(after[1:])) == len(set(before[1:]))


def test_the_same_sources_make_the_same_bytes(short):
    assert loadable.loadable(dict(reversed(FILES.items()))) == short


def asked(text):
    """{name: what is in front of it}, for all that a source asks objects for or imports, and all
    that is in quotes; told without the help of what has chosen the names."""
    found = {}
    for before, name in re.findall(r"([A-Za-z0-9_]*[)\]]?)\.([A-Za-z_][A-Za-z0-9_]*)", text):
        found.setdefault(name, set()).add(before)
    for line in re.findall(r"^ *(?:from \S+ )?import (.*(?:\([^)]*\))?)", text, re.MULTILINE):
        for name in re.findall(r"\w+", line):
            found.setdefault(name, set()).add("import")
    for name in re.findall(r"[\"'](\w+)[\"']", text):
        found.setdefault(name, set()).add("text")
    return found


def test_nobody_else_mentions_a_name_that_is_gone(plan):
    texts = {path.removesuffix("py") + "mpy": file.read_text() for path, file in FILES.items()}
    mentions = {path: asked(text) for path, text in texts.items()}
    keywords = {
        node.arg
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.keyword)
    }
    assert sum(map(len, plan.values())) > 500
    for path, changed in plan.items():
        family = [other for other, short in plan.items() if short is changed]
        for name in changed:
            assert name not in keywords, (path, name)
            assert not name.startswith("__")
            if name.startswith("_"):
                for other, found in mentions.items():
                    allowed = {"self"} if other not in family else found.get(name, set())
                    assert found.get(name, set()) <= allowed - {"import", "text"}, (other, name)
            else:
                # A parameter, and nothing that is asked for by name.
                assert name not in mentions[path], (path, name)
                lookup = rf"^(def|class) {name}\b|global {name}\b"
                assert not re.search(lookup, texts[path], re.MULTILINE), (path, name)


def test_there_are_far_fewer_names(compiled, short):
    def count(files):
        found = (loadable.table(data)[0] for path, data in files.items() if path.endswith(".mpy"))
        return len({name for table in found for name in table if isinstance(name, bytes)})

    assert count(short) < 0.7 * count(compiled)


def gone(source, outside=(), **others):
    """Names that are hidden in the file `source`, beside `others`: {module: text}."""
    sources = {"lib/it.py": source}
    sources |= {f"lib/{name}.py": text for name, text in others.items()}
    found = names.hidden(sources, outside)
    (family,) = (family for family in found if "lib/it.py" in family)
    return found[family]


CLASS = """
class C:
    def __init__(self, a):
        self._a = a
    def _get(self):
        return self._a
"""


def test_what_is_hidden():
    assert gone(CLASS) == {"a", "_a", "_get"}
    assert gone("_x = 1\ndef f(a, *b, c=0, **d):\n    return _x, a\n") == {"_x", *"abcd"}
    assert gone("async def _f():\n    pass\n") == {"_f"}
    # Each its own.
    assert gone(CLASS, other=CLASS) == {"a", "_a", "_get"}
    assert gone("def f(a):\n    'says a'\n    return a\n") == {"a"}


@pytest.mark.parametrize(
    ("source", "others", "known"),
    [
        pytest.param(CLASS, {"o": "x._a"}, {"_a"}, id="attribute of an object elsewhere"),
        pytest.param(CLASS, {"o": "def f(self):\n    self._a"}, {"_a"}, id="a self of no class"),
        pytest.param(CLASS, {"o": "import it\nit._get"}, {"_get"}, id="attribute of the module"),
        pytest.param(CLASS, {"o": "from it import _get"}, {"_get"}, id="import"),
        pytest.param(CLASS, {"o": "getattr(x, '_a')"}, {"_a"}, id="text"),
        pytest.param(CLASS, {"o": "X = b'c _get'"}, {"_get"}, id="word in bytes"),
        pytest.param(CLASS, {"o": "C(a=1)"}, {"a"}, id="keyword"),
        pytest.param(CLASS + "x.a = 1\n", {}, {"a"}, id="parameter that is an attribute too"),
        pytest.param(CLASS + "a = 1\n", {}, {"a"}, id="parameter that is a variable too"),
        pytest.param("def f(a):\n    pass\ndef g():\n    return a\n", {}, {"a"}, id="global"),
        pytest.param(
            "def f(len):\n    pass\ndef g(x):\n    return len\n", {}, {"len"}, id="built in"
        ),
        pytest.param("def f(a):\n    pass\nclass C:\n    a = 1\n", {}, {"a"}, id="class variable"),
        pytest.param("def f(x):\n    return x._y\n", {}, {"_y"}, id="attribute made elsewhere"),
        pytest.param("class C(x.D):\n    _a = 1\n", {}, {"_a"}, id="unknown base"),
        pytest.param("class C(D):\n    _a = 1\n", {}, {"_a"}, id="base from nowhere"),
        pytest.param(
            "from lib.o import D\nclass C(D):\n    _a = 1\n",
            {"o": "from lib.p import D"},
            {"_a"},
            id="base by way of another file",
        ),
        pytest.param(
            CLASS, {"o": "class D(x.E):\n    _a = 1"}, {"_a"}, id="met by an unknown base"
        ),
        pytest.param("class _C:\n    __slots__ = ()\n", {}, {"_C", "__slots__"}, id="classes"),
    ],
)
def test_what_is_not(source, others, known):
    assert not gone(source, **others) & known


def test_scripts_know_all_that_they_mention():
    assert gone(CLASS, outside=["it.C(1)._get()"]) == {"a", "_a"}


def test_a_class_and_its_base_in_another_file_agree():
    base = "class B:\n    def __init__(self):\n        self._b = self._x = 1\n"
    source = "from lib.o import B\nclass C(B):\n    def f(self):\n        return self._b\n"
    found = names.hidden({"lib/it.py": source, "lib/o.py": base})
    assert found == {("lib/it.py", "lib/o.py"): {"_b", "_x"}}
    # A base that has nothing is no reason.
    source = "from lib.o import B\nclass C(B):\n    _b = 1\n"
    found = names.hidden({"lib/it.py": source, "lib/o.py": "class B(Exception):\n    'B'\n"})
    assert found == {("lib/it.py",): {"_b"}, ("lib/o.py",): set()}


def test_names_like_the_short_ones_are_refused(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("def f():\n    return x._0\n")
    with pytest.raises(ValueError, match=r"lib/x\.mpy: a name like _0"):
        loadable.loadable({"lib/x.py": path})


def shortened(files):
    """Whether the tables of names of these files are short ones."""
    data = next(data for path, data in files.items() if path.endswith("firmware/module.mpy"))
    found = loadable.table(data)[0]
    return found[0] == b"firmware.module" and any(map(SHORT.fullmatch, map(bytes, found[1:])))


def test_where_code_is_loaded_into_the_heap_and_only_there(short):
    assert shortened(factory_image.application())
    labels = image_make.Labels(version="1.2.3")
    bundle = image_make.bundle(labels)
    assert shortened(image_bundle.unpack(bundle[256:]))
    assert b"firmware/module.py" in image_make.slot(labels, "esp32")


def test_a_traceback_can_be_read(plan):
    turn = plan["firmware/module.mpy"]["_report"]
    path = plan["firmware/ota/watch.mpy"]["_begin"]
    text = (
        "  12 INFO module: _0 stays\n"
        "Traceback (most recent call last):\n"
        f'  File "firmware.module", line 1, in {turn}\n'
        f'  File "firmware.ota.watch", line 1, in {path}\n'
        f"AttributeError: 'Watch' object has no attribute '{path}'\n"
        "  13 INFO module: _0 stays\n"
    )
    assert loadable.readable(text, FILES) == (
        "  12 INFO module: _0 stays\n"
        "Traceback (most recent call last):\n"
        '  File "firmware.module", line 1, in _report\n'
        '  File "firmware.ota.watch", line 1, in _begin\n'
        "AttributeError: 'Watch' object has no attribute '_begin'\n"
        "  13 INFO module: _0 stays\n"
    )
