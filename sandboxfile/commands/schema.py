"""Print the JSON Schema that the program itself checks with."""

import argparse
import sys
from importlib.resources import files

from sandboxfile import errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "which",
        nargs="?",
        choices=["novita", "lock"],
        default="novita",
        help="novita.yaml (the default) or novita.lock",
    )


def run(args: argparse.Namespace) -> int:
    schema = files("sandboxfile").joinpath(f"schemas/{args.which}-1.schema.json")
    sys.stdout.write(schema.read_text(encoding="utf-8"))
    return errors.DONE
