"""Which files a template takes: the sources of a copy, or the context of a Dockerfile.

Rules, as Docker has them unless said otherwise:

- A directory gives its contents, hidden and empty ones included; a file gives itself; a glob
  (`*`, `?`, `[a-z]`, `**` for any number of directories) gives each match in that way, a matched
  directory its contents. `dir/**` is the same as `dir/`. Unlike with Docker, two sources that
  bring the same name are an error: one of the two would vanish.
- `.dockerignore` of the directory that states the copy applies, to paths relative to it; for
  sources beside that directory, the workspace's. The copy's own `ignore` applies to the names
  that arrive, which are relative to the source.
- Links are kept as links, wherever they point, and never followed; a source that is itself a
  link is an error. Of the permissions only the owner's executable bit counts.
- What we write ourselves (`.sandboxfile/`, the locks of the workspace) is never taken: a build
  would change its own key. Nor is the configuration, whose tags are in no key.
"""

import os
import stat as filemode
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from sandboxfile import reading
from sandboxfile.errors import ConfigError
from sandboxfile.ignore import Ignore, Matches, Rule, matcher
from sandboxfile.model import Copy, DockerfileBase
from sandboxfile.places import Position, Problem

Kind = Literal["file", "directory", "link"]

STATE = ".sandboxfile"
# Tags are in the first, results in the others: neither may decide what an image is.
OWN = ("novita.yaml", "novita.yml", "novita.lock", "novita.local.lock")
_OURS = frozenset({STATE, *OWN})

_GLOB = frozenset("*?[\\")
_WHITEOUT = ".wh."
# How gzip, bzip2, xz and Zstandard begin; and what a tar archive has, and where (ustar).
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_TAR, _TAR_AT = b"ustar", 257
_LISTED = 20  # unreadable files named in one error
_NEAR = 3
_SEARCHED = 2_000  # paths looked at to find near ones
_UTF8 = sys.getfilesystemencoding() == "utf-8"
_SPECIAL = {
    filemode.S_IFIFO: "a FIFO",
    filemode.S_IFSOCK: "a socket",
    filemode.S_IFCHR: "a device",
    filemode.S_IFBLK: "a device",
}


class Entry(NamedTuple):
    """One file, directory or link (a tuple: there are tens of thousands).

    `name` is where it arrives, relative to the destination: UTF-8, with bytes that are none kept
    as surrogates. `path` is absolute, as the system spells it; `stat` is its lstat; `link` is the
    text of a link.
    """

    name: str
    path: str
    kind: Kind
    stat: os.stat_result
    executable: bool = False
    link: str = ""

    @property
    def size(self) -> int:
        return self.stat.st_size if self.kind == "file" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a copy takes (the context of a Dockerfile when `copy` is None), sorted by name.

    `single` says that it is one file, named without a glob: it arrives as the destination itself
    when that does not end in `/`. `root` is the directory of the workspace. `looked_at` has the
    directories and ignore files, there or not, that decide with the entries what is taken: while
    their stat stays, so does the selection.
    """

    copy: Copy | None
    entries: tuple[Entry, ...]
    at: Position
    root: str
    looked_at: frozenset[str]
    single: bool = False


class FileRecord(NamedTuple):
    """What a key knows of one entry; `source` is where it lies, for people, and in no key."""

    name: str
    kind: Kind
    executable: bool = False
    content: str = ""  # SHA-256 of a file, text of a link
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a selection: everything about it that decides what is in the image."""

    files: tuple[FileRecord, ...]
    single: bool = False


def is_single_file(selection: Selection) -> bool:
    """Say whether the copy is of one file, named without a glob."""
    return selection.single


def packed(selection: Selection) -> str | None:
    """Return a source of a copy that is an archive or compressed, by its content; None for none.

    What is in a directory that is copied counts not.
    """
    assert selection.copy is not None
    depths = {len(os.path.normpath(each).split("/")) for each in selection.copy.sources}
    root = os.fspath(selection.copy.root)
    for entry in selection.entries:
        name = os.path.relpath(entry.path, root)
        if entry.kind == "file" and len(name.split("/")) in depths and _is_packed(entry.path):
            return shown(name)
    return None


def _is_packed(path: str) -> bool:
    try:
        head = reading.head(path, _TAR_AT + len(_TAR))
    except OSError:  # whoever sends it says so
        return False
    return head.startswith(_PACKED) or head[_TAR_AT:] == _TAR


def is_shut(selection: Selection) -> bool:
    """Say whether a mode for all that is copied leaves directories that nobody may enter."""
    copy = selection.copy
    if copy is None or copy.mode is None:
        return False
    bits = int(copy.mode, 8)
    has_directories = any(entry.kind == "directory" for entry in selection.entries)
    return has_directories and bits != bits | (bits & 0o444) >> 2


def select(
    copy: Copy, workspace_root: Path, own: Iterable[Path] = (), *, dockerfile: Path | None = None
) -> Selection:
    """Find the files of a copy. Raises ConfigError with all its problems, at its place.

    `own` are the files of the configuration, which are never taken. For a copy in a Dockerfile,
    whose context is the copy's root, `<Dockerfile>.dockerignore` wins as in `select_context`.
    """
    gathered = _Gathered(workspace_root, copy.at, Ignore.of(copy.ignore, copy.at), own)
    if dockerfile is not None:
        gathered.prefer(_beside(dockerfile), copy.root / ".dockerignore")
    single = False
    for source in copy.sources:
        single = _take(gathered, source, copy.root)
    return Selection(
        copy=copy,
        entries=gathered.finish(),
        at=copy.at,
        root=gathered.root,
        looked_at=gathered.looked_at,
        single=single and len(copy.sources) == 1,
    )


def select_context(
    base: DockerfileBase, workspace_root: Path, own: Iterable[Path] = ()
) -> Selection:
    """Find the files of a Dockerfile's build context. Raises ConfigError.

    `<Dockerfile>.dockerignore` beside the Dockerfile wins over the context's `.dockerignore`.
    """
    gathered = _Gathered(workspace_root, base.at, Ignore([]), own)
    gathered.prefer(_beside(base.dockerfile), base.context / ".dockerignore")
    ignore = gathered.ignore(base.context / ".dockerignore")
    root = _Place(os.fspath(base.context), "", ignore)
    if gathered.is_inside(root.path, "the context"):
        gathered.contents(root)
    return Selection(
        copy=None,
        entries=gathered.finish(),
        at=base.at,
        root=gathered.root,
        looked_at=gathered.looked_at,
    )


def _beside(dockerfile: Path) -> Path:
    return dockerfile.with_name(dockerfile.name + ".dockerignore")


def shown(path: str) -> str:
    """Return a file's name as it can be printed, whatever is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


# --- gathering -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Somewhere in the tree: its path, and what it is called by the ignore rules that apply."""

    path: str
    relative: str
    ignore: Ignore

    def below(self, name: str) -> "_Place":
        relative = f"{self.relative}/{_text(name)}" if self.relative else _text(name)
        return _Place(f"{self.path}/{name}", relative, self.ignore)

    @property
    def rule(self) -> Rule | None:
        return self.ignore.rule(self.relative) if self.relative else None


class _Gathered:
    """The entries and problems of one selection, as they are found."""

    def __init__(self, root: Path, at: Position, names: Ignore, own: Iterable[Path]) -> None:
        self.root = os.fspath(root)
        self._real = os.path.realpath(root)
        self._at = at
        self._names = names
        self._ignores: dict[Path, Ignore] = {}
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, Entry] = {}  # directories left out, while nothing in them stays
        self._left_out = {f"{self.root}/{name}" for name in OWN} | {os.fspath(p) for p in own}
        self._ours = _OURS | {path.rpartition("/")[2] for path in self._left_out}
        self._problems: list[Problem] = []
        self._unreadable: list[str] = []
        self._looked_at: set[str] = set()

    @property
    def looked_at(self) -> frozenset[str]:
        return frozenset(self._looked_at)

    def finish(self) -> tuple[Entry, ...]:
        """Return all entries, sorted by the bytes of their names, or raise all problems."""
        if self._unreadable:
            listed = ", ".join(f"`{each}`" for each in sorted(self._unreadable)[:_LISTED])
            more = len(self._unreadable) - _LISTED
            self.problem(f"cannot read {listed}" + (f" and {more} more" if more > 0 else ""))
        if self._problems:
            raise ConfigError(self._problems)
        return tuple(sorted(self._entries.values(), key=lambda entry: as_bytes(entry.name)))

    def problem(self, message: str, hint: str = "") -> None:
        self._problems.append(Problem(self._at, message, hint))

    def unreadable(self, path: str, error: OSError) -> None:
        self._unreadable.append(f"{self.shown(path)}: {error.strerror}")

    def shown(self, path: str) -> str:
        """Return a path as the user would write it, from the root of the workspace."""
        return shown(os.path.relpath(path, self.root))

    def ignore(self, file: Path) -> Ignore:
        """Read an ignore file once; absent, nothing is ignored."""
        if file not in self._ignores:
            self._looked_at |= {os.fspath(file), os.path.realpath(file)}
            try:
                text = reading.regular(file).decode("utf-8", "surrogateescape")
            except FileNotFoundError:
                text = ""
            except OSError as error:
                self.unreadable(os.fspath(file), error)
                text = ""
            self._ignores[file] = Ignore.parse(text, self.shown(os.fspath(file)))
        return self._ignores[file]

    def prefer(self, file: Path, other: Path) -> None:
        """Read the ignore file `file`, where there is one, wherever `other` is asked for."""
        ignore = self.ignore(file)
        if file.exists():
            self._ignores[other] = ignore

    def inside(self, path: str) -> str | None:
        """Return a path relative to the workspace, all links resolved; None if it leads out."""
        real = os.path.relpath(os.path.realpath(path), self._real)
        return None if f"{real}/".startswith("../") else real

    def is_inside(self, path: str, what: str) -> bool:
        """Say whether a path is in the workspace, links in it resolved; a problem if not."""
        if self.inside(path) is not None:
            return True
        self.problem(
            f"{what} is outside the workspace: `{shown(os.path.realpath(path))}`",
            "paths may not leave the directory of the root `novita.yaml`",
        )
        return False

    def is_ours(self, path: str) -> bool:
        """Say whether it is something that sandboxfile itself writes."""
        return path in self._left_out or f"/{STATE}/" in f"{path[len(self.root) :]}/"

    def file(self, place: _Place, stat: os.stat_result) -> Rule | None:
        """Take one file or link under its own name, or return the rule that leaves it out."""
        name = _text(place.path.rpartition("/")[2])
        rule = place.rule or self._names.rule(name)
        if rule is None:
            self._add(place.path, name, stat)
        return rule

    def contents(self, top: _Place) -> Rule | None:
        """Take everything below a directory that no pattern leaves out.

        Returns the rule that leaves out the directory itself, if nothing in it was taken back.
        """
        before = len(self._entries)
        stack = [(top.path, f"{top.relative}/" if top.relative else "", "")]
        while stack:
            directory, above, prefix = stack.pop()
            for found in self.listed(directory):
                text, path = _text(found.name), f"{directory}/{found.name}"
                if found.name in self._ours and self.is_ours(path):
                    continue
                relative, name = above + text, prefix + text
                dropped = top.ignore.excludes(relative) or self._names.excludes(name)
                if found.is_dir(follow_symlinks=False):
                    if not dropped or self._may_stay(top.ignore, relative, name):
                        stack.append((path, f"{relative}/", f"{name}/"))
                        self._add_found(found, path, name, waits=dropped)
                elif not dropped:
                    self._add_found(found, path, name)
        return top.rule if len(self._entries) == before else None

    def listed(self, directory: str) -> Iterator["os.DirEntry[str]"]:
        """Yield what is in a directory; unreadable ones are noted."""
        self._looked_at.add(directory)
        try:
            with os.scandir(directory) as found:
                yield from found
        except OSError as error:
            self.unreadable(directory, error)

    def _may_stay(self, ignore: Ignore, relative: str, name: str) -> bool:
        """Say whether something in a directory that is left out may be taken back."""
        return all(
            not patterns.excludes(path) or patterns.keeps_below(path)
            for patterns, path in ((ignore, relative), (self._names, name))
        )

    def _add_found(
        self, found: "os.DirEntry[str]", path: str, name: str, *, waits: bool = False
    ) -> None:
        try:
            self._add(path, name, found.stat(follow_symlinks=False), waits=waits)
        except OSError as error:
            self.unreadable(path, error)

    def _add(self, path: str, name: str, stat: os.stat_result, *, waits: bool = False) -> None:
        """Take one thing; a directory that `waits` only once something below it is taken."""
        entry = self._entry(path, name, stat)
        if entry is None or waits:
            if entry:
                self._waiting[name] = entry
            return
        other = self._entries.setdefault(name, entry)
        if other is not entry:
            self._collide(other, entry)
        if self._waiting:
            self._release(name)

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
        if name.startswith(_WHITEOUT) or "/" + _WHITEOUT in name:
            what = "its name begins with `.wh.`, which deletes files in an image"
        elif filemode.S_ISREG(mode):
            return Entry(name, path, "file", stat, executable=bool(mode & filemode.S_IXUSR))
        elif filemode.S_ISDIR(mode):
            return Entry(name, path, "directory", stat)
        elif filemode.S_ISLNK(mode):
            link = os.readlink(path)  # noqa: PTH115 - a Path would tidy the text up
            return Entry(name, path, "link", stat, link=_text(link))
        else:
            what = f"it is {_SPECIAL.get(filemode.S_IFMT(mode), 'special')}"
        self.problem(
            f"`{self.shown(path)}` cannot be copied: {what}", "leave it out in `.dockerignore`"
        )
        return None


def as_bytes(name: str) -> bytes:
    """Return the bytes of an entry's name or link text."""
    return name.encode("utf-8", "surrogateescape")


def _text(name: str) -> str:
    """Return a name of the file system as UTF-8, whatever the locale made of it."""
    return name if _UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def _spelled(text: str) -> str:
    """Return UTF-8 text as the file system's names are spelled here: the reverse of `_text`."""
    return text if _UTF8 else os.fsdecode(as_bytes(text))


# --- sources ---------------------------------------------------------------------------------

_Found = tuple[_Place, os.stat_result]


@dataclass(frozen=True, slots=True)
class _Source:
    """One source of a copy: the directory or file it begins with, and the glob from there."""

    text: str
    start: _Place
    pattern: tuple[tuple[str, Matches], ...]


def _take(gathered: _Gathered, text: str, root: Path) -> bool:
    """Take what one source names; say whether that is a single file named without a glob."""
    source = _source(gathered, text, os.fspath(root))
    if source is None:
        return False
    found = tuple(_expand(gathered, source.start, source.pattern))
    rules = [_take_one(gathered, source, place, stat) for place, stat in found]
    if all(rules):
        left_out = next(((p, r) for (p, _), r in zip(found, rules, strict=True) if r), None)
        _nothing(gathered, source, left_out)
    return not source.pattern and len(found) == 1 and filemode.S_ISREG(found[0][1].st_mode)


def _source(gathered: _Gathered, text: str, root: str) -> _Source | None:
    """Find out where a source begins; None after a problem."""
    full = os.path.normpath(f"{root}/{_spelled(text)}")
    top = next((d for d in (root, gathered.root) if f"{full}/".startswith(f"{d}/")), None)
    if top is None or text.startswith("/"):
        where = "is an absolute path" if text.startswith("/") else "is outside the workspace"
        gathered.problem(
            f"`{text}` {where}", "write it relative to this file, inside the workspace"
        )
        return None
    start = _Place(top, "", gathered.ignore(Path(top, ".dockerignore")))
    parts = [part for part in full[len(top) :].split("/") if part]
    while parts and not _GLOB.intersection(parts[0]):
        start = start.below(parts.pop(0))
    # A link on the way may not lead out; whether the source itself is one is told later.
    way = start.path if parts or not start.relative else start.path.rpartition("/")[0]
    if not gathered.is_inside(way, f"`{text}`"):
        return None
    try:
        return _Source(text, start, tuple((part, _component(_text(part))) for part in parts))
    except ValueError as error:
        gathered.problem(f"`{text}` is no pattern: {error}")
        return None


def _component(part: str) -> Matches:
    """Return the test for one component of a glob, in which `**` says no more than `*`."""
    while "**" in part:
        part = part.replace("**", "*")
    return matcher(part)


def _expand(
    gathered: _Gathered, place: _Place, pattern: tuple[tuple[str, Matches], ...]
) -> Iterator[_Found]:
    """Yield what a glob matches, links never followed; in the order of names."""
    if gathered.is_ours(place.path):
        return
    if not pattern:
        yield from _existing(gathered, place)
        return
    (part, matches), rest = pattern[0], pattern[1:]
    spanning = part == "**"
    if spanning:
        yield from _expand(gathered, place, rest)
    if spanning and not rest:
        return  # the directory itself has all that is below it
    for found in sorted(gathered.listed(place.path), key=lambda each: each.name):
        enterable = found.is_dir(follow_symlinks=False)
        if spanning and enterable:
            yield from _expand(gathered, place.below(found.name), pattern)
        elif not spanning and matches(_text(found.name)) and (enterable or not rest):
            yield from _expand(gathered, place.below(found.name), rest)


def _existing(gathered: _Gathered, place: _Place) -> Iterator[_Found]:
    try:
        yield place, os.lstat(place.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        gathered.unreadable(place.path, error)


def _take_one(
    gathered: _Gathered, source: _Source, place: _Place, stat: os.stat_result
) -> Rule | None:
    """Take one match; return the rule that leaves it out, if one does."""
    if filemode.S_ISLNK(stat.st_mode) and place is source.start:
        target = gathered.inside(place.path)
        gathered.problem(
            f"`{source.text}` is a link, and links are not followed",
            f"name what it points to: `{shown(target)}`" if target else "put the files there",
        )
        return None
    if filemode.S_ISDIR(stat.st_mode):
        return gathered.contents(place)
    return gathered.file(place, stat)


def _nothing(gathered: _Gathered, source: _Source, left_out: tuple[_Place, Rule] | None) -> None:
    """Complain that a source brings nothing, and say what might have been meant."""
    message = f"nothing matches `{source.text}`"
    if left_out:
        place, rule = left_out
        path = gathered.shown(place.path)
        gathered.problem(message, f"`{path}` is left out by `{shown(rule.text)}` ({rule.at})")
    elif gathered.is_ours(source.start.path):
        gathered.problem(message, "what sandboxfile writes itself is never copied")
    else:
        gathered.problem(message, _near(gathered, source))


def _near(gathered: _Gathered, source: _Source) -> str:
    """Name the paths whose names are nearest, and the rule for those that are left out."""
    from difflib import get_close_matches

    top = source.start.path.removesuffix("/" + source.start.relative)
    places = {place.relative: place for place in _search(gathered, top, source.start.ignore)}
    wanted = "/".join([source.start.relative, *(part for part, _ in source.pattern)])
    hints = []
    for name in get_close_matches(wanted.strip("/"), places, n=_NEAR, cutoff=0.5):
        rule = places[name].rule
        note = f" (left out by `{shown(rule.text)}`, {rule.at})" if rule else ""
        hints.append(f"`{shown(name)}`{note}")
    return f"did you mean {' or '.join(hints)}?" if hints else ""


def _search(gathered: _Gathered, top: str, ignore: Ignore) -> Iterator[_Place]:
    """Yield the first paths of a tree, level by level."""
    level = [_Place(top, "", ignore)]
    left = _SEARCHED
    while level and left > 0:
        below = []
        for place in level:
            for found in sorted(gathered.listed(place.path), key=lambda each: each.name)[:left]:
                left -= 1
                yield place.below(found.name)
                if found.is_dir(follow_symlinks=False) and found.name != ".git":
                    below.append(place.below(found.name))
        level = below
