"""Which templates a word stands for: a name, `path:name`, or what a matrix was before it.

A published name is unique. What a file calls a template need not be: there the file's own
template comes first, and beyond it a word must have one meaning.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from posixpath import normpath

from sandboxfile.frozen import dataclass, field

GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Named:
    """A template by the `name` it is published as, what its file calls it, and where that is.

    `matrix` has the values that make it one of several variants.
    """

    name: str
    key: str
    member: str = ""
    matrix: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """All templates of a workspace; not `complete` while a file of it cannot be read."""

    entries: tuple[Named, ...] = ()
    complete: bool = True
    _by_name: dict[str, Named] = field(default_factory=dict, repr=False)
    _by_key: dict[str, dict[str, list[str]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, entries: Iterable[Named], *, complete: bool = True) -> "Names":
        """Index the templates; of two with one name the first is known by it."""
        found = cls(tuple(entries), complete)
        for each in found.entries:
            found._by_name.setdefault(each.name, each)
            found._by_key.setdefault(each.key, {}).setdefault(each.member, []).append(each.name)
        return found

    def find(self, word: str, member: str | None = None) -> Mapping[str, tuple[str, ...]]:
        """Return the names that a word stands for, by the address of each of its meanings.

        Empty when it is unknown. Several names of one meaning are the variants of a matrix.
        `member` is the path of the file that says the word, whose own templates come first.
        """
        path, colon, last = word.rpartition(":")
        if colon:
            where = normpath(path) if path else "."
            return self._in("" if where == "." else where, last)
        if member is not None and member in self._by_key.get(word, {}):
            return self._in(member, word)
        if (published := self._by_name.get(word)) is not None:
            return {f"{published.member}:{published.name}": (published.name,)}
        return {
            f"{where}:{word}": tuple(names) for where, names in self._by_key.get(word, {}).items()
        }

    def _in(self, member: str, word: str) -> Mapping[str, tuple[str, ...]]:
        names = self._by_key.get(word, {}).get(member)
        if names is not None:
            return {f"{member}:{word}": tuple(names)}
        published = self._by_name.get(word)
        if published is not None and published.member == member:
            return {f"{member}:{word}": (word,)}
        return {}

    def values(self, name: str) -> Mapping[str, str]:
        """Return the matrix values of a template by its published name."""
        return self._by_name[name].matrix

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the names that a glob matches: `path:name` where it has a colon."""
        matches: Callable[[str], object] = re.compile(translate(pattern)).match
        with_path = ":" in pattern
        return tuple(
            each.name
            for each in self.entries
            for path in [f"{each.member}:" if with_path else ""]
            if matches(path + each.name) or matches(path + each.key)
        )

    def words(self, like: str = "") -> tuple[str, ...]:
        """Return every word that stands for something, names first; `path:name` if `like` is."""
        if ":" in like:
            return tuple(dict.fromkeys(f"{each.member}:{each.key}" for each in self.entries))
        return tuple(dict.fromkeys((*self._by_name, *self._by_key)))


def is_glob(word: str) -> bool:
    """Say whether a word or a part of a path is matched, not looked up."""
    return not GLOB.isdisjoint(word)
