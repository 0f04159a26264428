"""Says whether a document fits a JSON schema, fast: the schema as a handful of nested functions.

It gives the verdict alone. What is wrong, and in which words, `schema` finds out with a validator
whose import alone takes longer than this does for a thousand templates. Knows the keywords that our
schemas use, with the meaning of JSON Schema 2020-12 (Validation, section 6; Core, section 10), and
refuses to read a schema with any other.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from sandboxfile.config.document import Node

Check = Callable[[Node], bool]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),  # written 1.0 it is a mistake
    "number": (int, float),
    "boolean": (bool,),
    "array": (tuple,),
    "object": (dict,),
    "null": (type(None),),
}
_SAID = frozenset(
    "$schema $id $defs $comment title description examples default patternErrorMessage".split()  # noqa: SIM905 - it fits a line
)
_OBJECT = frozenset(["properties", "patternProperties", "additionalProperties", "propertyNames"])
_LITERAL = re.compile(r"\^([A-Za-z0-9-]+)")


def of(schema: Mapping[str, Any]) -> Check:
    """Return the test for documents. Raises ValueError for a schema that needs a real validator."""
    return _Schemas(schema).check


class _Schemas:
    """The definitions of one schema; each becomes a function once, whoever refers to it."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        self._made: dict[str, Check] = {}
        self.check = self._of(schema)

    def _of(self, schema: Mapping[str, Any]) -> Check:
        checks = _together(self._checks(schema))
        if "type" not in schema:
            return checks
        words = schema["type"]
        words = [words] if isinstance(words, str) else words
        types = frozenset(kind for word in words for kind in _TYPES[word])
        return partial(_is_of, types, None if checks is _anything else checks)

    def _checks(self, schema: Mapping[str, Any]) -> Iterator[Check]:
        if "$ref" in schema:
            yield self._reference(schema["$ref"].removeprefix("#/$defs/"))
        if not _OBJECT.isdisjoint(schema):
            yield self._members(schema)
        if "items" in schema:
            yield partial(_items, self._of(schema["items"]))
        if "if" in schema:
            yield partial(_implies, self._of(schema["if"]), self._of(schema["then"]))
        known = {"type", "$ref", "items", "if", "then"} | _OBJECT | _SAID
        for word in schema.keys() - known:
            if word not in _LIMITS:
                raise ValueError(f"`{word}` is not known here")
            yield partial(_LIMITS[word], schema[word])

    def _reference(self, name: str) -> Check:
        if name not in self._made:
            self._made[name] = partial(self._later, name)  # it may refer to itself
            self._made[name] = self._of(self._definitions[name])
        return self._made[name]

    def _later(self, name: str, node: Node) -> bool:
        return self._made[name](node)

    def _members(self, schema: Mapping[str, Any]) -> Check:
        tests = self._tests(schema)
        known = {key: tests(key) for key in schema.get("properties", {})}

        def check(node: Node) -> bool:
            content = node.content
            if type(content) is dict:
                for key, child in content.items():
                    test = known.get(key) or tests(key)
                    if not test(child):
                        return False
            return True

        return check

    def _tests(self, schema: Mapping[str, Any]) -> Callable[[str], Check]:
        """Return what gives, for a key, the test that its value has to stand."""
        properties = {key: self._of(each) for key, each in schema.get("properties", {}).items()}
        patterns = [
            (_finds(pattern), self._of(each))
            for pattern, each in schema.get("patternProperties", {}).items()
        ]
        others = schema.get("additionalProperties", True)
        other = _never if others is False else None if others is True else self._of(others)
        names = schema.get("propertyNames", {})
        if names.keys() - {"pattern"}:
            raise ValueError("`propertyNames` knows `pattern` alone")
        is_name = _finds(names.get("pattern", ""))

        def tests(key: str) -> Check:
            if not is_name(key):
                return _never
            found = [test for finds, test in patterns if finds(key)]
            if key in properties:
                found.append(properties[key])
            elif not found and other is not None:
                found.append(other)
            return _together(found)

        return tests


# --- keywords: they say nothing of values of another type ------------------------------------


def _never(_: Node) -> bool:
    return False


def _anything(_: Node) -> bool:
    return True


def _together(checks: Iterable[Check]) -> Check:
    checks = tuple(checks)
    if len(checks) == 1:
        return checks[0]
    return partial(_all, checks) if checks else _anything


def _all(checks: Iterable[Check], node: Node) -> bool:
    for check in checks:  # noqa: SIM110 - `all` would make a generator, thousands of times
        if not check(node):
            return False
    return True


def _is_of(types: frozenset[type], further: Check | None, node: Node) -> bool:
    return type(node.content) in types and (further is None or further(node))


def _items(check: Check, node: Node) -> bool:
    content = node.content
    return type(content) is not tuple or all(map(check, content))


def _implies(condition: Check, then: Check, node: Node) -> bool:
    return not condition(node) or then(node)


def _finds(pattern: str) -> Callable[[str], object]:
    """Return the test whether a pattern is found in a text; compiled when it is first needed."""
    literal = _LITERAL.fullmatch(pattern)
    if literal is not None:
        start = literal[1]
        return lambda text: text.startswith(start)
    return partial(_search, pattern) if pattern else lambda _: True


_compiled = cache(re.compile)  # `re.search` takes as long to find a pattern again as to use it


def _search(pattern: str, text: str) -> object:
    return _compiled(pattern).search(text)


def _pattern(pattern: str, node: Node) -> bool:
    text = node.text
    return text is None or _search(pattern, text) is not None


def _number(node: Node) -> int | float | None:
    content = node.content
    return content if type(content) in {int, float} else None  # type: ignore[return-value]


def _minimum(least: float, node: Node) -> bool:
    number = _number(node)
    return number is None or not number < least


def _maximum(most: float, node: Node) -> bool:
    number = _number(node)
    return number is None or not number > most


def _multiple(divisor: int, node: Node) -> bool:
    number = _number(node)
    return number is None or not number % divisor


def _is_one(values: list[Any], node: Node) -> bool:
    """Compare as JSON does, where `true` is not 1."""
    content = node.content
    is_bool = isinstance(content, bool)
    return any(content == value and is_bool is isinstance(value, bool) for value in values)


_LIMITS: Mapping[str, Callable[[Any, Node], bool]] = {
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _maximum,
    "multipleOf": _multiple,
    "enum": _is_one,
    "const": lambda value, node: _is_one([value], node),
    "required": lambda keys, node: (
        not isinstance(node.content, dict) or all(key in node.entries for key in keys)
    ),
    "minItems": lambda least, node: type(node.content) is not tuple or len(node.items) >= least,
    "minProperties": lambda least, node: (
        type(node.content) is not dict or len(node.entries) >= least
    ),
    "minLength": lambda least, node: node.text is None or len(node.text) >= least,
}
