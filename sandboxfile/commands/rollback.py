"""Put tags back on the build that had them before, or on a named one."""

import argparse

from sandboxfile import app, choosing, errors, releases
from sandboxfile.commands.tag import check_tags, tell
from sandboxfile.errors import SandboxfileError
from sandboxfile.opening import leaving, opened
from sandboxfile.releases import DEFAULT, Published
from sandboxfile.releasing import Releases, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("template", metavar="TEMPLATE", help="the template's name")
    add("--to", metavar="ID", help="the build to go back to (default: the one before)")
    add(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="the tag to move; repeatable (default: `default` and the written tags beside it)",
    )


def run(args: argparse.Namespace) -> int:
    check_tags(args.tag)
    with opened(args) as it:
        name = choosing.one(it.session.workspace, args.template)
        service = Releases(it.session)
        with leaving(it, lambda: "no tag is moved"):
            published = service.published(name)
            tags, apart = _tags(args, service, published)
            build, why = (args.to, "") if args.to else _before(service, published, tags[0])
            service.ready(published, build)
        it.show.say(apart + why)
        with leaving(it, lambda: _left(name, tags, build)):
            moved = service.move(published, tags, build, "rollback")
        tell(args, it, {name: moved})
        if moved and it.session.lock_path.name == app.LOCK:
            it.show.say(f"commit {app.LOCK}: it keeps the next build from moving them again\n")
    return errors.DONE


def _left(name: str, tags: tuple[str, ...], build: str) -> str:
    """Say how to go on; without `--to` that could go back once more."""
    named = "".join(f" --tag {tag}" for tag in tags)
    return (
        f"the tags are perhaps on build {build} already: "
        f"`sandboxfile rollback {name}{named} --to {build}` finishes it"
    )


def _tags(
    args: argparse.Namespace, service: Releases, published: Published
) -> tuple[tuple[str, ...], str]:
    """Return the tags to move, and what is to be said of others.

    They are those asked for, else what builds move and is where `default` is.
    """
    if args.tag:
        for tag in args.tag:
            resolve(published, tag)
        return tuple(args.tag), ""
    kept = [tag for tag in service.kept(published.name) if tag in published.tags]
    if not kept:
        raise SandboxfileError(
            f"`{published.name}` has neither `{DEFAULT}` nor a tag that novita.yaml names",
            hint="name the tag to move with `--tag`",
        )
    current = published.tags[kept[0]]
    apart = [tag for tag in kept if published.tags[tag] != current]
    listed = ", ".join(f"`{tag}`" for tag in apart)
    told = f"not on the same build as `{kept[0]}`, left where they are: {listed}\n"
    return tuple(tag for tag in kept if tag not in apart), told if apart else ""


def _before(service: Releases, published: Published, tag: str) -> tuple[str, str]:
    """Return the build before, and what is to be said of how it was found."""
    found = releases.earlier(published, tag, service.moves(published))
    if found is None:
        there = ", ".join(f"{build.build_id} ({build.state})" for build in published.builds[:5])
        raise SandboxfileError(
            f"`{published.name}` has no ready build before {published.tags[tag]}, "
            f"which `{tag}` is on",
            hint=f"builds, newest first: {there}; choose with `--to`"
            if there
            else "the service does not list builds: name one with `--to`",
        )
    why = "where it was before, by the record here" if found.recorded else "the ready build before"
    return found.build.build_id, f"going back to {found.build.build_id}: {why}\n"
