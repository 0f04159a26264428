"""Give tags to a build by hand, take them away, and show which build has which."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping

from sandboxfile import choosing, errors, tags
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.lockfile import Entry
from sandboxfile.moves import Move
from sandboxfile.opening import Opened, leaving, opened
from sandboxfile.releases import DEFAULT, Published
from sandboxfile.releasing import Releases, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("template", metavar="TEMPLATE", help="the template's name")
    add("tags", nargs="*", metavar="TAG", help="tags to give; without any, what is there is shown")
    add("--build", metavar="ID", help="the build to tag (default: the lock's)")
    add("--from", dest="source", metavar="TAG", help="tag the build that has this tag")
    add("--remove", action="append", default=[], metavar="TAG", help="take a tag away; repeatable")
    add("--list", action="store_true", help="show builds, their tags, and moves made from here")


def run(args: argparse.Namespace) -> int:
    _check(args)
    with opened(args) as it:
        name = choosing.one(it.session.workspace, args.template)
        releases = Releases(it.session)
        if not args.tags and not args.remove:
            _show(args, it, releases, releases.published(name))
            return errors.DONE
        with leaving(it, lambda: "no tag is moved"):
            published = releases.published(name)
            build = _ready(args, releases, published) if args.tags else ""
        moved: list[Move] = []
        with leaving(it, lambda: "perhaps not everything is done: run the same command again"):
            if args.tags:
                moved += releases.move(published, args.tags, build, "tag")
            if args.remove:
                moved += _remove(args.remove, it, releases, published)
        tell(args, it, {name: moved})
    return errors.DONE


def check_tags(names: Iterable[str]) -> None:
    """Raise UsageError for what is no tag that may be given by hand."""
    for name in names:
        complaint = None if name == DEFAULT else tags.complaint(name)
        if complaint:
            message, hint = complaint
            raise UsageError(message, hint=hint)


def tell(args: argparse.Namespace, it: Opened, moved: Mapping[str, list[Move]]) -> None:
    """Say which tags were moved, and that the lock has changed where it has."""
    if args.json:
        rows = [
            {"name": name, "moved": [_move_json(move) for move in each]}
            for name, each in moved.items()
        ]
        document = {"target": it.session.target.name, "templates": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    for name, each in moved.items():
        for move in each:
            it.show.say(f"{name}: `{move.tag}` {_way(move)}\n")
        if not each:
            it.show.say(f"{name}: nothing to move\n")


def _way(move: Move) -> str:
    if not move.new:
        return f"taken away from {move.old}"
    return f"{move.old} -> {move.new}" if move.old else f"-> {move.new}"


def _move_json(move: Move) -> dict[str, str | None]:
    return {"tag": move.tag, "from": move.old or None, "to": move.new or None}


def _check(args: argparse.Namespace) -> None:
    if args.list and (args.tags or args.remove):
        raise UsageError("`--list` changes nothing: give no tags with it")
    if args.build and args.source:
        raise UsageError("`--build` and `--from` both name the build: give one of them")
    if (args.build or args.source) and not args.tags:
        raise UsageError("`--build` and `--from` need a tag to give")
    check_tags([*args.tags, *args.remove])
    if DEFAULT in args.remove:
        raise UsageError(
            "the service does not take `default` away",
            hint="move it: `sandboxfile rollback`, or `sandboxfile tag NAME default --build ID`",
        )


def _ready(args: argparse.Namespace, releases: Releases, published: Published) -> str:
    return releases.ready(published, _build(args, releases, published)).build_id


def _build(args: argparse.Namespace, releases: Releases, published: Published) -> str:
    if args.build:
        return str(args.build)
    if args.source:
        return resolve(published, args.source)
    entry = releases.entry(published.name)
    if entry is None:
        raise SandboxfileError(
            f"the lock has no build of `{published.name}`",
            hint="name the build with `--build` or `--from`, or run `sandboxfile build`",
        )
    return entry.build_id


def _remove(names: list[str], it: Opened, releases: Releases, published: Published) -> list[Move]:
    for build in {published.tags[tag] for tag in names if tag in published.tags}:
        if set(published.tags_of(build)) <= set(names):
            raise SandboxfileError(
                f"build {build} has no other tag, and the service forgets a build that has none",
                hint="give it another tag first",
            )
    for tag in names:
        if tag in releases.kept(published.name):
            it.show.say(f"`{tag}` is written in novita.yaml: the next build gives it again\n")
    return releases.remove(published, names)


# --- showing ---------------------------------------------------------------------------------


def _show(args: argparse.Namespace, it: Opened, releases: Releases, published: Published) -> None:
    entry, moves = releases.entry(published.name), releases.moves(published)
    if args.json:
        document = {
            "name": published.name,
            "target": it.session.target.name,
            "template_id": published.template_id,
            "builds": _builds_json(published, entry),
            "tags": [
                {"tag": tag, "build_id": build, "given": published.given[tag] or None}
                for tag, build in sorted(published.tags.items())
            ],
            "moves": [
                {"at": m.at, "who": m.who, "by": m.by, **_move_json(m)} for m in reversed(moves)
            ],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    sys.stdout.write(f"{published.name}  {published.template_id}\n")
    sys.stdout.writelines(_build_lines(published, entry))
    if moves:
        sys.stdout.write("moved from this machine:\n")
    for move in reversed(moves):
        line = f"  {_time(move.at)}  {move.tag}  {move.old or '-'} -> {move.new or '-'}"
        sys.stdout.write(f"{line}  {move.by} by {move.who}\n")


def _builds_json(published: Published, entry: Entry | None) -> list[dict[str, object]]:
    return [
        {
            "build_id": build.build_id,
            "state": build.state,
            "created": build.created or None,
            "finished": build.finished or None,
            "tags": list(published.tags_of(build.build_id)),
            "in_lock": entry is not None and entry.build_id == build.build_id,
        }
        for build in published.builds
    ]


def _build_lines(published: Published, entry: Entry | None) -> Iterable[str]:
    """Write builds, newest first, each with its tags; then tags of builds that are not listed."""
    listed = {build.build_id for build in published.builds}
    rows: list[tuple[str, str, str]] = [
        (build.build_id, build.state, build.created) for build in published.builds
    ]
    rows += [(build, "unknown", "") for build in dict.fromkeys(published.tags.values())
             if build not in listed]  # fmt: skip
    for build, state, created in rows:
        mark = "*" if entry is not None and entry.build_id == build else " "
        tags_ = ", ".join(published.tags_of(build))
        yield f"{mark} {_time(created)}  {state:<8}  {build}  {tags_}".rstrip() + "\n"


def _time(text: str) -> str:
    """Return a time to the second, in the width of one."""
    return f"{text.replace('T', ' ')[:19]:<19}"
