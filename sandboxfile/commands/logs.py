"""Print the log of a template's build: what ran here, or what the service has of it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from sandboxfile import app, choosing, console, errors, reading
from sandboxfile.errors import SandboxfileError, Unreachable, UsageError
from sandboxfile.events import Notice
from sandboxfile.opening import Opened, opened
from sandboxfile.redact import sanitise

_ORDER = ("build", "push", "snapshot", "tag")
_LINE = 64 << 10  # characters; longer ones come in parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("template", metavar="TEMPLATE", help="the template's name")
    add("--step", choices=_ORDER, help="only this step's log")
    add(
        "-F",
        "--follow",
        action="store_true",
        help="the service's log of the running or last build, until the build ends",
    )
    add("--build", metavar="ID", help="the service's log of this build")


def run(args: argparse.Namespace) -> int:
    if not args.follow and not args.build:
        return _from_files(args)
    if args.step:
        raise UsageError("`--step` is about the logs on this machine")
    with opened(args) as it:
        name = choosing.one(it.session.workspace, args.template)
        target = it.session.target
        if target.provider == "local":
            raise UsageError(
                f"the logs of target `{target.name}` are on this machine",
                hint=f"`sandboxfile logs {name}` prints them",
            )
        if args.offline:
            return _instead(args, it, "no network is to be used")
        from sandboxfile.buildlog import BuildLog

        log = BuildLog(it.session, name, args.build)
        try:
            return log.follow() if args.follow else log.copy()
        except Unreachable as error:
            if log.has_begun or args.build:
                raise
            return _instead(args, it, error.message)


def _instead(args: argparse.Namespace, it: Opened, why: str) -> int:
    text = f"{why}; this is the log on this machine"
    it.session.emit(Notice(job="", text=text, level="warning"))
    return _from_files(args)


def _from_files(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    name = choosing.one(workspace, args.template)
    app.check_own(workspace.root / app.STATE)
    directory = workspace.root / app.STATE / "logs" / name
    found = list(_files(directory, [args.step] if args.step else list(_ORDER)))
    if not found:
        raise SandboxfileError(
            f"there is no log of `{name}` on this machine",
            hint="logs are written by `sandboxfile build` and removed by `sandboxfile clean`; "
            "`--follow` asks the service",
        )
    for file in found:
        if len(found) > 1:
            sys.stdout.write(f"--- {file.stem}\n")
        _copy(file, ci=console.in_github(args.environ))
    return errors.DONE


def _files(directory: Path, steps: list[str]) -> Iterator[Path]:
    for step in steps:
        file = directory / f"{step}.log"
        if reading.is_file(file):
            yield file


def _copy(file: Path, *, ci: bool) -> None:
    """Print a log, which a checkout may have brought along: as harmless as one of a build."""
    with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        while line := lines.readline(_LINE):
            sys.stdout.write(sanitise(line.removesuffix("\n"), ci=ci) + "\n")
