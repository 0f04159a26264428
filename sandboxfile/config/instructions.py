"""What is done on top of the base: the sugar in its fixed order, or `steps` in their own."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import get_args

from sandboxfile.config import projects, specifiers, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.names import is_glob
from sandboxfile.config.problems import Fault, near
from sandboxfile.config.scope import Grammar, Scope, value
from sandboxfile.model import (
    Account,
    Copy,
    Env,
    Install,
    InstallProject,
    Instruction,
    Manager,
    Run,
    Workdir,
)
from sandboxfile.places import Position

MANAGERS: tuple[Manager, ...] = get_args(Manager)
_COPY_KEYS = {"from", "to", "owner", "mode", "ignore", "allow"}
STEPS = ("copy", "run", "env", "workdir", *MANAGERS)


def read(
    node: Node, scope: Scope, *, user: str | None, workdir: str | None
) -> tuple[Instruction, ...]:
    """Return the instructions of a merged template.

    The order of sugar is: env, packages.apt, accounts, other packages, files, run, workdir.
    Accounts come after apt, which may create users of its own, and before what they own.
    """
    steps = value(node, "steps")
    if steps is not None:
        first: list[Instruction] = []
        rest = list(_steps(steps.items, scope, user=user, workdir=workdir))
    else:
        first, rest = _sugar(node, scope, workdir=workdir)
    written = value(node, "user")
    accounts = _accounts(user, written.at if written else node.at, rest)
    last = value(node, "workdir")
    at = (last.key_at or last.at) if last else node.at
    end = (Workdir(path=workdir, owner=user, at=at),) if workdir else ()
    return (*first, *accounts, *rest, *end)


def _sugar(
    node: Node, scope: Scope, *, workdir: str | None
) -> tuple[list[Instruction], list[Instruction]]:
    env, packages = value(node, "env"), value(node, "packages")
    files, run = value(node, "files"), value(node, "run")
    first: list[Instruction] = [*_env(env, scope)]
    rest: list[Instruction] = []
    for manager in MANAGERS:
        listed = value(packages, manager) if packages else None
        if listed is not None:
            place = first if manager == "apt" else rest
            place.extend(_packages(listed, manager, scope, workdir=workdir))
    for item in files.items if files else ():
        rest.extend(_copy(item, scope))
    for item in run.items if run else ():
        rest.extend(_run(item, scope))
    return first, rest


def _accounts(
    user: str | None, at: Position, instructions: Iterable[Instruction]
) -> Iterator[Account]:
    """Yield each user once that is named and that an image may lack."""
    named = [(user, at)]
    for each in instructions:
        match each:
            case Run():
                named.append((each.user, each.at))
            case Copy(owner=str()):
                named.append((str(each.owner).partition(":")[0], each.at))
            case _:
                pass
    seen = {None, "root"}
    for name, place in named:
        if name not in seen and name is not None and not name.isdigit():
            yield Account(user=name, at=place)
        seen.add(name)


# --- steps -----------------------------------------------------------------------------------


def _steps(
    items: Iterable[Node], scope: Scope, *, user: str | None, workdir: str | None
) -> Iterator[Instruction]:
    for item in items:
        if item.text is not None:
            message = f"a step says what it does, {quoted(item.text)} does not"
            scope.problems.add(item, message, "write `- run: ...`")
        elif not isinstance(item.content, dict):
            continue
        elif (kind := _kind(item, scope)) is not None:
            yield from _step(kind, item, scope, user=user, workdir=workdir)


def _kind(item: Node, scope: Scope) -> str | None:
    if _is_unquoted(item, scope):
        return None
    return scope.one_of(item, STEPS, "a step", beside=("user", "secrets"))


def _is_unquoted(item: Node, scope: Scope) -> bool:
    """Complain of a command with `: ` in it, which YAML makes a map of."""
    key = next(iter(item.entries), "")
    if " " not in key.strip():
        return False
    message = "this is read as a map, because of the `: ` in it"
    scope.problems.add_key(item.entries[key], message, "put the whole text in quotes")
    return True


def _step(
    kind: str, item: Node, scope: Scope, *, user: str | None, workdir: str | None
) -> Iterator[Instruction]:
    written = item.entries[kind]
    for key in ("user", "secrets"):
        if kind != "run" and value(item, key) is not None:
            hint = "use `owner` for files" if key == "user" else "remove it"
            message = f"`{key}` belongs to a step with `run`"
            scope.problems.add_key(item.entries[key], message, hint)
    match kind:
        case "copy":
            yield from _copy(written, scope)
        case "run":
            yield from _run(item, scope)
        case "env":
            yield from _env(written, scope)
        case "workdir":
            path = scope.text(written, values.image_path)
            if path is not None:
                yield Workdir(path=path, owner=user, at=written.key_at or written.at)
        case _:
            manager = next(each for each in MANAGERS if each == kind)
            yield from _packages(written, manager, scope, workdir=workdir)


# --- each kind -------------------------------------------------------------------------------


def _env(node: Node | None, scope: Scope) -> Iterator[Env]:
    variables = {}
    for name, child in node.entries.items() if node else ():
        if scope.problems.key_fault(child, values.variable(name)):
            continue
        if child.content is None:
            message = f"{quoted(name)} has no value, and none is inherited to unset"
            scope.problems.add(child, message, f'write {name}: "" for an empty text')
        text = scope.text(child, partial(values.variable_value, name))
        if text is not None:
            variables[name] = text
    if node is not None and variables:
        yield Env(values=variables, at=node.key_at or node.at)


def _packages(
    node: Node, manager: Manager, scope: Scope, *, workdir: str | None
) -> Iterator[Install | InstallProject]:
    if isinstance(node.content, dict):
        project = projects.read(node, manager, scope, workdir=workdir)
        if project is not None:
            yield project
        return
    packages: list[str] = []
    for item in node.items:
        text = scope.text(item, partial(specifiers.package, manager))
        if text is not None and text in packages:
            scope.problems.add(item, f"{quoted(text)} is listed twice", "remove one")
        elif text is not None:
            packages.append(text)
    if packages:
        at = node.key_at or node.at
        yield Install(manager=manager, packages=tuple(packages), at=at)


def _run(item: Node, scope: Scope) -> Iterator[Run]:
    if isinstance(item.content, dict) and "run" not in item.entries:
        if not _is_unquoted(item, scope) and set(item.entries) <= {"user", "secrets"}:
            scope.problems.add(item, "an item of `run` needs `run`, the command")
        return
    written = item.entries.get("run", item)
    command = scope.text(written, values.script)
    user = scope.text(value(item, "user"), values.user)
    secrets = value(item, "secrets")
    wanted = tuple(_declared(secrets, scope)) if secrets else ()
    if command is not None:
        yield Run(command=command.rstrip("\n"), user=user, secrets=wanted, at=written.at)


def _declared(secrets: Node, scope: Scope) -> Iterator[str]:
    for item in secrets.items:
        if item.text in scope.secrets:
            yield str(item.text)
        elif item.text is not None:
            hint = near(item.text, scope.secrets) or "declare it at the top, under `secrets:`"
            scope.problems.add(item, f"there is no secret {quoted(item.text)}", hint)


def _copy(item: Node, scope: Scope) -> Iterator[Copy]:
    if item.text is not None:
        source, arrow, to = item.text.partition(" -> ")
        if scope.problems.fault(item, _arrow(item.text, source, arrow, to)):
            return
        inside = scope.inside(values.source, item)
        if not scope.problems.fault(item, _way((source.strip(),), to.strip(), inside)):
            root = scope.beside(item)
            yield Copy(sources=(source.strip(),), to=to.strip(), root=root, at=item.at)
        return
    if isinstance(item.content, dict) and not _is_unquoted(item, scope):
        yield from _copy_map(item, scope)


def _arrow(text: str, source: str, arrow: str, to: str) -> Fault | None:
    example = f"write `{source.strip() or 'app/'} -> /path/in/the/image`"
    if not arrow:
        bare_source, bare, bare_to = text.partition("->")
        if bare:
            hint = f"write `{bare_source.strip()} -> {bare_to.strip()}`"
            return Fault(f"{quoted(text)} needs a space on each side of `->`", hint, "->")
        return Fault(f"{quoted(text)} says no place in the image", example)
    if " -> " in to:
        return Fault(f"{quoted(text)} has more than one `->`", "write one item for each")
    if not source.strip() or not to.strip():
        return Fault(f"{quoted(text)} lacks a side of `->`", example)
    return None


def _copy_map(item: Node, scope: Scope) -> Iterator[Copy]:
    origin, to_node = value(item, "from"), value(item, "to")
    for key, child in (("from", origin), ("to", to_node)):
        if child is None:
            if set(item.entries) <= _COPY_KEYS:
                hint = "write {from: app/, to: /app/}"
                scope.problems.add(item, f"a copy needs `{key}`", hint)
            return
    assert origin is not None
    assert to_node is not None
    written = origin.items or (origin,)
    sources = scope.texts(written, scope.inside(values.source, written[0]))
    to = scope.text(to_node, values.image_path)
    owner = scope.text(value(item, "owner"), values.owner)
    mode = scope.text(value(item, "mode"), values.mode)
    ignore = value(item, "ignore")
    rules = scope.texts(ignore.items, values.invisible) if ignore else ()
    allow = value(item, "allow")
    allowed = scope.texts(allow.items, values.invisible) if allow else ()
    if to is None or len(sources) < len(written):
        return
    if scope.problems.fault(to_node, _landing(sources, to)):
        return
    yield Copy(
        sources=sources,
        to=to,
        root=scope.beside(written[0]),
        owner=owner,
        mode=mode,
        ignore=rules,
        allow=allowed,
        at=item.at,
    )


def _way(sources: tuple[str, ...], to: str, inside: Grammar) -> Fault | None:
    """Check both sides of an arrow, underlining the one that is wrong."""
    for text, grammar in (
        *((source, inside) for source in sources),
        (to, values.image_path),
    ):
        if fault := grammar(text):
            return Fault(fault.message, fault.hint, fault.token or text)
    if fault := _landing(sources, to):
        return Fault(fault.message, fault.hint, to)
    return None


def _landing(sources: tuple[str, ...], to: str) -> Fault | None:
    several = len(sources) > 1 or any(map(is_glob, sources))
    if several and not to.endswith("/"):
        return Fault("several files need a directory to go to", f"end it with `/`: {to}/")
    return None
