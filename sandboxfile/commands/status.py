"""Compare the templates with the lock; reads files only, asks nobody."""

import argparse
import json
import sys

from sandboxfile import app, errors, planning
from sandboxfile.opening import opened
from sandboxfile.plan import Decision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        target = it.session.target
        names = app.select(it.session.workspace, args.templates)
        planned = planning.make(it.session, names, resolve=False)
    rows = [_row(decision) for decision in planned.decisions if decision.template in names]
    if args.json:
        document = {"target": target.name, "templates": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return errors.DONE
    width = max((len(name) for name in names), default=0)
    for row in rows:
        ids = f"{row['template_id']}  {row['build_id']}" if row["template_id"] else "-"
        line = f"{row['name']:<{width}}  {row['state']:<10}  {ids}"
        sys.stdout.write(line.rstrip() + "\n")
    return errors.DONE


def _row(decision: Decision) -> dict[str, str | None]:
    entry = decision.entry
    state = "up to date" if not decision.stale else "stale" if entry else "not built"
    return {
        "name": decision.template,
        "state": state,
        "template_id": entry.template_id if entry else None,
        "build_id": entry.build_id if entry else None,
    }
