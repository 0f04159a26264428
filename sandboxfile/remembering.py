"""Leaves to the first stage what a run that found nothing to do has looked at and said."""

import argparse
import os
import struct
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sandboxfile import (
    __version__,
    account,
    app,
    fresh,
    lockfile,
    looks,
    planning,
    reading,
    records,
    settled,
    tags,
)
from sandboxfile.app import Session
from sandboxfile.config import finding
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.lockfile import Lock
from sandboxfile.model import Workspace
from sandboxfile.opening import Opened
from sandboxfile.planning import Planned
from sandboxfile.records import Part
from sandboxfile.settled import Settled
from sandboxfile.statcache import SLACK_NS
from sandboxfile.surveyed import Surveyed

Held = Mapping[str, os.stat_result]


def held(workspace: Workspace) -> Held:
    """Return the `lstat` of the configuration and of the locks, before the locks are read."""
    return {**_held(workspace.files), **_held_locks(workspace)}


def _held_locks(workspace: Workspace) -> Held:
    return _held(_locks(workspace))


def _held(paths: Iterable[Path]) -> Held:
    found = {}
    for path in paths:
        with suppress(OSError):
            found[os.fspath(path)] = path.lstat()
    return found


def settled_by(args: argparse.Namespace, workspace: Workspace, before: Held) -> Settled | None:
    """Return what an earlier run has settled, by what the first stage has found.

    `before` is what `held` returned, after that: configuration and locks have to be as they were.
    """
    record = args.look.record
    if record is None:
        return None
    with suppress(struct.error, ValueError):
        short = records.Shortened(args.here, os.fspath(workspace.root))
        known = records.general(record)
        files = map(os.fspath, (*workspace.files, *_locks(workspace)))
        if all(_mark(before.get(file)) == known.get(short(file), b"") for file in files):
            return settled.of(args.look)
    return None


def _mark(stat: os.stat_result | None) -> bytes:
    return fresh.mark(stat) if stat else b""


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
    if it.show.has_reported:
        return
    locks = _locks_as_planned(it.session, planned) if planned else _Locks({}, (), Lock())
    if locks is not None:
        _remember(args, it, before, planned=planned, told=told, printed=printed, locks=locks)


def remember_built(
    args: argparse.Namespace, it: Opened, before: Held, *, planned: Planned, told: str
) -> None:
    """Let the first stage say that nothing is to be done, after a build, until something is.

    Templates that are not up to date are looked at by the next run in any case.
    """
    with suppress(ConfigError):  # somebody is at work on the lock: the build is done all the same
        _remember_built(args, it, before, planned=planned, told=told)


def _remember_built(
    args: argparse.Namespace, it: Opened, before: Held, *, planned: Planned, told: str
) -> None:
    session = it.session
    now = {**before, **_held_locks(session.workspace)}
    locks = _locks_as_planned(session, planned, but=[d.template for d in planned.stale])
    if locks is not None:
        again = planning.left_over(session, planned, locks.own)
        if args.json:  # what would be printed was not made
            again |= {decision.template for decision in planned.stale}
        _remember(args, it, now, planned=planned, told=told, locks=locks, again=again)


class _Locks(NamedTuple):
    """The SHA-256 of the locks by their paths, of those as written, and what the target's says."""

    digests: Mapping[str, str]
    as_written: tuple[str, ...]
    own: Lock


def _locks_as_planned(
    session: Session, planned: Planned, *, but: Collection[str] = ()
) -> _Locks | None:
    """Return the locks, None if they say anything else than the plan was made of.

    What they say of the templates `but` which these are counts not.
    """
    target = session.target.name
    texts = {os.fspath(path): lockfile.content(path) for path in _locks(session.workspace)}
    found = {path: text for path, text in texts.items() if text is not None}
    digests = {path: fresh.digest_of(text.encode()).decode() for path, text in found.items()}
    lock, resolved = session.locks()
    rest, then = (each.entries(target).without(but) for each in (lock, planned.lock))
    if rest != then or resolved != planned.resolved:
        return None
    as_written = [digests[path] for path, text in found.items() if lockfile.is_as_written(text)]
    return _Locks(digests=digests, as_written=tuple(as_written), own=lock)


def _remember(
    args: argparse.Namespace,
    it: Opened,
    before: Held,
    *,
    planned: Planned | None,
    told: str,
    printed: str = "",
    locks: _Locks,
    again: Collection[str] = (),
) -> None:
    workspace = it.session.workspace
    if not _is_repeatable(args, it, planned) or any(str(f) not in before for f in workspace.files):
        return
    surveyed = planned.survey.templates if planned else {}
    paths = set(_searched(workspace, Path.cwd()))
    paths |= {str(account.login_file(args.home)), *map(str, _locks(workspace))}
    paths.update(workspace.looked_at)
    paths.update(_program())
    try:
        seen = {path: fresh.mark(stat) for path, stat in before.items()}
        parts = {
            name: _part(it.session, each, is_open=name in again) for name, each in surveyed.items()
        }
    except struct.error:  # a file of the year 2300 has no mark
        return
    own = {path for each in surveyed.values() if not each.known for path in each.looked_at}
    above = {directory for each in surveyed.values() for directory in each.above}
    led = _ways(above.union(map(_parent, (*seen, *paths))), workspace)
    ways = {way: looks.inode(way) for way in led}
    others = (way for way, inode in ways.items() if not inode)
    linked = {*_behind_links([*before, *paths, *own]), *_behind_links(others)}
    ways |= {way: looks.inode(way) for way in _ways({*map(_parent, linked)}, workspace)}
    records.remember(
        __version__,
        args.given,
        args.environ,
        here=args.here,
        config=str(workspace.file),
        since=args.since,
        paths=sorted(paths | linked),
        ways=dict(sorted(ways.items())),
        seen=seen,
        told=told,
        printed=printed,
        read=workspace.environment,
        parts=parts,
        contents=locks.digests,
        locks=locks.as_written,
        earlier=args.look if planned and planned.settled else None,
    )


def _part(session: Session, surveyed: Surveyed, *, is_open: bool) -> Part:
    """Return what was looked at for a template. Raises struct.error for a file of the year 2300."""
    known = surveyed.known
    if known is not None:
        top, looked = known.top, known.looked
    else:
        top, looked = "", looks.anywhere(surveyed.seen, surveyed.looked_at)
    return Part(
        parent=surveyed.parent or "",
        looked=looked,
        top=top,
        contents=partial(_contents, session, surveyed),
        open=is_open,
    )


def _contents(session: Session, surveyed: Surveyed) -> dict[str, str]:
    """Return the SHA-256 of files that are too young to be known by their times, as read.

    What decides which files are taken, such as an ignore file, was read at another time, too: it
    may have said something else then. Of what was not read nothing is known: the next run reads it.
    """
    if surveyed.is_committed:
        return {}
    found, digests = {}, session.digests()
    marks = dict(surveyed.seen)
    with suppress(OSError, SandboxfileError):  # changed since
        deciding = surveyed.deciding
        for entry in surveyed.entries:
            newest = fresh.newest(marks.get(entry.path, b""))
            is_young = newest + SLACK_NS > session.args.since
            if is_young and entry.kind == "file" and entry.path not in deciding:
                found[entry.path] = digests.digest(entry.path, entry.stat)
    return found


def _is_repeatable(args: argparse.Namespace, it: Opened, planned: Planned | None) -> bool:
    """Say whether what is looked at is all that decides what is said."""
    is_elsewhere = any(map(_is_behind_link, args.templates))
    if args.ref or args.shard or getattr(args, "force", False) or is_elsewhere:
        return False
    if planned is None or planned.settled:  # the run before was
        return not (planned and planned.pins)
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


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _ways(directories: Iterable[str], workspace: Workspace) -> set[str]:
    """Return directories in the workspace and those that lead to them; of ends of links, too."""
    real = os.path.realpath(workspace.root)
    tops = tuple(top.rstrip("/") + "/" for top in (str(workspace.root), real))
    ways: set[str] = set()
    for way in directories:
        while way not in ways and way.startswith(tops):
            ways.add(way)
            way = _parent(way)  # noqa: PLW2901 - upwards
    return ways
