"""Gathers the entries of one selection from the tree, and everything that is wrong with them."""

import os
import stat as filemode
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sandboxfile import reading
from sandboxfile.contents import UTF8, Entry, as_bytes, shown, utf8
from sandboxfile.errors import ConfigError
from sandboxfile.ignore import Ignore, Rule
from sandboxfile.places import Position, Problem
from sandboxfile.statcache import LSTAT, Look

STATE = ".sandboxfile"
LOCKS = ("novita.lock", "novita.local.lock")
# Tags are in the first, results in the others: neither may decide what an image is, nor may what a
# lock is written to before it takes its place (`lockfile.draft`).
OWN = ("novita.yaml", "novita.yml", *LOCKS, *(f".{name}.new" for name in LOCKS))
_KIND = filemode.S_IFMT(0o777777)  # the bits of a mode that say what it is
# A named tuple made from a tuple: its own way is a function in Python, which takes twice as long.
_new = tuple.__new__
_OURS = frozenset({STATE, *OWN})
WHITEOUT = ".wh."  # begins the names of what deletes files in an image
_LISTED = 20  # unreadable files named in one error
_SPECIAL = {
    filemode.S_IFIFO: "a FIFO",
    filemode.S_IFSOCK: "a socket",
    filemode.S_IFCHR: "a device",
    filemode.S_IFBLK: "a device",
}

_Within = Callable[[str], Look]  # what looks at the things that are in a directory


class Place(NamedTuple):
    """Somewhere in the tree: its path, and what it is called by the ignore rules that apply."""

    path: str
    relative: str
    ignore: Ignore

    def below(self, name: str) -> "Place":
        """Return what lies at `name`, which may lead through directories, below a place."""
        relative = f"{self.relative}/{utf8(name)}" if self.relative else utf8(name)
        return Place(f"{self.path}/{name}", relative, self.ignore)

    @property
    def rule(self) -> Rule | None:
        return self.ignore.rule(self.relative) if self.relative else None


class Ground:
    """What the selections of one workspace share, as of one moment.

    Its root, what is never taken from it, its ignore files, and where its directories lead. `own`
    are the files of the configuration.
    """

    def __init__(self, root: Path, own: Iterable[Path] = ()) -> None:
        self.root = os.fspath(root)
        self.within: _Within = lambda _: LSTAT
        self.left_out = {f"{self.root}/{name}" for name in OWN} | {os.fspath(p) for p in own}
        self.ours = _OURS | {path.rpartition("/")[2] for path in self.left_out}
        self._directories: dict[str, str] = {}
        self._texts: dict[str, tuple[Ignore, OSError | None, frozenset[str]]] = {}
        self._real_root = self.real(self.root)

    def looking(self, within: _Within) -> "Ground":
        """Return the same ground, on which the `lstat` of what is in directories is found so."""
        other = object.__new__(Ground)  # `copy` takes longer to import than all that this does
        vars(other).update(vars(self), within=within)
        return other

    def real(self, path: str) -> str:
        """Return a path with all links resolved; each directory on the way is looked at once."""
        above, _, name = path.rpartition("/")
        if not above.startswith("/") or name in {"", ".", ".."}:
            return os.path.realpath(path)
        if above not in self._directories:
            self._directories[above] = self.real(above)
        path = f"{self._directories[above].rstrip('/')}/{name}"
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114

    def inside(self, path: str) -> str | None:
        """Return a path relative to the workspace, all links resolved; None if it leads out."""
        real = self.real(path)
        if real == self._real_root:
            return "."
        below = f"{self._real_root.rstrip('/')}/"
        return real[len(below) :] if real.startswith(below) else None

    def shown(self, path: str) -> str:
        """Return a path as the user would write it, from the root of the workspace."""
        return shown(os.path.relpath(path, self.root))

    def ignore(self, file: str) -> tuple[Ignore, OSError | None, frozenset[str]]:
        """Read an ignore file once, and say what shows that it is the same; absent, it is empty.

        Raises ConfigError.
        """
        if file not in self._texts:
            text, problem = "", None
            try:
                text = reading.regular(Path(file)).decode("utf-8", "surrogateescape")
            except FileNotFoundError:
                pass
            except OSError as error:
                problem = error
            is_itself = self.real(file) == file
            paths = frozenset([file]) if is_itself else reading.through(file)
            self._texts[file] = Ignore.parse(text, self.shown(file)), problem, paths
        return self._texts[file]


class Gathered:
    """The entries and problems of one selection, as they are found."""

    def __init__(self, ground: Ground, at: Position, names: Ignore) -> None:
        self.ground = ground
        self.root = ground.root
        self._at = at
        self._names = names
        self._ignores: dict[str, Ignore] = {}
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, Entry] = {}  # directories left out, while nothing in them stays
        self._problems: list[Problem] = []
        self._unreadable: list[str] = []
        self._looked_at: set[str] = set()

    @property
    def looked_at(self) -> frozenset[str]:
        return frozenset(self._looked_at)

    def finish(self) -> tuple[Entry, ...]:
        """Return all entries, sorted by the bytes of their names, or raise all problems."""
        if self._unreadable:
            listed = ", ".join(sorted(self._unreadable)[:_LISTED])
            more = len(self._unreadable) - _LISTED
            self.problem(f"cannot read {listed}" + (f" and {more} more" if more > 0 else ""))
        if self._problems:
            raise ConfigError(self._problems)
        # Names of ASCII alone have the order of their bytes.
        key = None if "".join(self._entries).isascii() else as_bytes
        return tuple([self._entries[name] for name in sorted(self._entries, key=key)])

    def problem(self, message: str, hint: str = "") -> None:
        self._problems.append(Problem(self._at, message, hint))

    def unreadable(self, path: str, error: OSError) -> None:
        self._unreadable.append(f"`{self.shown(path)}`: {error.strerror}")

    def shown(self, path: str) -> str:
        """Return a path as the user would write it, from the root of the workspace."""
        return self.ground.shown(path)

    def ignore(self, directory: str) -> Ignore:
        """Return what the ignore file of a directory says, or the one that is preferred to it."""
        file = f"{directory.rstrip('/')}/.dockerignore"
        if file not in self._ignores:
            self._ignores[file] = self._read(file)
        return self._ignores[file]

    def _read(self, file: str) -> Ignore:
        ignore, error, paths = self.ground.ignore(file)
        self._looked_at |= paths
        if error is not None:
            self.unreadable(file, error)
        return ignore

    def prefer(self, file: Path, directory: Path) -> None:
        """Take an ignore file, where there is one, for that of a directory."""
        ignore = self._read(os.fspath(file))
        if reading.exists(file):
            self._ignores[f"{os.fspath(directory).rstrip('/')}/.dockerignore"] = ignore

    def is_inside(self, path: str, what: str) -> bool:
        """Say whether a path is in the workspace, links in it resolved; a problem if not."""
        if self.ground.inside(path) is not None:
            return True
        self.problem(
            f"{what} is outside the workspace: `{shown(self.ground.real(path))}`",
            "paths may not leave the directory of the root `novita.yaml`",
        )
        return False

    def is_ours(self, path: str) -> bool:
        """Say whether it is something that sandboxfile itself writes."""
        return path in self.ground.left_out or f"/{STATE}/" in f"{path[len(self.root) :]}/"

    def file(self, place: Place, stat: os.stat_result) -> Rule | None:
        """Take one file or link under its own name, or return the rule that leaves it out."""
        name = utf8(place.path.rpartition("/")[2])
        rule = place.rule or self._names.rule(name)
        if rule is None and (entry := self._entry(place.path, name, stat)):
            self._add([entry])
        return rule

    def contents(self, top: Place) -> Rule | None:
        """Take everything below a directory that no pattern leaves out.

        Returns the rule that leaves out the directory itself, if nothing in it was taken back.
        """
        before = len(self._entries)
        waiting = [(top.path, f"{top.relative}/" if top.relative else "", "")]
        while waiting:
            waiting += self._level(top.ignore, *waiting.pop())
        return top.rule if len(self._entries) == before else None

    def _level(
        self, ignore: Ignore, directory: str, above: str, prefix: str
    ) -> list[tuple[str, str, str]]:
        """Take what is in one directory; return its directories, as this takes them."""
        judging = bool(ignore.rules or self._names.rules)
        ours, look = self.ground.ours, self.ground.within(directory)
        taken, below = [], []
        for found in self.listed(directory):
            own = found.name
            text = own if UTF8 else utf8(own)
            path, name = found.path, prefix + text
            if own in ours and self.is_ours(path):
                continue
            enterable = found.is_dir(follow_symlinks=False)
            dropped = judging and self._is_dropped(ignore, above + text, name)
            if dropped and not (enterable and self._may_stay(ignore, above + text, name)):
                continue
            if enterable:
                below.append((path, f"{above}{text}/", f"{name}/"))
            try:
                entry = self._entry(path, name, look(found))
            except OSError as error:
                self.unreadable(path, error)
                continue
            if entry and dropped:
                self._waiting[name] = entry
            elif entry:
                taken.append(entry)
        self._add(taken)
        return below

    def listed(self, directory: str) -> Iterable["os.DirEntry[str]"]:
        """Return what is in a directory; unreadable ones are noted."""
        self._looked_at.add(directory)
        try:
            with os.scandir(directory) as found:
                return list(found)
        except OSError as error:
            self.unreadable(directory, error)
            return ()

    def _is_dropped(self, ignore: Ignore, relative: str, name: str) -> bool:
        return ignore.excludes(relative) or self._names.excludes(name)

    def _may_stay(self, ignore: Ignore, relative: str, name: str) -> bool:
        """Say whether something in a directory that is left out may be taken back."""
        return all(
            not patterns.excludes(path) or patterns.keeps_below(path)
            for patterns, path in ((ignore, relative), (self._names, name))
        )

    def _add(self, entries: Iterable[Entry]) -> None:
        """Take things, and the directories that lead to them and were left out themselves."""
        for entry in entries:
            other = self._entries.setdefault(entry[0], entry)  # its name
            if other is not entry:
                self._collide(other, entry)
            if self._waiting:
                self._release(entry.name)

    def _release(self, name: str) -> None:
        """Take the directories that lead to `name` and were left out themselves."""
        parent = name.rpartition("/")[0]
        while parent in self._waiting:
            self._entries.setdefault(parent, self._waiting.pop(parent))
            parent = parent.rpartition("/")[0]

    def _collide(self, one: Entry, other: Entry) -> None:
        if one.path == other.path or one.kind == other.kind == "directory":
            return
        self.problem(
            f"both `{self.shown(one.path)}` and `{self.shown(other.path)}` "
            f"would become `{shown(one.name)}`",
            "copy them to different directories",
        )

    def _entry(self, path: str, name: str, stat: os.stat_result) -> Entry | None:
        """Return the entry for one thing; None with a problem for what no image can have."""
        mode = stat.st_mode
        kind = mode & _KIND
        if WHITEOUT in name and (name.startswith(WHITEOUT) or f"/{WHITEOUT}" in name):
            what = "its name begins with `.wh.`, which deletes files in an image"
        elif kind == filemode.S_IFREG:
            return _new(Entry, (name, path, "file", stat, bool(mode & filemode.S_IXUSR), ""))
        elif kind == filemode.S_IFDIR:
            return Entry(name, path, "directory", stat)
        elif kind == filemode.S_IFLNK:
            link = os.readlink(path)  # noqa: PTH115 - a Path would tidy the text up
            return Entry(name, path, "link", stat, link=utf8(link))
        else:
            what = f"it is {_SPECIAL.get(kind, 'special')}"
        self.problem(
            f"`{self.shown(path)}` cannot be copied: {what}", "leave it out in `.dockerignore`"
        )
        return None
