"""Give the reasons for what `build` would do to one template, in full."""

import argparse
import json
import sys

from sandboxfile import app, errors, planning
from sandboxfile import plan as decide
from sandboxfile.errors import UsageError
from sandboxfile.opening import opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("template", metavar="TEMPLATE", help="the template's name")


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        name = one(app.select(it.session.workspace, [args.template]), args.template)
        planned = planning.make(it.session, [name], resolve=not args.offline)
    decision = next(each for each in planned.decisions if each.template == name)
    if args.json:
        sys.stdout.write(json.dumps(decide.as_json([decision]), indent=2) + "\n")
    else:
        sys.stdout.write(decide.why(decision))
    return errors.DONE


def one(names: tuple[str, ...], pattern: str) -> str:
    """Return the only template a pattern stands for. Raises UsageError for several."""
    if len(names) > 1:
        raise UsageError(f"`{pattern}` stands for {', '.join(names)}", hint="name one of them")
    return names[0]
