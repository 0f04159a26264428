"""Which templates a run need not look at: what an earlier one found of them is still so.

That run left nothing to do for them, and since then nothing that it looked at for them, or for the
templates that they are built on, has moved, nor the configuration, the lock or the environment.
"""

import os
from collections.abc import Iterable, Mapping
from struct import Struct

from sandboxfile.fresh import Look, Record
from sandboxfile.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The templates of an earlier run in their order, and which of them are to be looked at.

    `parents` has what each is built on, if that is a template. `locks` are the SHA-256 of locks
    that were as they are written.
    """

    order: tuple[str, ...]
    parents: Mapping[str, str]
    open: frozenset[str]
    locks: frozenset[str] = frozenset()

    def among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return which of these templates, and of those built on them, are to be looked at."""
        names = frozenset(names)
        return tuple(name for name in self.order if name in self.open and name in names)


def of(look: Look) -> Settled | None:
    """Return what is settled by a record, None if nothing is."""
    record = look.record
    if record is None or not record.names:
        return None
    moved = frozenset(look.moved)
    names, parents, counts = order(record)
    numbers = unpacked(record.owned)
    opened, at = {*texts(record.open)}, 0
    for name, count in zip(names, counts, strict=True):  # parents come first
        if not moved.isdisjoint(numbers[at : at + count]) or parents.get(name) in opened:
            opened.add(name)
        at += count
    locks = frozenset(texts(record.locks))
    return Settled(order=names, parents=parents, open=frozenset(opened), locks=locks)


def order(record: Record) -> tuple[tuple[str, ...], dict[str, str], tuple[int, ...]]:
    """Return the templates of a record, what they are built on, and how many paths each owns."""
    names = texts(record.names)
    parents = zip(names[::2], names[1::2], strict=True)
    return tuple(names[::2]), {n: p for n, p in parents if p}, unpacked(record.counts)


def unpacked(numbers: bytes) -> tuple[int, ...]:
    return Struct(f"<{len(numbers) // 8}Q").unpack(numbers)


def texts(joined: bytes) -> list[str]:
    return joined.decode().split("\0")[:-1]


def paths(joined: bytes) -> list[str]:
    return os.fsdecode(joined).split("\0")[:-1]
