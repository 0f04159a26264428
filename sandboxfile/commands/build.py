"""Bring templates up to date: plan, run the jobs, and say what became of each template."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping

from sandboxfile import app, errors, planning
from sandboxfile.app import Session
from sandboxfile.errors import UsageError
from sandboxfile.graph import Outcome
from sandboxfile.lockfile import Entry
from sandboxfile.plan import Decision
from sandboxfile.planning import Planned
from sandboxfile.show import Show

_SNAPSHOTS_AT_ONCE = 16  # the service does the work; its default limit is 20 builds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("templates", nargs="*", metavar="TEMPLATE", help="names or globs (default: all)")
    add("-j", "--jobs", type=int, metavar="N", help="images built at once (default: 2 per core, 4)")
    add("--keep-going", action="store_true", help="exit 7 instead of 1 when some came through")
    add("--force", action="store_true", help="build even what is up to date")
    add("--no-cache", action="store_true", help="let the engine reuse no layers")
    add("--dry-run", action="store_true", help="print the plan and do nothing")
    add("--locked", action="store_true", help="fail (4) if the lock would change")
    add("--frozen", action="store_true", help="trust the lock and compute nothing")


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    _check(args)
    workspace = app.workspace(args)
    names = app.select(workspace, args.templates)
    target, why = app.target(args, workspace)
    show = Show(args, workspace)
    session = Session(
        args=args, workspace=workspace, target=target, emit=show.emit, redactor=show.redactor
    )
    if not args.quiet and args.progress != "json":
        sys.stderr.write(f"target {target.name}: {why}\n")
    try:
        if args.frozen:
            entries = planning.frozen(session, names)
            return _nothing(args, show, _results_of_lock(target.name, entries), began)
        if args.dry_run:
            return _dry_run(args, session, names)
        return _build(args, session, show, names, began)
    except KeyboardInterrupt:
        session.cancel.set()
        raise
    finally:
        show.close()
        session.close()


def _check(args: argparse.Namespace) -> None:
    args.jobs = args.jobs if args.jobs is None else int(args.jobs)
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"`-j {args.jobs}`: at least one image is built at a time")
    if args.frozen and (args.force or args.dry_run or args.locked):
        raise UsageError("`--frozen` computes nothing: it goes with no other way to build")
    if args.locked and args.force:
        raise UsageError("`--locked` allows no change and `--force` makes one")


def _dry_run(args: argparse.Namespace, session: Session, names: tuple[str, ...]) -> int:
    from sandboxfile import plan

    planned = planning.make(session, names, force=args.force)
    text = json.dumps(plan.as_json(planned.decisions), indent=2) + "\n"
    sys.stdout.write(text if args.json else plan.table(planned.decisions))
    return errors.DONE


def _build(
    args: argparse.Namespace,
    session: Session,
    show: Show,
    names: tuple[str, ...],
    began: float,
) -> int:
    planned = planning.make(session, names, force=args.force, building=not args.locked)
    if args.locked:
        planning.check_locked(session, planned)
    if not planned.stale:
        return _nothing(args, show, _results(session, planned, ()), began)
    planning.record_pins(session, planned.pins)
    outcomes, code = _run(args, session, show, planned)
    if args.json:
        _print(_results(session, planned, outcomes), began)
    return code


def _run(
    args: argparse.Namespace, session: Session, show: Show, planned: Planned
) -> tuple[tuple[Outcome, ...], int]:
    from sandboxfile import graph

    jobs = planning.pipeline(session, planned, no_cache=args.no_cache).jobs(planned.stale)
    builds = args.jobs or app.builds_at_once()
    results = graph.run(
        jobs,
        settled=show.reporter.settled,
        started=show.reporter.started,
        cancel=session.cancel,
        limits={
            "generate": builds,
            "build": builds,
            "push": builds,
            "snapshot": _SNAPSHOTS_AT_ONCE,
            "tag": builds,
        },
    )
    actions = {decision.template: decision.action for decision in planned.decisions}
    code = show.reporter.finish(
        actions, keep_going=args.keep_going, interrupted=results.interrupted is not None
    )
    return tuple(results.outcomes.values()), code


# --- what is said at the end -----------------------------------------------------------------


def _nothing(
    args: argparse.Namespace, show: Show, results: list[dict[str, object]], began: float
) -> int:
    """End a run in which nothing was to be done, without opening anything."""
    if args.json:
        _print(results, began)
    show.say(f"{len(results)} up to date, nothing to do")
    return errors.DONE


def _results(
    session: Session, planned: Planned, outcomes: Iterable[Outcome]
) -> list[dict[str, object]]:
    outcomes = tuple(outcomes)
    entries = session.entries()
    return [_result(d, entries.get(d.template), outcomes) for d in planned.decisions]


def _result(
    decision: Decision, entry: Entry | None, outcomes: tuple[Outcome, ...]
) -> dict[str, object]:
    mine = [each for each in outcomes if each.name.partition(":")[2] == decision.template]
    bad = next((each for each in mine if each.status not in {"done", "up to date"}), None)
    made = entry if bad is None else decision.entry
    keys = decision.keys
    return {
        "name": decision.template,
        "target": decision.target,
        "action": decision.action,
        "status": bad.status if bad else "done",
        "error": str(bad.error) if bad and bad.error else None,
        "reasons": [str(reason) for reason in decision.reasons],
        "template_id": made.template_id if made else None,
        "build_id": made.build_id if made else None,
        "image": made.image if made else None,
        "image_key": keys.image_key if keys else None,
        "template_key": keys.template_key if keys else None,
        "tags": list(decision.tags),
        "seconds": round(sum(each.seconds for each in mine), 3),
    }


def _results_of_lock(target: str, entries: Mapping[str, Entry]) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "target": target,
            "action": "up to date",
            "status": "done",
            "error": None,
            "reasons": ["`--frozen` trusts the lock"],
            "template_id": entry.template_id,
            "build_id": entry.build_id,
            "image": entry.image,
            "image_key": entry.image_key,
            "template_key": entry.template_key,
            "tags": list(entry.tags or ()),
            "seconds": 0.0,
        }
        for name, entry in entries.items()
    ]


def _print(results: list[dict[str, object]], began: float) -> None:
    counts: dict[str, int] = {}
    for result in results:
        word = str(result["action"] if result["status"] == "done" else result["status"])
        counts[word] = counts.get(word, 0) + 1
    summary = {"counts": counts, "seconds": round(time.monotonic() - began, 3)}
    document = {"templates": results, "summary": summary}
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
