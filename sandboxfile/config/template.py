"""One merged template as the model has it; the only place that knows the defaults."""

from collections.abc import Callable, Mapping
from typing import get_args

from sandboxfile.config import addresses, bases, instructions, numbers, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.expand import KINDS, SUGAR, is_put_in
from sandboxfile.config.problems import Fault
from sandboxfile.config.scope import Scope, is_true, number, value
from sandboxfile.model import INHERIT, Inherit, Ready, ReadyKind, Resources, Template
from sandboxfile.places import Position

KEYS = (
    "base",
    "packages",
    "env",
    "user",
    "workdir",
    "files",
    "run",
    "steps",
    "start",
    "ready",
    "resources",
    "tags",
    "pre_boot",
    "inherit",
)


def read(
    name: str, node: Node, scope: Scope, *, key: str, extends: tuple[str, ...]
) -> Template | None:
    """Return the template; None when it cannot be one, which is then among the problems.

    `key` is what its file calls it, and `extends` are those that it takes its configuration from.
    """
    at = node.key_at or node.at
    _refuse_mixture(node, scope)
    user = scope.text(value(node, "user"), values.user)
    workdir = scope.text(value(node, "workdir"), values.image_path)
    steps = instructions.read(node, scope, user=user, workdir=workdir)
    ready = value(node, "ready")
    template = {
        "start": scope.text(_chomped(value(node, "start")), values.command),
        "pre_boot": scope.text(value(node, "pre_boot"), values.script),
        "ready": _ready(ready, scope) if ready else None,
        "resources": _resources(value(node, "resources"), scope),
        "tags": tags(value(node, "tags"), scope),
        "inherit": _inherit(value(node, "inherit"), scope),
    }
    written = value(node, "base")
    if written is None:
        lost = "base" in node.entries and node.entries["base"].is_lost
        # What it extends may have one, and was complained of.
        if "extends" not in node.entries and not lost:
            hint = "for instance `base: python:3.12-slim`"
            scope.problems.add_key(node, f"template `{name}` needs `base`", hint)
        return None
    base = bases.read(written, scope)
    if base is None:
        return None
    return Template(
        name=name,
        base=base,
        instructions=steps,
        user=user,
        workdir=workdir,
        at=at,
        places=_places(node),
        key=key,
        member=scope.member,
        matrix=scope.matrix,
        extends=extends,
        **template,  # type: ignore[arg-type]
    )


def _places(node: Node) -> Mapping[str, Position]:
    return {
        key: child.key_at or child.at
        for key, child in node.entries.items()
        if key in KEYS and child.content is not None
    }


def _refuse_mixture(node: Node, scope: Scope) -> None:
    steps = value(node, "steps")
    if steps is None:
        return
    for key in SUGAR:
        if (child := value(node, key)) is not None:
            message = f"`{key}` and `steps` exclude each other"
            line = (steps.key_at or steps.at).line
            hint = f"make it a step (`steps` is at line {line})"
            scope.problems.add_key(child, message, hint)


def _chomped(node: Node | None) -> Node | None:
    """Take the line break away that `start: |` leaves at the end of a single line."""
    if node is None or node.text is None:
        return node
    return Node(node.text.rstrip("\n"), node.at, node.key_at, node.raw, node.key_raw)


def tags(node: Node | None, scope: Scope) -> tuple[str, ...]:
    """Return tags, each once, in written order."""
    found: list[str] = []
    for item in node.items if node else ():
        text = scope.text(item, values.tag)
        if text is not None and text in found:
            scope.problems.add(item, f"{quoted(text)} is listed twice", "remove one")
        elif text is not None:
            found.append(text)
    return tuple(found)


def _inherit(node: Node | None, scope: Scope) -> tuple[Inherit, ...]:
    """Return what is taken over, sorted; words that are not known are the schema's to report."""
    if node is None or is_true(node, scope):
        return INHERIT
    wanted = scope.texts(node.items)
    return tuple(each for each in INHERIT if each in wanted)


# --- resources -------------------------------------------------------------------------------


def _resources(node: Node | None, scope: Scope) -> Resources:
    cpu = value(node, "cpu") if node else None
    memory = value(node, "memory") if node else None
    default = Resources()
    return Resources(
        cpu=_number(cpu, numbers.cpu, scope) or default.cpu,
        memory=_memory(memory, scope) or default.memory,
    )


def _number(node: Node | None, grammar: Callable[[int], Fault | None], scope: Scope) -> int | None:
    found = number(node, scope)
    if node is None or found is None:
        return None
    if node.number is not None and node.raw != str(found):
        message = f"{quoted(node.raw)} is not a plain whole number"
        scope.problems.add(node, message, f"write {found}")
        return None
    return None if scope.problems.fault(node, grammar(found)) else found


def _memory(node: Node | None, scope: Scope) -> int | None:
    if node is None or node.text is None or (is_put_in(node) and numbers.is_whole(node.text)):
        return _number(node, numbers.memory, scope)
    size = numbers.mebibytes(node.text)
    if isinstance(size, Fault):
        scope.problems.fault(node, size)
        return None
    return None if scope.problems.fault(node, numbers.memory(size)) else size


# --- ready -----------------------------------------------------------------------------------


def _ready(node: Node, scope: Scope) -> Ready | None:
    if node.text is not None:
        command = scope.text(_chomped(node), values.command)
        return Ready(kind="command", value=command, at=node.at) if command else None
    if not isinstance(node.content, dict):
        return None
    kind = scope.one_of(node, KINDS[("ready",)], "`ready`", beside=("status",))
    status = value(node, "status")
    if status is not None and kind not in (None, "url"):
        message = f"`status` belongs to `url`, not to `{kind}`"
        scope.problems.add_key(status, message, "remove it")
    if kind is None:
        return None
    code = _number(status, _status, scope) if status else 200
    text = _READERS[kind](node.entries[kind], scope)
    if text is None or code is None:
        return None
    return Ready(kind=_READY_KINDS[kind], value=text, status=code, at=node.key_at or node.at)


_READY_KINDS: Mapping[str, ReadyKind] = {kind: kind for kind in get_args(ReadyKind)}


def _status(number: int) -> Fault | None:
    if 100 <= number <= 599:  # noqa: PLR2004 - RFC 9110, section 15
        return None
    return Fault(f"{number} is not an HTTP status", "write for instance 200")


def _port(node: Node, scope: Scope) -> str | None:
    number = _number(node, numbers.port, scope)
    return None if number is None else str(number)


def _delay(node: Node, scope: Scope) -> str | None:
    if node.text is None:
        if node.number is not None:
            message = f"`delay` needs a unit, {quoted(node.raw)} has none"
            scope.problems.add(node, message, f"write `{node.raw}s`")
        return None
    seconds = numbers.seconds(node.text)
    if isinstance(seconds, Fault):
        scope.problems.fault(node, seconds)
        return None
    return str(seconds)


def _text(grammar: Callable[[str], Fault | None]) -> Callable[[Node, Scope], str | None]:
    return lambda node, scope: scope.text(_chomped(node), grammar)


_READERS: Mapping[str, Callable[[Node, Scope], str | None]] = {
    "command": _text(values.command),
    "url": _text(addresses.url),
    "port": _port,
    "file": _text(values.image_path),
    "process": _text(values.process),
    "delay": _delay,
}
