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
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from sandboxfile.contents import Selection, shown, spelled, utf8
from sandboxfile.gathering import Gathered, Ground, Place
from sandboxfile.ignore import Ignore, Matches, Rule, matcher
from sandboxfile.model import Copy, DockerfileBase

_GLOB = frozenset("*?[\\")
_NEAR = 3
_SEARCHED = 2_000  # paths looked at to find near ones


def select(copy: Copy, ground: Ground, *, dockerfile: Path | None = None) -> Selection:
    """Find the files of a copy. Raises ConfigError with all its problems, at its place.

    For a copy in a Dockerfile, whose context is the copy's root, `<Dockerfile>.dockerignore` wins
    as in `select_context`.
    """
    gathered = Gathered(ground, copy.at, Ignore.of(copy.ignore, copy.at))
    if dockerfile is not None:
        gathered.prefer(_beside(dockerfile), copy.root)
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


class Whole(NamedTuple):
    """A directory that is taken as it is; `looked_at` decided that, besides what is in it."""

    path: str
    stat: os.stat_result
    looked_at: frozenset[str]


def whole(copy: Copy, ground: Ground) -> Whole | None:
    """Return the directory that a copy takes, if nothing in it is left out by a rule.

    None for every other copy. Raises ConfigError, OSError for one with a problem.
    """
    if len(copy.sources) != 1 or copy.ignore:
        return None
    gathered = Gathered(ground, copy.at, Ignore([]))
    source = _source(gathered, copy.sources[0], os.fspath(copy.root))
    gathered.finish()
    if source is None or source.pattern or source.start.ignore.rules:
        return None
    path = source.start.path
    stat = os.lstat(path)
    is_taken = filemode.S_ISDIR(stat.st_mode) and not gathered.is_ours(path)
    return Whole(path, stat, gathered.looked_at) if is_taken else None


def select_context(base: DockerfileBase, ground: Ground) -> Selection:
    """Find the files of a Dockerfile's build context. Raises ConfigError.

    `<Dockerfile>.dockerignore` beside the Dockerfile wins over the context's `.dockerignore`.
    """
    gathered = Gathered(ground, base.at, Ignore([]))
    gathered.prefer(_beside(base.dockerfile), base.context)
    top = os.fspath(base.context)
    root = Place(top, "", gathered.ignore(top))
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


# --- sources ---------------------------------------------------------------------------------

_Found = tuple[Place, os.stat_result]


class _Source(NamedTuple):
    """One source of a copy: the directory or file it begins with, and the glob from there."""

    text: str
    start: Place
    pattern: tuple[tuple[str, Matches], ...]


def _take(gathered: Gathered, text: str, root: Path) -> bool:
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


def _source(gathered: Gathered, text: str, root: str) -> _Source | None:
    """Find out where a source begins; None after a problem."""
    full = os.path.normpath(f"{root}/{spelled(text)}")
    top = next((d for d in (root, gathered.root) if f"{full}/".startswith(f"{d}/")), None)
    if top is None or text.startswith("/"):
        where = "is an absolute path" if text.startswith("/") else "is outside the workspace"
        gathered.problem(
            f"`{text}` {where}", "write it relative to this file, inside the workspace"
        )
        return None
    start = Place(top, "", gathered.ignore(top))
    parts = [part for part in full[len(top) :].split("/") if part]
    named = [*takewhile(_GLOB.isdisjoint, parts)]
    start, parts = start.below("/".join(named)) if named else start, parts[len(named) :]
    # A link on the way may not lead out; whether the source itself is one is told later.
    way = start.path if parts or not start.relative else start.path.rpartition("/")[0]
    if not gathered.is_inside(way, f"`{text}`"):
        return None
    try:
        return _Source(text, start, tuple((part, _component(utf8(part))) for part in parts))
    except ValueError as error:
        gathered.problem(f"`{text}` is no pattern: {error}")
        return None


def _component(part: str) -> Matches:
    """Return the test for one component of a glob, in which `**` says no more than `*`."""
    while "**" in part:
        part = part.replace("**", "*")
    return matcher(part)


def _expand(
    gathered: Gathered, place: Place, pattern: tuple[tuple[str, Matches], ...]
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
        elif not spanning and matches(utf8(found.name)) and (enterable or not rest):
            yield from _expand(gathered, place.below(found.name), rest)


def _existing(gathered: Gathered, place: Place) -> Iterator[_Found]:
    try:
        yield place, os.lstat(place.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        gathered.unreadable(place.path, error)


def _take_one(
    gathered: Gathered, source: _Source, place: Place, stat: os.stat_result
) -> Rule | None:
    """Take one match; return the rule that leaves it out, if one does."""
    if filemode.S_ISLNK(stat.st_mode) and place is source.start:
        target = gathered.ground.inside(place.path)
        gathered.problem(
            f"`{source.text}` is a link, and links are not followed",
            f"name what it points to: `{shown(target)}`" if target else "put the files there",
        )
        return None
    if filemode.S_ISDIR(stat.st_mode):
        return gathered.contents(place)
    return gathered.file(place, stat)


def _nothing(gathered: Gathered, source: _Source, left_out: tuple[Place, Rule] | None) -> None:
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


def _near(gathered: Gathered, source: _Source) -> str:
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


def _search(gathered: Gathered, top: str, ignore: Ignore) -> Iterator[Place]:
    """Yield the first paths of a tree, level by level."""
    level = [Place(top, "", ignore)]
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
