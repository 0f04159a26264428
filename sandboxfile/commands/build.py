"""Bring templates up to date: plan, run the jobs, and say what became of each template."""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

from sandboxfile import __version__, account, app, errors, fresh, planning, results, selection, tags
from sandboxfile.app import Session
from sandboxfile.cancel import STOPPED
from sandboxfile.config import finding
from sandboxfile.errors import UsageError
from sandboxfile.events import Notice
from sandboxfile.model import Target
from sandboxfile.opening import Opened, opened
from sandboxfile.planning import Planned
from sandboxfile.show import Show

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)


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
    add("-j", "--jobs", type=int, metavar="N", help="images built at once (default: 2 per core, 4)")
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
    add("--detach", action="store_true", help="leave builds at the service once they run")
    add(
        "--timeout",
        type=duration,
        metavar="DURATION",
        help="leave builds that still run after this time (`90s`, `30m`, `1h`), with exit code 6",
    )


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    _check(args)
    with opened(args) as it:
        _check_detach(args, it.session.target)
        names = tuple(selection.chosen(args, it.session.workspace))
        it.show.say(_heading(it))
        if args.ref:
            count = f"{len(names)} of {len(it.session.workspace.templates)} templates"
            it.show.say(f"changed since {args.ref}: {count}\n")
        if args.shard:
            names = planning.in_shard(it.session, names, args.shard, force=args.force)
            it.show.say(f"shard {args.shard}: {_listed(names)}\n")
            if not names:
                _nothing(args, it.show, [], began)
                return errors.DONE
        if args.frozen:
            entries = planning.frozen(it.session, names)
            found = results.of_lock(it.session.target.name, entries)
            _nothing(args, it.show, found, began)
            return errors.DONE
        if args.dry_run:
            return _dry_run(args, it.session, names)
        try:
            return _build(args, it, names, began)
        except KeyboardInterrupt:
            it.session.cancel.set()
            it.session.emit(Notice(job="", text=STOPPED, level="warning"))
            raise


def _check(args: argparse.Namespace) -> None:
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"`-j {args.jobs}`: at least one image is built at a time")
    if args.frozen and (args.force or args.dry_run or args.locked or args.detach or args.shard):
        raise UsageError("`--frozen` computes nothing: it goes with no other way to build")
    if args.locked and args.force:
        raise UsageError("`--locked` allows no change and `--force` makes one")


def _check_detach(args: argparse.Namespace, target: Target) -> None:
    if args.detach and target.provider == "local":
        raise UsageError(
            f"`--detach`: builds of target `{target.name}` end with this run",
            hint="the local service runs inside it; `sandboxfile serve` runs one that stays",
        )


def duration(text: str) -> float:
    """Read a time with its units (`90s`, `30m`, `1h30m`) as seconds. Raises ArgumentTypeError."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration: write `90s`, `30m` or `1h`")
    hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(3600 * hours + 60 * minutes + seconds)


def _dry_run(args: argparse.Namespace, session: Session, names: tuple[str, ...]) -> int:
    from sandboxfile.commands import plan as plan_command

    planned = planning.make(session, names, force=args.force)
    found = planning.findings(session, planned)
    sys.stdout.write(plan_command.text(planned.decisions, found, as_json=args.json))
    return errors.DONE


def _build(args: argparse.Namespace, it: Opened, names: tuple[str, ...], began: float) -> int:
    session, show = it.session, it.show
    planned = planning.make(session, names, force=args.force, building=not args.locked)
    if args.locked:
        planning.check_locked(session, planned)
    planning.record_pins(session, planned.pins)
    if not planned.stale:
        found = results.of(planned.decisions, session.entries())
        text = _nothing(args, show, found, began)
        _remember(args, session, planned, f"{_heading(it)}{text}")
        return errors.DONE
    from sandboxfile import running

    found_out = planning.findings(session, planned)
    planning.check_possible(found_out, session, allowed=args.allow_unsupported)
    ended = running.run(
        session,
        show.reporter,
        planned,
        builds=args.jobs or app.builds_at_once(),
        no_cache=args.no_cache,
        keep_going=args.keep_going,
    )
    if args.json:
        _print(results.of(planned.decisions, session.entries(), ended.of), began)
    return ended.code


# --- what is said at the end -----------------------------------------------------------------


def _nothing(
    args: argparse.Namespace, show: Show, found: list[results.Result], began: float
) -> str:
    """End a run in which nothing was to be done, without opening anything."""
    if args.json:
        _print(found, began)
    text = f"{len(found)} up to date, nothing to do\n"
    show.say(text)
    return text


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing to do in this one"


def _heading(it: Opened) -> str:
    return f"target {it.session.target.name}: {it.why}\n"


def _remember(args: argparse.Namespace, session: Session, planned: Planned, text: str) -> None:
    """Let the first stage answer the next run, if this is one that it can answer."""
    workspace, target = session.workspace, session.target
    wanted = [*target.tags, *(tag for t in workspace.templates.values() for tag in t.tags)]
    spoken = not (args.json or args.quiet or args.progress in {"quiet", "json"})
    if not spoken or args.ref or args.shard or tags.uses_git(wanted):
        return
    if args.directory or Path.cwd() != workspace.root:
        return  # the first stage looks for its record where the command is given
    root = workspace.root
    files = (*finding.candidates(root), root / app.LOCK, root / app.LOCAL_LOCK)
    paths = {str(file) for file in (workspace.file, account.login_file(args.home), *files)}
    paths.update(workspace.looked_at)
    paths.update(*(each.looked_at for each in planned.survey.templates.values()))
    paths.update([os.path.realpath(path) for path in paths if os.path.islink(path)])  # noqa: PTH114
    fresh.remember(
        __version__,
        args.given,
        args.environ,
        since=args.since,
        paths=list(paths),
        text=text,
        read=workspace.environment,
    )


def _print(found: list[results.Result], began: float) -> None:
    summary = {"counts": results.counts(found), "seconds": round(time.monotonic() - began, 3)}
    sys.stdout.write(json.dumps({"templates": found, "summary": summary}, indent=2) + "\n")
