"""Say what `build` would do, without doing it."""

import argparse
import json
import sys
from functools import partial

from sandboxfile import (
    app,
    collector,
    console,
    errors,
    estimate,
    failures,
    fidelity,
    planning,
    remembering,
    selection,
    sharding,
)
from sandboxfile import plan as decide
from sandboxfile.app import Session
from sandboxfile.errors import Unreachable, UsageError
from sandboxfile.estimate import Estimate
from sandboxfile.events import Notice
from sandboxfile.opening import Opened, opened
from sandboxfile.planning import Planned

_UNASKED = "not everybody could be asked: this is by files and lock alone"
_REMEDY = "with `--offline`, nobody is asked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    selection.add_since(parser)
    selection.add_shard(parser)
    parser.add_argument(
        "-j",
        "--jobs",
        type=selection.jobs,
        metavar="N",
        help="estimate the time with N builds at once",
    )
    parser.add_argument("--force", action="store_true", help="as `build --force` would")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there is something to do"
    )
    parser.add_argument(
        "--matrix",
        choices=["github"],
        help="print shards as the matrix of jobs of a CI, on one line",
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="the most jobs in the matrix (default: one for five minutes of work, at most 20)",
    )


def run(args: argparse.Namespace) -> int:
    _check(args)
    with opened(args, reads_all=not (args.templates or args.ref)) as it:
        before = remembering.held(it.session.workspace)
        names = tuple(selection.chosen(args, it.session.workspace))
        told = "" if args.json or args.matrix else it.show.say(it.heading)
        if args.matrix:
            sys.stdout.write(_matrix(args, it, names))
            return errors.DONE
        if args.shard:
            names = planning.in_shard(it.session, names, args.shard, force=args.force)
            if not names and not args.json:
                sys.stdout.write(sharding.nothing_in(args.shard))
                return errors.DONE
        settled = remembering.settled_by(args, it.session.workspace, before)
        make = partial(planning.make, it.session, names, force=args.force, settled=settled)
        try:
            planned = make(resolve=not args.offline)
        except Unreachable as error:
            if not args.offline:
                _tell_what_is_known(args, it, make(resolve=False), error)
            raise
        printed = described(it.session, planned, jobs=args.jobs, as_json=args.json)
        if not planned.stale:
            remembering.remember(args, it, before, planned=planned, told=told, printed=printed)
            collector.leave(it, planned)
    sys.stdout.write(printed)
    if args.detailed_exitcode and planned.stale:
        return errors.DIFFERENCES
    return errors.DONE


def _tell_what_is_known(
    args: argparse.Namespace, it: Opened, planned: Planned, error: Unreachable
) -> None:
    """Print what files and lock say where somebody who was to be asked does not answer."""
    error.hint = f"{error.hint}; {_REMEDY}" if error.hint else _REMEDY
    if not args.json:
        it.session.emit(Notice(job="", text=_UNASKED, level="warning"))
        sys.stdout.write(decide.table(planned.listed))
        sys.stdout.flush()


def _check(args: argparse.Namespace) -> None:
    if args.shards is not None and not args.matrix:
        raise UsageError("`--shards` is the size of a `--matrix`", hint="give that, or `--shard`")
    if args.shards is not None and not 1 <= args.shards <= sharding.MOST:
        raise UsageError(f"`--shards {args.shards}`: a matrix has 1 to {sharding.MOST} jobs")
    if args.matrix and args.shard:
        raise UsageError("`--matrix` is all shards, and `--shard` is one of them")


def _matrix(args: argparse.Namespace, it: Opened, names: tuple[str, ...]) -> str:
    """Return what `strategy.matrix: ${{ fromJSON(...) }}` takes, made as `--shard` splits.

    Without work `include` is empty, which GitHub refuses: the job is then to be left out by `if`.
    How many shards are worth while is judged by all their work, and what is estimated is how long
    each takes, with so many builds at once as `plan` says.
    """
    planned = planning.make(it.session, names, force=args.force, resolve=False)
    weights = sharding.weights(planned.stale, planned.survey)
    history = it.session.history()
    known = estimate.of_templates(planned.stale, planned.survey, history)
    number = sharding.count(known if history else weights, planned.survey, args.shards)
    limits = app.at_once(args.jobs or app.builds_at_once())

    def seconds(shard: tuple[str, ...]) -> int:
        names = set(shard)
        decisions = [each for each in planned.stale if each.template in names]
        return round(estimate.of_run(decisions, planned.survey, history, limits))

    include = [
        {
            "shard": f"{index}/{number}",
            "templates": " ".join(shard),
            "estimate_seconds": seconds(shard) if history else None,
        }
        for index, shard in enumerate(sharding.split(weights, planned.survey, number), 1)
    ]
    return json.dumps({"include": include}, separators=(",", ":")) + "\n"


def described(session: Session, planned: Planned, *, jobs: int | None, as_json: bool) -> str:
    """Return a plan, how long it will take, and what templates lose, as a table or as JSON."""
    found = planning.findings(session, planned)
    expected = planning.estimated(session, planned, jobs or app.builds_at_once())
    state = session.workspace.root / app.STATE
    failed = failures.of(state, session.target.name, planned.decisions)
    if as_json:
        plain = {name: [each.plain for each in told] for name, told in found.items() if told}
        document = {
            **decide.as_json(planned.listed),
            "estimate": expected.plain if expected else None,
            "findings": plain,
            "failed": {name: each.as_json for name, each in failed.items()},
        }
        return json.dumps(document, indent=2) + "\n"
    last = "".join(f"{name}: {each.told(name)}\n" for name, each in failed.items())
    told = fidelity.lines(dict.fromkeys(each for listed in found.values() for each in listed))
    return (
        decide.table(planned.listed)
        + (f"{_about(expected)}\n" if expected else "")
        + (f"\n{last}" if last else "")
        + (f"\nwhat the service does not take as it is:\n{told}" if told else "")
    )


def _about(expected: Estimate) -> str:
    took = console.duration(max(1.0, round(expected.seconds)))
    return f"about {took.replace('.0s', 's')} with -j {expected.jobs}, by earlier runs"
