"""Draw the templates of the workspace and what is built on what, or the jobs that build them."""

import argparse
import sys
from collections.abc import Iterable

from sandboxfile import app, drawing, errors, estimate, selection, survey
from sandboxfile.config import written
from sandboxfile.drawing import Drawing
from sandboxfile.errors import SandboxfileError
from sandboxfile.model import Target, Template, Workspace
from sandboxfile.plan import Decision
from sandboxfile.process import Command
from sandboxfile.process import run as run_command
from sandboxfile.surveyed import Survey, Surveyed

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
    parser.add_argument(
        "--steps",
        action="store_true",
        help="the jobs by which all of it is built for the target, in place of the templates",
    )


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    names = selection.chosen(args, workspace, everything=True)
    ordered = survey.ordered(workspace, names)
    if args.steps:
        drawn, formats = _jobs(args, workspace, ordered), drawing.JOBS_FORMATS
    else:
        shown = set(ordered)
        templates = [each for name, each in workspace.templates.items() if name in shown]
        drawn, formats = drawing.of(templates, _base), drawing.FORMATS
    selection.tell_if_none(args, names)
    if args.json or args.format != SVG:
        sys.stdout.write(formats["json" if args.json else args.format](drawn))
    else:
        sys.stdout.write(svg(drawing.dot(drawn)))
    return errors.DONE


def _jobs(args: argparse.Namespace, workspace: Workspace, names: Iterable[str]) -> Drawing:
    target, why = app.target(args, workspace)
    if not (args.quiet or args.json):
        sys.stderr.write(f"target {target.name}: {why}\n")
    return jobs([workspace.templates[name] for name in names], target)


def jobs(templates: Iterable[Template], target: Target) -> Drawing:
    """Return what `build` has to do where nothing is built yet; parents come first."""
    found = {template.name: Surveyed(template=template, keys=None) for template in templates}
    decisions = [
        Decision(
            template=name,
            target=target.name,
            action="build",
            reasons=(),
            keys=None,
            entry=None,
            tags=(),
            builder=target.builder,
        )
        for name in found
    ]
    return drawing.of_jobs(estimate.chains(decisions, Survey(found)), target.name)


def _base(template: Template) -> str:
    return written.briefly(template.base)


def svg(dot: str) -> str:
    """Return the picture that graphviz makes of a graph. Raises Unreachable without graphviz."""
    remedy = "install graphviz, or take `--format dot` to where it is"
    done = run_command(Command(argv=("dot", "-Tsvg"), stdin=dot.encode(), remedy=remedy))
    if done.status != 0:
        said = f": {done.stderr[-1]}" if done.stderr else ""
        raise SandboxfileError(f"`dot` ended with status {done.status}{said}", hint=remedy)
    return done.stdout
