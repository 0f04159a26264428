"""What a survey has found: each template with its keys and, when they are needed, its files."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from sandboxfile import keys, reading, taking
from sandboxfile.contents import Entry, Manifest, Selection
from sandboxfile.fresh import mark
from sandboxfile.frozen import dataclass, field
from sandboxfile.keys import Keys
from sandboxfile.looks import Seen
from sandboxfile.model import DockerfileBase, ImageConfig, InstallProject, Template, TemplateBase
from sandboxfile.recall import Known
from sandboxfile.taking import Taken
from sandboxfile.translation import Translation
from sandboxfile.userdockerfile import UserDockerfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """One template with all that decides it; `keys` is None while a base is not resolved.

    Where it is `known` what shows that all this is so, from an earlier run (`recalled`), from the
    lock and git (`is_committed`) or from another process, the files are looked for only when they
    are needed. `git_key` reads all of them to compute that of the lock.
    """

    template: Template
    keys: Keys | None
    take: Callable[[], Taken] = Taken
    known: Known | None = None
    recalled: bool = False
    is_committed: bool = False
    git_key: Callable[[], str] = str
    unresolved: tuple[str, ...] = ()

    @property
    def selections(self) -> Mapping[int, Selection]:
        return self.take().selections

    @property
    def context(self) -> Selection | None:
        return self.take().context

    @property
    def dockerfile(self) -> UserDockerfile | None:
        return self.take().dockerfile

    @property
    def below(self) -> Mapping[int, Selection]:
        return self.take().below

    @property
    def contents(self) -> Mapping[str, tuple[Manifest, ...]]:
        """What is taken, by the part of the key that it belongs to."""
        taken = self.take()
        found = dict(keys.by_part(self.template, taken.manifests))
        return found if taken.whole is None else {**found, "base": (taken.whole,)}

    @property
    def sent(self) -> Mapping[int, Selection]:
        """The files of all copies that a service which builds carries out, in their order."""
        found = (*self.below.values(), *self.selections.values())
        return dict(enumerate(found, 1))

    def translated(self, image: ImageConfig | None) -> Translation | None:
        """Return the Dockerfile that the template begins with in our terms, None without one.

        Raises ConfigError for what the service cannot do, now that the image is known.
        """
        return taking.translated(self.template, self.dockerfile, image)

    @property
    def entries(self) -> Iterator[Entry]:
        """All that is copied, and the context of its Dockerfile."""
        for selection in (*self.sent.values(), *filter(None, [self.context])):
            yield from selection.entries

    @property
    def seen(self) -> Iterable[Seen]:
        """The mark of what was read, from before it was, by absolute path.

        Going through it raises struct.error at a file of the year 2300.
        """
        if self.known is not None:
            return self.known.seen
        return ((entry.path, mark(entry.stat)) for entry in self.entries)

    @property
    def looked_at(self) -> frozenset[str]:
        """Whose `lstat`, with that of what was `seen`, must stay for all this to stay as it is.

        Absolute paths.
        """
        return self.known.absent if self.known is not None else self.deciding

    @property
    def deciding(self) -> frozenset[str]:
        """What decides which files are taken, there or not, and the Dockerfile (absolute paths)."""
        paths: set[str] = set()
        for selection in (*self.sent.values(), *filter(None, [self.context])):
            paths |= selection.looked_at
        for instruction in self.template.instructions:
            if isinstance(
                instruction, InstallProject
            ):  # a lock file may appear beside its manifest
                sources = (instruction.copy.root / source for source in instruction.copy.sources)
                paths.update(str(source.parent) for source in sources)
        if isinstance(self.template.base, DockerfileBase):
            paths |= reading.through(str(self.template.base.dockerfile))
        return frozenset(paths)

    @property
    def above(self) -> Iterable[str]:
        """The directories in which all this is, but for those that were `seen` (absolute)."""
        if self.known is not None:
            return self.known.above
        paths = (path for path, _ in self.seen)
        return {path.rpartition("/")[0] for path in (*paths, *self.looked_at)}

    @property
    def parent(self) -> str | None:
        base = self.template.base
        return base.template if isinstance(base, TemplateBase) else None


@dataclass(frozen=True, slots=True)
class Survey:
    """All templates asked for, parents first."""

    templates: Mapping[str, Surveyed] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Surveyed:
        return self.templates[name]

    @property
    def unresolved(self) -> tuple[str, ...]:
        return tuple(sorted({each for s in self.templates.values() for each in s.unresolved}))
