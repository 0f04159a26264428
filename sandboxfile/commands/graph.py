"""Draw the templates of the workspace and what is built on what."""

import argparse
import sys

from sandboxfile import app, drawing, errors, selection, survey
from sandboxfile.commands.list import base_text
from sandboxfile.errors import SandboxfileError
from sandboxfile.model import Template
from sandboxfile.process import Command
from sandboxfile.process import run as run_command

SVG = "svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "templates", nargs="*", metavar="TEMPLATE", help="names, globs or groups (default: all)"
    )
    selection.add_since(parser)
    parser.add_argument(
        "--format",
        choices=[*drawing.FORMATS, SVG],
        default="text",
        help="text (the default), dot, mermaid, json, or svg, drawn by graphviz",
    )


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    names = selection.chosen(args, workspace, everything=True)
    shown = set(survey.ordered(workspace, names))
    templates = [each for name, each in workspace.templates.items() if name in shown]
    drawn = drawing.of(templates, _base)
    selection.tell_if_none(args, names)
    if args.json or args.format != SVG:
        sys.stdout.write(drawing.FORMATS["json" if args.json else args.format](drawn))
    else:
        sys.stdout.write(svg(drawing.dot(drawn)))
    return errors.DONE


def _base(template: Template) -> str:
    return base_text(template.base)


def svg(dot: str) -> str:
    """Return the picture that graphviz makes of a graph. Raises Unreachable without graphviz."""
    remedy = "install graphviz, or take `--format dot` to where it is"
    done = run_command(Command(argv=("dot", "-Tsvg"), stdin=dot.encode(), remedy=remedy))
    if done.status != 0:
        said = f": {done.stderr[-1]}" if done.stderr else ""
        raise SandboxfileError(f"`dot` ended with status {done.status}{said}", hint=remedy)
    return done.stdout
