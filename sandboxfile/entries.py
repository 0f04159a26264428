"""What a lock has: one entry for each template at each target, and what bases resolved to."""

from collections.abc import Callable, Collection, Iterator, Mapping

from sandboxfile.frozen import dataclass, field, replace

VERSION = 1
ENGINE_PREFIX = "engine:"  # resolved to an image id, true for one engine only
_HUB = ("docker.io/library/", "docker.io/")  # what nobody writes


def base_name(pin: str) -> str:
    """Return a base as people write it, from its name in `resolved`: the platform is always one."""
    name = pin.removeprefix(ENGINE_PREFIX).partition(" ")[0]
    hub = next((each for each in _HUB if name.startswith(each)), "")
    return name.removeprefix(hub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One template at one target, as it was last built there.

    `image` is `repo@sha256:…`, the engine's own image id for local targets, or empty where the
    service built without an image of ours. `parts` are short digests of what the keys consist of.
    `git_key` stands for both keys where git tells the content of files (see `blobs`), empty where
    nothing is copied.
    `tags` are those that were moved to this build, None while that is still to be done. `moved`
    are tags that were put on another build on purpose (`rollback`, `promote`, `tag`), each with
    that build: they stay there until the template is built anew.
    """

    template_id: str
    build_id: str
    image_key: str
    template_key: str
    git_key: str = ""
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


class Entries(Mapping[str, Entry]):
    """The entries of one target by template, each as it is or as text that `read` understands.

    A run asks a lock of a thousand for few: only these are read, once, and all that is not changed
    is written as it stands.
    """

    __slots__ = ("_entries", "_read", "_understood")

    def __init__(
        self, entries: Mapping[str, Entry | str], read: Callable[[str], Entry] | None = None
    ) -> None:
        self._entries = dict(entries)
        self._read = read
        self._understood: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        found = self._entries[name]
        if isinstance(found, Entry):
            return found
        if name not in self._understood:
            assert self._read is not None
            self._understood[name] = self._read(found)
        return self._understood[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping) or len(self) != len(other):
            return False
        theirs = other._entries if isinstance(other, Entries) else other
        return all(
            name in theirs and (mine == theirs[name] or self[name] == other[name])
            for name, mine in self._entries.items()
        )

    __hash__ = None  # type: ignore[assignment] # as that of a dictionary

    def text(self, name: str) -> str | None:
        """Return the text of an entry that was not changed since it was read."""
        found = self._entries[name]
        return found if isinstance(found, str) else None

    def having(self, name: str, entry: Entry) -> "Entries":
        return Entries({**self._entries, name: entry}, self._read)

    def without(self, names: Collection[str]) -> "Entries":
        return Entries({n: e for n, e in self._entries.items() if n not in names}, self._read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything in a lock; changing it makes another one."""

    resolved: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)

    def entry(self, target: str, template: str) -> Entry | None:
        return self.targets.get(target, {}).get(template)

    def with_entry(self, target: str, template: str, entry: Entry) -> "Lock":
        after = self.entries(target).having(template, entry)
        return replace(self, targets={**self.targets, target: after})

    def without_entry(self, target: str, template: str) -> "Lock":
        left = self.entries(target).without({template})
        others = {n: each for n, each in self.targets.items() if n != target}
        return replace(self, targets={**others, target: left} if left else others)

    def entries(self, target: str) -> Entries:
        found = self.targets.get(target, {})
        return found if isinstance(found, Entries) else Entries(found)

    def with_resolved(self, found: Mapping[str, str]) -> "Lock":
        return replace(self, resolved={**self.resolved, **found})


Change = Callable[[Entry], Entry]
