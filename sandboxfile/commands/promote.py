"""Give the build that has one tag another tag too: from edge to stable, to default."""

import argparse
from collections.abc import Mapping

from sandboxfile import choosing, errors
from sandboxfile.commands.tag import check_tags, tell
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.moves import Move
from sandboxfile.opening import leaving, opened, parted
from sandboxfile.releases import Published
from sandboxfile.releasing import Releases, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("templates", nargs="*", metavar="TEMPLATE", help="names or globs; all if none is given")
    add("--from", dest="source", metavar="TAG", help="the tag whose build is promoted")
    add("--to", action="append", default=[], metavar="TAG", help="the tag it gets; repeatable")


def run(args: argparse.Namespace) -> int:
    """Look at all templates before the first is touched, so that mistakes move nothing."""
    if not args.source or not args.to:
        raise UsageError("`promote` needs `--from TAG` and `--to TAG`")
    check_tags(args.to)
    with opened(args) as it:
        releases = Releases(it.session)
        builds: dict[str, tuple[Published, str]] = {}
        with leaving(it, lambda: "no tag is moved"):
            for name in choosing.select(it.session.workspace, args.templates):
                published = releases.published(name)
                build = releases.ready(published, _source(published, args))
                builds[name] = (published, build.build_id)
        moved: dict[str, list[Move]] = {}
        with leaving(it, lambda: _left([*builds], moved)):
            for name, (published, found) in builds.items():
                moved[name] = releases.move(published, args.to, found, "promote")
        tell(args, it, moved)
    return errors.DONE


def _left(names: list[str], moved: Mapping[str, list[Move]]) -> str:
    told = parted(moved, names[len(moved) :], "moved")
    return f"{told}; the same command finishes what is left"


def _source(published: Published, args: argparse.Namespace) -> str:
    """Return the build to promote; whoever named nothing may not have meant every template."""
    try:
        return resolve(published, args.source)
    except SandboxfileError as error:
        if args.templates:
            raise
        remedy = f"name those that are meant: `sandboxfile promote NAME... --from {args.source}`"
        raise SandboxfileError(error.message, hint=f"{error.hint}; {remedy}") from None
