"""Remove what can be made again: caches, logs, and on request the images of this workspace."""

import argparse
import os
import shutil
import sys
from contextlib import closing

from sandboxfile import app, errors
from sandboxfile.engines import choose
from sandboxfile.errors import SandboxfileError
from sandboxfile.local.layers import LABEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", action="store_true", help="also the templates' images in the engine"
    )


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    state = workspace.root / app.STATE
    app.check_own(state)
    removed = []
    try:
        for path in sorted(state.iterdir()) if os.path.lexists(state) else []:
            if path.name in {"journal", ".gitignore"}:
                continue  # a journal may hold the only record of a running build
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            removed.append(path.name)
    except OSError as error:  # a build by `sudo` has made it
        hint = f"remove `{state}` as who made it"
        text = f"`{error.filename or state}` cannot be removed: {error.strerror}"
        raise SandboxfileError(text, hint=hint) from None
    if not args.quiet:
        what = f"removed: {', '.join(removed)}" if removed else "nothing to remove"
        sys.stderr.write(f"{app.STATE}/: {what}\n")
    if args.images:
        with closing(choose.choose(workspace.engine, environ=args.environ, network=None)) as engine:
            for name in workspace.templates:
                engine.remove_labelled({"sandboxfile.template": name})
            engine.remove_labelled({LABEL: "true"})
    return errors.DONE
