"""The image of a template: what it is built on, its Dockerfile, and the build in the engine."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandboxfile import archive, contents, dockerfile, inherit, keys
from sandboxfile.cancel import Cancel
from sandboxfile.configs import Configs
from sandboxfile.dockerfile import Rendered
from sandboxfile.engines import BuildSpec, Engine
from sandboxfile.errors import BuildFailed, Cancelled, SandboxfileError
from sandboxfile.events import Emit, Notice
from sandboxfile.model import (
    Builder,
    DockerfileBase,
    ImageBase,
    ImageConfig,
    ResolvedBase,
    Run,
    TemplateBase,
)
from sandboxfile.resolve import Resolver
from sandboxfile.statcache import Digests
from sandboxfile.survey import Survey, Surveyed


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images of one run's templates; several threads may ask for them at once.

    `published` returns the image (`repo@sha256:…`) that the lock or the registry has of exactly
    this content, None where neither has.
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
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    # --- the Dockerfile ----------------------------------------------------------------------

    def rendered(self, surveyed: Surveyed) -> Rendered:
        """Return the Dockerfile as it will be built; brings no base into the engine.

        The user of a base that nobody can be asked about is left out until it is built on.
        """
        base = ResolvedBase(reference=self._base_name(surveyed), digest="")
        config = self.base_config(surveyed, self.configs.here)
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

    def pinned(self, image: str) -> str:
        """Return an image by the name that a build starts from."""
        return self.resolver.pinned(image, self.resolved)[0]

    def _base_name(self, surveyed: Surveyed) -> str:
        base = surveyed.template.base
        if isinstance(base, TemplateBase):
            parent = self.survey[base.template]
            assert parent.keys is not None
            return image_tag(base.template, parent.keys.image_key)
        if isinstance(base, DockerfileBase):
            return self.dockerfile_tag(surveyed)
        return self.resolver.name(surveyed, self.resolved)

    def _render(self, surveyed: Surveyed, base: ResolvedBase, config: ImageConfig) -> Rendered:
        return dockerfile.render(
            inherit.applied(surveyed.template, config),  # the image ends as whoever it began
            base=base,
            cache_mounts="cache_mounts" in self.engine().info().can,
            single_files=frozenset(
                number
                for number, selection in surveyed.selections.items()
                if contents.is_single_file(selection)
            ),
        )

    def begins_with(self, surveyed: Surveyed) -> str:
        """Return the image that the service begins with, also for a Dockerfile."""
        parsed = surveyed.dockerfile
        return self.pinned(parsed.base) if parsed is not None else self._base_name(surveyed)

    # --- the build ---------------------------------------------------------------------------

    def image(self, surveyed: Surveyed, *, fresh: bool = False) -> str:
        """Return the tag of the template's image in the engine; build it unless it is there."""
        assert surveyed.keys is not None
        name = surveyed.template.name
        tag = image_tag(name, surveyed.keys.image_key)
        with self._locks.setdefault(name, threading.Lock()):
            if not fresh and self.engine().find(tag) is not None:
                return tag
            if not fresh and self._pulled(surveyed, tag):
                return tag
            self._build(surveyed, tag)
            return tag

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

    def _build(self, surveyed: Surveyed, tag: str) -> None:
        template = surveyed.template
        assert surveyed.keys is not None
        base = self._base(surveyed)
        rendered = self._render(surveyed, base, self.configs.in_engine(base.reference))
        write(self.generated, template.name, "Dockerfile", rendered.text)
        secrets = {
            name: self.secrets(name)
            for instruction in template.instructions
            if isinstance(instruction, Run)
            for name in instruction.secrets
        }
        members = archive.members(rendered.text, surveyed.selections, self.digests)
        spec = BuildSpec(
            job=f"build:{template.name}",
            tag=tag,
            dockerfile=archive.DOCKERFILE,
            context=lambda: archive.stream(members),
            args=rendered.args,
            labels={
                "sandboxfile.template": template.name,
                "sandboxfile.image-key": surveyed.keys.image_key,
            },
            secrets=secrets,
            needs=rendered.needs,
            no_cache=self.no_cache,
        )
        try:
            self.engine().build(spec, emit=self.emit, cancel=self.cancel)
        except BuildFailed as error:
            error.at = rendered.place(error.step) or error.at or template.at
            raise

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
        return image_tag(surveyed.template.name, surveyed.keys.image_key, prefix="base")

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
        pins = {
            image: self.resolver.image(image, self.resolved, job=job, at=base.at).reference
            for image in parsed.images
        }
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
        )
        try:
            built = self.engine().build(spec, emit=self.emit, cancel=self.cancel)
        except BuildFailed as error:
            error.at = parsed.place(error.step) or error.at or base.at
            raise
        return ResolvedBase(reference=tag, digest=built.image_id, local=True)


def image_tag(template: str, key: str, *, prefix: str = "sf") -> str:
    """Return the tag in the engine of a template's image: `sandboxfile/<name>:sf-<16 hex>`."""
    return f"sandboxfile/{repository(template)}:{prefix}-{key.partition(':')[2][:16]}"


def repository(template: str) -> str:
    """Return a template's name in the form that repositories allow (OCI distribution spec).

    Template names may end in `-` or `_` or repeat them, repository names may not.
    """
    parts = [part for part in template.replace("_", "-").split("-") if part]
    plain = "-".join(parts)
    return plain if plain == template else f"{plain}.{keys.short(template)}"


def write(directory: Path, template: str, name: str, text: str) -> Path:
    """Write what people may want to read of a template's build, atomically."""
    path = directory / template / name
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path
