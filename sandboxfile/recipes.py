"""What the service is told to do for each template that it builds itself (`builder: remote`)."""

from collections.abc import Callable, Mapping

from sandboxfile import inherit, steps, uploads
from sandboxfile.contents import Selection
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass, replace
from sandboxfile.model import (
    Copy,
    DockerfileBase,
    ImageBase,
    ImageConfig,
    RemoteBase,
    Template,
    TemplateBase,
)
from sandboxfile.places import Problem
from sandboxfile.statcache import Digests
from sandboxfile.steps import Origin, Step
from sandboxfile.surveyed import Survey, Surveyed
from sandboxfile.targets import Recipe
from sandboxfile.uploads import Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipes:
    """Writes the recipes of one run.

    `digests` must be what the keys were computed with; `config` returns what a template's base
    says of itself, `image` what the image says that its Dockerfile begins with.
    """

    survey: Survey
    digests: Digests
    config: Callable[[Surveyed], ImageConfig]
    image: Callable[[Surveyed], ImageConfig]

    def recipe(
        self,
        surveyed: Surveyed,
        *,
        image: str | None,
        parent: str | None,
        force: bool,
    ) -> Recipe:
        """Return the recipe of a template on `image`, or on the template `parent`."""
        files = self.uploads(surveyed)
        return Recipe(
            image=image,
            template=parent,
            steps=self._steps(surveyed, files),
            uploads=files,
            force=force,
        )

    def uploads(self, surveyed: Surveyed) -> Mapping[int, Upload]:
        """Return the files of each copy of a template, by its number."""
        found = self._sent(surveyed).items()
        return {number: uploads.upload(selection, self.digests) for number, selection in found}

    def _sent(self, surveyed: Surveyed) -> Mapping[int, Selection]:
        """Return the files of each copy; where those of a Dockerfile go, its image may decide."""
        copies = [each for each in self._whole(surveyed).instructions if isinstance(each, Copy)]
        found = dict(surveyed.sent)
        for number, copy in enumerate(copies[: len(surveyed.below)], 1):
            selected = found[number].copy
            assert selected is not None
            if selected.sources != copy.sources:
                text = "what is copied here is decided by a variable of the image"
                raise ConfigError([Problem(copy.at, text, "call the Dockerfile's own otherwise")])
            found[number] = replace(found[number], copy=copy)
        return found

    def _whole(self, surveyed: Surveyed) -> Template:
        """Return a template with what its Dockerfile says before all else."""
        template = surveyed.template
        if not isinstance(template.base, DockerfileBase):
            return template
        found = surveyed.translated(self.image(surveyed))
        assert found is not None
        return replace(template, instructions=(*found.instructions, *template.instructions))

    def applied(self, surveyed: Surveyed) -> Template:
        """Return a template with what it takes over from its base filled in."""
        return inherit.applied(surveyed.template, self.config(surveyed))

    def _steps(self, surveyed: Surveyed, files: Mapping[int, Upload]) -> tuple[Step, ...]:
        whole = inherit.applied(self._whole(surveyed), self.config(surveyed))
        if problems := steps.problems(whole):  # of what the image says, the rest is checked
            raise ConfigError(problems)
        copies = {number: upload.sent for number, upload in files.items()}
        return steps.render(whole, origin=self._origin(surveyed), copies=copies)

    def _origin(self, surveyed: Surveyed) -> Origin:
        base = surveyed.template.base
        if isinstance(base, ImageBase | DockerfileBase):
            config = self.image(surveyed)
            variables = {n: v for n, v in config.env.items() if inherit.is_variable(n)}
            return Origin(environment=variables, workdir=config.workdir or "/")
        if not isinstance(base, TemplateBase):
            return Origin()
        parent = self.survey[base.template]
        whole = inherit.applied(self._whole(parent), self.config(parent))
        return Origin(
            workdir=steps.workdir(whole.instructions, self._origin(parent).workdir),
            has_user=whole.user is not None,
            has_workdir=whole.workdir is not None,
        )


def as_data(recipe: Recipe) -> dict[str, object]:
    """Return a recipe as people may read it: the trigger's body without what is computed late."""
    source = {"fromImage": recipe.image} if recipe.image else {"fromTemplate": recipe.template}
    return {
        **source,
        "steps": [
            {"type": step.type, "args": list(step.args), "at": str(step.at)}
            for step in recipe.steps
        ],
    }


def name_at_target(surveyed: Surveyed, build_id: str | None) -> str | None:
    """Return how the service calls the template below: a build of ours, or the user's name."""
    base = surveyed.template.base
    if isinstance(base, RemoteBase):
        return base.remote
    if isinstance(base, TemplateBase):
        return f"{base.template}:{build_id}" if build_id else base.template
    return None
