"""What images say of themselves, asked once: a digest never comes to mean something else.

Whom to ask is decided here and nowhere else. `of` asks whoever knows: first what was kept of the
digest; then the engine, about an image that it alone has (one without a digest), and at a target
that builds on this machine's images about any that it has; else the registry that the image is
pinned at. `here` asks nobody but this machine, for what is only shown: the engine if it has the
image, else what was kept. Threads that want the same image wait for one answer.

What registries told is kept in the state directory, byte for byte, and checked against its digest
whenever it is read: files that a checkout brought along are worth nothing, and losing them costs
a request. What was read out of an image cannot be checked: that is kept in the user's own cache,
where no checkout puts anything, by the image's id, which never comes to mean something else.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandboxfile import imageconfig, reading, writing
from sandboxfile.engines import Engine, EngineImage
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.frozen import dataclass, field
from sandboxfile.imageconfig import Documents
from sandboxfile.model import DIGEST, ImageConfig
from sandboxfile.once import Once
from sandboxfile.patterns import regex
from sandboxfile.reference import ImageReference
from sandboxfile.registry import Registry

OS_RELEASE = ("/usr/lib/os-release", "/etc/os-release")
_ID = regex(r"(?:sha256:)?([0-9a-f]{64})")  # Podman writes it without the algorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """Reads configurations of images; `engine` and `registry` are opened when needed.

    `directory` is in the state directory, `cache` the user's own. `on_engine` says that templates
    are built on this machine's images and stay here.
    """

    directory: Path
    cache: Path
    engine: Callable[[], Engine]
    registry: Callable[[], Registry]
    offline: bool = False
    on_engine: bool = False
    _answers: Once = field(default_factory=Once)
    _made: dict[str, ImageConfig] = field(default_factory=dict)

    def of(self, image: str, *, quick: bool = False) -> ImageConfig:
        """Return what an image says of itself, by the rule above.

        `image` is as a build names it: `repo@sha256:…`, or a tag of the engine. With `quick`, a
        registry that does not answer one short attempt is not asked in this run. Raises
        Unreachable, NotAllowed, WrongPlatform, SandboxfileError.
        """
        return self._answers.of(("config", image), lambda: self._of(image, quick=quick))

    def _of(self, image: str, *, quick: bool) -> ImageConfig:
        if (kept := self.known(image)) is not None:
            return kept
        is_pinned = "@sha256:" in image
        if not is_pinned or (self.on_engine and self.inspected(image)):
            return self.in_engine(image)
        host = ImageReference.parse(image).registry
        if quick and not self.offline and not self._is_reachable(host):
            hint = "check the network, and the name of the registry"
            raise Unreachable(f"registry `{host}` cannot be reached", hint=hint)
        return self.at_registry(image)

    def _is_reachable(self, host: str) -> bool:
        ask = lambda: self.registry().is_reachable(host)  # noqa: E731
        return self._answers.of(("host", host), ask)

    def here(self, image: str) -> ImageConfig | None:
        """Return what this machine knows of an image, None if nothing; asks no registry."""
        if self.inspected(image) is not None:
            return self.in_engine(image)
        return self.known(image)

    def inspected(self, image: str) -> EngineImage | None:
        """Return what the engine has by a name: asked once in a run, and again while it is absent.

        Who has something built or brought under a name that was there says so (`learn`).
        """
        ask = lambda: self.engine().inspect(image)  # noqa: E731
        return self._answers.of(("engine", image), ask, lasts=lambda found: found is not None)

    def os_release(self, image: str) -> str:
        """Return what an image of the engine says of its distribution (os-release(5)), or ""."""
        found = self.inspected(image)
        if found is None:
            return ""
        return self._answers.of(("os-release", found.id), lambda: self._os_release(found.id))

    def _os_release(self, image_id: str) -> str:
        def ask() -> bytes:
            return self.engine().read(image_id, *OS_RELEASE)

        named = _ID.fullmatch(image_id)
        content = _through(self.cache / named[1], ask) if named else ask()
        return content.decode(errors="replace")

    def at_registry(self, reference: str, *, keep: bool = True) -> ImageConfig:
        """Return what `repo@sha256:…` says of itself; `keep` for what will be asked again.

        Raises Unreachable, NotAllowed, or SandboxfileError for an image of another platform.
        """
        image = ImageReference.parse(reference)
        if (kept := self.known(reference)) is not None:
            return kept
        if self.offline:
            what = f"what `{reference}` says of itself is not known here"
            hint = "run it once without `--offline`: what it says is kept"
            raise Unreachable(f"{what}, and `--offline` is given", hint=hint)
        digest, documents = self.registry().config(image)
        found = imageconfig.verified(documents, digest)
        assert found is not None  # the registry's client has compared the digests
        if keep:
            self._keep(digest, documents)
        return found

    def known(self, reference: str) -> ImageConfig | None:
        """Return what was kept of an image, None if nothing was; asks nobody."""
        return self._kept(ImageReference.parse(reference).digest or "")

    def in_engine(self, image: str) -> ImageConfig:
        """Return what an image of the engine says of itself. Raises SandboxfileError."""
        if (made := self._made.get(image)) is not None:
            return made
        found = self.inspected(image)
        if found is None:
            hint = "pull or build it first; it may have been removed just now"
            raise SandboxfileError(f"there is no image `{image}` in the engine", hint=hint)
        return imageconfig.of_engine(found.config)

    def learn(self, image: str, config: Mapping[str, Any]) -> None:
        """Take note of what the engine said of an image when it had made it, in this run."""
        if config:
            self._made[image] = imageconfig.of_engine(config)

    # --- kept --------------------------------------------------------------------------------

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest.removeprefix('sha256:')}.json"

    def _kept(self, digest: str) -> ImageConfig | None:
        if not DIGEST.fullmatch(digest):
            return None
        try:
            record = json.loads(reading.regular(self._path(digest)))
            documents = Documents(
                manifest=record["manifest"].encode(errors="surrogateescape"),
                config=record["config"].encode(errors="surrogateescape"),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return imageconfig.verified(documents, digest)

    def _keep(self, digest: str, documents: Documents) -> None:
        record = {
            "manifest": documents.manifest.decode(errors="surrogateescape"),
            "config": documents.config.decode(errors="surrogateescape"),
        }
        path = self._path(digest)
        with suppress(OSError):  # it only saves a request
            path.parent.mkdir(parents=True, exist_ok=True)
            writing.whole(path, json.dumps(record).encode())


def _through(file: Path, ask: Callable[[], bytes]) -> bytes:
    """Return what a file of the user's cache has, else what is answered, which is kept there."""
    with suppress(OSError):
        return reading.own(file)
    content = ask()
    with suppress(OSError):  # it only saves asking
        file.parent.mkdir(parents=True, exist_ok=True)
        writing.whole(file, content)
    return content
