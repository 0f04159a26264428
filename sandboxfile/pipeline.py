"""The steps of a template as jobs: generate, build, push, snapshot, tag (docs/design.md)."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandboxfile import estimate, images, imagetags, inherit, recipes, tags
from sandboxfile.cancel import Cancel
from sandboxfile.configs import Configs
from sandboxfile.errors import SandboxfileError
from sandboxfile.events import Emit
from sandboxfile.frozen import dataclass, replace
from sandboxfile.graph import Job, Results
from sandboxfile.headstart import Begun, HeadStart
from sandboxfile.images import Images
from sandboxfile.lockfile import Entry
from sandboxfile.lockwriter import LockWriter
from sandboxfile.manifests import Manifests
from sandboxfile.model import Builder, DockerfileBase, ImageBase, ImageConfig, RemoteBase
from sandboxfile.plan import Decision
from sandboxfile.recipes import Recipes
from sandboxfile.schedule import Span
from sandboxfile.statcache import Digests
from sandboxfile.surveyed import Survey, Surveyed
from sandboxfile.targets import Publisher, Recipe, Release, Snapshot

ABSENT_S = 10.0  # so long a registry that had no image of a key is believed to have none still

_Imaged = ImageBase | DockerfileBase  # what a service that builds begins with an image for


def _holding(release: Release, entry: Entry) -> Release:
    """Leave tags where they were put on purpose (`Entry.moved`)."""
    held = tuple(sorted(entry.moved))
    return replace(release, held=held, tags=tuple(t for t in release.tags if t not in held))


def manifest_name(target: str, template: str) -> str:
    """Return the name under which the files of a template's last build are remembered."""
    return f"{target}.{template}"


def release(
    surveyed: Surveyed, builder: Builder, tags: tuple[str, ...] = (), *, fresh: bool = False
) -> Release:
    """Return what is to be published of a template."""
    assert surveyed.keys is not None
    template = surveyed.template
    remote = builder == "remote" or isinstance(template.base, RemoteBase)
    return Release(
        template=template,
        image=None if remote else imagetags.image_tag(template.name, surveyed.keys.image_key),
        image_key=surveyed.keys.image_key,
        template_key=surveyed.keys.template_key,
        tags=tags,
        fresh=fresh,
    )


def published(
    surveyed: Surveyed, entry: Entry | None, builder: Builder, publisher: Callable[[], Publisher]
) -> str | None:
    """Return the image (`repo@sha256:…`) that the lock's entry or the registry has of this key."""
    assert surveyed.keys is not None
    if entry and "@sha256:" in entry.image and entry.image_key == surveyed.keys.image_key:
        return entry.image
    image = publisher().find_image(release(surveyed, builder))
    return image if image and "@sha256:" in image else None


def _is_absent(decision: Decision) -> bool:
    """Tell whether the registry had no such image just now: another machine may push it soon."""
    found = decision.found
    if found is None or found.image is not None:
        return False
    return time.monotonic() - found.asked < ABSENT_S


def _adopted(decision: Decision) -> Snapshot | None:
    """Return the build that was found when this was planned; nobody is asked for it again."""
    found = decision.found
    if found is None or found.template_id is None or found.build_id is None:
        return None
    return Snapshot(template_id=found.template_id, build_id=found.build_id, tags=found.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Everything the jobs of one run share; jobs run in several threads at once.

    `tags` are those of the target, as they are written. `begun` are the images, by their tags in
    the engine, that are being built already.
    """

    survey: Survey
    images: Images
    target: str
    tags: tuple[str, ...]
    lock: LockWriter
    generated: Path
    manifests: Manifests
    publisher: Callable[[], Publisher]
    configs: Configs
    digests: Digests
    no_cache: bool
    builder: Builder
    emit: Emit
    cancel: Cancel
    begun: HeadStart

    def jobs(self, decisions: tuple[Decision, ...]) -> tuple[Job[Any], ...]:
        """Return the jobs that carry out the decisions, with edges between templates."""
        made: dict[str, Job[Any]] = {}
        needs = estimate.chains(decisions, self.survey)
        for decision in decisions:
            pushed: Job[str | None] | None = None
            late: tuple[Job[Any], ...] = ()
            for step in estimate.steps(decision, self.survey):
                name = f"{step}:{decision.template}"
                before = (*late, *(made[each] for each in needs[name]))
                late = ()
                span = self._span(decision) if step == "build" else None
                if span is not None:
                    # It has begun: nothing holds it up, nor may others take its place. What would
                    # have holds up what comes next.
                    before, late = (), before
                made[name] = Job(name, self._action(step, decision, pushed), before, span)
                if step == "push":
                    pushed = made[name]
        return tuple(made.values())

    def _action(
        self, step: str, decision: Decision, pushed: Job[str | None] | None
    ) -> Callable[[Results], object]:
        surveyed = self.survey[decision.template]
        match step:
            case "generate":
                return lambda _: self.generate(surveyed)
            case "build":
                return lambda _: self.build(decision)
            case "push":
                return lambda _: self.push(decision)
            case "snapshot":
                return lambda results: self.snapshot(decision, results[pushed] if pushed else None)
            case _:
                return lambda _: self.tag(decision)

    def _span(self, decision: Decision) -> Callable[[], Span] | None:
        begun = self._begun(decision)
        return None if begun is None else lambda: begun.span

    def _begun(self, decision: Decision) -> Begun | None:
        return self.begun.get(imagetags.tag_of(self.survey[decision.template]))

    # --- generate, build ---------------------------------------------------------------------

    def generate(self, surveyed: Surveyed) -> Path:
        """Write where people can read it what is built, which is rendered from memory."""
        if self.builder == "remote":
            return images.write(
                self.generated, surveyed.template.name, "steps.json", self.steps_text(surveyed)
            )
        text = self.images.rendered(surveyed).text
        return images.write(self.generated, surveyed.template.name, "Dockerfile", text)

    def steps_text(self, surveyed: Surveyed) -> str:
        """Return as JSON what the service is told to do; what it is based on may not exist yet."""
        return json.dumps(recipes.as_data(self.recipe(surveyed)), indent=2) + "\n"

    def recipe(self, surveyed: Surveyed, *, force: bool = False) -> Recipe:
        """Return what the service is told to do, on the build of the parent that the lock has."""
        base = surveyed.template.base
        return self._recipes.recipe(
            surveyed,
            image=self.images.begins_with(surveyed) if isinstance(base, _Imaged) else None,
            parent=recipes.name_at_target(surveyed, self._parent_build(surveyed)),
            force=force,
        )

    @property
    def _recipes(self) -> Recipes:
        return Recipes(
            survey=self.survey, digests=self.digests, config=self._config, image=self._image
        )

    def _image(self, surveyed: Surveyed) -> ImageConfig:
        return self._placed(surveyed, lambda: self.configs.of(self.images.begins_with(surveyed)))

    def _config(self, surveyed: Surveyed) -> ImageConfig:
        return self._placed(surveyed, lambda: self.images.base_config(surveyed) or ImageConfig())

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
        entry = self.lock.entry(self.target, surveyed.parent)
        return entry.build_id if entry else None

    def build(self, decision: Decision) -> str:
        """Return the template's image, from the build that has begun if there is one."""
        begun = self._begun(decision)
        if begun is not None:
            return begun.result(self.emit)
        self.begun.vacate()  # else one more than `-j` would be built for a moment
        surveyed, absent = self.survey[decision.template], _is_absent(decision)
        return self.images.image(surveyed, fresh=decision.forced, absent=absent)

    # --- push, snapshot, tag -----------------------------------------------------------------

    def release(self, decision: Decision) -> Release:
        """Return what is to be published of a template."""
        surveyed = self.survey[decision.template]
        return release(surveyed, self.builder, decision.tags, fresh=decision.forced)

    def push(self, decision: Decision) -> str | None:
        release = self.release(decision)
        if release.image is not None and self.images.pushes:  # which its build has done
            return self.publisher().find_image(release)
        release = self._filled(release)
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
        git_key = surveyed.git_key()  # before there is an ID
        adopted = _adopted(decision)
        if adopted is not None and decision.found is not None:
            done, image = adopted, decision.found.image
        else:
            if self.builder == "remote":
                release = self._with_recipe(release, decision)
            elif image:
                release = self._filled(release, image if self.images.pushes else None)
            else:
                image = self._published_image(decision, release)
                release = self._filled(release, image)
            done = self.publisher().snapshot(release, image, emit=self.emit, cancel=self.cancel)
        assert surveyed.keys is not None
        entry = Entry(
            template_id=done.template_id,
            build_id=done.build_id,
            git_key=git_key,
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

    def _published_image(self, decision: Decision, release: Release) -> str | None:
        """Return the image where the service reads it, as planned with, or bring it there."""
        if release.image is None:
            return None
        if decision.found is not None and decision.found.image is not None:
            return decision.found.image
        image = self.publisher().find_image(release)
        if image is not None:
            return image
        made = self.images.image(self.survey[decision.template])
        if self.images.pushes:
            return made
        return self.publisher().push(self._filled(release), emit=self.emit, cancel=self.cancel)

    def tag(self, decision: Decision) -> None:
        """Move the user's tags to the build that the lock has; record those that it has then."""
        entry = self.lock.entry(self.target, decision.template)
        assert entry is not None
        release = _holding(self.release(decision), entry)
        build = _adopted(decision)
        if build is None or build.build_id != entry.build_id:
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
        self.lock.record(self.target, template, entry)
