"""Remove what can be made again: caches, logs, and on request the images of this workspace."""

import argparse
import json
import os
import shutil
import sys
from contextlib import closing

from sandboxfile import app, counts, errors
from sandboxfile.engines import choose
from sandboxfile.errors import SandboxfileError
from sandboxfile.local.layers import LABEL
from sandboxfile.model import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", action="store_true", help="also the templates' images in the engine"
    )


def run(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    removed = _removed(workspace)
    if not args.quiet:
        what = f"removed: {', '.join(removed)}" if removed else "nothing to remove"
        sys.stderr.write(f"{app.STATE}/: {what}\n")
    images = _images(args, workspace) if args.images else 0
    if args.images and not args.quiet:
        what = f"removed: {counts.of(images, 'image')}" if images else "nothing to remove"
        sys.stderr.write(f"engine: {what}\n")
    if args.json:
        sys.stdout.write(json.dumps({"removed": removed, "images": images}, indent=2) + "\n")
    return errors.DONE


def _removed(workspace: Workspace) -> list[str]:
    """Remove what is in the state directory but for the journal; return the names."""
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
    return removed


def _images(args: argparse.Namespace, workspace: Workspace) -> int:
    """Remove the images of the templates and the layers; return how many there were."""
    labels = [*({"sandboxfile.template": name} for name in workspace.templates), {LABEL: "true"}]
    with closing(choose.choose(workspace.engine, environ=args.environ, network=None)) as engine:
        return sum(engine.remove_labelled(each) for each in labels)
