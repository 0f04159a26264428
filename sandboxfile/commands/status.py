"""Compare the templates with the lock, and say which builds run; asks nobody unless told to."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sandboxfile import app, builds, errors, failures, planning
from sandboxfile.builds import Running
from sandboxfile.errors import UsageError
from sandboxfile.failures import Failure
from sandboxfile.opening import opened
from sandboxfile.plan import Decision


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
        names = app.select(it.session.workspace, args.templates)
        planned = planning.make(it.session, names, resolve=False)
        decisions = [each for each in planned.decisions if each.template in names]
        running = builds.running(it.session, decisions)
        failed = failures.of(it.session.workspace.root / app.STATE, target.name, decisions)
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
        document = {"target": target.name, "templates": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(_table(decisions, running, failed, told))
        stale = next((each.template for each in decisions if _state(each) == "stale"), None)
        if stale is not None and not args.quiet:
            sys.stderr.write(f"`sandboxfile why {stale}` says why it is stale\n")
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
) -> str:
    width = max((len(each.template) for each in decisions), default=0)
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
    return "".join(f"{line}\n" for line in lines)
