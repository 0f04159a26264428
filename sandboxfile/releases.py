"""What moving tags between builds means: which build is meant, and what the lock says after it.

Pure: what a service has and what the lock says in, answers out.
"""

from collections.abc import Collection, Iterable, Mapping

from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.listing import ListedBuild
from sandboxfile.lockfile import Entry
from sandboxfile.moves import Move
from sandboxfile.tags import is_content

DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a service has of a template: its builds, newest first, and where its tags are.

    `given` is when a tag was put where it is, as the service wrote it.
    """

    name: str
    template_id: str
    builds: tuple[ListedBuild, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def build(self, build_id: str) -> ListedBuild | None:
        return next((each for each in self.builds if each.build_id == build_id), None)

    def tags_of(self, build_id: str) -> tuple[str, ...]:
        """Return a build's tags: `default`, then people's, then the content tag."""
        found = (tag for tag, build in self.tags.items() if build == build_id)
        return tuple(sorted(found, key=lambda t: (t != DEFAULT, is_content(t), t)))

    @property
    def ready(self) -> tuple[ListedBuild, ...]:
        return tuple(each for each in self.builds if each.state == "ready")


def fixed(written: Iterable[str]) -> tuple[str, ...]:
    """Return the tags that are the same for every build: none with `${git.sha}` or `${key}`."""
    return tuple(sorted({tag for tag in written if "$" not in tag}))


# --- going back ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The build that a tag goes back to; `recorded` says that it was on it before."""

    build: ListedBuild
    recorded: bool


def earlier(published: Published, tag: str, moves: Iterable[Move]) -> Earlier | None:
    """Return what a tag was on before its build of now; None if nothing is left to go back to.

    The record of moves made here decides; without one it is the newest ready build before the
    current one that nobody has rolled back from.
    """
    current = published.tags.get(tag, "")
    mine = [move for move in moves if move.tag == tag]
    ready = {build.build_id: build for build in published.ready}
    for move in reversed(mine):
        is_way_here = move.new == current and move.by != "rollback"
        if is_way_here and move.old in ready and move.old != current:
            return Earlier(build=ready[move.old], recorded=True)
    ids = [build.build_id for build in published.builds]
    older = published.builds[ids.index(current) + 1 :] if current in ids else ()
    bad = _left_behind(mine, ids)
    for build in older:
        if build.state == "ready" and build.build_id not in bad:
            return Earlier(build=build, recorded=False)
    return None


def _left_behind(moves: Iterable[Move], ids: list[str]) -> set[str]:
    """Return the builds that were rolled back from to an older one, and not moved to again.

    `ids` are the builds, newest first.
    """
    bad: set[str] = set()
    for move in moves:
        is_known = move.old in ids and move.new in ids
        if is_known and move.by == "rollback" and ids.index(move.old) < ids.index(move.new):
            bad.add(move.old)
        bad.discard(move.new)
    return bad


# --- the lock --------------------------------------------------------------------------------


def after_move(entry: Entry, tags: Collection[str], build: str, kept: Collection[str]) -> Entry:
    """Return a lock's entry after tags were put on a build.

    `kept` are the tags that a build of this template moves: only those are the lock's business.
    One that was put on another build than the lock's is `moved`, and stays there.
    """
    ours = set(tags) & set(kept)
    if build == entry.build_id:
        moved = {tag: other for tag, other in entry.moved.items() if tag not in tags}
        return _with(entry, added=ours - {DEFAULT}, moved=moved)
    return _with(entry, removed=ours, moved={**entry.moved, **dict.fromkeys(ours, build)})


def after_removal(entry: Entry, tags: Collection[str]) -> Entry:
    """Return a lock's entry after tags were taken away."""
    moved = {tag: build for tag, build in entry.moved.items() if tag not in tags}
    return _with(entry, removed=tags, moved=moved)


def _with(
    entry: Entry,
    *,
    added: Collection[str] = (),
    removed: Collection[str] = (),
    moved: Mapping[str, str],
) -> Entry:
    """Change an entry; tags that are still to be moved by a build remain so."""
    if entry.tags is None:
        return replace(entry, moved=moved)
    tags = ({*entry.tags} | {*added}) - {*removed}
    return replace(entry.with_tags(tags), moved=moved)
