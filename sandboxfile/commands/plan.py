"""Say what `build` would do, without doing it."""

import argparse
import json
import sys

from sandboxfile import app, errors, planning
from sandboxfile import plan as decide
from sandboxfile.opening import opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    parser.add_argument("--force", action="store_true", help="as `build --force` would")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there is something to do"
    )


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        names = app.select(it.session.workspace, args.templates)
        planned = planning.make(it.session, names, force=args.force, resolve=not args.offline)
    if args.json:
        sys.stdout.write(json.dumps(decide.as_json(planned.decisions), indent=2) + "\n")
    else:
        sys.stdout.write(decide.table(planned.decisions))
    if args.detailed_exitcode and planned.stale:
        return errors.DIFFERENCES
    return errors.DONE
