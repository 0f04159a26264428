"""List the templates of the workspace with their bases, or what the service has."""

import argparse
import json
import sys

from sandboxfile import app, errors, selection
from sandboxfile.config import written
from sandboxfile.contents import shown as printable
from sandboxfile.errors import UsageError
from sandboxfile.model import Template


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    selection.add_since(parser)
    parser.add_argument(
        "--changed", action="store_true", help="only what has changed since the last commit"
    )
    parser.add_argument(
        "--remote", action="store_true", help="what the service has for this account"
    )


def run(args: argparse.Namespace) -> int:
    selection.head(args)
    if args.remote:
        if args.ref:
            raise UsageError("`--remote` lists what the service has, whatever has changed here")
        from sandboxfile import catalogue  # all that talks over the network

        return catalogue.show(args)
    workspace = app.workspace(args)
    chosen = selection.chosen(args, workspace, everything=True)
    selection.tell_if_none(args, chosen)
    if args.json:
        rows = [
            _row(workspace.templates[name]) | ({"changed": list(why)} if args.ref else {})
            for name, why in chosen.items()
        ]
        groups = {name: list(members) for name, members in workspace.groups.items()}
        sys.stdout.write(json.dumps({"templates": rows, "groups": groups}, indent=2) + "\n")
        return errors.DONE
    bases = {name: written.briefly(workspace.templates[name].base) for name in chosen}
    width = max((len(name) for name in chosen), default=0)
    width_of_base = max((len(base) for base in bases.values()), default=0)
    for name, why in chosen.items():
        first = f"{why[0]}{f' and {len(why) - 1} more' if len(why) > 1 else ''}" if why else ""
        line = f"{name:<{width}}  {bases[name]:<{width_of_base}}  {printable(first)}"
        sys.stdout.write(line.rstrip() + "\n")
    return errors.DONE


def _row(template: Template) -> dict[str, object]:
    return {
        "name": template.name,
        "path": template.member or ".",
        "key": template.key,
        "matrix": dict(template.matrix),
        "base": written.briefly(template.base),
        "tags": list(template.tags),
    }
