"""The ways a template gets published: the narrow face that every target shows."""

from collections.abc import Mapping
from typing import Protocol

from sandboxfile import tags
from sandboxfile.cancel import Cancel
from sandboxfile.events import Emit
from sandboxfile.frozen import dataclass, field
from sandboxfile.model import Template
from sandboxfile.steps import Step
from sandboxfile.uploads import Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the service builds a template itself: what it begins with, and its steps.

    Exactly one of `image` (`repo@sha256:…`) and `template` (`name:<build ID>`, or as the user
    wrote it) is given. `uploads` are the files of the steps' copies, by their number; `force`
    has the service take nothing from its cache.
    """

    image: str | None = None
    template: str | None = None
    steps: tuple[Step, ...] = ()
    uploads: Mapping[int, Upload] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One template about to be published.

    `image` is its tag in the engine (`sandboxfile/<name>:sf-<first 16 hex of the image key>`),
    None for `base: {remote: …}` without instructions. `tags` are the user's, already
    interpolated; the content tag is not among them. With `fresh`, a build that is ready before
    this one was asked for does not do (`--force`). `recipe` is there when the service builds.
    Tags in `held` stay on the builds that they are on.
    """

    template: Template
    image: str | None
    image_key: str
    template_key: str
    tags: tuple[str, ...]
    fresh: bool = False
    recipe: Recipe | None = None
    held: tuple[str, ...] = ()

    @property
    def content_tag(self) -> str:
        """The tag under which the service knows exactly this content."""
        return tags.content(self.template_key)

    @property
    def image_tag(self) -> str:
        return tags.content(self.image_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A finished build at the service; `tags` are those that it is known to have by now."""

    template_id: str
    build_id: str
    tags: frozenset[str] = frozenset()


class Publisher(Protocol):
    """Publish to one target. One object serves all templates of a run, from several threads.

    Everything raises NotAllowed, Unreachable, BuildFailed or Cancelled.
    """

    def expect(self, count: int) -> None:
        """Be told how many snapshots are about to be looked for, in one go."""

    def find_image(self, release: Release) -> str | None:
        """Return the reference (`repo@sha256:…`) of the image already at the registry."""

    def push(self, release: Release, *, emit: Emit, cancel: Cancel) -> str | None:
        """Bring the image to where the service reads it; its reference, confirmed there."""

    def find_snapshot(self, release: Release) -> Snapshot | None:
        """Return a ready build of exactly this content at the service (`adopt`), if any."""

    def snapshot(
        self, release: Release, image: str | None, *, emit: Emit, cancel: Cancel
    ) -> Snapshot:
        """Register, trigger, follow to the end; resumes what the journal or the service has.

        Raises Left when the build is to go on without us.
        """

    def tag(
        self,
        release: Release,
        snapshot: Snapshot,
        *,
        remove: tuple[str, ...],
        emit: Emit,
        cancel: Cancel,
    ) -> tuple[str, ...]:
        """Move the user's tags (and `default`) to this build and read them back.

        A snapshot that was found with all of them is not asked about again.

        Tags in `remove` are taken from it, unless they name another build by now. Returns the
        user's tags that need not be moved again: all of them, also where the service knows none.
        """

    def close(self) -> None:
        """Give back connections; stop a service that was started for this run."""
