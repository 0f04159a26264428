"""Tags moved by hand: ask what is there, move, read back, write the lock and the record."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from sandboxfile import lockfile, moves, releases
from sandboxfile.app import Session
from sandboxfile.buildstatus import Registration
from sandboxfile.declined import Denied, Failing, Rejected
from sandboxfile.errors import NotAllowed, SandboxfileError, UsageError
from sandboxfile.frozen import replace
from sandboxfile.listing import ListedBuild
from sandboxfile.lockfile import Change, Entry, Lock
from sandboxfile.moves import Move
from sandboxfile.parts import Parts
from sandboxfile.releases import DEFAULT, Published
from sandboxfile.service import TemplateService
from sandboxfile.tags import is_content
from sandboxfile.targets import Snapshot
from sandboxfile.targets.known import find
from sandboxfile.targets.tagging import Tagging


class NotThere(SandboxfileError):  # noqa: N818 - named for what it says
    """The template that the lock names is not at the service any more."""


class NoTags(UsageError):  # noqa: N818
    """The service has no tags; `published` is what it has."""

    def __init__(self, published: Published, target: str) -> None:
        super().__init__(
            f"the service of target `{target}` has no tags: there is nothing to move",
            hint="each build there replaces the one before it",
        )
        self.published = published


class Releases:
    """The tags of this workspace's templates at one target."""

    def __init__(self, session: Session) -> None:
        if session.args.offline:
            raise UsageError("tags are at the service, and `--offline` forbids asking it")
        self._session = session
        self._target = session.target
        self._service = Parts(session).templates()
        self._record = session.kept / "journal" / f"{session.target.name}.moves"

    def entry(self, name: str) -> Entry | None:
        return self._session.entries().get(name)

    def moves(self, published: Published) -> tuple[Move, ...]:
        return moves.read(self._record, published.name, published.tags)

    def published(self, name: str) -> Published:
        """Return what the service has of a template. Raises UsageError when it has no tags."""
        entry = self.entry(name)
        template_id = entry.template_id if entry else find(self._service, name)
        if template_id is None:
            raise SandboxfileError(
                f"target `{self._target.name}` has no template `{name}`",
                hint=f"run `sandboxfile build {name} --target {self._target.name}`",
            )
        return ask(self._service, name, template_id, target=self._target.name)

    def kept(self, name: str) -> tuple[str, ...]:
        """Return the tags that a build moves, whatever is in it: written ones and `default`."""
        template = self._session.workspace.templates[name]
        written = releases.fixed((*template.tags, *self._target.tags))
        return (DEFAULT, *written) if self._target.default else written

    def ready(self, published: Published, build_id: str) -> ListedBuild:
        """Return a build that tags can be put on. Raises SandboxfileError, saying what is there."""
        build = published.build(build_id) or self._asked(published, build_id)
        if build is None:
            raise _refused(published, f"has no build {build_id}")
        if build.state != "ready":
            raise _refused(published, f"cannot use build {build_id}: it is `{build.state}`")
        return build

    def _asked(self, published: Published, build_id: str) -> ListedBuild | None:
        """Ask for one build where the service does not list them."""
        if published.builds:
            return None
        ids = Registration(template_id=published.template_id, build_id=build_id)
        try:
            return ListedBuild(build_id=build_id, state=self._service.status(ids).state)
        except Rejected as error:
            if error.is_gone:
                return None
            raise

    def move(self, published: Published, tags: Collection[str], build: str, by: str) -> list[Move]:
        """Put tags on a build, see that they are there, record it; what was moved."""
        moving = tuple(tag for tag in tags if published.tags.get(tag) != build)
        snapshot = Snapshot(template_id=published.template_id, build_id=build)
        made = self._begun(published, moving, build, by)
        with self._withdrawing(published, made):
            self._tagging(published, snapshot).move(moving)
        kept = self.kept(published.name)
        try:
            return self._recorded(made)
        finally:
            self._change(published.name, lambda e: releases.after_move(e, tags, build, kept))

    def remove(self, published: Published, tags: Collection[str]) -> list[Move]:
        """Take tags away; the service ignores those that are not there."""
        known = tuple(tag for tag in tags if tag in published.tags)
        made = self._begun(published, known, "", "tag --remove")
        if known:
            with self._withdrawing(published, made):
                self._service.delete_tags(published.name, known)
        try:
            return self._recorded(made)
        finally:
            self._change(published.name, lambda e: releases.after_removal(e, tags))

    def _tagging(self, published: Published, snapshot: Snapshot) -> Tagging:
        session = self._session
        return Tagging(
            service=self._service,
            name=published.name,
            snapshot=snapshot,
            emit=session.emit,
            cancel=session.cancel,
        )

    def _begun(self, published: Published, tags: Iterable[str], build: str, by: str) -> list[Move]:
        """Return the moves that are about to be made, written as begun.

        What a killed run has left as begun, and the service has carried out, is done by now.
        """
        name, now = published.name, published.tags
        made = [
            moves.made(by=by, template=name, tag=tag, old=now.get(tag, ""), new=build)
            for tag in tags
        ]
        with suppress(SandboxfileError):  # the move counts; `_recorded` tells
            self._recorded([*moves.unfinished(self._record, name, now)])
            if made:
                moves.write(self._record, made, "begun")
        return made

    @contextmanager
    def _withdrawing(self, published: Published, made: list[Move]) -> Iterator[None]:
        """Write as refused what the service says no to: else a later move there passes for it.

        What was refused may be the question after a move, so what is there decides. Moves of which
        nobody knows stay as begun.
        """
        try:
            yield
        except (Denied, Rejected):
            with suppress(SandboxfileError):
                now = self.published(published.name).tags
                refused = [move for move in made if now.get(move.tag, "") != move.new]
                moves.write(self._record, refused, "refused")
            raise

    def _recorded(self, made: list[Move]) -> list[Move]:
        if made:
            moves.write(self._record, made)
        return made

    def _change(self, name: str, change: Change) -> None:
        if self.entry(name) is not None:
            update = partial(_changed, self._target.name, name, change)
            lockfile.update(self._session.lock_path, update)


def _changed(target: str, name: str, change: Change, lock: Lock) -> Lock:
    entry = lock.entry(target, name)
    return lock if entry is None else lock.with_entry(target, name, change(entry))


def ask(service: TemplateService, name: str, template_id: str, *, target: str) -> Published:
    """Ask for a template's builds and tags.

    Raises NotAllowed for another team's template, NotThere, NoTags.
    """
    builds = _builds(service, name, template_id)
    found = Published(name=name, template_id=template_id, builds=builds)
    try:
        tags = sorted(service.tags(template_id), key=lambda entry: entry.created)
    except (Rejected, Failing) as error:
        if not error.is_missing:
            raise
        raise NoTags(found, target) from None
    return replace(
        found,
        tags={entry.tag: entry.build_id for entry in tags},
        given={entry.tag: entry.created for entry in tags},
    )


def _builds(service: TemplateService, name: str, template_id: str) -> tuple[ListedBuild, ...]:
    try:
        return service.template(template_id).builds
    except Denied as error:
        if error.status != 403:  # noqa: PLR2004 - an HTTP status
            raise
        raise NotAllowed(
            f"template {template_id}, which `{name}` stands for, belongs to another team",
            hint="choose another name, or remove its entry from the lock",
        ) from None
    except (Rejected, Failing) as error:
        if error.is_missing:
            return ()
        if error.status != 404:  # noqa: PLR2004 - an HTTP status
            raise
        raise NotThere(
            f"the service no longer has template {template_id} of `{name}`",
            hint=f"build it again: sandboxfile build {name} --force",
        ) from None


def _refused(published: Published, why: str) -> SandboxfileError:
    ready = ", ".join(build.build_id for build in published.ready[:5])
    hint = f"ready builds, newest first: {ready}" if ready else "it has no ready build"
    return SandboxfileError(f"`{published.name}` {why}", hint=hint)


def resolve(published: Published, tag: str) -> str:
    """Return the build that a tag was given to last. Raises SandboxfileError, saying what is."""
    build = published.tags.get(tag)
    if build is None:
        shown = ", ".join(f"`{t}`" for t in published.tags if not is_content(t))
        hint = f"its tags: {shown}" if shown else "it has no tags but content tags"
        raise SandboxfileError(f"`{published.name}` has no tag `{tag}`", hint=hint)
    return build
