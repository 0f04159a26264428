"""What a lock still has of templates and targets that the configuration no longer has. Pure.

Nothing takes it away unasked: an entry may be the only record of a template at the service.
"""

from collections.abc import Collection, Mapping
from functools import reduce

from sandboxfile.entries import Entry, Lock
from sandboxfile.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOver:
    """An entry of a lock that no template at a target of the configuration stands behind."""

    target: str
    template: str
    entry: Entry

    @property
    def as_json(self) -> Mapping[str, str]:
        """The entry as data for `--json`."""
        return {
            "target": self.target,
            "name": self.template,
            "template_id": self.entry.template_id,
            "build_id": self.entry.build_id,
        }


def of(lock: Lock, *, templates: Collection[str], targets: Collection[str]) -> tuple[LeftOver, ...]:
    """Return the entries of templates or targets that are not among these, in the lock's order."""
    return tuple(
        LeftOver(target=target, template=name, entry=entries[name])
        for target, entries in sorted(lock.targets.items())
        for name in sorted(entries)
        if target not in targets or name not in templates
    )


def without(lock: Lock, gone: Collection[LeftOver]) -> Lock:
    """Return the lock without these entries."""
    return reduce(lambda left, each: left.without_entry(each.target, each.template), gone, lock)


def table(found: Collection[LeftOver]) -> str:
    """Return a line for each: where it is, and the IDs that it has there."""
    rows = [(f"{each.target}/{each.template}", each.entry) for each in found]
    width = max((len(name) for name, _ in rows), default=0)
    return "".join(
        f"{name:<{width}}  {entry.template_id}  {entry.build_id}\n" for name, entry in rows
    )
