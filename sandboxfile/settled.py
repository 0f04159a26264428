"""Which templates a run need not look at: what an earlier one found of them is still so.

That run left nothing to do for them, and since then nothing that it looked at for them, or for the
templates that they are built on, has moved, nor the configuration, the lock or the environment.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from struct import Struct

from sandboxfile.fresh import Look, Record
from sandboxfile.frozen import dataclass

Owned = tuple[int, ...]  # numbers of paths of a record


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The templates of an earlier run in their order, and which of them are to be looked at.

    `parents` has what each is built on, if that is a template.
    """

    order: tuple[str, ...]
    parents: Mapping[str, str]
    open: frozenset[str]

    def among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return which of these templates, and of those built on them, are to be looked at."""
        names = frozenset(names)
        return tuple(name for name in self.order if name in self.open and name in names)


def of(look: Look) -> Settled | None:
    """Return what is settled by a record, None if nothing is."""
    record = look.record
    if record is None or not record.names:
        return None
    order, parents, owned = table(record)
    moved = frozenset(look.moved)
    opened = {*texts(record.open)} | {
        name for name, numbers in zip(order, owned, strict=True) if not moved.isdisjoint(numbers)
    }
    for name in order:  # parents come first
        if parents.get(name) in opened:
            opened.add(name)
    return Settled(order=order, parents=parents, open=frozenset(opened))


def table(record: Record) -> tuple[tuple[str, ...], dict[str, str], tuple[Owned, ...]]:
    """Return the templates of a record, what they are built on, and which paths they own."""
    names = texts(record.names)
    order = tuple(names[::2])
    parents = {name: parent for name, parent in zip(order, names[1::2], strict=True) if parent}
    counts, numbers = unpacked(record.counts), unpacked(record.owned)
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    return order, parents, tuple([numbers[start:end] for start, end in pairwise(ends)])


def unpacked(numbers: bytes) -> tuple[int, ...]:
    return Struct(f"<{len(numbers) // 8}Q").unpack(numbers)


def texts(joined: bytes) -> list[str]:
    return joined.decode().split("\0")[:-1]
