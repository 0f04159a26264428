"""Write the novita.yaml of templates that another tool builds, or that have a Dockerfile alone."""  # noqa: N999 - the command's name

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sandboxfile import errors, importing
from sandboxfile.commands import init
from sandboxfile.config import finding, load
from sandboxfile.config.document import quoted
from sandboxfile.errors import ConfigError, UsageError
from sandboxfile.frozen import replace
from sandboxfile.importing import Named
from sandboxfile.places import Problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        default=["."],
        metavar="DIR|FILE",
        help="directories with a novita.toml, an e2b.toml or a Dockerfile, or such files "
        "(default: this directory)",
    )
    parser.add_argument("--name", help="the template's name, if there is one template")


def run(args: argparse.Namespace) -> int:
    init.check_name(args.name)
    path = Path.cwd() / (args.file or finding.NAMES[0])
    _check_free(path, args.file)
    words = args.paths or ["."]
    if args.name and len(words) > 1:
        raise UsageError("`--name` is for one template", hint="import each into a file of its own")
    found = importing.named([importing.find(word) for word in words], args.name)
    domains = importing.addresses(found, args.environ)
    root = finding.root_of(path)
    ignored = _write(path, importing.text(found, path.parent, {} if root else domains))
    if args.json:
        sys.stdout.write(json.dumps(_plain(path, found, domains), indent=2) + "\n")
    elif not args.quiet:
        said = [*_said(path, found), *(_to_add(root, domains) if root else ())]
        said += [*filter(None, [ignored]), "next: `sandboxfile validate`"]
        sys.stderr.write("".join(f"{line}\n" for line in said))
    return errors.DONE


def _check_free(path: Path, given: str | None) -> None:
    """Raise UsageError where a configuration is there already."""
    others = () if given else finding.NAMES
    for each in (path, *(path.with_name(name) for name in others)):
        if os.path.lexists(each):
            hint = "`-f FILE` writes another file"
            raise UsageError(f"`{each.name}` is already there", hint=hint)


def _write(path: Path, text: str) -> str:
    """Write the file once it has been read back without a problem, else nothing.

    Return what there is to say of what git ignores.
    """
    return init.write(path, text.encode(), lambda draft: _check(draft, path))


def _check(draft: Path, path: Path) -> None:
    """Raise ConfigError, at the places of the file that it would be, for what it may not say."""
    try:
        load.load(draft)
    except ConfigError as error:
        raise ConfigError(_of_what_would_be(path, error.problems)) from None


def _of_what_would_be(path: Path, problems: Iterable[Problem]) -> Iterator[Problem]:
    for each in problems:
        at = each.at._replace(file=importing.shown(path))
        yield replace(each, at=at, message=f"this would be written, but {each.message}")


def _to_add(root: Path, domains: Mapping[str, str]) -> Iterator[str]:
    """Say which targets the root of the workspace lacks: a member has none of its own."""
    try:
        there = {each.domain for each in load.load(root).targets.values()}
    except ConfigError:  # `validate` tells what is wrong there
        there = set()
    lacking = {name: domain for name, domain in domains.items() if domain not in there}
    if lacking:
        targets = ", ".join(f"`{line}`" for line in importing.targets(lacking))
        yield f"to do: add {targets} to `targets` in {importing.shown(root)}, where the IDs are"


def _said(path: Path, found: Sequence[Named]) -> list[str]:
    said = [f"wrote {path.name}"]
    for each in found:
        if each.fate:
            said.append(f"`{each.name}`: {each.fate}")
        if each.project.left:
            keys = ", ".join(f"`{key}`" for key in each.project.left)
            said.append(
                f"`{each.name}`: {keys} of {quoted(each.project.source.name)} has no place here"
            )
    return said


def _plain(path: Path, found: Sequence[Named], domains: Mapping[str, str]) -> dict[str, object]:
    templates = [
        {
            "name": each.name,
            "from": importing.shown(each.project.source),
            "template_id": each.project.template_id,
            "called": each.project.called,
        }
        for each in found
    ]
    return {"file": path.name, "templates": templates, "targets": dict(domains)}
