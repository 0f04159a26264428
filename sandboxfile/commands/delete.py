"""Delete templates at the service, by ID, after asking."""

import argparse
import json
import sys

from sandboxfile import choosing, counts, errors
from sandboxfile.config.names import is_glob
from sandboxfile.declined import InUse
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.inventory import Doomed, Inventory
from sandboxfile.opening import Opened, leaving, opened, parted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("templates", nargs="+", metavar="TEMPLATE", help="names, globs, or IDs at the service")
    add("--yes", action="store_true", help="do not ask; also delete what is not in the lock")


def run(args: argparse.Namespace) -> int:
    """Find and check everything before the first is deleted."""
    with opened(args) as it:
        inventory = Inventory(it.session)
        with leaving(it, lambda: "nothing is deleted"):
            doomed = [inventory.doomed(word) for word in _words(it, args.templates)]
            if not args.yes:
                _confirm(it, doomed)
        gone: list[Doomed] = []
        kept: list[SandboxfileError] = []
        with leaving(it, lambda: _left(doomed, gone, len(kept))):
            for each in doomed:
                try:
                    was_there = inventory.delete(each)
                except InUse as error:
                    kept.append(error)
                    continue
                gone.append(each)
                it.show.say(f"{_said(each)} {'deleted' if was_there else 'was gone already'}\n")
        if args.json:
            rows = [{"name": each.known, "template_id": each.template_id} for each in gone]
            document = {"target": it.session.target.name, "deleted": rows}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        if kept:
            more = f" (and {len(kept) - 1} more)" if kept[1:] else ""
            raise SandboxfileError(kept[0].message + more, hint=kept[0].hint)
    return errors.DONE


def _left(doomed: list[Doomed], gone: list[Doomed], kept: int) -> str:
    rest = [each.word for each in doomed[len(gone) + kept :]]
    again = f"; run it again for {', '.join(f'`{word}`' for word in rest)}" if rest else ""
    return parted([each.word for each in gone], rest, "deleted") + again


def _words(it: Opened, words: list[str]) -> list[str]:
    """Return names and IDs, each once; globs and `path:name` are of the workspace."""
    found: list[str] = []
    for word in words:
        is_ours = is_glob(word) or (":" in word and _is_address(it, word))
        found += choosing.select(it.session.workspace, [word]) if is_ours else [word]
    return list(dict.fromkeys(found))


def _is_address(it: Opened, word: str) -> bool:
    try:
        return bool(choosing.select(it.session.workspace, [word]))
    except UsageError:
        return False


def _confirm(it: Opened, doomed: list[Doomed]) -> None:
    """Ask; where nobody can be asked, or it is not ours, only `--yes` will do."""
    target = it.session.target.name
    foreign = [each for each in doomed if each.known is None]
    if foreign:
        raise UsageError(
            f"`{foreign[0].word}` is not in the lock of target `{target}`: others may use it",
            hint=f"to delete template {foreign[0].template_id} all the same, give `--yes`",
        )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "`delete` asks before it deletes, and there is no terminal to ask at",
            hint="give `--yes` in scripts",
        )
    for each in doomed:
        sys.stderr.write(f"  {_said(each)}\n")
    sys.stderr.write(f"delete at target `{target}`, for everybody and for good? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise SandboxfileError("nothing is deleted")


def _said(each: Doomed) -> str:
    name = each.known or ", ".join(each.names) or each.word
    builds = "" if each.builds is None else f", {counts.of(each.builds, 'build')}"
    return f"{name} ({each.template_id}{builds})"
