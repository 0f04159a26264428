"""Check a document against the JSON schema; every problem in our own words, at its place.

The readers in this package know most mistakes better and complain first. What is left to the
schema is structure: unknown keys, wrong types, words out of a list.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sandboxfile.config import structure
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import Problems, near

DIRECTORY = Path(__file__).parents[1] / "schemas"
CONFIGURATION = DIRECTORY / "novita-1.schema.json"

# What may stand where a number or a truth value is wanted: it becomes one when it is put in.
REFERENCE = r"^\$\{(matrix|var)\.[A-Za-z_][A-Za-z0-9_-]*\}$"

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
}
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def load(path: Path = CONFIGURATION) -> dict[str, Any]:
    """Return the schema as shipped in the package."""
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def check(roots: Iterable[Node], problems: Problems) -> None:
    """Add everything in these documents that does not fit the schema to the problems."""
    schema = load()
    fits = structure.of(schema)
    roots = [root for root in roots if not fits(root)]
    if not roots:
        return
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole)
    validator = extend(Draft202012Validator, type_checker=checker)(schema)  # type: ignore[no-untyped-call]
    for root in roots:
        for error in validator.iter_errors(root.plain()):
            _report(root, error, problems)


def _is_whole(_: object, value: object) -> bool:
    """JSON Schema counts 1.0 as an integer; written so, it is a mistake."""
    return isinstance(value, int) and not isinstance(value, bool)


def _report(root: Node, error: Any, problems: Problems) -> None:
    path = tuple(error.absolute_path)
    node = root.find(path)
    if "propertyNames" in error.absolute_schema_path:
        key = node.entries[error.instance]
        problems.add_key(key, f"{quoted(error.instance)} cannot be a name {_inside(path)}")
        return
    match error.validator:
        case "additionalProperties":
            _unknown_keys(node, path, error.schema, problems)
        case "required":
            for key in sorted(set(error.validator_value) - node.entries.keys()):
                problems.add_key(node, f"{_where(path)} needs `{key}`")
        case "type":
            problems.add(node, *_wrong_type(node, path, error.schema))
        case "pattern" if error.validator_value == REFERENCE:
            problems.add(node, *_wrong_type(node, path, error.schema))
        case _:
            problems.add(node, *_other(node, path, error))


def _unknown_keys(
    node: Node, path: tuple[str | int, ...], schema: Mapping[str, Any], problems: Problems
) -> None:
    known = list(schema.get("properties", {}))
    for key in node.entries:
        if key not in known and not key.startswith("x-"):
            message = f"unknown key {quoted(key)} {_inside(path)}"
            problems.add_key(node.entries[key], message, near(key, known))


def _inside(path: tuple[str | int, ...]) -> str:
    return "at the top level" if not path else f"in {_where(path)}"


def _where(path: tuple[str | int, ...]) -> str:
    """Name a place in the words of the file: template `api`, `templates.api.resources`."""
    match path:
        case ():
            return "this file"
        case ("templates", str() as name):
            return f"template `{name}`"
        case ("targets", str() as name):
            return f"target `{name}`"
        case _:
            return f"`{_dotted(path)}`"


def _dotted(path: Iterable[str | int]) -> str:
    dotted = ""
    for part in path:
        dotted += f"[{part}]" if isinstance(part, int) else f".{part}" if dotted else part
    return dotted


# --- types -----------------------------------------------------------------------------------


# What a map looks like, for who writes something else.
_MAPS: Mapping[str, str] = {
    "env": "{NAME: value}",
    "groups": "{name: [template]}",
    "matrix": "{axis: [one, two]}",
    "packages": "{apt: [git]}",
    "resources": "{cpu: 2, memory: 1024}",
    "targets": "{prod: {provider: novita}}",
    "templates": "{web: {base: debian:12}}",
    "variables": "{name: {default: value}}",
}
# What numbers there are, for who writes one with a fraction.
_NUMBERS: Mapping[str | int, str] = {
    "cpu": "write 1, or an even number up to 32",
    "memory": "write whole MiB, or a size like `512MiB` or `2GiB`",
}
_TEXTS = {"base", "run"}  # what may be a map too, but where a number or `false` is meant as text
_OF_TEMPLATE = len(("templates", "NAME"))


def _accepted(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types a value may have.

    That `null` unsets goes without saying, and that a reference may stand for a number.
    """
    types = schema["type"]
    silent = {"null", "string"} if schema.get("pattern") == REFERENCE else {"null"}
    given = (types,) if isinstance(types, str) else tuple(types)
    return tuple(each for each in given if each not in silent)


def _wrong_type(
    node: Node, path: tuple[str | int, ...], schema: Mapping[str, Any]
) -> tuple[str, str]:
    types, words = _accepted(schema), tuple(schema.get("items", {}).get("enum", ()))
    wanted = " or ".join(_TYPES[each] for each in types)
    if types == ("string",) and node.raw and not isinstance(node.content, str):
        return _unquoted(node)
    if _is_digits(node.raw) and isinstance(node.content, float):
        return f"{quoted(node.raw)} is too large a number", ""
    return f"{_where(path)} must be {wanted}, not {_described(node)}", _remedy(
        node, path, types, words
    )


def _unquoted(node: Node) -> tuple[str, str]:
    """Explain a scalar that YAML does not read as text, with the exact text to write."""
    match node.content:
        case bool():
            read = "true or false"
        case None:
            read = "nothing"
        case float() | int() if (shown := _shown_number(node)) != node.raw:
            read = f"a number ({shown})"
        case _:
            read = "a number"
    return f"{quoted(node.raw)} is read as {read}, and text is wanted", f'write "{node.raw}"'


def _is_digits(raw: str) -> bool:
    return raw.lstrip("+-").isdigit()


def _shown_number(node: Node) -> str:
    if isinstance(node.content, float) and _is_digits(node.raw):
        return node.raw
    if isinstance(node.content, float) and node.content.is_integer():
        return str(int(node.content))
    return str(node.content)


def _described(node: Node) -> str:
    match node.content:
        case bool():
            return quoted(node.raw)
        case None:
            return "empty"
        case int() | float():
            return f"the number {quoted(node.raw)}"
        case str():
            return f"the text {quoted(node.content)}"
        case tuple():
            return "a list"
        case _:
            return "a map"


def _remedy(
    node: Node, path: tuple[str | int, ...], types: tuple[str, ...], words: tuple[str, ...]
) -> str:
    text, key = node.text, path[-1] if path else ""
    if "object" in types and key in _MAPS:
        return f"write it like `{key}: {_MAPS[str(key)]}`"
    if text is None:
        return _remedy_of_scalar(node, path)
    if len(path) == _OF_TEMPLATE and path[0] == "templates" and "\n" not in text:
        return f"write {{base: {text}}} if that is what it is built on"
    if "boolean" in types and text.lower() in _BOOLEANS:
        return f"write {_BOOLEANS[text.lower()]}"
    if "boolean" in types and text in {"true", "false"}:
        return f"write {text} without quotes"
    if "integer" in types and text.isascii() and text.isdigit():
        return f"write {int(text)} without quotes"
    if words and text not in words:
        return near(text, ("true", "false", *words) if "boolean" in types else words)
    if "array" in types and "\n" not in text:
        return f"write [{text}]"
    return ""


def _remedy_of_scalar(node: Node, path: tuple[str | int, ...]) -> str:
    if not isinstance(node.content, bool | int | float) or not node.raw:
        return ""
    if "matrix" in path or _TEXTS & {*path[-2:]}:
        return f'write "{node.raw}"'
    return _NUMBERS.get(path[-1], "") if isinstance(node.content, float) else ""


# --- the rest --------------------------------------------------------------------------------


def _other(node: Node, path: tuple[str | int, ...], error: Any) -> tuple[str, str]:
    where, limit = _where(path), error.validator_value
    match error.validator:
        case "enum":
            words = [each for each in limit if each is not None]
            hint = near(str(node.content), [str(each) for each in words])
            return f"{where} cannot be {_described(node)}", hint
        case "const":
            return f"{where} must be {limit}, not {_described(node)}", ""
        case "minItems" | "minProperties" | "minLength":
            return f"{where} must not be empty", "remove it, or fill it"
        case "minimum":
            return f"{where} must be at least {limit}, not {quoted(node.raw)}", ""
        case "maximum":
            return f"{where} must be at most {limit}, not {quoted(node.raw)}", ""
        case _:
            hint = str(error.schema.get("patternErrorMessage", ""))
            return f"{where} cannot be {_described(node)}", hint
