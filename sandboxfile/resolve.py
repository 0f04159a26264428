"""Base tags to digests, and the bases a build starts from; the lock keeps what is found here."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sandboxfile import bootstrap
from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine, EngineImage
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import dataclass, field
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.model import BootstrapBase, DockerfileBase, ImageBase, Login, ResolvedBase
from sandboxfile.pins import pin_name
from sandboxfile.places import Position
from sandboxfile.reference import DOCKER_HUB, ImageReference
from sandboxfile.registry import Registry
from sandboxfile.surveyed import Survey, Surveyed

JOB = "resolve"
_NAMED = 3  # images in one notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What templates start from, and the entry that `resolved` has of it, if any.

    `pin` is the name of that entry. `templates` name the base themselves.
    """

    source: str | BootstrapBase
    at: Position
    pin: str
    locked: str | None
    templates: tuple[str, ...]


def bases(survey: Survey, resolved: Mapping[str, str]) -> tuple[Base, ...]:
    """Return all bases that can move: those without a digest or a snapshot, once each."""
    users: dict[str, list[str]] = {}
    first: dict[str, tuple[str | BootstrapBase, Position]] = {}
    for name, surveyed in survey.templates.items():
        for source, at in _sources(surveyed):
            first.setdefault(pin_name(source), (source, at))
            users.setdefault(pin_name(source), []).append(name)
    found = []
    for name, (source, at) in first.items():
        own = ENGINE_PREFIX + name
        pin = own if own in resolved and name not in resolved else name
        found.append(
            Base(
                source=source,
                at=at,
                pin=pin,
                locked=resolved.get(pin),
                templates=tuple(users[name]),
            )
        )
    return tuple(found)


def _sources(surveyed: Surveyed) -> Iterator[tuple[str | BootstrapBase, Position]]:
    base = surveyed.template.base
    if isinstance(base, BootstrapBase) and base.snapshot is None:
        yield base, base.at
    for image, at in images(surveyed):
        if ImageReference.parse(image).digest is None:
            yield image, at


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Finds what the lock does not know yet; `engine` and `registry` are opened when needed.

    `inspect` asks the engine about an image, once in a run (`Configs.inspected`).
    """

    engine: Callable[[], Engine]
    inspect: Callable[[str], EngineImage | None]
    registry: Callable[[], Registry]
    logins: Callable[[str], Login | None]
    bootstrap_cache: Path
    mirror: str | None
    offline: bool
    emit: Emit
    cancel: Cancel
    elsewhere: bool = False  # the service builds: no engine's image is of use
    _brought: dict[str, ResolvedBase] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    def pins(self, survey: Survey) -> Mapping[str, str]:
        """Return `resolved` entries for every base that has none.

        Raises Unreachable, NotAllowed, or SandboxfileError at the place of the base.
        """
        found: dict[str, str] = {}
        by_hand: dict[str, str] = {}
        try:
            for surveyed in survey.templates.values():
                for image, at in images(surveyed):
                    name = pin_name(image)
                    is_new = name not in found and ENGINE_PREFIX + name not in found
                    if name in surveyed.unresolved and is_new:
                        found |= self._image(image, name, at, by_hand)
                base = surveyed.template.base
                if isinstance(base, BootstrapBase) and pin_name(base) in surveyed.unresolved:
                    found[pin_name(base)] = self.archive(base).digest
        finally:
            self._tell(by_hand)
        return found

    def moved(self, surveyed: Surveyed, resolved: Mapping[str, str]) -> Mapping[str, str]:
        """Return new pins for a base about to be built on that cannot be had as it is pinned.

        An image made by hand is whatever the engine has now; a bootstrapped archive that is gone
        is made again, from the packages that the mirror has now.
        """
        base = surveyed.template.base
        pins: dict[str, str] = {}
        for image, _ in images(surveyed):
            name = ENGINE_PREFIX + pin_name(image)
            now = self._in_engine(image) if name in resolved else None
            if now is not None and now != resolved[name]:
                pins[name] = now
        if isinstance(base, BootstrapBase):
            digest = resolved[pin_name(base)]
            if self.engine().find(_bootstrap_tag(base, digest)) is None:
                made = bootstrap.kept(self.bootstrap_cache, digest) or self.archive(base)
                if made.digest != digest:
                    pins[pin_name(base)] = made.digest
                    text = f"{base.distribution} {base.suite} is no longer what the lock pins"
                    text += f" ({digest[:19]}): its packages have moved; now {made.digest[:19]}"
                    self.emit(Notice(job=JOB, text=text, level="warning"))
        return pins

    def current(self, base: Base) -> Mapping[str, str]:
        """Return the `resolved` entry that a base would have if the lock had none.

        An image that was made by hand stays with the engine, one of a registry with that. Packages
        are put together anew. Raises SandboxfileError at the place of the base.
        """
        if isinstance(base.source, BootstrapBase):
            return {base.pin: self._anew(base.source).digest}
        if base.locked is None:
            by_hand: dict[str, str] = {}
            found = self._image(base.source, base.pin, base.at, by_hand)
            self._tell(by_hand)
            return found
        if not base.pin.startswith(ENGINE_PREFIX):
            return {base.pin: self._at_registry(base.source)}
        image_id = self._in_engine(base.source)
        if image_id is None:
            raise _not_in_engine(base.source, base.at)
        return {base.pin: image_id}

    def _anew(self, base: BootstrapBase) -> bootstrap.Archive:
        text = f"making {base.distribution} {base.suite} anew, of the packages there are now"
        self.emit(Notice(job=JOB, text=text))
        return self._made(base, anew=True)

    def archive(self, base: BootstrapBase) -> bootstrap.Archive:
        """Make the root filesystem of a bootstrapped base, or take it from the cache."""
        made = bootstrap.cached(base, self.bootstrap_cache, self.mirror)
        if made is not None:
            return made
        if self.offline:
            raise Unreachable(
                f"the base `{base.distribution}: {base.suite}` has to be made from packages, "
                "and `--offline` is given",
                hint="run once without `--offline`",
                at=base.at,
            )
        text = f"making {base.distribution} {base.suite} from its packages; this is done once"
        self.emit(Notice(job=JOB, text=text))
        return self._made(base)

    def _made(self, base: BootstrapBase, *, anew: bool = False) -> bootstrap.Archive:
        return bootstrap.archive(
            base,
            cache=self.bootstrap_cache,
            mirror=self.mirror,
            emit=self.emit,
            cancel=self.cancel,
            anew=anew,
        )

    def _image(
        self, image: str, name: str, at: Position, by_hand: dict[str, str]
    ) -> dict[str, str]:
        """Ask the registry first, it is the truth; then the engine, for images made by hand.

        Those are noted in `by_hand`, with the reason why the engine was asked.
        """
        if found := self._out_of_reach(image):
            host = ImageReference.parse(image).registry
            by_hand[image] = f"registry `{host}` cannot be reached"
            return {ENGINE_PREFIX + name: found}
        try:
            return {name: self._at_registry(image)}
        except SandboxfileError as error:
            image_id = self._in_engine(image)
            if image_id is None:
                error.at = error.at or at
                if self.elsewhere and not error.hint:
                    error.hint = "the service builds, and an image in an engine here is not there"
                elif isinstance(error, Unreachable) and not self.elsewhere:
                    here = "an image that the engine has is taken from there"
                    error.hint = f"{error.hint}; {here}" if error.hint else here
                raise
            by_hand[image] = error.message
            return {ENGINE_PREFIX + name: image_id}

    def _out_of_reach(self, image: str) -> str | None:
        """Return the engine's image of a name without a host, if Docker Hub is not there.

        Such a name is the likeliest to be of an image made by hand, and who is offline should not
        wait for all the attempts of a patient client before the engine is asked.
        """
        host = ImageReference.parse(image).registry
        is_named = host != DOCKER_HUB or DOCKER_HUB in image
        if self.offline or is_named or self.registry().is_reachable(host):
            return None
        return self._in_engine(image)

    def _tell(self, by_hand: Mapping[str, str]) -> None:
        """Say in one line which images are taken from the engine, and why the first of them is."""
        if by_hand:
            names = [f"`{image}`" for image in by_hand]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            why = next(iter(by_hand.values()))
            verb = "is" if len(names) == 1 else "are"
            text = f"{', '.join(names[:_NAMED])}{more} {verb} taken from the engine: {why}"
            self.emit(Notice(job=JOB, text=text))

    def _at_registry(self, image: str) -> str:
        if self.offline:
            text = f"`{image}` is not in the lock, and `--offline` is given"
            raise Unreachable(text, hint="run once without `--offline`")
        return self.registry().resolve(ImageReference.parse(image)).digest

    def _in_engine(self, image: str) -> str | None:
        if self.elsewhere:
            return None
        try:
            found = self.inspect(image)
        except Unreachable:
            return None
        return found.id if found else None

    def login(self, reference: str) -> Login | None:
        """Return the login for the registry of an image reference."""
        return self.logins(ImageReference.parse(reference).registry)

    def name(self, surveyed: Surveyed, resolved: Mapping[str, str]) -> str:
        """Return what `FROM` names for an image or bootstrapped base; touches nothing."""
        base = surveyed.template.base
        if isinstance(base, BootstrapBase):
            return _bootstrap_tag(base, resolved[pin_name(base)])
        assert isinstance(base, ImageBase)
        return self.pinned(base.image, resolved)[0]

    def pinned(self, image: str, resolved: Mapping[str, str]) -> tuple[str, str, bool]:
        """Return the reference to build from, its digest, and whether it is the engine's own."""
        name = pin_name(image)
        if name not in resolved and (image_id := resolved.get(ENGINE_PREFIX + name)):
            return image, image_id, True
        reference = ImageReference.parse(image)
        digest = reference.digest or resolved[name]
        return f"{reference.name}@{digest}", digest, False

    def base(self, surveyed: Surveyed, resolved: Mapping[str, str]) -> ResolvedBase:
        """Bring an image or bootstrapped base into the engine; how `FROM` names it there."""
        base = surveyed.template.base
        job = f"build:{surveyed.template.name}"
        if isinstance(base, BootstrapBase):
            return self._bootstrapped(base, resolved)
        assert isinstance(base, ImageBase)
        pinned = self.pinned(base.image, resolved)[0]
        with self._locks.setdefault(pinned, threading.Lock()):
            if pinned not in self._brought:
                self._brought[pinned] = self._bring(base, resolved, job)
            return self._brought[pinned]

    def _bring(self, base: ImageBase, resolved: Mapping[str, str], job: str) -> ResolvedBase:
        """Bring an image into the engine, which a run does once, however many are based on it."""
        found = self.image(base.image, resolved, job=job, at=base.at)
        there = self.inspect(found.reference)
        if there and (triggers := there.config.get("OnBuild")):
            raise refused_triggers(base.image, triggers[0], base.at)
        return found

    def image(
        self, image: str, resolved: Mapping[str, str], *, job: str, at: Position
    ) -> ResolvedBase:
        """Bring the image that `resolved` pins into the engine."""
        pinned, digest, local = self.pinned(image, resolved)
        if local:
            named = self.inspect(image)
            if (named is None or named.id != digest) and self.inspect(digest) is None:
                raise _not_in_engine(image, at)
            return ResolvedBase(reference=image, digest=digest, local=True)
        try:
            login = self.login(pinned)
            self.engine().ensure(pinned, login=login, emit=self.emit, cancel=self.cancel, job=job)
        except SandboxfileError as error:
            error.at = error.at or at
            raise
        return ResolvedBase(reference=pinned, digest=digest)

    def _bootstrapped(self, base: BootstrapBase, resolved: Mapping[str, str]) -> ResolvedBase:
        digest = resolved[pin_name(base)]
        tag = _bootstrap_tag(base, digest)
        if self.engine().find(tag) is None:
            made = bootstrap.kept(self.bootstrap_cache, digest) or self.archive(base)
            if made.digest != digest:
                raise SandboxfileError(
                    f"the base made from `{base.suite}` is not the one that was planned with",
                    hint="run `sandboxfile build` again",
                    at=base.at,
                )
            self.engine().load_root(made.path, tag, labels={"sandboxfile.base": base.suite})
        return ResolvedBase(reference=tag, digest=digest, local=True)


def _not_in_engine(image: str, at: Position) -> SandboxfileError:
    return SandboxfileError(
        f"the image `{image}` is no longer in the engine",
        hint="bring it back, or name an image at a registry",
        at=at,
    )


def refused_triggers(image: str, trigger: str, at: Position) -> SandboxfileError:
    """Return the error for an image that would do more than it shows."""
    return SandboxfileError(
        f"the image `{image}` would run instructions of its own in this build: ONBUILD {trigger}",
        hint="use it in a Dockerfile (`base: {dockerfile: ...}`), where they can be seen",
        at=at,
    )


def _bootstrap_tag(base: BootstrapBase, digest: str) -> str:
    return f"sandboxfile/{base.distribution}:{base.suite}-{digest.removeprefix('sha256:')[:16]}"


def images(surveyed: Surveyed) -> tuple[tuple[str, Position], ...]:
    """Return the images that a template, or its Dockerfile, starts from, and where that is said."""
    base = surveyed.template.base
    if isinstance(base, ImageBase):
        return ((base.image, base.at),)
    if isinstance(base, DockerfileBase) and surveyed.dockerfile is not None:
        return tuple((image, base.at) for image in surveyed.dockerfile.images)
    return ()
