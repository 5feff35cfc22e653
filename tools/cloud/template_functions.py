"""The expressions of a provisioning template: plain strings, lists, and functions.

    {"Ref": name}                                a parameter
    {"Fn::Join": [delimiter, [value, …]]}        {"Fn::Split": [delimiter, source]} -> list
    {"Fn::Select": [index, list]}                {"Fn::FindInMap": [map, key, key]}
    {"Fn::Sub": text with ${name}}               {"Fn::Sub": [text, {name: value}]}

`check` walks an expression without values, when a template is stored; `evaluate` gives what it is
for one device. In Fn::Sub `${!name}` stands for the characters `${name}`.
"""

from __future__ import annotations

import re

_VARIABLE = re.compile(r"\$\{(!?)([^}]*)\}")


class TemplateError(ValueError):
    """The template is refused, or gives nothing usable for these parameters."""


class Scope:
    """What expressions may refer to: the parameters' values (names, while checking), and maps."""

    def __init__(self, values: dict, mappings: dict):
        self.values = values
        self.mappings = mappings

    def value(self, name) -> str:
        """A parameter's value; raises TemplateError when it is not declared."""
        if not isinstance(name, str) or name not in self.values:
            raise TemplateError(f"Ref to {name!r}, which is no parameter")
        return self.values[name]


def _function(expression: dict) -> tuple[str, object]:
    if len(expression) != 1:
        raise TemplateError("a function is an object with one member")
    ((name, body),) = expression.items()
    if name not in _FUNCTIONS:
        raise TemplateError(f"no function {name}")
    return name, body


def evaluate(expression, scope: Scope):
    """The string, or list of strings, that an expression stands for; raises TemplateError."""
    if isinstance(expression, str):
        return expression
    if isinstance(expression, list):
        return [text(item, scope) for item in expression]
    if not isinstance(expression, dict):
        raise TemplateError(f"{expression!r} is no string and no function")
    name, body = _function(expression)
    return _FUNCTIONS[name][0](body, scope)


def text(expression, scope: Scope) -> str:
    """`evaluate`, where only a string will do."""
    value = evaluate(expression, scope)
    if not isinstance(value, str):
        raise TemplateError("a list stands where a string is expected")
    return value


def check(expression, scope: Scope) -> None:
    """Raise TemplateError for an expression that no parameters can make good."""
    if isinstance(expression, list):
        for item in expression:
            check(item, scope)
    elif isinstance(expression, dict):
        name, body = _function(expression)
        _FUNCTIONS[name][1](body, scope)
    elif not isinstance(expression, str):
        raise TemplateError(f"{expression!r} is no string and no function")


def _arguments(body, count: int, name: str) -> list:
    if not isinstance(body, list) or len(body) != count:
        raise TemplateError(f"{name} takes a list of {count}")
    return body


def _ref(body, scope: Scope) -> str:
    return scope.value(body)


def _join(body, scope: Scope) -> str:
    delimiter, items = _arguments(body, 2, "Fn::Join")
    values = evaluate(items, scope)
    if not isinstance(values, list):
        raise TemplateError("Fn::Join takes a list of values")
    return text(delimiter, scope).join(values)


def _check_join(body, scope: Scope) -> None:
    delimiter, items = _arguments(body, 2, "Fn::Join")
    if isinstance(items, str):
        raise TemplateError("Fn::Join takes a list of values")
    check(delimiter, scope)
    check(items, scope)


def _split(body, scope: Scope) -> list[str]:
    delimiter, source = _arguments(body, 2, "Fn::Split")
    between = text(delimiter, scope)
    if not between:
        raise TemplateError("Fn::Split needs a delimiter")
    return text(source, scope).split(between)


def _check_split(body, scope: Scope) -> None:
    check(_arguments(body, 2, "Fn::Split"), scope)


def _index(value) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 5:
        return int(value)
    raise TemplateError("Fn::Select takes an index from 0")


def _select(body, scope: Scope) -> str:
    index, items = _arguments(body, 2, "Fn::Select")
    at = _index(evaluate(index, scope) if isinstance(index, dict) else index)
    values = evaluate(items, scope)
    if not isinstance(values, list):
        raise TemplateError("Fn::Select takes a list of values")
    if at >= len(values):
        raise TemplateError(f"Fn::Select: no item {at} among {len(values)}")
    return values[at]


def _check_select(body, scope: Scope) -> None:
    index, items = _arguments(body, 2, "Fn::Select")
    if isinstance(index, dict):
        check(index, scope)
    else:
        _index(index)
    check(items, scope)


def _find(body, scope: Scope):
    names = [text(item, scope) for item in _arguments(body, 3, "Fn::FindInMap")]
    found = scope.mappings
    for name in names:
        if not isinstance(found, dict) or name not in found:
            raise TemplateError(f"Fn::FindInMap: no {' / '.join(names)}")
        found = found[name]
    return found


def _check_find(body, scope: Scope) -> None:
    which, *_ = _arguments(body, 3, "Fn::FindInMap")
    if isinstance(which, str) and which not in scope.mappings:
        raise TemplateError(f"Fn::FindInMap: no mapping {which}")
    check(body, scope)


def _sub_parts(body) -> tuple[str, dict]:
    if isinstance(body, str):
        return body, {}
    if isinstance(body, list) and len(body) == 2:
        source, values = body
        if isinstance(source, str) and isinstance(values, dict):
            return source, values
    raise TemplateError("Fn::Sub takes a text, or a text and an object of values")


def _sub(body, scope: Scope) -> str:
    source, values = _sub_parts(body)

    def replace(found: re.Match) -> str:
        literal, name = found.groups()
        if literal:
            return "${" + name + "}"
        return text(values[name], scope) if name in values else scope.value(name)

    return _VARIABLE.sub(replace, source)


def _check_sub(body, scope: Scope) -> None:
    source, values = _sub_parts(body)
    for value in values.values():
        check(value, scope)
    for literal, name in _VARIABLE.findall(source):
        if not literal and name not in values:
            scope.value(name)


_FUNCTIONS = {
    "Ref": (_ref, _ref),
    "Fn::Join": (_join, _check_join),
    "Fn::Split": (_split, _check_split),
    "Fn::Select": (_select, _check_select),
    "Fn::FindInMap": (_find, _check_find),
    "Fn::Sub": (_sub, _check_sub),
}
