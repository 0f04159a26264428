"""Print the IDs of the lock in the form an application reads."""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping

from sandboxfile import app, choosing, errors, lockfile
from sandboxfile.errors import LockStale, SandboxfileError
from sandboxfile.lockfile import Entry
from sandboxfile.model import Target, Workspace

_NAMED = 10  # templates in an error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="names or globs")
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="dotenv",
        help="dotenv (the default), shell (to `eval`), json, github (for $GITHUB_OUTPUT), "
        "typescript or python",
    )


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    target, _ = app.target(args, workspace)
    names = choosing.select(workspace, args.templates)
    entries = lockfile.read(app.lock_path(workspace, target)).targets.get(target.name, {})
    missing = [name for name in names if name not in entries]
    if missing:
        raise LockStale(
            f"the lock has no template ID of {_named(missing)} for target `{target.name}`",
            hint=_remedy(args, workspace, target, missing),
        )
    format_ = FORMATS["json" if args.json else args.format]
    sys.stdout.write(format_({name: entries[name] for name in names}))
    return errors.DONE


def _named(names: list[str]) -> str:
    rest = len(names) - _NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more


def _remedy(
    args: argparse.Namespace, workspace: Workspace, target: Target, missing: list[str]
) -> str:
    """Return how to get IDs: from the target that has them, else by building what was asked for."""
    paths = (workspace.root / app.LOCK, workspace.root / app.LOCAL_LOCK)
    there = [
        name
        for path in paths
        for name, entries in lockfile.read(path).targets.items()
        if name in workspace.targets and set(missing) <= set(entries)
    ]
    build = " ".join(["sandboxfile build", *args.templates, f"--target {target.name}"])
    what = "it" if len(missing) == 1 else "them"
    elsewhere = f"; target `{there[0]}` has {what}: `--target {there[0]}`" if there else ""
    return f"run `{build}`{elsewhere}"


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _dotenv(entries: Mapping[str, Entry]) -> str:
    """Raise SandboxfileError when two templates would have the same variable."""
    names: dict[str, str] = {}
    for name in entries:
        other = names.setdefault(_variable(name), name)
        if other != name:
            raise SandboxfileError(
                f"`{other}` and `{name}` would both be `NOVITA_TEMPLATE_{_variable(name)}`",
                hint="use `--format json`, or name one of them",
            )
    return "".join(
        f"NOVITA_TEMPLATE_{_variable(name)}={entry.template_id}\n"
        f"NOVITA_BUILD_{_variable(name)}={entry.current}\n"
        for name, entry in entries.items()
    )


def _shell(entries: Mapping[str, Entry]) -> str:
    """Write what `eval` takes."""
    lines = _dotenv(entries).splitlines()
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, _, value in (line.partition("=") for line in lines)
    )


def _json(entries: Mapping[str, Entry]) -> str:
    return json.dumps(_plain(entries), indent=2) + "\n"


def _github(entries: Mapping[str, Entry]) -> str:
    """IDs are letters, digits and dashes, so `name=value` cannot be broken out of."""
    return "".join(
        f"{name}_template_id={entry.template_id}\n{name}_build_id={entry.current}\n"
        for name, entry in entries.items()
    )


def _typescript(entries: Mapping[str, Entry]) -> str:
    return f"export const templates = {json.dumps(_plain(entries), indent=2)} as const;\n"


def _python(entries: Mapping[str, Entry]) -> str:
    return f"TEMPLATES = {json.dumps(_plain(entries), indent=4)}\n"


def _plain(entries: Mapping[str, Entry]) -> dict[str, dict[str, str]]:
    return {
        name: {"template_id": entry.template_id, "build_id": entry.current}
        for name, entry in entries.items()
    }


FORMATS: Mapping[str, Callable[[Mapping[str, Entry]], str]] = {
    "dotenv": _dotenv,
    "shell": _shell,
    "json": _json,
    "github": _github,
    "typescript": _typescript,
    "python": _python,
}
