"""Contexts of several templates of one run in one archive, for engines that start a program for it.

Docker Engine 20.10 unpacks what comes with a build by starting itself anew: some 45 ms of processor
time, however little there is. BuildKit does that once for all builds that come with the same bytes.
So small contexts go together, each in a directory of its own. A build copies from its own alone,
and since BuildKit caches a copy by what it brings, layers have the same keys either way.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from sandboxfile import archive
from sandboxfile.archive import Member
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass

# Each build of a pack brings all of it, which costs the engine some 4 ms a MiB: a tenth of what it
# saves.
LIMIT = 1 << 20  # bytes
_ALONE = LIMIT // 2  # bytes: a context from here on is no small one
_HELD = 4  # packs; what is left of older ones goes alone
_AHEAD = 32  # templates that are looked at for one pack
_HEADER = 1024  # bytes that a member takes beside its content, about
MEMBERS = _ALONE // _HEADER  # a context of as many is none of these, whatever is in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What a template brings, all of it below its name, and what tells that `made_of` the same."""

    members: tuple[Member, ...]
    made_of: object


Contents = Callable[[str], Brought | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """An archive, and the templates in it, each with what it was made of."""

    content: bytes
    made_of: Mapping[str, object]


class Packs:
    """The packs of one run; several threads may ask for them at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._expected: dict[str, None] = {}
        self._held: list[tuple[Pack, set[str]]] = []

    def expect(self, names: Iterable[str]) -> None:
        """Say what will be built, and in about which order; each counts when it is first told."""
        with self._lock:
            new = [name for name in names if name not in self._told]
            self._told.update(new)
            self._expected.update(dict.fromkeys(new))

    def of(self, name: str, made_of: object, contents: Contents) -> Pack | None:
        """Return the pack that a template goes in, None if it goes alone.

        `contents` returns what a template brings, None for one that cannot go with others. One that
        was packed of something else than it is `made_of` by now goes alone, too: on another base,
        or for a plan that was not to be since its files have changed.
        """
        with self._lock:
            if name in self._expected:
                self._make(name, contents)
            for held in self._held:
                pack, left = held
                if name in left:
                    left.discard(name)
                    if not left:
                        self._held.remove(held)
                    return pack if pack.made_of[name] == made_of else None
            return None

    def _make(self, name: str, contents: Contents) -> None:
        """Pack a template with those expected after it, up to the limit."""
        del self._expected[name]
        chosen = {name: first} if (first := _small(name, contents)) else {}
        size = _size(first.members) if first else 0
        for other in tuple(islice(self._expected, _AHEAD)) if chosen else ():
            found = _small(other, contents)
            if found is not None and size + _size(found.members) > LIMIT:
                break
            del self._expected[other]
            if found is not None:
                chosen[other] = found
                size += _size(found.members)
        if len(chosen) > 1 and (content := _archive(chosen.values())):
            pack = Pack(content=content, made_of={n: each.made_of for n, each in chosen.items()})
            self._held = [*self._held, (pack, set(chosen))][-_HELD:]


def _small(name: str, contents: Contents) -> Brought | None:
    try:
        found = contents(name)
    except SandboxfileError:  # its own build says so, if it comes to that
        return None
    return found if found is not None and _size(found.members) < _ALONE else None


def _size(members: Iterable[Member]) -> int:
    return sum(_HEADER + member.size + len(member.content) for member in members)


def _archive(chosen: Iterable[Brought]) -> bytes:
    """Return the archive, nothing if a file has changed: the build of its template says so."""
    try:
        return b"".join(archive.stream(each for found in chosen for each in found.members))
    except SandboxfileError:
        return b""
