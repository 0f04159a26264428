"""One written template as the variants that its `matrix` makes of it."""

import re
from collections.abc import Iterator, Mapping
from itertools import product

from sandboxfile.config import expand, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.expand import Known
from sandboxfile.config.problems import near
from sandboxfile.config.scope import Scope, value
from sandboxfile.frozen import dataclass, replace

EXCLUDE = "exclude"
MOST = 256  # variants of one template


@dataclass(frozen=True, slots=True)
class Variant:
    """A template under the name it is published as, with the values that made it."""

    name: str
    node: Node
    matrix: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Value:
    text: str
    node: Node


_Row = tuple[tuple[str, _Value], ...]


def expand_template(
    key: str, node: Node, variables: Mapping[str, str | None], scope: Scope
) -> Iterator[Variant]:
    """Yield the variants of a merged template, in written order: the last axis turns fastest.

    Without a matrix there is one, which is called as `name` says, or by its key.
    """
    written = value(node, "matrix")
    inner = _without(node, "matrix", "name")
    if written is None:
        known = Known(variables)
        name = _name(key, value(node, "name"), known, scope)
        if name is not None:
            yield Variant(name, expand.interpolate(inner, known, scope.problems), {})
        return
    for row in _rows(written, scope):
        matrix = {axis: each.text for axis, each in row}
        known = Known(variables, matrix)
        name = _variant_name(key, node, row, known, scope)
        if name is not None:
            yield Variant(name, expand.interpolate(inner, known, scope.problems), matrix)


def _without(node: Node, *keys: str) -> Node:
    if node.entries.keys().isdisjoint(keys):  # nearly all
        return node
    entries = {key: child for key, child in node.entries.items() if key not in keys}
    return node._replace(content=entries)


# --- names -----------------------------------------------------------------------------------


def _name(key: str, node: Node | None, known: Known, scope: Scope) -> str | None:
    """Return the published name that `name` gives."""
    if node is None or node.text is None:
        return key
    text = expand.interpolate(node, known, scope.problems).text or ""
    if "${" in text or scope.problems.fault(node, values.name(text)):
        return None
    return text


def _variant_name(key: str, node: Node, row: _Row, known: Known, scope: Scope) -> str | None:
    written = value(node, "name")
    if written is not None and "${matrix." in (written.text or ""):
        return _name(key, written, replace(known, fold=folded), scope)
    start = _name(key, written, known, scope)
    if start is None:
        return None
    name = "-".join([start, *(folded(each.text) for _, each in row)])
    return None if scope.problems.key_fault(node, values.name(name)) else name


def folded(text: str) -> str:
    """Return a value as the part of a name: what names cannot have becomes `-`."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")


# --- rows ------------------------------------------------------------------------------------


def _rows(node: Node, scope: Scope) -> Iterator[_Row]:
    written = {
        name: child
        for name, child in node.entries.items()
        if name != EXCLUDE and not name.startswith("x-")
    }
    if isinstance(node.content, dict) and not written:
        scope.problems.add(node, "a matrix needs an axis", "write {channel: [stable, edge]}")
    axes = {
        name: _values(name, child, scope)
        for name, child in written.items()
        if not scope.problems.key_fault(child, values.axis(name))
    }
    if not axes or not all(axes.values()):
        return
    total = 1
    for each in axes.values():
        total *= len(each)
    if total > MOST:
        message = f"this matrix makes {total} templates, more than the {MOST} allowed"
        scope.problems.add_key(node, message, "split it")
        return
    excluded = list(_excluded(value(node, EXCLUDE), axes, scope))
    rows = [tuple(zip(axes, row, strict=True)) for row in product(*axes.values())]
    left = [row for row in rows if not any(_is_in(each, row) for each in excluded)]
    if not left:
        scope.problems.add_key(node.entries[EXCLUDE], "this leaves no variant", "exclude less")
    yield from left


def _values(axis: str, node: Node, scope: Scope) -> list[_Value]:
    found: list[_Value] = []
    for item in node.items:
        text = _text(item)
        if text is None:
            continue  # the schema says so
        if scope.problems.fault(item, values.matrix_value(text)):
            continue
        twin = next((each for each in found if folded(each.text) == folded(text)), None)
        if twin is None:
            found.append(_Value(text, item))
        elif twin.text == text:
            scope.problems.add(item, f"{quoted(text)} is listed twice", "remove one")
        else:
            message = f"{quoted(twin.text)} and {quoted(text)} are both `{folded(text)}` in a name"
            scope.problems.add(item, message, f"spell one of the values of `{axis}` differently")
    return found


def _text(node: Node) -> str | None:
    return str(node.number) if node.number is not None else node.text


def _excluded(
    node: Node | None, axes: Mapping[str, list[_Value]], scope: Scope
) -> Iterator[Mapping[str, str]]:
    for item in node.items if node else ():
        rule: dict[str, str] = {}
        for axis, child in item.entries.items():
            text = _text(child)
            if axis not in axes:
                message = f"this matrix has no {quoted(axis)}"
                scope.problems.add_key(child, message, near(axis, axes))
                continue
            known = [each.text for each in axes[axis]]
            if text in known:
                rule[axis] = text
            elif text is not None:
                message = f"`{axis}` is never {quoted(text)}"
                scope.problems.add(child, message, near(text, known))
        if rule:
            yield rule


def _is_in(rule: Mapping[str, str], row: _Row) -> bool:
    texts = {axis: each.text for axis, each in row}
    return rule.items() <= texts.items()
