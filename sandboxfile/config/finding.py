"""Which files are the configuration: the root from any directory below it, and its members."""

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from sandboxfile import reading
from sandboxfile.config import document
from sandboxfile.config.names import is_glob
from sandboxfile.config.problems import near
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass, field
from sandboxfile.places import Position, Problem

NAMES = ("novita.yaml", "novita.yml")
_SUFFIXES = (".yaml", ".yml")
_NEAR = 5
# What the system answers where there is nothing, or a link that leads nowhere; or cannot be.
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_ABSENT = _NOWHERE | {errno.ENAMETOOLONG}
_SKIPPED = "node_modules"  # other people's packages, and a great many of them


# --- the root --------------------------------------------------------------------------------


def find(directory: Path, file: str | None) -> Path:
    """Return the path of the root configuration: `file`, or the one found from a directory.

    That is the nearest `novita.yaml` of the directory and those above it; unless it has members
    itself, the next one further up whose `members` include it. A file of somebody else, other
    than the system's owner, is not looked at, and nothing is found beyond the repository
    (`.git`) that the directory is in. Raises ConfigError.
    """
    if file is not None:
        path = directory / file
        try:
            path.stat()
        except OSError as error:
            if error.errno not in _NOWHERE:
                raise ConfigError([_hidden(path, error)]) from None
            _refuse_link(path)
            raise ConfigError([_missing(path, near(path.name, _listed(path.parent)))]) from None
        return path
    path = _nearest(directory) or _complain(directory)
    return path if _members(path) is not None else root_of(path) or path


def candidates(directory: Path) -> Iterator[Path]:
    """Yield the paths that decide, by being there, which file is the root for a directory."""
    for each in (directory, *directory.parents):
        yield from (each / name for name in NAMES)


def is_inside(directory: Path) -> bool:
    """Say whether a directory is in a workspace. Raises ConfigError if it has two files."""
    return _nearest(directory) is not None


def _nearest(directory: Path) -> Path | None:
    owners = _owners(directory)
    for each in (directory, *directory.parents):
        found = [each / name for name in NAMES if reading.exists(each / name)]
        if each != directory:
            found = [path for path in found if path.stat().st_uid in owners]
        if len(found) > 1:
            message = f"there are both `{NAMES[0]}` and `{NAMES[1]}`"
            hint = "remove one, or choose with `--file`"
            raise ConfigError([Problem(Position(shown(found[0]), 1, 1), message, hint)])
        if found:
            return found[0]
        if reading.exists(each / ".git"):
            break
    return None


def _refuse_link(path: Path) -> None:
    """Complain of a link that leads nowhere, since it is there to be seen."""
    if path.is_symlink():
        message = f"this is a link that leads nowhere, to {os.readlink(path)}"  # noqa: PTH115 - as it is written
        hint = "mend it, or put the file in its place"
        raise ConfigError([Problem(Position(shown(path), 1, 1), message, hint)])


def _complain(directory: Path) -> NoReturn:
    for name in NAMES:
        _refuse_link(directory / name)
    twins = [name for name in _listed(directory) if name.lower().startswith("novita.y")]
    hint = "create one with `sandboxfile init`"
    if twins:
        hint = f"there is `{twins[0]}`: rename it, or choose it with `--file`"
    message = f"looked for {' and '.join(NAMES)} here and above; {hint}"
    raise ConfigError([_missing(directory / NAMES[0], message)])


def _owners(directory: Path) -> set[int]:
    """Return whose files may rule a directory: ours, its owner's, and the system's."""
    try:
        return {0, os.geteuid(), directory.stat().st_uid}
    except OSError:
        return {0, os.geteuid()}


def root_of(path: Path) -> Path | None:
    """Return the root of which a file is a member, or would be if it were there."""
    owners = _owners(path.parent)
    for directory in path.parent.parents:
        for candidate in (directory / name for name in NAMES):
            if not reading.is_file(candidate) or candidate.stat().st_uid not in owners:
                continue
            patterns = _members(candidate) or ()
            relative = path.relative_to(directory)
            if any(_is_member(relative, pattern) for pattern in patterns):
                return candidate
    return None


def _members(path: Path) -> tuple[str, ...] | None:
    """Return the `members` of a file, None without any. Raises ConfigError if it is not YAML."""
    try:
        data = reading.regular(path)
    except OSError:
        return None
    if b"members" not in data or len(data) > document.LIMIT:
        return None
    from sandboxfile.config import parser

    root, _ = parser.read(document.decode(data, shown(path)), shown(path))
    members = root.entries.get("members")
    if members is None:
        return None
    return tuple(item.text for item in members.items if item.text is not None)


def _is_member(path: Path, pattern: str) -> bool:
    """Say whether a pattern matches a file, or the directory that it is the configuration of."""
    wanted = tuple(part for part in pattern.split("/") if part not in ("", "."))
    return _fits(path.parts, wanted) or (path.name in NAMES and _fits(path.parts[:-1], wanted))


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or _fits(parts[1:], wanted)
    return fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError:
        return []


def _missing(path: Path, hint: str) -> Problem:
    message = "this file does not exist"
    return Problem(
        Position(shown(path), 1, 1), message, hint if "did you" in hint or ";" in hint else ""
    )


def _hidden(path: Path, error: OSError) -> Problem:
    message = f"this file cannot be looked at: {(error.strerror or str(error)).lower()}"
    hint = "look at the path, and at who may enter the directories that lead to it"
    return Problem(Position(shown(path), 1, 1), message, hint)


def shown(path: Path, root: Path | None = None) -> str:
    """Return the path as a user would write it: from here, where it is not far from here."""
    try:
        here = Path.cwd()
    except OSError:
        return str(path)
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    if root is not None and here.is_relative_to(root) and path.is_relative_to(root):
        return os.path.relpath(path, here)
    return str(path)


# --- the members -----------------------------------------------------------------------------


@dataclass(slots=True)
class Matched:
    """What one pattern of `members` matches: files, and what there is to say of the rest."""

    files: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=set)
    missed: list[tuple[Path, str]] = field(default_factory=list)  # a directory, and what it lacks
    closed: dict[Path, str] = field(default_factory=dict)  # directories, and why none can look in


def match(root: Path, pattern: str) -> Matched:
    """Find the files that a pattern names, in the order of their names.

    A directory stands for the configuration in it. As in a shell, `*` does not match a leading
    dot, and `**`, any number of directories, follows no link. Neither enters `node_modules`.
    """
    found = Matched()
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    _walk(root, parts, found)
    real = os.path.realpath(root)
    for path in tuple(found.files):
        if os.path.realpath(path) != f"{real}/{path.relative_to(root)}":
            found.files.remove(path)
            found.links.append(path)
    return found


def _walk(directory: Path, parts: list[str], found: Matched) -> None:
    if not parts:
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        _walk(directory, rest or list(NAMES[:1]), found)
        for name in _below(directory, "*", found):
            path = directory / name
            if _is_directory(path, found) and not path.is_symlink():
                _walk(path, parts, found)
        return
    names = _below(directory, part, found) if is_glob(part) else [part]
    known = len(found.files)
    for name in names:
        path = directory / name
        if rest:
            if _is_directory(path, found):
                _walk(path, rest, found)
            elif not is_glob(part):
                found.looked_at.add(str(path))
                found.missed.append((directory, part))
        else:
            _take(path, found, named=not is_glob(part))
    if len(found.files) == known and not names:
        found.missed.append((directory, part))


def _below(directory: Path, part: str, found: Matched) -> list[str]:
    found.looked_at.add(str(directory))
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        _note(directory, error, found)
        return []
    return [
        name
        for name in names
        if fnmatchcase(name, part)
        and name != _SKIPPED
        and (not name.startswith(".") or part.startswith("."))
    ]


def _take(path: Path, found: Matched, *, named: bool) -> None:
    """Take a file, or what is the configuration of a directory."""
    found.looked_at.add(str(path))
    mode = _mode(path, found)
    if mode is None:
        found.missed.append((path.parent, path.name))
        return
    if not stat.S_ISDIR(mode):
        if named or path.suffix in _SUFFIXES:
            found.files.append(path)
        return
    inside = [path / name for name in NAMES if stat.S_ISREG(_mode(path / name, found) or 0)]
    found.looked_at.update(str(path / name) for name in NAMES)
    found.files += inside
    if not inside:
        found.missed.append((path, NAMES[0]))


def _is_directory(path: Path, found: Matched) -> bool:
    return stat.S_ISDIR(_mode(path, found) or 0)


def _mode(path: Path, found: Matched) -> int | None:
    """Return what is at a path, links followed, None for nothing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        _note(path.parent, error, found)
        return None


def _note(directory: Path, error: OSError, found: Matched) -> None:
    """Take note of a directory that cannot be looked into: nobody knows what is there."""
    if error.errno not in _ABSENT:
        found.closed.setdefault(directory, error.strerror or type(error).__name__)


def near_miss(root: Path, missed: list[tuple[Path, str]]) -> str:
    """Name what there is where a pattern stopped matching."""
    from difflib import get_close_matches

    seen = []
    for directory, part in missed[:_NEAR]:
        relative = directory.relative_to(root)
        there = [name for name in _listed(directory) if not name.startswith(".")]
        if close := get_close_matches(part, there, n=1):
            return f"did you mean `{relative / close[0]}`?"
        place = "beside the root" if relative == Path() else f"in `{relative}`"
        listed = ", ".join(f"`{name}`" for name in there[:_NEAR])
        seen.append(f"{place} there is {listed or 'nothing'}")
    return (
        seen[0] if len(seen) == 1 else f"none of {len(missed)} directories has it" if seen else ""
    )
