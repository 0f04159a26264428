"""Compare the templates with the lock, and say which builds run; asks nobody unless told to."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sandboxfile import app, builds, choosing, errors, failures, leftovers, lockfile, planning
from sandboxfile.builds import Running
from sandboxfile.errors import UsageError
from sandboxfile.failures import Failure
from sandboxfile.leftovers import LeftOver
from sandboxfile.opening import opened
from sandboxfile.plan import Decision

LEFT_OVER = "left over"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    add("--refresh", action="store_true", help="ask the service what has become of builds")
    add("--exit-code", action="store_true", help="exit 2 when anything is stale, runs, or differs")


def run(args: argparse.Namespace) -> int:
    if args.refresh and args.offline:
        raise UsageError("`--refresh` asks the service and `--offline` forbids it")
    with opened(args) as it:
        target = it.session.target
        names = choosing.select(it.session.workspace, args.templates)
        planned = planning.make(it.session, names, resolve=False)
        decisions = [each for each in planned.decisions if each.template in names]
        over = () if args.templates else _left_over(it.session)
        running = builds.running(it.session, decisions)
        failed = failures.of(it.session.workspace.root / app.STATE, target.name, planned.decisions)
        drifted: Mapping[str, Sequence[Difference]] = {}
        told: Mapping[str, Sequence[str]] = {}
        if args.refresh:
            running = builds.refreshed(it.session, running)
            drifted, told = _drifted(it.session, names)
    if args.json:
        rows = [
            _row(each, running.get(each.template), failed.get(each.template)) for each in decisions
        ]
        for row in rows if args.refresh else ():
            row["drift"] = [each.as_json for each in drifted.get(str(row["name"]), ())]
        rows += [_row_left_over(each, refreshed=args.refresh) for each in over]
        document = {"target": target.name, "templates": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(_table(decisions, running, failed, told, over))
        below = [name for name in failed if name not in names]  # what these are based on
        sys.stdout.write("".join(f"{name}: {failed[name].told(name)}\n" for name in below))
        stale = next((each.template for each in decisions if _state(each) == "stale"), None)
        if stale is not None and not args.quiet:
            sys.stderr.write(f"`sandboxfile why {stale}` says why it is stale\n")
        if over and not args.quiet:
            sys.stderr.write(_told_of(over, it.session.workspace.file.name))
    differs = running or drifted or any(each.stale for each in decisions)
    return errors.DIFFERENCES if args.exit_code and differs else errors.DONE


class Difference(Protocol):
    """What the service has otherwise than the lock; `drift.Drift` is it."""

    @property
    def as_json(self) -> Mapping[str, str | None]: ...


def _drifted(
    session: app.Session, names: Iterable[str]
) -> tuple[Mapping[str, Sequence[Difference]], Mapping[str, Sequence[str]]]:
    """Return what differs, and how people are told."""
    from sandboxfile import drift  # all that talks over the network

    found = drift.ask_all(session, names)
    return found, {name: drift.lines(name, each) for name, each in found.items()}


def _left_over(session: app.Session) -> tuple[LeftOver, ...]:
    """Return what the lock still has at the target, and novita.yaml no longer has."""
    workspace, target = session.workspace, session.target.name
    lock = lockfile.read(session.lock_path)
    found = leftovers.of(lock, templates=workspace.templates, targets=workspace.targets)
    return tuple(each for each in found if each.target == target)


def _told_of(over: Sequence[LeftOver], file: str) -> str:
    first = over[0]
    what = f"`{first.template}` is" if len(over) == 1 else f"{len(over)} templates are"
    which, them = ("it", "it") if len(over) == 1 else ("one", "them")
    return (
        f"{what} no longer in {file}: "
        f"`sandboxfile delete {first.template} --target {first.target}` deletes {which} at the "
        f"service, `sandboxfile lock --prune` takes {them} out of the lock alone\n"
    )


def _row_left_over(each: LeftOver, *, refreshed: bool) -> dict[str, object]:
    entry = each.entry
    row = {
        "name": each.template,
        "state": LEFT_OVER,
        "template_id": entry.template_id,
        "build_id": entry.build_id,
        "default_build_id": entry.current,
        "failed": None,
        "running": None,
    }
    return row | ({"drift": []} if refreshed else {})


def _state(decision: Decision) -> str:
    return "up to date" if not decision.stale else "stale" if decision.entry else "not built"


def _row(decision: Decision, running: Running | None, failed: Failure | None) -> dict[str, object]:
    entry = decision.entry
    return {
        "name": decision.template,
        "state": _state(decision),
        "template_id": entry.template_id if entry else None,
        "build_id": entry.build_id if entry else None,
        "default_build_id": entry.current if entry else None,
        "failed": failed.as_json if failed else None,
        "running": running.as_json if running else None,
    }


def _table(
    decisions: list[Decision],
    running: Mapping[str, Running],
    failed: Mapping[str, Failure],
    drifted: Mapping[str, Sequence[str]],
    over: Sequence[LeftOver],
) -> str:
    names = [each.template for each in decisions] + [each.template for each in over]
    width = max(map(len, names), default=0)
    lines = []
    for each in decisions:
        entry = each.entry
        ids = f"{entry.template_id}  {entry.build_id}" if entry else "-"
        lines.append(f"{each.template:<{width}}  {_state(each):<10}  {ids}".rstrip())
        if entry and entry.current != entry.build_id:
            lines.append(f"{'':<{width}}  `default` is on build {entry.current}, put there by hand")
        if each.template in failed:
            lines.append(f"{'':<{width}}  {failed[each.template].told(each.template)}")
        if each.template in running:
            lines.append(f"{'':<{width}}  {running[each.template]}")
        lines += [f"{'':<{width}}  {other}" for other in drifted.get(each.template, ())]
    lines += [
        f"{name:<{width}}  {LEFT_OVER:<10}  {entry.template_id}  {entry.build_id}"
        for name, entry in ((each.template, each.entry) for each in over)
    ]
    return "".join(f"{line}\n" for line in lines)
