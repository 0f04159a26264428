"""From the path of a `novita.yaml` to a Workspace, or to everything that is wrong with it."""

import gc
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from sandboxfile import __version__, reading
from sandboxfile.config import document, expand, template, values, workspace
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import Problems, near
from sandboxfile.config.scope import Scope, value
from sandboxfile.errors import ConfigError
from sandboxfile.model import NAME, Template, TemplateBase, Workspace
from sandboxfile.places import Position, Problem

NAMES = ("novita.yaml", "novita.yml")
VERSION = 1
LATER = ("members", "groups", "variables", "matrix")  # known words without a meaning yet
_SHORT_ONLY = ("name", *template.KEYS)


# --- finding ---------------------------------------------------------------------------------


def find(directory: Path, file: str | None) -> Path:
    """Return the path of the configuration: `file`, or the one `novita.yaml` of a directory.

    Never looks further up: a directory above may belong to somebody else. Raises ConfigError.
    """
    if file is not None:
        path = directory / file
        if not reading.exists(path):
            raise ConfigError([_missing(path, near(path.name, _listed(path.parent)))])
        return path
    found = [directory / name for name in NAMES if reading.exists(directory / name)]
    if len(found) > 1:
        message = f"there are both `{NAMES[0]}` and `{NAMES[1]}`"
        hint = "remove one, or choose with `--file`"
        raise ConfigError([Problem(Position(_shown(found[0]), 1, 1), message, hint)])
    if not found:
        path = directory / NAMES[0]
        twins = [name for name in _listed(directory) if name.lower().startswith("novita.y")]
        hint = "create one with `sandboxfile init`"
        if twins:
            hint = f"there is `{twins[0]}`: rename it, or choose it with `--file`"
        raise ConfigError([_missing(path, f"looked for {' and '.join(NAMES)}; {hint}")])
    return found[0]


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError:
        return []


def _missing(path: Path, hint: str) -> Problem:
    message = "this file does not exist"
    return Problem(
        Position(_shown(path), 1, 1), message, hint if "did you" in hint or ";" in hint else ""
    )


def _shown(path: Path) -> str:
    """Return the path as a user would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


# --- reading ---------------------------------------------------------------------------------


def load(
    path: Path,
    validated: Callable[[bytes], bool] | None = None,
    remember: Callable[[bytes], None] | None = None,
) -> Workspace:
    """Read a configuration. Raises ConfigError with all its problems, sorted by place.

    The file is read once. `validated` says whether a file with this digest passed the schema
    before, which then is not loaded; `remember` is given the digest after a check without
    problems. Everything but the structure is checked every time.
    """
    with _without_collector():
        return _load(path, validated or (lambda _: False), remember or (lambda _: None))


def _load(
    path: Path, validated: Callable[[bytes], bool], remember: Callable[[bytes], None]
) -> Workspace:
    shown = _shown(path)
    data = _bytes(path, shown)
    text = document.decode(data, shown)
    root, first = document.read(text, shown)
    problems = Problems({shown: text}, first)
    _check_head(root, problems, shown)
    directory = Path(os.path.abspath(path)).parent.resolve()  # noqa: PTH100 - keeps the last link
    scope = Scope(problems=problems, root=directory, directory=directory)
    loaded = _workspace(root, directory / path.name, scope)
    digest = sha256(f"sandboxfile {__version__}\0".encode() + data).digest()
    is_known = validated(digest)
    if problems or not is_known:
        from sandboxfile.config import schema

        schema.check(root, problems)
    problems.end()
    if not is_known:
        remember(digest)
    return loaded


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector from walking a growing tree again and again: half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bytes(path: Path, shown: str) -> bytes:
    """Read a regular file that is not a link to somewhere else, without waiting for a pipe."""
    at = Position(shown, 1, 1)
    try:
        real = Path(os.path.realpath(path))  # unlike resolve(), it bears a link to itself
        if path.is_symlink() and not real.is_relative_to(os.path.realpath(path.parent)):
            message = f"this file is a link that leaves its directory, to {real}"
            raise ConfigError([Problem(at, message, "copy the file here")])
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError([Problem(at, "this is not a regular file")])
            return file.read(document.LIMIT + 1)
    except IsADirectoryError:
        raise ConfigError([Problem(at, "this is a directory, not a file")]) from None
    except OSError as error:
        message = f"this file cannot be read: {(error.strerror or '').lower()}"
        raise ConfigError([Problem(at, message)]) from None


def _check_head(root: Node, problems: Problems, file: str) -> None:
    """Stop at a document whose other problems would make no sense."""
    if root.content is None:
        hint = "begin with `version: 1`, or run `sandboxfile init`"
        raise ConfigError([Problem(Position(file, 1, 1), "this file is empty", hint)])
    if not isinstance(root.content, dict):
        problems.add(root, "this file must be a map", "begin with `version: 1`")
        problems.end()
    version = root.entries.get("version")
    if version is None:
        problems.add_key(root, "`version` is missing", "begin the file with `version: 1`")
    elif version.number is not None and version.number != VERSION:
        message = f"version {version.number} is not known here"
        newer = "a newer sandboxfile reads it; this one reads" if version.number > VERSION else ""
        problems.add(version, message, f"{newer or 'write'} `version: {VERSION}`")
        problems.end()
    elif version.number is None or version.raw != str(VERSION):
        problems.add(version, f"`version` must be the number {VERSION}", f"write {VERSION}")


# --- building --------------------------------------------------------------------------------


def _workspace(root: Node, file: Path, scope: Scope) -> Workspace:
    _refuse_later(root, scope.problems)
    written = _templates(root, scope)
    defaults = value(root, "defaults")
    problems = scope.problems
    merged = expand.inherit(written, defaults, problems)
    merged = {name: expand.interpolate(node, problems) for name, node in merged.items()}
    around = {
        key: expand.interpolate(node, problems)
        for key in workspace.KEYS
        if (node := value(root, key)) is not None
    }
    secrets = workspace.secrets(around.get("secrets"), scope)
    declared = value(root, "secrets")
    inner = Scope(
        problems=problems,
        root=scope.root,
        directory=scope.directory,
        templates=tuple(written),
        secrets=tuple(declared.entries) if declared else (),
    )
    read = {name: template.read(name, node, inner) for name, node in merged.items()}
    templates = {name: each for name, each in read.items() if each is not None}
    _refuse_circles(templates, problems)
    targets = workspace.targets(around.get("targets"), scope)
    return Workspace(
        root=scope.root,
        file=file,
        templates=templates,
        targets=targets,
        default_target=workspace.default_target(
            around.get("default_target"), _names(around.get("targets"), targets), scope
        ),
        engine=workspace.engine(around.get("engine"), scope),
        secrets=secrets,
    )


def _names(written: Node | None, known: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of all targets, also of those that are wrong and not read."""
    return tuple({**(written.entries if written else {}), **known})


def _refuse_later(root: Node, problems: Problems) -> None:
    maps = [root, *(n for n in (root.entries.get("defaults"),) if n)]
    templates = root.entries.get("templates")
    maps += templates.entries.values() if templates else ()
    for each in maps:
        for key in LATER:
            if key in each.entries:
                message = f"`{key}` is not supported by this version yet"
                problems.add_key(each.entries[key], message, "remove it")


def _templates(root: Node, scope: Scope) -> dict[str, Node]:
    """Return the templates as written: those of the long form, or the file itself."""
    templates = root.entries.get("templates")
    problems = scope.problems
    if templates is None:
        return _short(root, scope)
    for key in _SHORT_ONLY:
        if key in root.entries:
            message = f"`{key}` and `templates` exclude each other"
            hint = "move it into a template, or into `defaults` for all of them"
            if key == "name":
                hint = "remove it, templates are named by their keys"
            problems.add_key(root.entries[key], message, hint)
    if not problems and not templates.entries and isinstance(templates.content, (dict, type(None))):
        hint = "write templates:, and a template's name and keys below"
        problems.add_key(templates, "`templates` has no templates", hint)
    found = {}
    for name, node in templates.entries.items():
        if not problems.key_fault(node, values.name(name)) and isinstance(node.content, dict):
            found[name] = node
        elif node.content is None:
            problems.add_key(node, f"template `{name}` is empty", "give it a `base` at least")
    return found


def _short(root: Node, scope: Scope) -> dict[str, Node]:
    for key, hint in (("defaults", "write its keys at the top"), ("extends", "write `templates`")):
        if key in root.entries:
            message = f"`{key}` needs `templates`: this file has one template only"
            scope.problems.add_key(root.entries[key], message, hint)
    entries = {key: node for key, node in root.entries.items() if key in template.KEYS}
    name = _short_name(root, scope)
    if "base" not in entries:
        known = [key for key in root.entries if key in _SHORT_ONLY]
        if not known:
            hint = "add `base` for one template, or `templates` for several"
            scope.problems.add_key(root, "this file has no template", hint)
            return {}
    if name is None:
        name = "template"
    named = root.entries.get("name", root)
    return {name: Node(entries, root.at, named.key_at or root.at, "", named.key_raw)}


def _short_name(root: Node, scope: Scope) -> str | None:
    name = value(root, "name")
    if name is not None:
        return scope.text(name, values.name)
    directory = scope.directory.name
    if NAME.fullmatch(directory):
        return directory
    fault = values.name(directory)
    hint = fault.hint.replace("write `", "write `name: ") if fault else ""
    message = f"`name` is missing, and the directory's name {quoted(directory)} cannot stand in"
    scope.problems.add_key(root, message, hint)
    return None


def _refuse_circles(templates: Mapping[str, Template], problems: Problems) -> None:
    edges = {
        name: each.base.template
        for name, each in templates.items()
        if isinstance(each.base, TemplateBase)
    }
    for loop in expand.loops(edges):
        way = " -> ".join(f"`{name}`" for name in (*loop, loop[0]))
        at = templates[loop[0]].base.at
        node = Node(loop[1] if len(loop) > 1 else loop[0], at, raw=edges[loop[0]])
        problems.add(node, f"`base` goes in a circle: {way}", "build one of these on an image")
