"""Leaves to the first stage what a run that found nothing to do has looked at and said."""

import argparse
import os
import struct
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sandboxfile import __version__, account, app, fresh, reading, tags
from sandboxfile.config import finding
from sandboxfile.model import Workspace
from sandboxfile.opening import Opened
from sandboxfile.planning import Planned

Held = Mapping[str, os.stat_result]


def held(workspace: Workspace) -> Held:
    """Return the `lstat` of the configuration and of the locks, before the locks are read."""
    found = {}
    for path in (*workspace.files, *_locks(workspace)):
        with suppress(OSError):
            found[os.fspath(path)] = path.lstat()
    return found


def remember(
    args: argparse.Namespace,
    it: Opened,
    before: Held,
    *,
    planned: Planned | None,
    told: str,
    printed: str = "",
) -> None:
    """Let the first stage say what this run said for as long as nothing has changed.

    `before` is what `held` returned; without a plan nothing but the lock counted.
    """
    workspace = it.session.workspace
    if not _is_repeatable(args, it, planned) or any(str(f) not in before for f in workspace.files):
        return
    surveyed = planned.survey.templates.values() if planned else ()
    paths = set(_searched(workspace, Path.cwd()))
    paths |= {str(account.login_file(args.home)), *map(str, _locks(workspace))}
    paths.update(workspace.looked_at)
    paths.update(_program())
    try:
        seen = {path: fresh.mark(stat) for path, stat in before.items()}
        for each in surveyed:
            seen.update(each.seen)
            paths |= each.looked_at
    except struct.error:  # a file of the year 2300 has no mark
        return
    ways, linked = _ways({*seen, *paths}, workspace), set(_behind_links([*before, *paths]))
    linked.update(_behind_links(ways))
    fresh.remember(
        __version__,
        args.given,
        args.environ,
        here=args.here,
        config=str(workspace.file),
        since=args.since,
        paths=sorted(paths | linked),
        ways=tuple(sorted(ways | _ways(linked, workspace))),
        seen=seen,
        told=told,
        printed=printed,
        read=workspace.environment,
    )


def _is_repeatable(args: argparse.Namespace, it: Opened, planned: Planned | None) -> bool:
    """Say whether what is looked at is all that decides what is said."""
    if args.ref or args.shard or it.show.has_reported or any(map(_is_behind_link, args.templates)):
        return False
    if planned is None:
        return True
    templates = it.session.workspace.templates.values()
    wanted = [*it.session.target.tags, *(tag for each in templates for tag in each.tags)]
    return not planned.pins and not tags.uses_git(wanted)


def _is_behind_link(word: str) -> bool:
    """Say whether a word names a directory in a way that is not looked at."""
    is_path = "/" in word or word in {".", ".."}
    return is_path and os.path.realpath(word) != os.path.abspath(word)  # noqa: PTH100


def _locks(workspace: Workspace) -> tuple[Path, Path]:
    return workspace.root / app.LOCK, workspace.root / app.LOCAL_LOCK


def _searched(workspace: Workspace, here: Path) -> Iterable[str]:
    """Yield what, by being there, makes another file the root, or ends the search for it."""
    yield from map(str, finding.candidates(here))
    for directory in (here, *here.parents):
        if directory == workspace.root:
            return
        yield str(directory / ".git")


def _program() -> Iterable[str]:
    """Yield the files of the program that came to the answer: it may be at work on itself."""
    for name, module in sys.modules.items():
        if name.partition(".")[0] == "sandboxfile" and module.__file__:
            yield module.__file__


def _behind_links(paths: Iterable[str]) -> Iterable[str]:
    for path in paths:
        if os.path.islink(path):  # noqa: PTH114
            yield from reading.way(path)


def _ways(paths: Iterable[str], workspace: Workspace) -> set[str]:
    """Return the directories in the workspace that lead to paths; of the ends of links, too."""
    real = os.path.realpath(workspace.root)
    tops = tuple(top.rstrip("/") + "/" for top in (str(workspace.root), real))
    ways: set[str] = set()
    for path in paths:
        way = path.rpartition("/")[0]
        while way not in ways and way.startswith(tops):
            ways.add(way)
            way = way.rpartition("/")[0]
    return ways
