"""Run a command in a sandbox from a local template, its start command running beside it."""

import argparse
import sys
from pathlib import Path

from sandboxfile import app, credentials, lockfile
from sandboxfile.engines import choose
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.local.service import LocalService, open_box
from sandboxfile.model import EngineChoice, Login


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "template", metavar="NAME", help="a template of the workspace, or NAME[:TAG] built here"
    )
    parser.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments"
    )


def run(args: argparse.Namespace) -> int:
    argv = tuple(args.argv[1:] if args.argv[:1] == ["--"] else args.argv)
    if not argv:
        raise UsageError(
            "there is no command to run", hint=f"sandboxfile run {args.template} -- CMD ..."
        )
    return inside(args, argv, tty=False)


def inside(args: argparse.Namespace, argv: tuple[str, ...], *, tty: bool) -> int:
    """Start a sandbox from the template and run `argv` in it; its exit status."""

    def login(host: str) -> Login | None:
        return credentials.login_for(host, environ=args.environ, home=args.home)

    choice, reference = _built(args)
    engine = choose.choose(
        choice, environ=args.environ, network=args.environ.get("SANDBOXFILE_NETWORK") or None
    )
    service = LocalService(engine, app.data(args.environ, args.home), logins=login)
    try:
        with open_box(service, engine, reference) as running:
            sys.stdout.flush()
            return running.interact(argv, tty=tty)
    finally:
        service.stop()
        engine.close()


def _built(args: argparse.Namespace) -> tuple[EngineChoice, str]:
    """Return the engine and the exact build of a template of this workspace, else the name."""
    try:
        workspace = app.workspace(args)
    except ConfigError:
        return EngineChoice(), str(args.template)
    if args.template not in workspace.templates:
        return workspace.engine, str(args.template)
    entry = _entry(workspace.root / app.LOCAL_LOCK, args.template)
    if entry is None:
        raise SandboxfileError(
            f"`{args.template}` is not built on this machine",
            hint=f"run `sandboxfile build {args.template} --target local`",
        )
    return workspace.engine, f"{entry.template_id}:{entry.build_id}"


def _entry(path: Path, template: str) -> lockfile.Entry | None:
    targets = lockfile.read(path).targets.values()
    return next((entries[template] for entries in targets if template in entries), None)
