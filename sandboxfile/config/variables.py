"""The variables that a workspace declares, and the values they have in this run."""

from collections.abc import Mapping

from sandboxfile.config import leaks, numbers, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.given import Given
from sandboxfile.config.problems import Fault, Problems, near
from sandboxfile.config.scope import value
from sandboxfile.errors import UsageError
from sandboxfile.frozen import dataclass

TYPES = ("string", "integer", "boolean")
_KEYS = ("type", "default", "enum", "env", "description")


def read(
    declared: Mapping[str, Node], given: Given, problems: Problems, *, complete: bool
) -> dict[str, str | None]:
    """Return each variable's value; None where it has none, which is then among the problems.

    `--var` comes before the environment, and that before the default. Raises UsageError for a
    `--var` that nothing declares, unless a file that might is not `complete`.
    """
    found = {}
    for name, node in declared.items():
        if not problems.key_fault(node, values.variable_key(name)) and isinstance(
            node.content, dict
        ):
            found[name] = _value(name, node, given, problems)
    for name in given.options:
        if name not in declared and complete:
            hint = near(name, declared) or "novita.yaml declares none, under `variables:`"
            raise UsageError(f"`--var {name}=...`: there is no variable `{name}`", hint=hint)
    return found


def environment(declared: Mapping[str, Node]) -> tuple[str, ...]:
    """Return the names of the environment's variables that may change a value."""
    named = (value(node, "env") for node in declared.values())
    return tuple(sorted({node.text for node in named if node is not None and node.text}))


def words(node: Node) -> tuple[str, ...]:
    """Return the only values that a declaration allows, none where it allows any; never raises."""
    enum, written = value(node, "enum"), value(node, "type")
    kind = (written.text if written else None) or "string"
    if enum is None:
        return ("true", "false") if kind == "boolean" else ()
    found = (_literal(item, kind, Problems({})) for item in enum.items)
    return tuple(text for text in found if text is not None)


@dataclass(frozen=True, slots=True)
class _Type:
    """What a variable's value must be; `words` are the only ones possible, if there are any."""

    kind: str
    words: tuple[str, ...] = ()


def _value(name: str, node: Node, given: Given, problems: Problems) -> str | None:
    written = value(node, "type")
    kind = (written.text if written else None) or "string"
    if kind not in TYPES:
        return None  # the schema says so
    env, default, enum = value(node, "env"), value(node, "default"), value(node, "enum")
    variable = env.text if env else None
    if env and variable and problems.fault(env, values.environment_variable(variable)):
        return None
    words = (_literal(item, kind, problems) for item in (enum.items if enum else ()))
    wanted = _Type(kind, tuple(text for text in words if text is not None))
    fallback = _default(default, wanted, problems) if default is not None else None
    for source, text in (
        (f"--var {name}", given.options.get(name)),
        (variable, given.environ.get(variable or "") or None),
    ):
        if source is not None and text is not None:
            return _outside(text, source, wanted, node, problems)
    if default is None and all(key in _KEYS or key.startswith("x-") for key in node.entries):
        ways = [f"give `--var {name}=...`", *([f"set `{variable}`"] if variable else [])]
        hint = f"{', '.join(ways)}, or write a `default`"
        problems.add_key(node, f"variable `{name}` has no value", hint)
    return fallback


def _default(node: Node, wanted: _Type, problems: Problems) -> str | None:
    text = _literal(node, wanted.kind, problems)
    if text is None or problems.fault(node, _fault(text, wanted)):
        return None
    return text


def _literal(node: Node, kind: str, problems: Problems) -> str | None:
    """Return a value of the file as text, if it is of the type."""
    match node.content:
        case bool() if kind == "boolean":
            return "true" if node.content else "false"
        case int() if kind == "integer" and not isinstance(node.content, bool):
            return str(node.content)
        case str() if kind == "string":
            fault = values.stated(node.content, "the values of a variable")
            return None if problems.fault(node, fault) else node.content
        case bool() | int() | float() | str():
            wanted = {"string": "text", "integer": "a whole number", "boolean": "true or false"}
            hint = f'write "{node.raw}", or `type: {_type(node)}`' if kind == "string" else ""
            shown = quoted(node.raw or str(node.content))
            problems.add(node, f"{shown} is not {wanted[kind]}", hint)
        case _:
            pass  # the schema says so
    return None


def _type(node: Node) -> str:
    return "boolean" if isinstance(node.content, bool) else "integer"


def _outside(text: str, source: str, wanted: _Type, node: Node, problems: Problems) -> str | None:
    """Check a value that is not in the file, at the place that declares it."""
    fault = _fault(text, wanted)
    if fault is None:
        return text
    problems.add_key(node, f"{fault.message}, from `{source}`", fault.hint)
    return None


def _fault(text: str, wanted: _Type) -> Fault | None:
    if (leak := leaks.find_value(text)) is not None:
        hint = "a variable's value stays in images and logs: declare it under `secrets:`"
        return Fault(f"this looks like {leak.kind}", hint, leak.text)
    if wanted.kind == "integer" and not numbers.is_whole(text):
        return Fault(f"{quoted(text)} is not a whole number")
    if wanted.kind == "boolean" and text not in {"true", "false"}:
        return Fault(f"{quoted(text)} is neither true nor false")
    if wanted.words and text not in wanted.words:
        return Fault(f"{quoted(text)} is none of its values", near(text, wanted.words))
    return None
