"""Which templates a command is about: those named, and of these perhaps only what has changed."""

import argparse
import sys
from collections.abc import Collection

from sandboxfile import app, choosing, sharding
from sandboxfile.errors import UsageError
from sandboxfile.model import Workspace
from sandboxfile.sharding import Shard


def add_since(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves only templates that have changed."""
    parser.add_argument(
        "--since",
        dest="ref",
        metavar="REF",
        help="only what has changed since this git commit, and what is built on it",
    )


def chosen(
    args: argparse.Namespace, workspace: Workspace, *, everything: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return the templates that a command is about, with the reasons why they count as changed.

    Raises UsageError as `choosing.select` and `changes.since` do.
    """
    names = choosing.select(workspace, args.templates, everything=everything)
    if args.ref is None:
        return dict.fromkeys(names, ())
    from sandboxfile import changes

    locks = (app.LOCK, app.LOCAL_LOCK)
    found = changes.since(workspace, args.ref, app.given(args), locks=locks)
    return {name: found[name] for name in names if name in found}


def tell_if_none(args: argparse.Namespace, names: Collection[str]) -> None:
    """Say why nothing was `chosen`: only `--since` leaves nothing of what is there."""
    if not names and not (args.quiet or args.json):
        sys.stderr.write(f"nothing has changed since {args.ref}\n")


def head(args: argparse.Namespace) -> None:
    """Let `--changed` be `--since HEAD`. Raises UsageError if both are given."""
    if args.changed and args.ref is not None:
        raise UsageError("`--changed` is `--since HEAD`: give one of the two")
    if args.changed:
        args.ref = "HEAD"


def jobs(text: str) -> int:
    """Read how many images are built at once. Raises ArgumentTypeError."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no number") from None
    if number < 1:
        message = f"`{text}` is too few: at least one image is built at a time"
        raise argparse.ArgumentTypeError(message)
    return number


def add_shard(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves one of several machines its part of what is stale."""
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="only the Ith of N parts of what is to be done; chains of templates stay whole",
    )


def _shard(text: str) -> Shard:
    try:
        return sharding.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
