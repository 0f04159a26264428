"""What builds container images: the narrow face that every engine shows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from sandboxfile.cancel import Cancel
from sandboxfile.events import Emit
from sandboxfile.frozen import dataclass, field
from sandboxfile.model import PLATFORM, Feature, Login, Resources

Kind = Literal["docker", "podman", "buildx"]
BuilderKind = Literal["buildkit", "classic", "podman", "buildx"]
Store = Literal["overlay", "containerd", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What was found and why it was chosen; `why` is one line for `doctor`.

    `alone` is what it can without a docker client beside it, `helped` asks what it can with those
    that are here: that takes a program's start. `keeps` asks how it keeps images, once.
    `elsewhere` says that a builder builds which does not see the images of this engine,
    `starts_to_unpack` that it starts a program for every archive that comes with a build.
    """

    kind: Kind
    builder: BuilderKind
    version: str
    api: str
    keeps: Callable[[], Store]
    alone: frozenset[Feature]
    helped: Callable[[], frozenset[Feature]]
    address: str
    why: str
    elsewhere: bool = False
    starts_to_unpack: bool = False

    @property
    def can(self) -> frozenset[Feature]:
        """All that builds may need and get here."""
        return self.alone | self.helped()

    @property
    def store(self) -> Store:
        """How it keeps images."""
        return self.keeps()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """An image that the engine has; `config` is its Config (Env, User, WorkingDir, Cmd, ...)."""

    id: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """One image build.

    `context` starts the archive anew at each call and yields its chunks; it is a plain tar, never
    held in memory as a whole, and `dockerfile` names its member with the Dockerfile. `within` is
    the directory of an archive with others in which all of this build is (`directory/`), of which
    its steps' names say nothing. `secrets` maps BuildKit secret ids to files. `needs` are features
    the Dockerfile cannot do without. `cache_to` and `cache_from` are options of `docker buildx
    build`. With `push` (`repo:tag`) the image goes to that registry and not into the engine;
    `logins` are for it and for caches, by host, beside those that Docker's own configuration has.
    """

    job: str
    tag: str
    dockerfile: str
    within: str = ""
    context: Callable[[], Iterator[bytes]]
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    stage: str | None = None
    secrets: Mapping[str, Path] = field(default_factory=dict)
    needs: frozenset[Feature] = frozenset()
    no_cache: bool = False
    platform: str = PLATFORM
    cache_to: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    push: str | None = None
    logins: Mapping[str, Login] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image in the engine; `image_id` is the engine's own (`sha256:…`), `config` its Config.

    One that was pushed by its build is at the registry only: `image_id` is its digest there, and
    `config` is empty.
    """

    tag: str
    image_id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A command that ran in a box; output is UTF-8 with replacement, both streams together."""

    status: int
    output: str


class Box(Protocol):
    """A running container made from an image."""

    @property
    def id(self) -> str: ...

    def execute(
        self,
        argv: tuple[str, ...],
        *,
        user: str | None = None,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> Executed:
        """Run a command to its end; each output line goes to `on_line` as it comes.

        Lines of standard error go to `on_error` if it is given.
        """

    def interact(
        self,
        argv: tuple[str, ...],
        *,
        tty: bool,
        user: str | None = None,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command joined to our own stdin, stdout and stderr; its exit status."""

    def put(self, archive: Iterable[bytes], directory: str) -> None:
        """Unpack a plain tar as root in a directory of the box that is there.

        Owners and modes are the archive's; neither a directory nor what is none takes the other's
        place. Raises BuildFailed, and whatever the archive's source raises.
        """

    def commit(self, tag: str, *, labels: Mapping[str, str]) -> str:
        """Save the filesystem as image `tag`; its id."""


class Engine(Protocol):
    """Docker Engine through BuildKit, buildx as a child process, Podman's socket."""

    def info(self) -> EngineInfo:
        """Ask the engine what it is. Raises Unreachable."""

    def find(self, tag: str) -> str | None:
        """Return the id of the image with this tag (or digest reference or id), None if absent."""

    def inspect(self, name: str) -> EngineImage | None:
        """Return what the engine has by a tag, digest reference or id, None if nothing."""

    def image_config(self, tag: str) -> Mapping[str, Any]:
        """Return the Config of an image that is there. Raises SandboxfileError."""

    def depth(self, tag: str) -> int:
        """Return how many layers the image consists of; engines can stack some 125."""

    def read(self, image: str, *paths: str) -> bytes:
        """Return the first small file that an image has of these, b"" for none; runs nothing."""

    def ensure(
        self, reference: str, *, login: Login | None, emit: Emit, cancel: Cancel, job: str
    ) -> None:
        """Pull `repo@sha256:…` unless it is there.

        Raises NotAllowed, Unreachable, BuildFailed, Cancelled.
        """

    def load_root(self, archive: Path, tag: str, *, labels: Mapping[str, str]) -> str:
        """Import a root filesystem archive as image `tag`; its id."""

    def load(self, archive: Iterable[bytes], tag: str, *, cancel: Cancel) -> str:
        """Load images as `docker save` writes them; the id of the one with this tag.

        Raises SandboxfileError, Unreachable, Cancelled, and what the archive's source raises.
        """

    def build(self, spec: BuildSpec, *, emit: Emit, cancel: Cancel) -> Built:
        """Build an image. Raises BuildFailed, Unsupported, Unreachable, Cancelled."""

    def push(
        self,
        image: str,
        repository: str,
        tag: str,
        *,
        login: Login | None,
        emit: Emit,
        cancel: Cancel,
        job: str,
    ) -> str:
        """Tag `image` as repository:tag, push it, return the digest of the stream.

        Transport errors and 5xx are retried; raises NotAllowed, Unreachable, BuildFailed.
        """

    def tag(self, image: str, tag: str) -> None:
        """Give an image of the engine another tag."""

    def box(
        self,
        image: str,
        *,
        labels: Mapping[str, str],
        resources: Resources | None = None,
        unset: tuple[str, ...] = (),
    ) -> AbstractContextManager[Box]:
        """Run a container that only waits; it is removed at the end of the block.

        Variables of the image that are `unset` are none in it.
        """

    def remove_boxes(self, *, labels: Mapping[str, str]) -> None:
        """Remove boxes with all of these labels, left behind by a process that was killed."""

    def untag(self, tag: str) -> None:
        """Take a tag from an image, and the image too when it was its last; absent is fine."""

    def remove_labelled(self, labels: Mapping[str, str]) -> int:
        """Remove images that carry all these labels, with their tags; how many there were."""

    def close(self) -> None:
        """Give back connections."""
