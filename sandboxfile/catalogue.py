"""The listing of what a service has for this account: names, sizes, builds, tags, and whose."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from sandboxfile import errors
from sandboxfile.inventory import Inventory
from sandboxfile.listing import ListedTemplate
from sandboxfile.opening import opened
from sandboxfile.service import TagEntry
from sandboxfile.tags import is_content


def show(args: argparse.Namespace) -> int:
    """Print the account's templates; the exit code."""
    with opened(args) as it:
        inventory = Inventory(it.session)
        listed = [each for each in inventory.listed() if _is_wanted(each, args.templates)]
        tags, ours = inventory.tags(listed), inventory.ours()
        target = it.session.target.name
        if tags is None:
            it.show.say(f"the service of target `{target}` has no tags\n")
    rows = [_row(each, (tags or {}).get(each.template_id, ()), ours) for each in listed]
    if args.json:
        document = {"target": target, "templates": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return errors.DONE
    width = max((len(_named(each)) for each in listed), default=0)
    for each, row in zip(listed, rows, strict=True):
        sys.stdout.write(_line(each, row, width))
    return errors.DONE


def _is_wanted(template: ListedTemplate, patterns: list[str]) -> bool:
    known = (template.template_id, *template.names)
    return not patterns or any(fnmatchcase(name, p) for name in known for p in patterns)


def _row(
    template: ListedTemplate, tags: Iterable[TagEntry], ours: Mapping[str, str]
) -> dict[str, object]:
    return {
        "name": template.names[0] if template.names else None,
        "template_id": template.template_id,
        "lock": ours.get(template.template_id),
        "build_id": template.build_id or None,
        "state": template.state or None,
        "builds": template.builds,
        "tags": {each.tag: each.build_id for each in sorted(tags, key=lambda t: t.created)},
        "cpu": template.cpu or None,
        "memory": template.memory or None,
        "disk": template.disk or None,
        "public": template.public,
        "created": template.created or None,
        "updated": template.updated or None,
    }


def _named(template: ListedTemplate) -> str:
    return template.names[0] if template.names else "-"


def _line(template: ListedTemplate, row: dict[str, Any], width: int) -> str:
    """Write a template; `*` is one of the lock's. Content tags are left out, they are many."""
    mark = "*" if row["lock"] else " "
    tags = ", ".join(tag for tag in row["tags"] if not is_content(tag))
    size = f"{template.cpu} cpu {template.memory:>6} MiB" if template.cpu else ""
    return (
        f"{mark} {_named(template):<{width}}  {template.template_id:<20}  {template.builds:>3} "
        f"{'build ' if template.builds == 1 else 'builds'}  {size:<18}  {tags}".rstrip()
        + "\n"
    )
