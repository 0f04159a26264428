"""Check the configuration and every file it names; touch nothing else."""

import argparse
import json
import sys

from sandboxfile import app, errors, survey
from sandboxfile.statcache import NoCache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    target, _ = app.target(args, workspace)
    # Selecting the files finds copies that match nothing; resolving bases would need a network.
    survey.survey(
        workspace,
        workspace.templates,
        resolved={},
        digests=NoCache(),
        builder=target.builder,
    )
    if args.json:
        names = list(workspace.templates)
        sys.stdout.write(json.dumps({"valid": True, "templates": names}) + "\n")
    elif not args.quiet:
        sys.stderr.write(f"{workspace.file.name}: {_count(len(workspace.templates))}, no problem\n")
    return errors.DONE


def _count(number: int) -> str:
    return f"{number} template{'' if number == 1 else 's'}"
