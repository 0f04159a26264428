"""Print an intermediate result of a template, the way the build sees it."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandboxfile import app, choosing, dockerfile, errors, fidelity, lockfile, planning, ready
from sandboxfile.app import Session
from sandboxfile.commands import plan
from sandboxfile.config import written
from sandboxfile.contents import shown
from sandboxfile.errors import ConfigError, NotAllowed, Unreachable
from sandboxfile.inherit import NOTHING, Inherited
from sandboxfile.model import Account, Instruction, Template
from sandboxfile.opening import opened

WHAT = ("config", "steps", "dockerfile", "files", "plan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="RESULT", choices=WHAT, help=", ".join(WHAT))
    parser.add_argument(
        "templates", nargs="*", default=[], metavar="TEMPLATE", help="names or globs"
    )


def run(args: argparse.Namespace) -> int:
    if args.what == "plan":
        args.force = args.detailed_exitcode = False
        args.ref = args.shard = args.matrix = args.shards = args.jobs = None
        return plan.run(args)
    workspace = app.workspace(args)
    names = choosing.select(workspace, args.templates)
    if args.what == "config":
        return _config({name: workspace.templates[name] for name in names}, workspace.root)
    with opened(args) as it:
        if args.json and args.what == "steps" and it.session.target.builder == "remote":
            sent = {name: _sent(it.session, name) for name in names}
            sys.stdout.write(json.dumps(sent, indent=2) + "\n")
            return errors.DONE
        texts = {name: _text(args.what, it.session, name) for name in names}
    if args.json:
        sys.stdout.write(json.dumps(texts, indent=2) + "\n")
        return errors.DONE
    for name, text in texts.items():
        heading = f"# {name}\n" if len(texts) > 1 else ""
        sys.stdout.write(heading + text)
    return errors.DONE


def _config(templates: Mapping[str, Template], root: Path) -> int:
    said = {name: written.template(template, root) for name, template in templates.items()}
    sys.stdout.write(json.dumps({"templates": said}, indent=2) + "\n")
    return errors.DONE


def _text(what: str, session: Session, name: str) -> str:
    if what == "steps":
        return _steps(session, name)
    if what == "dockerfile":
        return _dockerfile(session, name)
    return _files(session, name)


def _steps(session: Session, name: str) -> str:
    """Return the steps of a template, and below them what the service does not take as it is."""
    root = session.workspace.root
    try:
        planned = planning.make(session, [name], resolve=not session.args.offline, ask=False)
        survey, resolved = planned.survey, planned.resolved
    except (ConfigError, NotAllowed, Unreachable):  # it is not the steps that are wrong
        return steps(session.workspace.templates[name], root)
    from sandboxfile import asking

    found, given = asking.look(session, survey, resolved, name)
    return steps(survey[name].template, root, given) + fidelity.lines(found)


def steps(template: Template, root: Path, given: Inherited = NOTHING) -> str:
    """Return the fixed order in which a template's parts take effect, a line each.

    Paths are relative to `root`. `given` is what it takes over from its base.
    """
    lines = [f"base: {written.briefly(template.base)}"]
    lines += [f"{i}. {_step(each, root)}" for i, each in enumerate(template.instructions, start=1)]
    for key in ("user", "workdir", "start"):
        if said := getattr(template, key):
            lines.append(f"{key}: {said}")
        elif taken := getattr(given, key):
            lines.append(f"{key}: {taken} (taken over from the base)")
    if template.ready:
        lines.append(f"ready: {ready.command(template.ready)}")
    lines.append(f"resources: {template.resources.cpu} CPU, {template.resources.memory} MiB")
    return "\n".join(lines) + "\n"


def _step(instruction: Instruction, root: Path) -> str:
    """Write an instruction in a line, in the words of novita.yaml, and where it is said."""
    if isinstance(instruction, Account):
        said = f"the user {instruction.user} is made if it is not there"
    else:
        said = ", ".join(
            f"{key}: {_flow(value)}" for key, value in written.step(instruction, root).items()
        )
    return f"{said} ({instruction.at})"


def _flow(value: object) -> str:
    """Write a value in one line, as YAML can be written, for people to read."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(each) for each in value)}]"
    return str(value)


def _sent(session: Session, name: str) -> object:
    """Return what a service that builds is told; what it is based on may not be built yet."""
    pipeline, surveyed = _planned(session, name)
    return json.loads(pipeline.steps_text(surveyed))


def _dockerfile(session: Session, name: str) -> str:
    pipeline, surveyed = _planned(session, name)
    text: str = pipeline.images.rendered(surveyed).text
    return text


def _planned(session: Session, name: str) -> tuple[Any, Any]:
    """Return what would build a template, its base resolved. Raises Unreachable."""
    planned = planning.make(session, [name], resolve=not session.args.offline, ask=False)
    surveyed = planned.survey[name]
    if surveyed.keys is None:
        raise Unreachable(
            f"the base of `{name}` is not in the lock, and `--offline` is given: "
            f"{', '.join(f'`{lockfile.base_name(each)}`' for each in surveyed.unresolved)}",
            hint="run without `--offline`, or build once",
            at=surveyed.template.base.at,
        )
    from sandboxfile.parts import Parts

    return Parts(session).pipeline(planned.survey, planned.resolved), surveyed


def _files(session: Session, name: str) -> str:
    from sandboxfile.survey import survey

    _, resolved = session.locks()
    surveyed = survey(
        session.workspace,
        [name],
        resolved=resolved,
        digests=session.digests(),
        builder=session.target.builder,
    )[name]
    lines = []
    for number, copy in dockerfile.copies(surveyed.template):
        lines += [
            f"{copy.to}: {shown(entry.name)}{'/' if entry.kind == 'directory' else ''}"
            for entry in surveyed.selections[number].entries
        ]
    if surveyed.context is not None:
        lines += [f"context: {shown(entry.name)}" for entry in surveyed.context.entries]
    return "".join(f"{line}\n" for line in lines)
