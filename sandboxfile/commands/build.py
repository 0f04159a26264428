"""Bring templates up to date: plan, run the jobs, and say what became of each template."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sandboxfile import (
    app,
    choosing,
    collector,
    commandline,
    counts,
    errors,
    fresh,
    planning,
    remembering,
    results,
    selection,
    sharding,
)
from sandboxfile.cancel import STOPPED
from sandboxfile.errors import UsageError
from sandboxfile.events import Notice
from sandboxfile.frozen import dataclass
from sandboxfile.model import Target
from sandboxfile.opening import Opened, opened
from sandboxfile.planning import Planned
from sandboxfile.remembering import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the command: the templates it is about, and what it said first."""

    args: argparse.Namespace
    it: Opened
    names: tuple[str, ...]
    began: float
    heading: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "templates",
        nargs="*",
        metavar="TEMPLATE",
        help="names, globs or groups (default: the group `default`, else all)",
    )
    selection.add_since(parser)
    selection.add_shard(parser)
    at_once = "images built at once (default: 2 per core, 4)"
    add("-j", "--jobs", type=selection.jobs, metavar="N", help=at_once)
    add("--keep-going", action="store_true", help="exit 7 instead of 1 when some came through")
    add("--force", action="store_true", help="build even what is up to date")
    add("--no-cache", action="store_true", help="let the engine reuse no layers")
    add("--dry-run", action="store_true", help="print the plan and do nothing")
    add("--locked", action="store_true", help="fail (4) if the lock would change")
    add(
        "--allow-unsupported",
        action="store_true",
        help="try bases that the service is known to refuse",
    )
    add("--frozen", action="store_true", help="trust the lock and compute nothing")
    add(
        "--profile",
        type=Path,
        metavar="FILE",
        help="write what ran when as a Chrome trace, for ui.perfetto.dev",
    )
    add("--detach", action="store_true", help="leave builds at the service once they run")
    add(
        "--timeout",
        type=commandline.duration,
        metavar="DURATION",
        help="leave builds that still run after this time (`90s`, `30m`, `1h`), with exit code 6",
    )


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    _check(args)
    if args.profile:
        from sandboxfile import chrometrace

        chrometrace.check(args.profile)
    with opened(args, reads_all=not (args.templates or args.ref or args.frozen)) as it:
        _check_detach(args, it.session.target)
        names = tuple(selection.chosen(args, it.session.workspace))
        heading = it.show.say(it.heading)
        if args.ref:
            count = counts.among(
                len(names), len(choosing.select(it.session.workspace, args.templates)), "template"
            )
            it.show.say(f"changed since {args.ref}: {count}\n")
        if args.shard:
            names = planning.in_shard(it.session, names, args.shard, force=args.force)
            if names:
                it.show.say(f"shard {args.shard}: {', '.join(names)}\n")
        run = Run(args=args, it=it, names=names, began=began, heading=heading)
        if args.shard and not names:
            return _nothing(run, {}, 0, list, None)
        if args.frozen:
            return _frozen(run)
        if args.dry_run:
            return _dry_run(run)
        try:
            return _build(run)
        except KeyboardInterrupt:
            it.session.cancel.set()
            it.session.emit(Notice(job="", text=STOPPED, level="warning"))
            raise


def _check(args: argparse.Namespace) -> None:
    if args.frozen and (args.force or args.dry_run or args.locked or args.detach or args.shard):
        raise UsageError("`--frozen` computes nothing: it goes with no other way to build")
    if args.profile and args.dry_run:
        raise UsageError("`--profile` tells of a run, and `--dry-run` runs nothing")
    if args.locked and args.force:
        raise UsageError("`--locked` allows no change and `--force` makes one")


def _check_detach(args: argparse.Namespace, target: Target) -> None:
    if args.detach and target.provider == "local":
        raise UsageError(
            f"`--detach`: builds of target `{target.name}` end with this run",
            hint="the local service runs inside it; `sandboxfile serve` runs one that stays",
        )


def _frozen(run: Run) -> int:
    before = remembering.held(run.it.session.workspace)
    entries = planning.frozen(run.it.session, run.names)
    found = partial(results.of_lock, run.it.session.target.name, entries)
    return _nothing(run, before, len(entries), found, None)


def _dry_run(run: Run) -> int:
    from sandboxfile.commands import plan as plan_command

    session = run.it.session
    before = remembering.held(session.workspace)
    settled = remembering.settled_by(run.args, session.workspace, before)
    planned = planning.make(session, run.names, force=run.args.force, settled=settled)
    text = plan_command.described(session, planned, jobs=run.args.jobs, as_json=run.args.json)
    sys.stdout.write(text)
    if not planned.stale:
        remembering.remember(
            run.args, run.it, before, planned=planned, told=run.heading, printed=text
        )
    return errors.DONE


def _build(run: Run) -> int:
    args, session = run.args, run.it.session
    before, is_quiet = remembering.held(session.workspace), not run.it.show.has_reported
    planned = planning.make(
        session,
        run.names,
        force=args.force,
        building=not args.locked,
        settled=remembering.settled_by(args, session.workspace, before),
    )
    if args.locked:
        planning.check_locked(session, planned)
    planning.record_pins(session, planned.pins)
    if not planned.stale:
        return _nothing(run, before, len(planned.names), lambda: _as_locked(run, planned), planned)
    from sandboxfile import running

    is_first = not (session.workspace.root / app.LOCAL_LOCK).exists()
    found_out = planning.findings(session, planned)
    planning.check_possible(found_out, session, allowed=args.allow_unsupported)
    ended = running.run(
        session,
        run.it.show.reporter,
        planned,
        builds=args.jobs or app.builds_at_once(),
        no_cache=args.no_cache,
        keep_going=args.keep_going,
    )
    if is_first:
        _tell_own(run)
    if args.json:
        found = results.of(planned.listed, session.entries(), ended.of)
        _print(found, run.began, critical=ended.critical)
    if args.profile:
        _profile(run, ended)
    elif is_quiet:
        told = run.heading + run.it.show.heard(_idle(len(planned.names)))
        remembering.remember_built(args, run.it, before, planned=planned, told=told)
    if ended.code == errors.DONE and session.target.provider != "local":
        collector.leave(run, planned, ended)  # a service inside this process ends in its own time
    return ended.code


# --- what is said at the end -----------------------------------------------------------------


def _tell_own(run: Run) -> None:
    """Say once that the new lock of this machine is not to be committed, unless git knows it.

    The list of what git ignores is the user's own file: `init` writes it on request, nobody else.
    """
    root = run.it.session.workspace.root
    if not (root / app.LOCAL_LOCK).exists():
        return
    from sandboxfile import git
    from sandboxfile.process import run as ended

    try:
        status = ended(git.command(root, "check-ignore", "-q", app.LOCAL_LOCK)).status
    except errors.Unreachable:  # without git there is nothing to say
        return
    if status == 1:  # 0: it is ignored; 128: there is no repository
        text = f"add {app.LOCAL_LOCK} to .gitignore: what is in it is this machine's own\n"
        run.it.show.say(text)


def _as_locked(run: Run, planned: Planned) -> list[results.Result]:
    return results.of(planned.listed, run.it.session.entries())


def _nothing(
    run: Run,
    before: Held,
    count: int,
    found: Callable[[], list[results.Result]],
    planned: Planned | None,
) -> int:
    """End a run in which nothing was to be done to so many templates, without opening anything."""
    printed = _print(found(), run.began) if run.args.json else ""
    empty = run.args.shard and not run.names
    told = run.it.show.say(sharding.nothing_in(run.args.shard) if empty else _idle(count))
    if run.args.profile:
        _profile(run)  # which the first stage could not write
        return errors.DONE
    remembering.remember(
        run.args, run.it, before, planned=planned, told=run.heading + told, printed=printed
    )
    collector.leave(run, planned)
    return errors.DONE


def _idle(count: int) -> str:
    return f"{count} up to date, nothing to do\n"


def _profile(run: Run, ended: Any = None) -> None:
    """Write the trace of a run, an empty one where nothing was to be done."""
    from sandboxfile import chrometrace
    from sandboxfile.timeline import Timeline

    path = run.args.profile
    if ended is None:
        chrometrace.write(path, Timeline())
    else:
        chrometrace.write(path, ended.timeline, critical=ended.critical)
    run.it.show.say(f"profile in {path}: open it at ui.perfetto.dev\n")


def _print(found: list[results.Result], began: float, *, critical: tuple[str, ...] = ()) -> str:
    """Print the JSON document; the same with `fresh.TIMES` where the seconds of this run stand."""
    summary = {
        "counts": results.counts(found),
        "seconds": fresh.TIMES,
        "critical_path": list(critical),
    }
    text = json.dumps({"templates": found, "summary": summary}, indent=2) + "\n"
    document = text.replace(json.dumps(fresh.TIMES), fresh.TIMES)
    sys.stdout.write(document.replace(fresh.TIMES, str(round(time.monotonic() - began, 3))))
    return document
