"""Packages that a project's own files list: which of them exist, and whether they pin."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sandboxfile import reading
from sandboxfile.config import values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import Fault
from sandboxfile.config.scope import Scope, value
from sandboxfile.frozen import dataclass
from sandboxfile.model import Copy, InstallProject, Manager

LIMIT = 1 << 20  # bytes of a requirements file
DEFAULT_TO = "/app"


@dataclass(frozen=True, slots=True)
class _Layout:
    """A manager's manifest, and its lock files, of which the first that exists counts."""

    manifest: str
    locks: tuple[str, ...] = ()


_LAYOUTS = {
    "pip": _Layout("pyproject.toml"),
    "uv": _Layout("pyproject.toml", ("uv.lock",)),
    "npm": _Layout("package.json", ("npm-shrinkwrap.json", "package-lock.json")),
    "bun": _Layout("package.json", ("bun.lock", "bun.lockb")),
}
MANIFESTS = frozenset(layout.manifest for layout in _LAYOUTS.values())
LOCKS = frozenset(name for layout in _LAYOUTS.values() for name in layout.locks)
_REQUIREMENTS = ("pip", "uv")


def read(
    node: Node, manager: Manager, scope: Scope, *, workdir: str | None
) -> InstallProject | None:
    """Return the installation that a map `{requirements: ...}` or `{project: ...}` asks for."""
    kinds = tuple(
        kind
        for kind, managers in (("requirements", _REQUIREMENTS), ("project", _LAYOUTS))
        if manager in managers
    )
    if not kinds:
        scope.problems.add(node, "`apt` takes a list of packages", "write [git, curl]")
        return None
    refused = value(node, "requirements")
    if refused is not None and "requirements" not in kinds:
        message = f"`{manager}` has no requirements file"
        scope.problems.add_key(refused, message, "use `project`, the directory of package.json")
        return None
    kind = scope.one_of(node, kinds, f"`{manager}`", beside=("to",))
    written = node.entries[kind] if kind else None
    path = scope.path(written, values.path)
    to = scope.text(value(node, "to"), values.image_path)
    if written is None or path is None:
        return None
    if kind == "requirements":
        found = _requirements(path, written, scope)
        to = to or f"/opt/sandboxfile/{manager}"
    else:
        found = _project(path, written, manager, scope)
        to = to or workdir or DEFAULT_TO
    root = scope.beside(written)
    return _installation(found, manager, to, node, root) if found else None


@dataclass(frozen=True, slots=True)
class _Found:
    directory: str
    files: tuple[str, ...]
    locked: bool


def _installation(
    found: _Found, manager: Manager, to: str, node: Node, root: Path
) -> InstallProject:
    prefix = "" if found.directory == "." else f"{found.directory}/"
    at = node.key_at or node.at
    return InstallProject(
        manager=manager,
        copy=Copy(
            sources=tuple(prefix + file for file in found.files),
            to=to.rstrip("/") + "/",
            root=root,
            at=at,
        ),
        files=found.files,
        locked=found.locked,
        to=to.rstrip("/") or "/",
        at=at,
    )


def _project(path: str, node: Node, manager: Manager, scope: Scope) -> _Found | None:
    layout = _LAYOUTS[manager]
    directory = scope.beside(node) / path
    if not reading.is_file(directory / layout.manifest):
        message, hint = f"{quoted(path)} is not a directory of the workspace", ""
        if reading.is_file(directory):
            hint = "write the directory, not a file of it"
        elif reading.exists(directory):
            message = f"there is no `{layout.manifest}` in {quoted(path)}"
            hint = f"`{manager}: {{project: ...}}` wants the directory that has it"
        scope.problems.add(node, message, hint)
        return None
    locks = [lock for lock in layout.locks if reading.is_file(directory / lock)][:1]
    files = (layout.manifest, *locks)
    if any(_leaves(directory / file, node, scope) for file in files):
        return None
    return _Found(str(PurePosixPath(path)), files, bool(locks))


def _leaves(path: Path, node: Node, scope: Scope) -> bool:
    """Complain of a link that leads out of the workspace."""
    real = path.resolve()
    if real.is_relative_to(scope.root):
        return False
    message = f"`{path.relative_to(scope.beside(node))}` is a link that leaves the workspace"
    scope.problems.add(node, message, f"it leads to {real}")
    return True


# --- requirements files (pip's documentation, "Requirements File Format") ----------------------

_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=)(\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")


def _requirements(path: str, node: Node, scope: Scope) -> _Found | None:
    file = PurePosixPath(path)
    files: list[str] = []
    locked = True
    waiting = [file.name]
    while waiting:
        name = waiting.pop(0)
        if name in files:
            continue
        lines = _lines(scope.beside(node) / file.parent / name, node, scope)
        if lines is None:
            return None
        files.append(name)
        for line in lines:
            if match := _INCLUDE.match(line):
                if scope.problems.fault(node, _include(match[1], name)):
                    return None
                waiting.append(match[1])
            elif not line.startswith("-"):
                locked = locked and "--hash=" in line
    return _Found(str(file.parent), tuple(files), locked)


def _include(name: str, of: str) -> Fault | None:
    if "/" not in name and not values.path(name):
        return None
    message = f"`{of}` includes {quoted(name)}, which is not a file beside it"
    return Fault(message, "put it there, or copy the files with `files` and install in `run`")


def _lines(path: Path, node: Node, scope: Scope) -> list[str] | None:
    """Return the logical lines of a requirements file without comments."""
    shown = path.relative_to(scope.beside(node))
    if not reading.is_file(path):
        scope.problems.add(node, f"there is no file `{shown}`")
        return None
    if _leaves(path, node, scope):
        return None
    try:
        text = reading.regular(path, limit=LIMIT).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        scope.problems.add(node, f"`{shown}` cannot be read: {reason}")
        return None
    return list(_logical(text))


def _logical(text: str) -> Iterator[str]:
    for line in text.replace("\r\n", "\n").replace("\\\n", " ").split("\n"):
        if bare := _COMMENT.sub("", line).strip():
            yield bare
