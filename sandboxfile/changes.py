"""Which templates have changed since a commit: their files, their configuration, what they are on.

Compared are the files as they are now, committed or not, tracked or not, with the commit where
this branch left REF (their merge base, as in `git diff REF...`): what happened on the other
branch since then is no change of this one. What git ignores it does not know, nor do we. Of the
locks only what bases are pinned to counts, and only if the lock was there: results are no change.
"""

import os
import re
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from sandboxfile import context, dockerfile, git, lockfile, reading, userdockerfile
from sandboxfile.config import load, projects
from sandboxfile.config.given import Given
from sandboxfile.config.names import is_glob
from sandboxfile.contents import Selection
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.frozen import dataclass, field
from sandboxfile.gathering import Ground
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.model import (
    BootstrapBase,
    Copy,
    DockerfileBase,
    ImageBase,
    InstallProject,
    Template,
    TemplateBase,
    Workspace,
)
from sandboxfile.pins import pin_name
from sandboxfile.process import Outcome, run

_IGNORE = ".dockerignore"
_SUFFIXES = (".yaml", ".yml")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}

Reasons = Mapping[str, tuple[str, ...]]


def since(workspace: Workspace, ref: str, given: Given, *, locks: Iterable[str] = ()) -> Reasons:
    """Return the templates that changed since `ref`, in the workspace's order, with the reasons.

    `given` are the values of variables, for the configuration as it was, `locks` the names of the
    files that pin bases. Raises UsageError where there is no repository or no such commit,
    ConfigError for a lock that cannot be read.
    """
    repository = _Git(workspace.root, ref)
    base = repository.base()
    changed = repository.changed(base)
    reasons = {
        name: tuple(dict.fromkeys(_of_files(template, workspace, changed)))
        for name, template in workspace.templates.items()
    }
    for name in _reconfigured(workspace, repository, base, changed, given):
        reasons[name] = ("its configuration", *reasons[name])
    for lock in changed.names.intersection(locks):
        for name, pins in _repinned(workspace, repository, base, lock):
            reasons[name] = (*reasons[name], *(f"{lock}: {pin}" for pin in pins))
    return _with_children(workspace, reasons)


def _with_children(workspace: Workspace, reasons: Reasons) -> Reasons:
    """Add what is built on something that changed; each template is looked at once."""
    done: dict[str, tuple[str, ...]] = {}
    for name in workspace.templates:
        way = [name]
        while way[-1] not in done and (parent := _parent(workspace, way[-1])) is not None:
            way.append(parent)
        for each in reversed(way):
            parent = _parent(workspace, each)
            above = (f"built on `{parent}`",) if parent is not None and done[parent] else ()
            done.setdefault(each, (*reasons[each], *above))
    return {name: done[name] for name in workspace.templates if done[name]}


def _parent(workspace: Workspace, name: str) -> str | None:
    base = workspace.templates[name].base
    return base.template if isinstance(base, TemplateBase) else None


# --- files -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Changed:
    """Paths relative to the workspace, sorted, so that those below a directory lie together."""

    paths: tuple[str, ...]
    names: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, paths: Iterable[str]) -> "_Changed":
        names = frozenset(paths)
        return cls(tuple(sorted(names)), names)

    def below(self, directory: str) -> Iterator[str]:
        """Yield a path itself and those below it; all for the workspace, `.`."""
        if directory == ".":
            yield from self.paths
            return
        if directory in self.names:
            yield directory
        start = f"{directory}/"
        for index in range(bisect_left(self.paths, start), len(self.paths)):
            if not self.paths[index].startswith(start):
                return
            yield self.paths[index]

    def covering(self, path: str) -> Iterator[str]:
        """Yield the changed paths that a path is or lies in: a submodule is one path to git."""
        parts = path.split("/")
        yield from (p for n in range(1, len(parts)) if (p := "/".join(parts[:n])) in self.names)


def _of_files(template: Template, workspace: Workspace, changed: _Changed) -> Iterator[str]:
    if not changed.paths:
        return
    root = workspace.root
    for _, copy in dockerfile.copies(template):
        yield from _of_copy(copy, workspace, changed)
    for each in template.instructions:
        if isinstance(each, InstallProject):
            yield from _locks(each, root, changed)
    if isinstance(template.base, DockerfileBase):
        yield from _of_dockerfile(template.base, workspace, changed)


def _of_copy(copy: Copy, workspace: Workspace, changed: _Changed) -> Iterator[str]:
    found = [
        (path, pattern)
        for source in copy.sources
        for start, pattern in [_split(copy.root, source, workspace.root)]
        for path in (*changed.below(start), *changed.covering(start))
    ]
    yield from _ignores((copy.root, workspace.root), workspace.root, changed)
    if found:
        taken = _taken(lambda: context.select(copy, Ground(workspace.root, workspace.files)))
        yield from _decided(found, taken, workspace.root)


def _of_dockerfile(base: DockerfileBase, workspace: Workspace, changed: _Changed) -> Iterator[str]:
    root = workspace.root
    own = _relative(base.dockerfile, root)
    yield from (path for path in (own, f"{own}{_IGNORE}") if path in changed.names)
    yield from _ignores((base.context,), root, changed)
    start = _relative(base.context, root)
    found = [(path, ()) for path in (*changed.below(start), *changed.covering(start))]
    if found:
        taken = _taken(lambda: context.select_context(base, Ground(root, workspace.files)))
        yield from _decided(found, taken, root)


def _taken(select: Callable[[], Selection]) -> frozenset[str] | None:
    """Return the paths of a selection; None where it has a problem, which planning tells."""
    try:
        return frozenset(entry.path for entry in select().entries)
    except ConfigError:
        return None


def _decided(
    found: Iterable[tuple[str, tuple[str, ...]]], taken: frozenset[str] | None, root: Path
) -> Iterator[str]:
    """Yield the paths that are taken, or were: of what is gone, what has the place of it."""
    for path, pattern in found:
        full = f"{root}/{path}"
        if taken is None or full in taken:
            yield path
        elif not os.path.lexists(full):
            if _fits(path.split("/"), pattern):
                yield path
        elif any(each.startswith(f"{full}/") for each in taken):  # in a submodule
            yield path


def _split(directory: Path, source: str, root: Path) -> tuple[str, tuple[str, ...]]:
    """Return where a source begins, and all parts of its pattern, relative to the workspace."""
    full = os.path.relpath(os.path.normpath(directory / source), root)
    parts = tuple(full.split("/"))
    fixed = [index for index, part in enumerate(parts) if is_glob(part)]
    start = parts[: fixed[0]] if fixed else parts
    return "/".join(start) or ".", parts if full != "." else ()


def _fits(parts: list[str], pattern: tuple[str, ...]) -> bool:
    """Say whether a path is what a pattern matches, or lies below."""
    if not pattern:
        return True
    if not parts:
        return all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _ignores(directories: Iterable[Path], root: Path, changed: _Changed) -> Iterator[str]:
    for each in directories:
        path = _relative(each / _IGNORE, root)
        if path in changed.names:
            yield path


def _locks(project: InstallProject, root: Path, changed: _Changed) -> Iterator[str]:
    """Yield lock files beside a manifest that are no longer there to be copied."""
    for source in project.copy.sources:
        directory = Path(os.path.normpath(project.copy.root / source)).parent
        for name in projects.LOCKS:
            if (path := _relative(directory / name, root)) in changed.names:
                yield path


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, root)


# --- configuration ---------------------------------------------------------------------------


def _reconfigured(
    workspace: Workspace, repository: "_Git", base: str, changed: _Changed, given: Given
) -> Iterator[str]:
    """Yield the templates that meant something else, or were not there, in the files of then."""
    now = [_relative(path, workspace.root) for path in workspace.files]
    theirs = [path for path in changed.paths if path.endswith(_SUFFIXES)]
    if not changed.names.intersection((*now, *theirs)):
        return
    name = _relative(workspace.file, workspace.root)
    with tempfile.TemporaryDirectory(prefix="sandboxfile-") as directory:
        then = Path(directory).resolve() / workspace.root.name
        then.mkdir()
        repository.write(base, {*now, *theirs}, then)
        before = load.meanings(then / name, given)
    after = load.meanings(workspace.file, given)
    yield from (each for each in workspace.templates if before.get(each) != after.get(each))


# --- bases in the lock -----------------------------------------------------------------------


def _repinned(
    workspace: Workspace, repository: "_Git", base: str, lock: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield the templates that start from bases which a lock pinned otherwise then, with these."""
    text = repository.content(base, lock)
    if text is None:
        return
    after = lockfile.read(workspace.root / lock).resolved
    before = _resolved(text, lock)
    moved = {
        name.removeprefix(ENGINE_PREFIX)
        for name in {*before, *after}
        if before.get(name) != after.get(name)
    }
    for name, template in workspace.templates.items() if moved else ():
        pins = dict.fromkeys(pin for pin in _pins(template, workspace.root) if pin in moved)
        if pins:
            yield name, [pin.rpartition(" ")[0] for pin in pins]  # the platform is the same for all


def _resolved(text: str, lock: str) -> Mapping[str, str]:
    """Return what a lock pinned; nothing if it cannot be read, so that all is otherwise now."""
    try:
        return lockfile.parse(text, lock).resolved
    except ConfigError:
        return {}


def _pins(template: Template, root: Path) -> Iterator[str]:
    """Yield the names in the lock of what a template, or its Dockerfile, starts from."""
    base = template.base
    if isinstance(base, ImageBase | BootstrapBase):
        yield pin_name(base)
    elif isinstance(base, DockerfileBase):
        with suppress(OSError, ValueError, SandboxfileError):  # planning tells of it
            text = reading.read(base.dockerfile, root).decode("utf-8")
            file = _relative(base.dockerfile, root)
            found = userdockerfile.parse(text, file=file, args=base.args, stage=base.stage)
            yield from map(pin_name, found.images)


# --- git -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Git:
    """The repository that a workspace is in, asked without what its configuration could start."""

    root: Path
    ref: str

    def base(self) -> str:
        """Return the commit where the branch that is checked out left `ref`."""
        inside = self._run("rev-parse", "--is-inside-work-tree")
        if inside.status != 0 or inside.stdout.strip() != "true":
            raise self._outside(inside)
        if self.ref.startswith("-") or self._commit(self.ref) is None:
            if self._commit("HEAD") is None:
                hint = "commit first, or name the templates instead"
                raise UsageError(f"`--since {self.ref}`: there is no commit yet", hint=hint)
            hint = "a shallow clone lacks most commits: fetch them, or name one that is there"
            raise UsageError(f"`--since {self.ref}`: git knows no such commit", hint=hint)
        found = self._run("merge-base", self.ref, "HEAD")
        if found.status != 0:
            hint = "a shallow clone may lack it: fetch more of the history"
            raise UsageError(f"`--since {self.ref}`: no commit is common to it and HEAD", hint=hint)
        return found.stdout.split()[0]

    def _outside(self, asked: Outcome) -> UsageError:
        """Return what keeps git from a repository: there is none, or it is somebody else's."""
        said = [line.strip() for line in asked.stderr if line.strip()]
        if remedy := next((line for line in said if "safe.directory" in line), None):
            why = said[0].removeprefix("fatal: ")
            return UsageError(f"`--since {self.ref}`: git says: {why}", hint=f"run `{remedy}`")
        hint = said[-1].removeprefix("fatal: ") if said else "name the templates instead"
        return UsageError(f"`--since {self.ref}` needs a git repository", hint=hint)

    def changed(self, base: str) -> _Changed:
        """Return what differs from a commit now, and what git does not know yet."""
        options = ("--name-only", "--no-renames", "--relative", "--no-ext-diff")
        differing = self._lines("diff", *options, "--ignore-submodules=none", base, "--", ".")
        untracked = self._lines("ls-files", "--others", "--exclude-standard", "--", ".")
        return _Changed.of((*differing, *untracked))

    def write(self, base: str, paths: Iterable[str], directory: Path) -> None:
        """Write files as they were at a commit into a directory; those it lacks are left out."""
        top = self._run("rev-parse", "--show-prefix").stdout.rstrip("\n")
        index = {"GIT_INDEX_FILE": str(directory.parent / "index")}
        self._run("read-tree", base, env=index)
        names = "".join(f"{top}{path}\0" for path in sorted(paths))
        with tempfile.TemporaryDirectory(dir=directory.parent) as out:
            options = ("checkout-index", "-q", "-f", "-z", "--stdin", f"--prefix={out}/")
            self._run(*options, env=index, stdin=os.fsencode(names), top=True)
            written = Path(out, top)
            if written.is_dir():
                directory.rmdir()
                written.rename(directory)

    def content(self, base: str, path: str) -> str | None:
        """Return the text of a file at a commit, None where it was not there."""
        found = self._run("cat-file", "blob", f"{base}:./{path}")
        return found.stdout if found.status == 0 else None

    def _commit(self, ref: str) -> str | None:
        found = self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return found.stdout.strip() if found.status == 0 else None

    def _lines(self, *arguments: str) -> Iterator[str]:
        done = self._run(*arguments)
        if done.status != 0:
            said = done.stderr[-1] if done.stderr else f"status {done.status}"
            raise UsageError(f"`--since {self.ref}`: git says: {said.removeprefix('fatal: ')}")
        for line in done.stdout.splitlines():
            yield _unquoted(line)

    def _run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        top: bool = False,
    ) -> Outcome:
        where = self.root
        if top:
            where = Path(self._run("rev-parse", "--show-toplevel").stdout.rstrip("\n"))
        return run(git.command(where, *arguments, env=env, stdin=stdin))


def _unquoted(line: str) -> str:
    """Return a path as the system spells it, of git's C-style quotes (gitconfig, quotePath)."""
    if not line.startswith('"'):
        return line
    return os.fsdecode(_ESCAPE.sub(_byte, line[1:-1].encode()))


def _byte(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8)]) if len(code) > 1 else _LETTERS.get(code, code)
