"""Say what `build` would do, without doing it."""

import argparse
import json
import sys
from collections.abc import Mapping

from sandboxfile import errors, fidelity, planning, selection
from sandboxfile import plan as decide
from sandboxfile.fidelity import Finding
from sandboxfile.opening import opened
from sandboxfile.plan import Decision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    selection.add_since(parser)
    parser.add_argument("--force", action="store_true", help="as `build --force` would")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there is something to do"
    )


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        names = selection.chosen(args, it.session.workspace)
        planned = planning.make(it.session, names, force=args.force, resolve=not args.offline)
        found = planning.findings(it.session, planned)
    sys.stdout.write(text(planned.decisions, found, as_json=args.json))
    if args.detailed_exitcode and planned.stale:
        return errors.DIFFERENCES
    return errors.DONE


def text(
    decisions: tuple[Decision, ...],
    found: Mapping[str, tuple[Finding, ...]],
    *,
    as_json: bool,
) -> str:
    """Return the plan and what the templates in it lose, as a table or as JSON."""
    if as_json:
        plain = {name: [each.plain for each in told] for name, told in found.items() if told}
        document = {**decide.as_json(decisions), "findings": plain}
        return json.dumps(document, indent=2) + "\n"
    told = fidelity.lines(dict.fromkeys(each for listed in found.values() for each in listed))
    return decide.table(decisions) + (
        f"\nwhat the service does not take as it is:\n{told}" if told else ""
    )
