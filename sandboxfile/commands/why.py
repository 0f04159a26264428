"""Give the reasons for what `build` would do to one template, in full."""

import argparse
import json
import sys

from sandboxfile import choosing, errors, planning
from sandboxfile import plan as decide
from sandboxfile.opening import opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("template", metavar="TEMPLATE", help="the template's name")


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        name = choosing.one(it.session.workspace, args.template)
        planned = planning.make(it.session, [name], resolve=not args.offline)
    decision = next(each for each in planned.decisions if each.template == name)
    if args.json:
        sys.stdout.write(json.dumps(decide.as_json([decision]), indent=2) + "\n")
    else:
        sys.stdout.write(decide.why(decision))
    return errors.DONE
