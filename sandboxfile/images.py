"""The image of a template: what it is built on, its Dockerfile, and the build in the engine."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandboxfile import (
    archive,
    buildcache,
    dockerfile,
    environment,
    imagetags,
    inherit,
    reading,
    resolve,
    writing,
)
from sandboxfile.archive import Member
from sandboxfile.cancel import Cancel
from sandboxfile.configs import Configs
from sandboxfile.dockerfile import Rendered
from sandboxfile.engines import BuildSpec, Built, Engine
from sandboxfile.errors import BuildFailed, Cancelled, SandboxfileError
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.model import (
    BuildCache,
    Builder,
    DockerfileBase,
    ImageBase,
    ImageConfig,
    Login,
    ResolvedBase,
    TemplateBase,
)
from sandboxfile.once import Once
from sandboxfile.packs import MEMBERS, Brought, Packs
from sandboxfile.places import Position
from sandboxfile.reference import ImageReference
from sandboxfile.resolve import Resolver, refused_triggers
from sandboxfile.statcache import Digests
from sandboxfile.surveyed import Survey, Surveyed


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images of one run's templates; several threads may ask for them at once.

    `published` returns the image (`repo@sha256:…`) that the lock or the registry has of exactly
    this content, None where neither has. `registry` is where the target has its images, None
    where that cannot be pushed to by a build; `logins` are those which Docker does not know.
    """

    survey: Survey
    resolved: Mapping[str, str]
    generated: Path
    engine: Callable[[], Engine]
    published: Callable[[Surveyed], str | None]
    resolver: Resolver
    configs: Configs
    digests: Digests
    secrets: Callable[[str], Path]
    no_cache: bool
    builder: Builder
    emit: Emit
    cancel: Cancel
    cache: BuildCache = field(default_factory=BuildCache)
    registry: str | None = None
    logins: Callable[[str], Login | None] = lambda _: None
    packs: Packs = field(default_factory=Packs)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _answers: Once = field(default_factory=Once)

    # --- the Dockerfile ----------------------------------------------------------------------

    def rendered(self, surveyed: Surveyed) -> Rendered:
        """Return the Dockerfile as it will be built; brings no base into the engine.

        The user of a base that nobody can be asked about is left out until it is built on.
        """
        base = ResolvedBase(reference=self._base_name(surveyed), digest="")
        config = self.base_config(surveyed, self._here)
        return self._render(surveyed, base, config or ImageConfig())

    def base_config(
        self, surveyed: Surveyed, of_image: Callable[[str], ImageConfig | None] | None = None
    ) -> ImageConfig | None:
        """Return what a template's base says of itself, None while there is none to ask.

        `of_image` is asked about images, by the name that a build starts from (`Configs.of`
        unless given). Raises Unreachable, NotAllowed, WrongPlatform.
        """
        of_image = of_image or self.configs.of
        base = surveyed.template.base
        if isinstance(base, ImageBase):
            return of_image(self.pinned(base.image))
        if isinstance(base, TemplateBase):
            parent = self.survey[base.template]
            config = self.base_config(parent, of_image)
            return config and inherit.onwards(parent.template, config)
        if isinstance(base, DockerfileBase) and self.builder == "docker":
            return self.configs.here(self.dockerfile_tag(surveyed))
        if isinstance(base, DockerfileBase):
            found = surveyed.translated(of_image(self.begins_with(surveyed)))
            return found.config if found is not None else None
        return ImageConfig()

    def _here(self, image: str) -> ImageConfig | None:
        """Return what this machine knows of a base, asked once for all that is rendered on it."""
        return self._answers.of(("here", image), lambda: self.configs.here(image))

    def pinned(self, image: str) -> str:
        """Return an image by the name that a build starts from."""
        return self.resolver.pinned(image, self.resolved)[0]

    def _base_name(self, surveyed: Surveyed) -> str:
        base = surveyed.template.base
        if isinstance(base, TemplateBase):
            parent = self.survey[base.template]
            assert parent.keys is not None
            return imagetags.image_tag(base.template, parent.keys.image_key)
        if isinstance(base, DockerfileBase):
            return self.dockerfile_tag(surveyed)
        return self.resolver.name(surveyed, self.resolved)

    def _render(
        self, surveyed: Surveyed, base: ResolvedBase, config: ImageConfig, within: str = ""
    ) -> Rendered:
        return dockerfile.render(
            inherit.applied(surveyed.template, config),  # the image ends as whoever it began
            base=base,
            cache_mounts="cache_mounts" in self.engine().info().alone,
            single_files=frozenset(
                number for number, selection in surveyed.selections.items() if selection.single
            ),
            within=within,
        )

    def begins_with(self, surveyed: Surveyed) -> str:
        """Return the image that the service begins with, also for a Dockerfile."""
        parsed = surveyed.dockerfile
        return self.pinned(parsed.base) if parsed is not None else self._base_name(surveyed)

    # --- the build ---------------------------------------------------------------------------

    @property
    def pushes(self) -> bool:
        """Whether builds bring images to the target's registry themselves, and not here."""
        is_ours = self.registry is not None and self.builder == "docker"
        return is_ours and self.engine().info().elsewhere

    def heard_by(self, emit: Emit, cancel: Cancel) -> "Images":
        """Return the same with another listener and stop button."""
        resolver = replace(self.resolver, emit=emit, cancel=cancel)
        return replace(self, resolver=resolver, emit=emit, cancel=cancel)

    def image(self, surveyed: Surveyed, *, fresh: bool = False, absent: bool = False) -> str:
        """Return the template's image; build it unless it is there.

        It is a tag in the engine, or `repo@sha256:…` where builds push. `absent` says that it need
        not be looked for elsewhere.
        """
        tag = imagetags.tag_of(surveyed)
        with self._locks.setdefault(surveyed.template.name, threading.Lock()):
            if self.pushes:
                found = None if fresh or absent else self.published(surveyed)
                return found or self._build(surveyed, tag)
            if not fresh and self.engine().find(tag) is not None:
                return tag
            if not fresh and not absent and self._pulled(surveyed, tag):
                return tag
            return self._build(surveyed, tag)

    def _pulled(self, surveyed: Surveyed, tag: str) -> bool:
        """Take the image from the registry when the lock or the registry itself has this key."""
        found = self.published(surveyed)
        if found is None:
            return False
        login = self.resolver.login(found)
        job = f"build:{surveyed.template.name}"
        try:
            self.engine().ensure(found, login=login, emit=self.emit, cancel=self.cancel, job=job)
        except Cancelled:
            raise
        except SandboxfileError:  # gone from the registry: build it again
            return False
        self.engine().tag(found, tag)
        return True

    def _build(self, surveyed: Surveyed, tag: str) -> str:
        template = surveyed.template
        assert surveyed.keys is not None
        if self.engine().info().elsewhere:
            base = self._base_elsewhere(surveyed)
            config = self.configs.of(base.reference)
        else:
            base = self._base(surveyed)
            config = self.configs.in_engine(base.reference)
        rendered = self._render(surveyed, base, config)
        kept = environment.files(inherit.environment(template, config))
        self._write(template.name, rendered.text, kept)
        secrets = {name: self.secrets(name) for name in template.secrets}
        within, context = self._sent(surveyed, base, config, rendered)
        spec = BuildSpec(
            job=f"build:{template.name}",
            tag=tag,
            dockerfile=f"{within}{archive.DOCKERFILE}",
            within=within,
            context=context,
            args=rendered.args,
            labels={
                "sandboxfile.template": template.name,
                "sandboxfile.image-key": surveyed.keys.image_key,
            },
            secrets=secrets,
            needs=rendered.needs,
            no_cache=self.no_cache,
            **self._beside(tag, template.name),
        )
        try:
            built = self.engine().build(spec, emit=self.emit, cancel=self.cancel)
        except BuildFailed as error:
            error.at = rendered.place(error.step) or error.at or template.at
            raise
        if isinstance(template.base, ImageBase):
            self._check_unmoved(surveyed, tag)
        self.configs.learn(tag, built.config)
        return _reference(spec, built)

    def _check_unmoved(self, surveyed: Surveyed, tag: str) -> None:
        """Forget a build during which a base made by hand became another image.

        A build names such a base by its tag, since engines take no ID in its place, and what was
        built on another image than planned would pass for what its key says.
        """
        for image, at in resolve.images(surveyed):
            _, planned, is_by_hand = self.resolver.pinned(image, self.resolved)
            found = self.engine().inspect(image) if is_by_hand else None
            if is_by_hand and (found is None or found.id != planned):
                self.engine().untag(tag)
                raise SandboxfileError(
                    f"the base `{image}` became another image while this was built",
                    hint="run it again: it is built on what the base is then",
                    at=at,
                )

    # --- what is sent ------------------------------------------------------------------------

    def _sent(
        self, surveyed: Surveyed, base: ResolvedBase, config: ImageConfig, rendered: Rendered
    ) -> tuple[str, Callable[[], Iterator[bytes]]]:
        """Return the directory of a build in its archive, `""` for the archive itself, and that.

        Where contexts are packed, one that goes alone is in such a directory, too: an image's
        history tells of it. What was packed must be this very build's: its base may have become
        another since.
        """
        if not self.engine().info().starts_to_unpack:
            alone = self._members(surveyed, config, rendered)
            return "", lambda: archive.stream(alone)
        name = surveyed.template.name
        made_of = _made_of(surveyed, base, config)
        pack = None if self.no_cache else self.packs.of(name, made_of, self._packed)
        if pack:
            return f"{name}/", lambda: iter((pack.content,))
        members = self._below(surveyed, base, config)
        return f"{name}/", lambda: archive.stream(members)

    def _packed(self, name: str) -> Brought | None:
        """Return what a template brings into a pack, None if it must go alone."""
        surveyed = self.survey[name]
        template = surveyed.template
        by_client = template.secrets or self.cache.to or self.cache.from_
        if by_client or not isinstance(template.base, ImageBase):
            return None
        if sum(len(each.entries) for each in surveyed.selections.values()) >= MEMBERS:
            return None  # which is seen before all of them are listed
        config = self.base_config(surveyed, self._here)
        base = ResolvedBase(reference=self._base_name(surveyed), digest="")
        if config is None:
            return None
        members = self._below(surveyed, base, config)
        return Brought(members=members, made_of=_made_of(surveyed, base, config))

    def _below(
        self, surveyed: Surveyed, base: ResolvedBase, config: ImageConfig
    ) -> tuple[Member, ...]:
        name = surveyed.template.name
        rendered = self._render(surveyed, base, config, within=f"{name}/")
        return archive.below(name, self._members(surveyed, config, rendered))

    def _members(
        self, surveyed: Surveyed, config: ImageConfig, rendered: Rendered
    ) -> tuple[Member, ...]:
        kept = environment.files(inherit.environment(surveyed.template, config))
        return archive.members(rendered.text, surveyed.selections, self.digests, kept)

    def _write(self, name: str, text: str, kept: Mapping[str, bytes]) -> None:
        """Let people read what is built, with the files that only the build's context has."""
        write(self.generated, name, "Dockerfile", text)
        for path, content in kept.items():
            place, _, file = f"{name}/{environment.DIRECTORY}/{path}".rpartition("/")
            write(self.generated, place, file, content.decode(errors="replace"))

    def _beside(self, tag: str, name: str) -> Mapping[str, Any]:
        """Return the caches of a build, and where it pushes to."""
        root = self.generated.parents[1]
        to = tuple(buildcache.exported(each, name, root) for each in self.cache.to)
        from_ = tuple(buildcache.imported(each, name, root) for each in self.cache.from_)
        push = f"{self.registry}/{tag.removeprefix(imagetags.PREFIX)}" if self.pushes else None
        places = [push] if push else []
        places += [ref for each in (*to, *from_) if (ref := buildcache.fields(each).get("ref"))]
        hosts = {ImageReference.parse(place).registry for place in places}
        logins = {host: login for host in sorted(hosts) if (login := self.logins(host))}
        return {"cache_to": to, "cache_from": from_, "push": push, "logins": logins}

    def _base_elsewhere(self, surveyed: Surveyed) -> ResolvedBase:
        """Return a base that a builder with no images of this engine can begin with."""
        base = surveyed.template.base
        if isinstance(base, TemplateBase):
            reference = self.image(self.survey[base.template]) if self.pushes else ""
        elif isinstance(base, DockerfileBase):
            reference = self._user_dockerfile(surveyed, base).reference if self.pushes else ""
        else:
            reference = self.resolver.name(surveyed, self.resolved)
        self._check_seen(reference, base.at)
        if triggers := self.configs.of(reference).on_build if isinstance(base, ImageBase) else ():
            raise refused_triggers(reference, triggers[0], base.at)
        return ResolvedBase(reference=reference, digest="")

    def _check_seen(self, reference: str, at: Position) -> None:
        if "@sha256:" in reference:
            return
        hint = "push the base to a registry and name it there"
        if not reference:
            hint = "give the target a `registry`, which the builder pushes to and pulls from"
        raise SandboxfileError(
            "the builder that `engine` names sees registries only, and this base is in none",
            hint=f"{hint}; or let Docker build: `engine: docker`",
            at=at,
        )

    def _base(self, surveyed: Surveyed) -> ResolvedBase:
        base = surveyed.template.base
        if isinstance(base, TemplateBase):
            parent = self.survey[base.template]
            tag = self.image(parent)
            return ResolvedBase(reference=tag, digest="", local=True)
        if isinstance(base, DockerfileBase):
            return self._user_dockerfile(surveyed, base)
        return self.resolver.base(surveyed, self.resolved)

    def dockerfile_tag(self, surveyed: Surveyed) -> str:
        assert surveyed.dockerfile is not None
        assert surveyed.keys is not None
        return imagetags.image_tag(surveyed.template.name, surveyed.keys.image_key, prefix="base")

    def _user_dockerfile(self, surveyed: Surveyed, base: DockerfileBase) -> ResolvedBase:
        """Build the user's own Dockerfile first; our instructions go on top of its image."""
        parsed, selection = surveyed.dockerfile, surveyed.context
        assert parsed is not None
        assert selection is not None
        job = f"build:{surveyed.template.name}"
        tag = self.dockerfile_tag(surveyed)
        if parsed.syntax is not None:
            text = f"`# syntax={parsed.syntax}` makes the engine fetch that image itself"
            self.emit(Notice(job=job, text=text, level="warning"))
        pins = {image: self._brought(image, job, base.at) for image in parsed.images}
        text = parsed.pin(pins)
        members = archive.context_members(text, selection, self.digests)
        spec = BuildSpec(
            job=job,
            tag=tag,
            dockerfile=archive.DOCKERFILE,
            context=lambda: archive.stream(members),
            args=base.args,
            labels={"sandboxfile.template": surveyed.template.name},
            stage=parsed.target,
            secrets={name: self.secrets(name) for name in parsed.secrets},
            needs=parsed.needs,
            no_cache=self.no_cache,
            **self._beside(tag, imagetags.below(surveyed.template.name)),
        )
        try:
            built = self.engine().build(spec, emit=self.emit, cancel=self.cancel)
        except BuildFailed as error:
            error.at = parsed.place(error.step) or error.at or base.at
            raise
        self._check_unmoved(surveyed, tag)
        self.configs.learn(tag, built.config)
        reference = _reference(spec, built)
        return ResolvedBase(reference=reference, digest=built.image_id, local=not self.pushes)

    def _brought(self, image: str, job: str, at: Position) -> str:
        """Return the name by which a Dockerfile is to begin with an image, and bring it there."""
        if self.engine().info().elsewhere:
            reference = self.pinned(image)
            self._check_seen(reference, at)
            return reference
        return self.resolver.image(image, self.resolved, job=job, at=at).reference


def _made_of(surveyed: Surveyed, base: ResolvedBase, config: ImageConfig) -> object:
    """Return what a context is made of: the key has all that was written and all files."""
    assert surveyed.keys is not None
    return surveyed.keys.image_key, base.reference, config


def _reference(spec: BuildSpec, built: Built) -> str:
    if spec.push is None:
        return spec.tag
    return f"{spec.push.rpartition(':')[0]}@{built.image_id}"


def write(directory: Path, template: str, name: str, text: str) -> Path:
    """Write what people may want to read of a template's build, atomically; nothing if it is there.

    Raises SandboxfileError.
    """
    path, content = directory / template / name, text.encode()
    with suppress(OSError):
        if reading.own(path, limit=len(content)) == content:
            return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.whole(path, content)
    except OSError as error:
        raise SandboxfileError(
            f"`{path}`, for people to read, cannot be written: {error.strerror}",
            hint=f"make room for it, or remove `{directory}`, which holds nothing else",
        ) from None
    return path
