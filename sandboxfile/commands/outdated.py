"""Say which bases have moved since the lock pinned them; `lock --upgrade` takes what is there."""

import argparse
import json
import sys
from collections.abc import Sequence

from sandboxfile import counts, errors, upgrades
from sandboxfile.app import Session
from sandboxfile.errors import UsageError
from sandboxfile.events import Notice
from sandboxfile.opening import opened
from sandboxfile.upgrades import Upgrade

JOB = "resolve"
NONE = (
    "none of these starts from a base that can move: images with a digest, packages with a "
    "snapshot, and templates at the service cannot\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "names", nargs="*", metavar="BASE|TEMPLATE", help="bases, or templates that start from them"
    )
    add("--exit-code", action="store_true", help="exit 2 if a base has moved")


def run(args: argparse.Namespace) -> int:
    with opened(args) as it:
        found = asked(it.session, args.names, pinning=False)
        moved = [each for each in found if each.has_moved]
        show(args, found, moved)
        if not args.quiet:
            sys.stderr.write(_summary(found, moved))
        raise_unknown(it.session, found)
    return errors.DIFFERENCES if args.exit_code and moved else errors.DONE


def asked(session: Session, names: Sequence[str], *, pinning: bool) -> tuple[Upgrade, ...]:
    """Ask what bases are now. Raises UsageError as `upgrades.find`, and for `--offline`."""
    if session.args.offline:
        raise UsageError("what bases are now is asked of registries, and `--offline` is given")
    return upgrades.find(session, names, pinning=pinning)


def show(args: argparse.Namespace, found: Sequence[Upgrade], rows: Sequence[Upgrade]) -> None:
    """Print all that was found as JSON, or `rows` of it as a table."""
    if args.json:
        sys.stdout.write(json.dumps(upgrades.as_json(found), indent=2) + "\n")
    else:
        sys.stdout.write(upgrades.table(rows))


def raise_unknown(session: Session, found: Sequence[Upgrade]) -> None:
    """Raise the first error of bases that could not be asked; the others are told of before."""
    unknown = [each.error for each in found if each.error is not None]
    for error in unknown[1:]:
        session.emit(Notice(job=JOB, text=f"{error.at}: {error.message}", level="warning"))
    if unknown:
        raise unknown[0]


def _summary(found: Sequence[Upgrade], moved: Sequence[Upgrade]) -> str:
    if not found:
        return NONE
    known = [each for each in found if each.base.locked is not None]
    if not known:
        return "the lock has none of these bases yet: `sandboxfile build` pins them\n"
    silent = [each for each in known if each.error is not None]
    text = f"{counts.among(len(moved), len(known), 'base')} moved"
    if len(silent) == len(known):
        return f"{counts.of(len(known), 'base')} could not be asked\n"
    if silent:
        text = f"{text}, {len(silent)} could not be asked"
    if new := len(found) - len(known):
        text = f"{text}, {new} not in the lock yet"
    them = "it" if len(moved) == 1 else "them"
    return f"{text}: `sandboxfile lock --upgrade` takes {them}\n" if moved else f"{text}\n"
