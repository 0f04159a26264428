"""Open a shell in a sandbox from a local template."""

import argparse
import sys

from sandboxfile.commands.run import add_data, inside

# bash where the image has it: people expect history and completion.
_SHELL = ("/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; fi; exec /bin/sh -l")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "template", metavar="TEMPLATE", help="a template of the workspace, or NAME[:TAG] built here"
    )
    add_data(parser)


def run(args: argparse.Namespace) -> int:
    return inside(args, _SHELL, tty=sys.stdin.isatty() and sys.stdout.isatty())
