"""Delete templates at the service that nothing names any more; a dry run unless told to."""

import argparse
import json
import sys
from pathlib import Path

from sandboxfile import counts, errors, pruning
from sandboxfile.declined import InUse
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.inventory import Doomed, Inventory
from sandboxfile.listing import ListedTemplate
from sandboxfile.opening import Opened, opened
from sandboxfile.pruning import Rules, Verdict

DAYS = 7.0
DAYS_LIMIT = 36_500  # dates go back no further than the year 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--yes", action="store_true", help="delete; without it nothing is, and it is only said")
    add(
        "--keep-lock",
        action="append",
        default=[],
        metavar="FILE",
        help="a lock whose templates are kept too; repeatable",
    )
    add(
        "--ignore-tag",
        action="append",
        default=[],
        metavar="TAG",
        help="a tag that keeps nothing, for example `default`; repeatable",
    )
    add(
        "--older-than",
        type=float,
        default=DAYS,
        metavar="DAYS",
        help="keep what was changed since (default: 7)",
    )
    add(
        "--builds",
        type=int,
        metavar="N",
        help="also forget old builds of the lock's templates, but for the newest N that are ready",
    )
    add(
        "--all-of-account",
        action="store_true",
        help="also what other repositories made with sandboxfile and nothing here knows",
    )


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.older_than <= DAYS_LIMIT:
        raise UsageError(f"`--older-than` is a number of days, from 0 to {DAYS_LIMIT}")
    if args.builds is not None and args.builds < 1:
        raise UsageError("`--builds` is how many to keep, 1 or more")
    with opened(args) as it:
        inventory = Inventory(it.session)
        locks = pruning.locks(it.session, [Path(file) for file in args.keep_lock])
        verdicts = _verdicts(args, it, inventory, locks)
        forgotten = _stale(args, it, inventory, locks) if args.builds is not None else {}
        going = [each for each in verdicts if not each.kept]
        deleted = _delete(it, inventory, going) if args.yes else []
        for name, tags in forgotten.items() if args.yes else ():
            inventory.forget(name, tags)
        _tell(args, it, verdicts, deleted, forgotten)
        in_use = len(going) - len(deleted)
        if in_use and args.yes:
            raise SandboxfileError(
                f"in use by sandboxes: {counts.among(in_use, len(going), 'template')}",
                hint="run the command again when they have ended",
            )
    return errors.DONE


def _stale(
    args: argparse.Namespace, it: Opened, inventory: Inventory, locks: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Return the content tags to take away, by the template's name; none for most."""
    found = {}
    for name, entry in it.session.entries().items():
        tags = pruning.stale_tags(
            inventory.tags_of(entry.template_id),
            inventory.builds_of(entry.template_id),
            locked=pruning.builds_in(locks),
            keep=args.builds,
            before=pruning.before(args.older_than),
        )
        if tags:
            found[name] = tags
    return found


def _verdicts(
    args: argparse.Namespace, it: Opened, inventory: Inventory, locks: tuple[str, ...]
) -> list[Verdict]:
    session = it.session
    rules = Rules(
        locked=pruning.templates_in(locks),
        own=frozenset(entry.template_id for entry in session.entries().values()),
        known=pruning.known(session),
        written=session.workspace.templates,
        ignored=args.ignore_tag,
        before=pruning.before(args.older_than),
        everything=args.all_of_account,
    )
    verdicts = []
    listed = inventory.listed()
    for each in listed:
        first = pruning.unasked(each, rules)
        if first.kept:
            verdicts.append(first)
            continue
        tags, builds = inventory.tags_of(each.template_id), inventory.builds_of(each.template_id)
        verdicts.append(pruning.judge(each, tags, builds, rules))
    return verdicts


def _delete(it: Opened, inventory: Inventory, going: list[Verdict]) -> list[str]:
    deleted = []
    for each in going:
        try:
            inventory.delete(_doomed(each.template))
        except InUse as error:
            it.show.say(f"{each.name}: {error.message}\n")
            continue
        deleted.append(each.template.template_id)
    return deleted


def _doomed(template: ListedTemplate) -> Doomed:
    name = template.names[0] if template.names else template.template_id
    return Doomed(
        template_id=template.template_id, word=name, known=None, names=template.names, builds=None
    )


def _tell(
    args: argparse.Namespace,
    it: Opened,
    verdicts: list[Verdict],
    deleted: list[str],
    forgotten: dict[str, tuple[str, ...]],
) -> None:
    if args.json:
        rows = [
            {
                "name": each.name,
                "template_id": each.template.template_id,
                "kept": each.kept or None,
                "deleted": each.template.template_id in deleted,
            }
            for each in verdicts
        ]
        document = {
            "target": it.session.target.name,
            "templates": rows,
            "builds": [{"name": name, "tags": list(tags)} for name, tags in forgotten.items()],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    lines = [
        (each.name, each.template.template_id, _what(args, each, deleted)) for each in verdicts
    ]
    width, of_ids = (max((len(line[column]) for line in lines), default=0) for column in (0, 1))
    for name, template_id, what in lines:
        sys.stdout.write(f"{name:<{width}}  {template_id:<{of_ids}}  {what}\n")
    for name, tags in forgotten.items():
        verb = "taken" if args.yes else "would be taken"
        sys.stdout.write(f"{name}: {verb} from builds that nothing names: {', '.join(tags)}\n")
    if not (forgotten or any(not each.kept for each in verdicts)):
        it.show.say("nothing to delete\n")
    elif not args.yes:
        it.show.say("nothing is deleted without `--yes`\n")


def _what(args: argparse.Namespace, verdict: Verdict, deleted: list[str]) -> str:
    if verdict.template.template_id in deleted:
        return "deleted"
    if verdict.kept:
        return f"kept: {verdict.kept}"
    return "in use" if args.yes else "would be deleted"
