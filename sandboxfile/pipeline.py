"""The steps of a template as jobs: generate, build, push, snapshot, tag (docs/design.md)."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sandboxfile import (
    archive,
    context,
    dockerfile,
    inherit,
    keys,
    lockfile,
    plan,
    recipes,
    tags,
)
from sandboxfile.cancel import Cancel
from sandboxfile.configs import Configs
from sandboxfile.dockerfile import Rendered
from sandboxfile.engines import BuildSpec, Engine
from sandboxfile.errors import BuildFailed, Cancelled, SandboxfileError
from sandboxfile.events import Emit, Notice
from sandboxfile.graph import Job, Results
from sandboxfile.lockfile import Entry
from sandboxfile.manifests import Manifests
from sandboxfile.model import (
    Builder,
    DockerfileBase,
    ImageBase,
    ImageConfig,
    RemoteBase,
    ResolvedBase,
    Run,
    TemplateBase,
)
from sandboxfile.plan import Decision
from sandboxfile.recipes import Recipes
from sandboxfile.resolve import Resolver
from sandboxfile.statcache import Digests
from sandboxfile.survey import Survey, Surveyed
from sandboxfile.targets import Publisher, Recipe, Release, Snapshot

_Images = ImageBase | DockerfileBase  # what a service that builds begins with an image for


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


def _holding(release: Release, entry: Entry) -> Release:
    """Leave tags where they were put on purpose (`Entry.moved`)."""
    held = tuple(sorted(entry.moved))
    return replace(release, held=held, tags=tuple(t for t in release.tags if t not in held))


def manifest_name(target: str, template: str) -> str:
    """Return the name under which the files of a template's last build are remembered."""
    return f"{target}.{template}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Everything the jobs of one run share; jobs run in several threads at once.

    `tags` are those of the target, as they are written.
    """

    survey: Survey
    resolved: Mapping[str, str]
    target: str
    tags: tuple[str, ...]
    lock: Path
    known: Mapping[str, Entry]
    generated: Path
    manifests: Manifests
    engine: Callable[[], Engine]
    publisher: Callable[[], Publisher]
    resolver: Resolver
    configs: Configs
    digests: Digests
    secrets: Callable[[str], Path]
    no_cache: bool
    builder: Builder
    emit: Emit
    cancel: Cancel
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    def jobs(self, decisions: tuple[Decision, ...]) -> tuple[Job[Any], ...]:
        """Return the jobs that carry out the decisions, with edges between templates."""
        built: dict[str, Job[Any]] = {}  # what a template has ready for those based on it
        base_step = "snapshot" if self.builder == "remote" else "build"
        jobs: list[Job[Any]] = []
        for decision in decisions:
            last: Job[Any] | None = None
            pushed: Job[str | None] | None = None
            for step in self._steps(decision):
                parent = self.survey[decision.template].parent
                needs = tuple(
                    job
                    for job in (last, built.get(parent or "") if step == base_step else None)
                    if job is not None
                )
                last = Job(
                    f"{step}:{decision.template}", self._action(step, decision, pushed), needs
                )
                jobs.append(last)
                if step == base_step:
                    built[decision.template] = last
                if step == "push":
                    pushed = last
        return tuple(jobs)

    def _steps(self, decision: Decision) -> tuple[plan.Step, ...]:
        steps = plan.steps(decision)
        if self.builder == "docker" and isinstance(
            self.survey[decision.template].template.base, RemoteBase
        ):
            return tuple(step for step in steps if step in {"snapshot", "tag"})  # no image here
        return steps

    def _action(
        self, step: str, decision: Decision, pushed: Job[str | None] | None
    ) -> Callable[[Results], object]:
        surveyed = self.survey[decision.template]
        match step:
            case "generate":
                return lambda _: self.generate(surveyed)
            case "build":
                return lambda _: self.image(surveyed, fresh=decision.forced)
            case "push":
                return lambda _: self.push(decision)
            case "snapshot":
                return lambda results: self.snapshot(decision, results[pushed] if pushed else None)
            case _:
                return lambda _: self.tag(decision)

    # --- generate ----------------------------------------------------------------------------

    def generate(self, surveyed: Surveyed) -> Path:
        """Write where people can read it what is built, which is rendered from memory."""
        if self.builder == "remote":
            return self._write(surveyed, "steps.json", self.steps_text(surveyed))
        return self._write(surveyed, "Dockerfile", self.rendered(surveyed).text)

    def _write(self, surveyed: Surveyed, name: str, text: str) -> Path:
        path = self.generated / surveyed.template.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{name}.{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
        return path

    def steps_text(self, surveyed: Surveyed) -> str:
        """Return as JSON what the service is told to do; what it is based on may not exist yet."""
        return json.dumps(recipes.as_data(self.recipe(surveyed)), indent=2) + "\n"

    def recipe(self, surveyed: Surveyed, *, force: bool = False) -> Recipe:
        """Return what the service is told to do, on the build of the parent that the lock has."""
        base = surveyed.template.base
        return self._recipes.recipe(
            surveyed,
            image=self._begins_with(surveyed) if isinstance(base, _Images) else None,
            parent=recipes.name_at_target(surveyed, self._parent_build(surveyed)),
            force=force,
        )

    @property
    def _recipes(self) -> Recipes:
        return Recipes(
            survey=self.survey, digests=self.digests, config=self._config, image=self._image
        )

    def _begins_with(self, surveyed: Surveyed) -> str:
        """Return the image that the service begins with, also for a Dockerfile."""
        parsed = surveyed.dockerfile
        return self.pinned(parsed.base) if parsed is not None else self._base_name(surveyed)

    def _image(self, surveyed: Surveyed) -> ImageConfig:
        return self._placed(surveyed, lambda: self._asked(self._begins_with(surveyed)))

    def _config(self, surveyed: Surveyed) -> ImageConfig:
        return self._placed(surveyed, lambda: self.base_config(surveyed) or ImageConfig())

    @staticmethod
    def _placed(surveyed: Surveyed, ask: Callable[[], ImageConfig]) -> ImageConfig:
        try:
            return ask()
        except SandboxfileError as error:
            error.at = error.at or surveyed.template.base.at
            raise

    def _with_recipe(self, release: Release, decision: Decision) -> Release:
        surveyed = self.survey[decision.template]
        force = decision.forced or self.no_cache
        template = self._recipes.applied(surveyed)
        return replace(release, template=template, recipe=self.recipe(surveyed, force=force))

    def _parent_build(self, surveyed: Surveyed) -> str | None:
        if surveyed.parent is None:
            return None
        entry = lockfile.read(self.lock).entry(self.target, surveyed.parent)
        return entry.build_id if entry else None

    def rendered(self, surveyed: Surveyed) -> Rendered:
        """Return the Dockerfile as it will be built; brings no base into the engine.

        The user of a base that nobody can be asked about is left out until it is built on.
        """
        base = ResolvedBase(reference=self._base_name(surveyed), digest="")
        config = self.base_config(surveyed, self._known_here)
        return self._render(surveyed, base, config or ImageConfig())

    def base_config(
        self, surveyed: Surveyed, of_image: Callable[[str], ImageConfig | None] | None = None
    ) -> ImageConfig | None:
        """Return what a template's base says of itself, None while there is none to ask.

        `of_image` is asked about images, by the name that a build starts from; without it their
        registry is, and the engine about its own. Raises Unreachable, NotAllowed, WrongPlatform.
        """
        of_image = of_image or self._asked
        base = surveyed.template.base
        if isinstance(base, ImageBase):
            return of_image(self.pinned(base.image))
        if isinstance(base, TemplateBase):
            parent = self.survey[base.template]
            config = self.base_config(parent, of_image)
            return config and inherit.onwards(parent.template, config)
        if isinstance(base, DockerfileBase) and self.builder == "docker":
            return self._known_here(self.dockerfile_tag(surveyed))
        if isinstance(base, DockerfileBase):
            found = surveyed.translated(of_image(self._begins_with(surveyed)))
            return found.config if found is not None else None
        return ImageConfig()

    def _asked(self, image: str) -> ImageConfig:
        is_pinned = "@sha256:" in image
        return self.configs.at_registry(image) if is_pinned else self.configs.in_engine(image)

    def pinned(self, image: str) -> str:
        """Return an image by the name that a build starts from."""
        return self.resolver.pinned(image, self.resolved)[0]

    def _known_here(self, image: str) -> ImageConfig | None:
        """Return what the engine, or what was kept, says of an image; asks no registry."""
        if self.engine().find(image) is not None:
            return self.configs.in_engine(image)
        return self.configs.known(image)

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
                if context.is_single_file(selection)
            ),
        )

    # --- build -------------------------------------------------------------------------------

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
        found = self._at_registry(surveyed)
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

    def _at_registry(self, surveyed: Surveyed) -> str | None:
        assert surveyed.keys is not None
        entry = self.known.get(surveyed.template.name)
        if entry and "@sha256:" in entry.image and entry.image_key == surveyed.keys.image_key:
            return entry.image
        image = self.publisher().find_image(self._release(surveyed, ()))
        return image if image and "@sha256:" in image else None

    def _build(self, surveyed: Surveyed, tag: str) -> None:
        template = surveyed.template
        assert surveyed.keys is not None
        base = self._base(surveyed)
        rendered = self._render(surveyed, base, self.configs.in_engine(base.reference))
        self._write(surveyed, "Dockerfile", rendered.text)
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

    # --- push, snapshot, tag -----------------------------------------------------------------

    def release(self, decision: Decision) -> Release:
        """Return what is to be published of a template."""
        surveyed = self.survey[decision.template]
        return self._release(surveyed, decision.tags, fresh=decision.forced)

    def _release(
        self, surveyed: Surveyed, tags: tuple[str, ...], *, fresh: bool = False
    ) -> Release:
        assert surveyed.keys is not None
        template = surveyed.template
        remote = self.builder == "remote" or isinstance(template.base, RemoteBase)
        return Release(
            template=template,
            image=None if remote else image_tag(template.name, surveyed.keys.image_key),
            image_key=surveyed.keys.image_key,
            template_key=surveyed.keys.template_key,
            tags=tags,
            fresh=fresh,
        )

    def push(self, decision: Decision) -> str | None:
        release = self._filled(self.release(decision))
        return self.publisher().push(release, emit=self.emit, cancel=self.cancel)

    def _filled(self, release: Release, published: str | None = None) -> Release:
        """Fill in what the template takes over from its image: the service looks at none of it.

        `published` is the image where the service reads it, when the engine may not have it.
        """
        template = release.template
        if release.image is None or not inherit.is_open(template):
            return release
        if published and "@sha256:" in published:
            config = self.configs.at_registry(published, keep=False)
        else:
            config = self.configs.in_engine(published or release.image)
        return replace(release, template=inherit.applied(template, config))

    def snapshot(self, decision: Decision, image: str | None = None) -> Snapshot:
        """Publish, and write the lock at once: an ID must not be lost to what comes after.

        `image` is what the push of this run confirmed, None if there was none.
        """
        release = self.release(decision)
        surveyed = self.survey[decision.template]
        adopted = self.publisher().find_snapshot(release) if decision.action == "adopt" else None
        if adopted is not None:
            done, image = adopted, self.publisher().find_image(release)
        else:
            if self.builder == "remote":
                release = self._with_recipe(release, decision)
            elif image:
                release = self._filled(release)
            else:
                image = self._published_image(surveyed, release)
                release = self._filled(release, image)
            done = self.publisher().snapshot(release, image, emit=self.emit, cancel=self.cancel)
        assert surveyed.keys is not None
        entry = Entry(
            template_id=done.template_id,
            build_id=done.build_id,
            image=image or "",
            image_key=release.image_key,
            template_key=release.template_key,
            parts=surveyed.keys.parts,
            parent=surveyed.parent,
        )
        self._record(decision.template, entry)
        self.manifests.remember(
            manifest_name(self.target, decision.template), release.image_key, surveyed.contents
        )
        return done

    def _published_image(self, surveyed: Surveyed, release: Release) -> str | None:
        """Find the image where the service reads it, or bring it there."""
        if release.image is None:
            return None
        image = self.publisher().find_image(release)
        if image is not None:
            return image
        self.image(surveyed)
        return self.publisher().push(self._filled(release), emit=self.emit, cancel=self.cancel)

    def tag(self, decision: Decision) -> None:
        """Move the user's tags to the build that the lock has; record those that it has then."""
        entry = lockfile.read(self.lock).targets[self.target][decision.template]
        release = _holding(self.release(decision), entry)
        build = Snapshot(template_id=entry.template_id, build_id=entry.build_id)
        remove = self._removed(release, entry)
        done = self.publisher().tag(
            release, build, remove=remove, emit=self.emit, cancel=self.cancel
        )
        self._record(decision.template, entry.with_tags(done))

    def _removed(self, release: Release, entry: Entry) -> tuple[str, ...]:
        """Return the tags that this build has and that are not written any more.

        Those of other commits stay: they are still written, as `${git.sha}`.
        """
        written = (*release.template.tags, *self.tags)
        return tuple(
            tag
            for tag in sorted({*(entry.tags or ())} - {*release.tags})
            if not tags.is_of_another_commit(tag, written)
        )

    def _record(self, template: str, entry: Entry) -> None:
        lockfile.update(self.lock, lambda lock: lock.with_entry(self.target, template, entry))
