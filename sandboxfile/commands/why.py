"""Give the reasons for what `build` would do to one template, in full."""

import argparse
import json
import sys

from sandboxfile import app, errors, planning
from sandboxfile import plan as decide
from sandboxfile.app import Session
from sandboxfile.errors import UsageError
from sandboxfile.show import Show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("template", metavar="TEMPLATE", help="the template's name")


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    name = one(app.select(workspace, [args.template]), args.template)
    target, _ = app.target(args, workspace)
    show = Show(args, workspace)
    session = Session(
        args=args, workspace=workspace, target=target, emit=show.emit, redactor=show.redactor
    )
    try:
        planned = planning.make(session, [name], resolve=not args.offline)
    finally:
        show.close()
        session.close()
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
