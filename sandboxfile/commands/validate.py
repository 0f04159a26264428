"""Check the configuration and every file it names; touch nothing else."""

import argparse
import json
import sys

from sandboxfile import app, counts, errors, fidelity, survey
from sandboxfile.fidelity import Finding, Subject
from sandboxfile.model import ImageBase, Target
from sandboxfile.statcache import NoCache
from sandboxfile.surveyed import Surveyed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    target, _ = app.target(args, workspace)
    # Selecting the files finds copies that match nothing; resolving bases would need a network.
    surveyed = survey.survey(
        workspace,
        workspace.templates,
        resolved={},
        digests=NoCache(),
        builder=target.builder,
    )
    found = [each for name in workspace.templates for each in _findings(surveyed[name], target)]
    if args.json:
        names = list(workspace.templates)
        plain = [each.plain for each in found]
        document = {"valid": True, "templates": names, "findings": plain}
        sys.stdout.write(json.dumps(document) + "\n")
    elif not args.quiet:
        sys.stderr.write(fidelity.lines(each for each in found if each.level != "note"))
        templates = counts.of(len(workspace.templates), "template")
        sys.stderr.write(f"{workspace.file.name}: {templates}, no problem\n")
    return errors.DONE


def _findings(surveyed: Surveyed, target: Target) -> tuple[Finding, ...]:
    """Return what can be told of a template without asking anybody."""
    template, parsed = surveyed.template, surveyed.dockerfile
    base = template.base
    image = base.image if isinstance(base, ImageBase) else parsed.base if parsed else ""
    return fidelity.findings(
        Subject(template=template, target=target, image=image, dockerfile=parsed)
    )
