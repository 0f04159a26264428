"""The files of a workspace as they are written: the root, its members, and what they include."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from sandboxfile.config import document, expand, finding, parser, template, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import Problems
from sandboxfile.config.scope import Scope, value
from sandboxfile.errors import ConfigError, Unreachable
from sandboxfile.frozen import dataclass, field
from sandboxfile.places import Position, Problem

VERSION = 1
# What holds for a whole workspace is said in one place.
ROOT_ONLY = ("members", "targets", "default_target", "engine", "cache", "secrets", "groups")
SHORT_ONLY = ("name", "matrix", "extends", *template.KEYS)
_MOST_MEMBERS = 10_000


@dataclass(frozen=True, slots=True)
class File:
    """One file; `member` is its directory relative to the root."""

    path: Path
    shown: str
    member: str
    node: Node


@dataclass(frozen=True, slots=True)
class Written:
    """What a file says together with what it includes: the nearer statement lies on top."""

    file: File
    templates: Mapping[str, Node] = field(default_factory=dict)
    defaults: Node | None = None
    variables: Mapping[str, Node] = field(default_factory=dict)


class Files:
    """Reads the files of one workspace, each once, and gathers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.texts: dict[str, str] = {}
        self.problems = Problems(self.texts)
        self.directories: dict[str, Path] = {}
        self.looked_at: set[str] = set()
        self.complete = True
        self._path = path
        self._root = path.parent
        self._read: dict[Path, File | None] = {}

    @property
    def read(self) -> tuple[File, ...]:
        return tuple(file for file in self._read.values() if file is not None)

    def scope(self) -> Scope:
        return Scope(problems=self.problems, root=self._root, directories=self.directories)

    # --- one file ----------------------------------------------------------------------------

    def root(self, path: Path) -> File:
        """Read the root as it was named. Raises ConfigError where nothing else would make sense."""
        name = finding.shown(path, self._root)
        return self._file(self._path, name, data(path, name))

    def _file(self, path: Path, name: str, content: bytes) -> File:
        text = document.decode(content, name)
        node, first = parser.read(text, name)
        self.texts[name] = text
        self.directories[name] = path.parent
        self.looked_at.add(str(path))
        self.problems.include(first)
        _check_head(node, self.problems, name, is_root=path == self._path)
        member = path.parent.relative_to(self._root).as_posix()
        file = File(path, name, "" if member == "." else member, node)
        self._read[path] = file
        return file

    def _another(self, path: Path) -> File | None:
        """Read a file once; None when it cannot be, which is then among the problems."""
        if path not in self._read:
            self._read[path] = None
            name = finding.shown(path, self._root)
            try:
                self._file(path, name, data(path, name))
            except ConfigError as error:
                self.complete = False
                self.problems.include(error.problems)
        return self._read[path]

    # --- members -----------------------------------------------------------------------------

    def members(self, root: File) -> list[File]:
        """Read all members, in the order of the patterns and then of paths."""
        paths: dict[Path, Node] = {}
        written = value(root.node, "members")
        for item in written.items if written else ():
            if item.text is None or self.problems.fault(item, values.member(item.text)):
                self.complete = False
                continue
            for path in self._matching(item, item.text):
                paths.setdefault(path, item)
        self._refuse_twins(paths)
        found = [self._another(path) for path in list(paths)[:_MOST_MEMBERS]]
        members = [file for file in found if file is not None]
        for file in members:
            self._refuse_keys(file, ROOT_ONLY, root)
        return members

    def _matching(self, item: Node, pattern: str) -> list[Path]:
        found = finding.match(self._root, pattern)
        self.looked_at |= found.looked_at
        for path in found.links:
            name = path.relative_to(self._root)
            message = f"member `{name}` is a link, or behind one"
            self.problems.add(item, message, "members are files of the workspace itself")
        closed = {path: why for path, why in found.closed.items() if not _is_ignored(path)}
        for path, why in closed.items():
            self.complete = False
            message = f"{quoted(finding.shown(path))} cannot be looked into for members: {why}"
            hint = "let it be read, have git ignore it, or name members that are not in it"
            self.problems.add(item, message, hint)
        files = [path for path in found.files if path != self._path]
        if not files and not found.links and not closed:
            self.complete = False
            message = f"no member matches {quoted(pattern)}"
            hint = finding.near_miss(self._root, found.missed)
            if found.files or os.path.normpath(pattern) == ".":
                message = f"{quoted(pattern)} is the root of this workspace, not a member"
                hint = "name the files below"
            self.problems.add(item, message, hint)
        return files

    def _refuse_twins(self, paths: dict[Path, Node]) -> None:
        """Refuse both names of a configuration in one directory, and take the first alone."""
        first, second = finding.NAMES
        for path, item in tuple(paths.items()):
            if path.name == second and path.with_name(first) in paths:
                name = path.parent.relative_to(self._root)
                message = f"there are both `{first}` and `{second}` in `{name}`"
                self.problems.add(item, message, "remove one")
                del paths[path]

    def _refuse_keys(self, file: File, keys: tuple[str, ...], root: File) -> None:
        for key in keys:
            if (node := file.node.entries.get(key)) is not None:
                hint = f"write it in {root.shown}"
                message = f"`{key}` belongs to the root of the workspace"
                if key == "members":
                    message = "a member has no members of its own"
                    hint = f"add them to `members` of {root.shown}"
                self.problems.add_key(node, message, hint)

    # --- includes ----------------------------------------------------------------------------

    def written(self, file: File) -> Written:
        """Return what a file says, over what it includes."""
        return self._written(file, (file,), {})

    def _written(self, file: File, way: tuple[File, ...], done: dict[Path, Written]) -> Written:
        if file.path in done:
            return done[file.path]
        templates: dict[str, Node] = {}
        defaults: Node | None = None
        variables: dict[str, Node] = {}
        for item in _items(file.node, "include"):
            inner = self._included(item, file, way)
            if inner is None:
                continue
            below = self._written(inner, (*way, inner), done)
            templates = _over(templates, below.templates)
            defaults = expand.over(defaults, below.defaults)
            variables = _over(variables, below.variables)
        templates = _over(templates, self._templates(file, way, known=bool(templates)))
        own = value(file.node, "defaults")
        declared = value(file.node, "variables")
        defaults = expand.over(defaults, own if own and isinstance(own.content, dict) else None)
        variables = _over(variables, declared.entries if declared else {})
        done[file.path] = Written(file, templates, defaults, variables)
        return done[file.path]

    def _included(self, item: Node, by: File, way: tuple[File, ...]) -> File | None:
        text = self.scope().path(item, values.path)
        if text is None:
            return None
        path = Path(os.path.normpath(by.path.parent / text))
        self.looked_at.add(str(path))
        if path in (file.path for file in way):
            names = [file.shown for file in way[[file.path for file in way].index(path) :]]
            circle = " -> ".join(f"`{name}`" for name in (*names, names[0]))
            message = f"`include` goes in a circle: {circle}"
            self.problems.add(item, message, "take one of these out")
            return None
        if not os.path.lexists(path):
            self.complete = False
            found = finding.match(self._root, path.relative_to(self._root).as_posix())
            hint = finding.near_miss(self._root, found.missed)
            self.problems.add(item, f"there is no file {quoted(text)}", hint)
            return None
        if os.path.realpath(path) != str(path):
            message = f"{quoted(text)} is a link, or behind one"
            self.problems.add(item, message, "name the file itself")
            return None
        file = self._another(path)
        if file is not None:
            self._refuse_stranger(file, item)
        return file

    def _refuse_stranger(self, file: File, item: Node) -> None:
        for key in (*ROOT_ONLY, *SHORT_ONLY):
            if (node := file.node.entries.get(key)) is not None:
                message = f"`{key}` cannot be included, as {item.at} does with this file"
                hint = "shared files have `templates`, `defaults`, `variables` and `include`"
                self.problems.add_key(node, message, hint)

    # --- templates ---------------------------------------------------------------------------

    def _templates(self, file: File, way: tuple[File, ...], *, known: bool) -> dict[str, Node]:
        """Return the templates as written: those of the long form, or the file itself.

        `known` says that it includes some, so that it need not have any itself.
        """
        root = file.node
        if len(way) > 1:
            return self._named(root.entries.get("templates"))
        templates = root.entries.get("templates")
        if templates is None:
            return self._short(file, known=known)
        for key in SHORT_ONLY:
            if key in root.entries:
                message = f"`{key}` and `templates` exclude each other"
                hint = "move it into a template, or into `defaults` for all of them"
                if key == "name":
                    hint = "remove it, templates are named by their keys"
                self.problems.add_key(root.entries[key], message, hint)
        is_empty = not templates.entries and isinstance(templates.content, (dict, type(None)))
        if not self.problems and not known and is_empty:
            hint = "write templates:, and a template's name and keys below"
            self.problems.add_key(templates, "`templates` has no templates", hint)
        return self._named(templates)

    def _named(self, templates: Node | None) -> dict[str, Node]:
        found = {}
        hint = "give it a `base` at least"
        for name, node in templates.entries.items() if templates else ():
            if not self.problems.key_fault(node, values.name(name)) and isinstance(
                node.content, dict
            ):
                found[name] = node
            elif node.content is None and not node.is_lost:
                self.problems.add_key(node, f"template `{name}` is empty", hint)
        return found

    def _short(self, file: File, *, known: bool) -> dict[str, Node]:
        root = file.node
        is_alone = not file.member and not {"members", "include"} & root.entries.keys()
        for key, hint in (
            ("defaults", "write its keys at the top"),
            ("extends", "write `templates`"),
        ):
            if key in root.entries and is_alone:
                message = f"`{key}` needs `templates`: this file has one template only"
                self.problems.add_key(root.entries[key], message, hint)
        kept = [key for key in SHORT_ONLY if key != "extends" or not is_alone]
        entries = {key: node for key, node in root.entries.items() if key in kept}
        if not entries and (known or "members" in root.entries or "include" in root.entries):
            return {}
        name = self._short_name(file)
        if not entries:
            hint = "add `base` for one template, or `templates` for several"
            self.problems.add_key(root, "this file has no template", hint)
            return {}
        named = root.entries.get("name", root)
        node = Node(entries, root.at, named.key_at or root.at, "", named.key_raw)
        return {name or "template": node}

    def _short_name(self, file: File) -> str | None:
        """Return what the file calls its one template; a name with references is a pattern."""
        name = value(file.node, "name")
        if name is not None and "${" not in (name.text or ""):
            return self.scope().text(name, values.name)
        directory = file.path.parent.name
        fault = values.name(directory)
        if fault is None or name is not None:
            return None if fault else directory
        hint = fault.hint.replace("write `", "write `name: ")
        message = f"`name` is missing, and the directory's name {quoted(directory)} cannot stand in"
        self.problems.add_key(file.node, message, hint)
        return None


def _is_ignored(directory: Path) -> bool:
    """Tell whether git ignores a directory: then it is a volume of a container, say, no member."""
    from sandboxfile import git
    from sandboxfile.process import run

    try:
        asked = run(git.command(directory.parent, "check-ignore", "-q", directory.name))
    except Unreachable:  # there is no git
        return False
    return asked.status == 0


def _items(node: Node, key: str) -> tuple[Node, ...]:
    found = value(node, key)
    return found.items if found else ()


def _over(below: Mapping[str, Node], above: Mapping[str, Node]) -> dict[str, Node]:
    """Lay named maps over each other; a name on both sides is merged."""
    merged = dict(below)
    for name, node in above.items():
        merged[name] = expand.child(merged[name], node) if name in merged else node
    return merged


# --- bytes -----------------------------------------------------------------------------------


def data(path: Path, name: str) -> bytes:
    """Read a regular file that is not a link to somewhere else, without waiting for a pipe."""
    at = Position(name, 1, 1)
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


def _check_head(root: Node, problems: Problems, file: str, *, is_root: bool) -> None:
    """Stop at a document whose other problems would make no sense."""
    if root.content is None:
        hint = "begin with `version: 1`"
        if is_root:
            hint += ", and `base` below, or let `sandboxfile init --force` overwrite this file"
        raise ConfigError([Problem(Position(file, 1, 1), "this file is empty", hint)])
    if not isinstance(root.content, dict):
        problems.stop(root, "this file must be a map", "begin with `version: 1`")
    version = root.entries.get("version")
    if version is None:
        problems.add_key(root, "`version` is missing", "begin the file with `version: 1`")
    elif version.number is not None and version.number != VERSION:
        message = f"version {version.number} is not known here"
        newer = "a newer sandboxfile reads it; this one reads" if version.number > VERSION else ""
        problems.stop(version, message, f"{newer or 'write'} `version: {VERSION}`")
    elif version.number is None or version.raw != str(VERSION):
        problems.add(version, f"`version` must be the number {VERSION}", f"write {VERSION}")
