"""Run a command in a sandbox from a local template, its start command running beside it."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from sandboxfile import app, choosing, credentials, lockfile, reading
from sandboxfile.cancel import Cancel, interrupting
from sandboxfile.config import finding
from sandboxfile.engines import choose
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.local import database
from sandboxfile.local.service import LocalService, Missing, open_box
from sandboxfile.model import EngineChoice, Login, Workspace

# As the service runs commands in its sandboxes: in the environment of a login.
_AS_LOGIN = """
shell=/bin/sh
[ ! -x /bin/bash ] || shell=/bin/bash
exec "$shell" -l -c 'exec "$@"' sh "$@"
"""
LOGIN = ("/bin/sh", "-c", _AS_LOGIN, "sh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "template", metavar="TEMPLATE", help="a template of the workspace, or NAME[:TAG] built here"
    )
    add_data(parser)
    parser.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="where `sandboxfile serve --data DIR` keeps its templates; NAME[:TAG] is one",
    )


def run(args: argparse.Namespace) -> int:
    argv = tuple(args.argv[1:] if args.argv[:1] == ["--"] else args.argv)
    if not argv:
        raise UsageError(
            "there is no command to run", hint=f"sandboxfile run {args.template} -- CMD ..."
        )
    return inside(args, (*LOGIN, *argv), tty=False)


def inside(args: argparse.Namespace, argv: tuple[str, ...], *, tty: bool) -> int:
    """Start a sandbox from the template and run `argv` in it; its exit status."""

    def login(host: str) -> Login | None:
        return credentials.login_for(host, environ=args.environ, home=args.home)

    choice, reference, target = _built(args)
    network = args.environ.get("SANDBOXFILE_NETWORK") or None
    engine = choose.choose(choice, environ=args.environ, network=network)
    cancel = Cancel()
    with ExitStack() as stack:
        stack.callback(engine.close)
        data = args.data or app.data(args.environ, args.home)
        service = LocalService(engine, data, logins=login)
        stack.callback(service.stop)
        stack.enter_context(interrupting(cancel))
        try:
            running = stack.enter_context(open_box(service, engine, reference, cancel=cancel))
        except Missing as error:
            if args.data:
                error.hint = f"build it with `sandboxfile serve --data {args.data}`"
            elif reference != args.template:  # the lock says that it is built, so only force helps
                again = f"sandboxfile build {args.template} --force --target {target}"
                error.hint = f"build it again with `{again}`"
            else:
                _check_named(args)
            raise
        sys.stdout.flush()
        return running.interact(argv, tty=tty)


def _built(args: argparse.Namespace) -> tuple[EngineChoice, str, str]:
    """Return engine, exact build and target of a template of this workspace, else the name."""
    if args.data is not None:
        if not reading.is_file(args.data / database.FILE):
            raise UsageError(
                f"`--data {args.data}` is no directory of a local template service",
                hint="give what `sandboxfile serve --data DIR` was given",
            )
        return EngineChoice(), str(args.template), "local"
    if not _in_workspace(args):  # any template built here
        return EngineChoice(), str(args.template), "local"
    workspace = app.workspace(args)
    name = choosing.named(workspace, args.template)
    if name is None:
        return workspace.engine, str(args.template), "local"
    target, entry = _entry(workspace, name, args)
    if entry is None:
        raise SandboxfileError(
            f"`{args.template}` is not built on this machine",
            hint=f"run `sandboxfile build {args.template} --target local`",
        )
    return workspace.engine, f"{entry.template_id}:{entry.current}", target


def _in_workspace(args: argparse.Namespace) -> bool:
    return args.file is not None or finding.is_inside(Path.cwd())


def _check_named(args: argparse.Namespace) -> None:
    """Raise UsageError for a name that is none of this workspace's either, or of several."""
    if ":" in args.template or not _in_workspace(args):
        return
    names = choosing.select(app.workspace(args), [args.template])
    raise UsageError(f"`{args.template}` stands for {', '.join(names)}", hint="name one of them")


def _entry(
    workspace: Workspace, template: str, args: argparse.Namespace
) -> tuple[str, lockfile.Entry | None]:
    """Return the template's entry at the target asked for, else at the first local one with it."""
    targets = lockfile.read(workspace.root / app.LOCAL_LOCK).targets
    wanted, _ = app.target(args, workspace)
    names = [wanted.name] if wanted.provider == "local" else list(targets)
    found = ((name, targets.get(name, {}).get(template)) for name in names)
    return next(((name, entry) for name, entry in found if entry), (wanted.name, None))
