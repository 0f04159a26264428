"""Remove what can be made again: caches, logs, and on request the images of this workspace."""

import argparse
import shutil
import sys

from sandboxfile import app, errors
from sandboxfile.engines import choose
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
    for path in sorted(state.glob("*")) if state.is_dir() else []:
        if path.name in {"journal", ".gitignore"}:
            continue  # a journal may hold the only record of a running build
        removed.append(path.name)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not args.quiet:
        what = f"removed: {', '.join(removed)}" if removed else "nothing to remove"
        sys.stderr.write(f"{app.STATE}/: {what}\n")
    if args.images:
        engine = choose.choose(workspace.engine, environ=args.environ, network=None)
        for name in workspace.templates:
            engine.remove_labelled({"sandboxfile.template": name})
        engine.remove_labelled({LABEL: "true"})
        engine.close()
    return errors.DONE
