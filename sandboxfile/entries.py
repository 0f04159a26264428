"""What a lock has: one entry for each template at each target, and what bases resolved to."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from sandboxfile.frozen import dataclass, field

VERSION = 1
ENGINE_PREFIX = "engine:"  # resolved to an image id, true for one engine only


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One template at one target, as it was last built there.

    `image` is `repo@sha256:…`, the engine's own image id for local targets, or empty where the
    service built without an image of ours. `parts` are short digests of what the keys consist of.
    `tags` are those that were moved to this build, None while that is still to be done. `moved`
    are tags that were put on another build on purpose (`rollback`, `promote`, `tag`), each with
    that build: they stay there until the template is built anew.
    """

    template_id: str
    build_id: str
    image_key: str
    template_key: str
    image: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    tags: tuple[str, ...] | None = None
    moved: Mapping[str, str] = field(default_factory=dict)

    @property
    def current(self) -> str:
        """The build that the bare name stands for: this one, unless `default` was moved."""
        return self.moved.get("default", self.build_id)

    def with_tags(self, tags: Collection[str]) -> "Entry":
        return replace(self, tags=tuple(sorted(set(tags))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything in a lock; changing it makes another one."""

    resolved: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)

    def entry(self, target: str, template: str) -> Entry | None:
        return self.targets.get(target, {}).get(template)

    def with_entry(self, target: str, template: str, entry: Entry) -> "Lock":
        templates = {**self.targets.get(target, {}), template: entry}
        return replace(self, targets={**self.targets, target: templates})

    def without_entry(self, target: str, template: str) -> "Lock":
        left = {n: e for n, e in self.targets.get(target, {}).items() if n != template}
        others = {n: each for n, each in self.targets.items() if n != target}
        return replace(self, targets={**others, target: left} if left else others)

    def with_resolved(self, found: Mapping[str, str]) -> "Lock":
        return replace(self, resolved={**self.resolved, **found})


Change = Callable[[Entry], Entry]
