"""Print the log of a template's last build: what ran here, and what the service says of it."""

import argparse
import sys
from pathlib import Path

from sandboxfile import app, errors
from sandboxfile.commands.why import one
from sandboxfile.errors import SandboxfileError

_ORDER = ("build", "push", "snapshot", "tag")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("template", metavar="TEMPLATE", help="the template's name")
    parser.add_argument("--step", choices=_ORDER, help="only this step's log")


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    name = one(app.select(workspace, [args.template]), args.template)
    directory = workspace.root / app.STATE / "logs" / name
    steps = [args.step] if args.step else list(_ORDER)
    files = [directory / f"{step}.log" for step in steps]
    found = [file for file in files if file.is_file()]
    if not found:
        raise SandboxfileError(
            f"there is no log of `{name}` on this machine",
            hint="logs are written by `sandboxfile build` and removed by `sandboxfile clean`",
        )
    for file in found:
        if len(found) > 1:
            sys.stdout.write(f"--- {file.stem}\n")
        _copy(file)
    return errors.DONE


def _copy(file: Path) -> None:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sys.stdout.write(line)
