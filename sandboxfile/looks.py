"""What shows that a survey is still true: the `lstat` of all that it looked at.

Tens of thousands of paths are told from process to process and kept for later runs, so they lie
in one piece: paths from the root of the workspace, between zero bytes, and their marks.
"""

import os
import stat as filemode
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sandboxfile import fresh
from sandboxfile.fresh import MARK

Seen = tuple[str, bytes]  # a path, and the mark of its `lstat`


class Looked(NamedTuple):
    """What was looked at, in plain data; `marks` are those of `paths`, one after the other.

    `absent` are paths that are not there; `above` are the directories in which all these are, but
    for those whose own mark is among `marks`.
    """

    paths: bytes = b""
    marks: bytes = b""
    absent: bytes = b""
    above: tuple[str, ...] = ()


class Tops:
    """The root of a workspace, as it is named and with all links resolved.

    What a run has looked for in it and not found is `absent`.
    """

    def __init__(self, root: str) -> None:
        self.first = slashed(root)
        self._all = {self.first: None, slashed(os.path.realpath(root)): None}
        # Paths that were not there once: a run sees that as of one moment, as it does ignore files.
        self.absent: set[str] = set()

    def below(self, path: str) -> str:
        """Return a path from the root. Raises ValueError for one that is outside."""
        if path.startswith(self.first):  # nearly all
            return path[len(self.first) :]
        for top in self._all:
            if path.startswith(top):
                return path[len(top) :]
            if f"{path}/" == top:
                return "."
        raise ValueError(path)


def of(seen: Iterable[Seen], looked_at: Iterable[str], tops: Tops) -> Looked:
    """Return in one piece what was looked at.

    `seen` has the mark of what was read, from before it was; `looked_at` are other paths, there or
    not. All are absolute. Raises ValueError for a path that is outside of the workspace, and
    struct.error for a file of the year 2300.
    """
    top, length = tops.first, len(tops.first)
    found = {  # thousands, nearly all below the first top
        path[length:] if path.startswith(top) else tops.below(path): mark for path, mark in seen
    }
    return below(found, looked_at, tops)


def below(found: dict[str, bytes], looked_at: Iterable[str], tops: Tops) -> Looked:
    """Return the same, of what was `found` by its path from the root."""
    return _with(found, [(tops.below(each), each) for each in looked_at], tops.absent)


def anywhere(seen: Iterable[Seen], looked_at: Iterable[str]) -> Looked:
    """Return the same, with all paths as they are: absolute, in the workspace or not."""
    return _with(dict(seen), ((each, each) for each in looked_at), set())


def _with(found: dict[str, bytes], looked_at: Iterable[tuple[str, str]], gone: set[str]) -> Looked:
    """Return in one piece what was found, and paths by their absolute ones; add what is `gone`."""
    absent = []
    for path, each in looked_at:
        if path in found:
            continue
        if path not in gone:
            try:
                found[path] = fresh.mark(os.lstat(each))
                continue
            except OSError:
                gone.add(path)
        absent.append(path)
    return _joined(found, absent)


def together(several: Iterable[Looked]) -> Looked:
    """Return what was looked at in several places, each path once."""
    several = tuple(several)
    if len(several) == 1:  # nearly always
        return several[0]
    found: dict[str, bytes] = {}
    absent: dict[str, None] = {}
    for each in several:
        found |= pairs(each)
        absent |= dict.fromkeys(split(each.absent))
    return _joined(found, absent)


def _joined(found: dict[str, bytes], absent: Iterable[str]) -> Looked:
    absent = tuple(absent)
    parents = {path.rpartition("/")[0] for path in (*found, *absent)}
    return Looked(
        paths=_packed(found),
        marks=b"".join(found.values()),
        absent=_packed(absent),
        above=tuple([path for path in parents if not is_directory(found.get(path))]),
    )


def inode(path: str) -> int:
    """Return the inode of a directory, 0 for what is none."""
    try:
        return fresh.inode(os.lstat(path))
    except OSError:
        return 0


def is_directory(mark: bytes | None) -> bool:
    """Say whether a mark is of a directory, not of a link to one."""
    return mark is not None and filemode.S_ISDIR(MARK.unpack(mark)[-1])


def files(looked: Looked, top: str = "") -> list[Seen]:
    """Return the regular files of what is there, as `pairs` has them."""
    marks = looked.marks
    starts = range(0, len(marks), MARK.size)
    return [
        (top + path, marks[at : at + MARK.size])
        for path, at, (_, _, _, _, mode) in zip(
            split(looked.paths), starts, MARK.iter_unpack(marks), strict=True
        )
        if filemode.S_ISREG(mode)
    ]


def untold(looked: Looked) -> list[str]:
    """Return which paths are absent in a directory that was not seen: others tell if they come."""
    numbers: dict[str, int] = {}

    def is_told(path: str) -> bool:
        above = path.rpartition("/")[0]
        if above and not numbers:
            numbers.update((seen, number) for number, seen in enumerate(split(looked.paths)))
        if above not in numbers:
            return False
        at = numbers[above] * MARK.size
        return is_directory(looked.marks[at : at + MARK.size])

    return [path for path in split(looked.absent) if not is_told(path)]


def pairs(looked: Looked, top: str = "") -> Iterator[Seen]:
    """Yield what is there, each path from the root, behind `top`, with its mark."""
    return zip([top + path for path in split(looked.paths)], each(looked.marks), strict=True)


def each(marks: bytes) -> list[bytes]:
    """Return marks that lie one after the other."""
    return [marks[at : at + MARK.size] for at in range(0, len(marks), MARK.size)]


def split(paths: bytes) -> list[str]:
    """Return the paths that lie between zero bytes."""
    return os.fsdecode(paths).split("\0") if paths else []


def _packed(paths: Iterable[str]) -> bytes:
    return os.fsencode("\0".join(paths))


def slashed(path: str) -> str:
    """Return what the paths of all that lies in a directory begin with."""
    return path.rstrip("/") + "/"
