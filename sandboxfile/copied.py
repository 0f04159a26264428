"""What copies bring, found by one process of a run and told to another one.

A copy of one source, all of it, is found by its text and where that is written: what is told of
it is what `context` and `keys` find here. How the files arrive decides nothing about that.
"""

import itertools
import marshal
import os
import struct
from collections.abc import Iterator
from functools import partial
from stat import S_IXUSR
from typing import Any, NamedTuple

from sandboxfile import context, fresh, keys, looks, statcache
from sandboxfile.ahead import Ahead
from sandboxfile.blobs import Blobs, UnknownError, text
from sandboxfile.contents import Selection, Tree
from sandboxfile.context import Whole
from sandboxfile.errors import SandboxfileError
from sandboxfile.gathering import WHITEOUT, Ground
from sandboxfile.keys import Content
from sandboxfile.looks import Looked, Tops, slashed
from sandboxfile.model import Copy
from sandboxfile.statcache import SIZE, Hashes, Read, Reader, Told

_TOGETHER = 8  # copies: each answer takes a call of the system


class Copied(NamedTuple):
    """What the copy of one source brings; `root` is the directory that this is relative to.

    `digests` are those of the files that were read for it, one after the other: the first ones that
    were `looked` at. All were read `since` a time. Where `is_committed`, there are none: `content`
    is as git tells it, in short.
    """

    root: str
    source: str
    content: Content
    looked: Looked
    digests: bytes
    since: int
    is_committed: bool = False

    def hashes(self) -> Hashes:
        """Return the hashes of the files, for who reads others of this workspace."""
        return statcache.hashes(_files(self.looked, self.digests), self.since)


def _files(looked: Looked, digests: bytes, top: str = "") -> list[Read]:
    """Return the files that were read of what was `looked` at, which are the first ones of that."""
    starts = range(0, len(digests), SIZE)
    found = zip(starts, looks.files(looked, top), strict=False)
    return [(path, mark, digests[at : at + SIZE]) for at, (path, mark) in found]


def told(copies: Iterator[Copy], finder: "Finder") -> Iterator[bytes]:
    """Yield what copies of one source bring, in plain data, several at once; at the end nothing.

    The first is what is never taken on this ground. Of a copy with a problem nothing is told:
    who asks for it finds the problem.
    """
    yield marshal.dumps(finder.ground.left_out)
    found = filter(None, map(finder.find, copies))
    while together := [_plain(copied) for copied in itertools.islice(found, _TOGETHER)]:
        yield marshal.dumps(together)
    yield b""


def _plain(copied: Copied) -> tuple[Any, ...]:
    return tuple(tuple(each) if isinstance(each, tuple) else each for each in copied)


class Finder:
    """Finds what copies of one source bring, in the process it was made for.

    Git is asked first, by `blobs`, if it is to be.
    """

    def __init__(
        self, ground: Ground, blobs: Blobs | None = None, digests: Reader | None = None
    ) -> None:
        self.ground = ground
        self._digests = digests or Reader()
        self._reading = ground.looking(self._digests.within)
        self._tops = Tops(ground.root)
        self._blobs = blobs if blobs and blobs.are_there else None

    def find(self, copy: Copy) -> Copied | None:
        """Return what a copy of one source brings, None if there is a problem with it."""
        try:
            return (self._committed(copy, self._blobs) if self._blobs else None) or self._read(copy)
        except (OSError, ValueError, struct.error, SandboxfileError):
            return None

    def _committed(self, copy: Copy, blobs: Blobs) -> Copied | None:
        """Return what git says that a copy brings, None if somebody else has to tell."""
        whole = context.whole(copy, self.ground)
        tree = blobs.tree(whole.path, self.ground.ours) if whole else None
        if whole is not None and tree is not None and not _is_odd(tree):
            content, looked = self._whole(whole, tree)
        else:
            selection = context.select(copy, self.ground)
            try:
                texts = keys.contents(selection, blobs)
            except UnknownError:
                return None
            content, looked = keys.content_of(selection, texts), self._looked(selection)
        short = keys.in_short(content)
        return Copied(
            os.fspath(copy.root), copy.sources[0], short, looked, b"", 0, is_committed=True
        )

    def _whole(self, whole: Whole, tree: Tree) -> tuple[Content, Looked]:
        """Return what a directory brings of which git knows all: what its selection would be."""
        content = keys.content_of_directory(
            [
                (name, "file", bool(stat.st_mode & S_IXUSR), text(blob, stat.st_size))
                if blob
                else (name, "directory", False, "")
                for name, stat, blob in tree
            ]
        )
        top = self._tops.below(whole.path)
        prefix = slashed(top).removeprefix("./")
        marks = fresh.marks([whole.stat, *[stat for _, stat, _ in tree]])
        found = dict(zip([top, *[prefix + name for name, _, _ in tree]], marks, strict=True))
        return content, looks.below(found, whole.looked_at, self._tops)

    def _read(self, copy: Copy) -> Copied:
        selection = context.select(copy, self._reading)
        texts = keys.contents(selection, self._digests)
        looked = self._looked(selection)
        content = keys.content_of(selection, texts)
        # A path may be taken under several names: as it was found last, as in `looked`.
        found = zip(selection.entries, texts, strict=True)
        files = {e[1]: text if e[2] == "file" else "" for e, text in found}
        read = bytes.fromhex("".join(files.values()))
        self._digests.keep(selection.looked_at, partial(_files, looked, read, self._tops.first))
        since = self._digests.since
        return Copied(os.fspath(copy.root), copy.sources[0], content, looked, read, since)

    def _looked(self, selection: Selection) -> Looked:
        marks = fresh.marks([each.stat for each in selection.entries])
        paths = [each.path for each in selection.entries]
        return looks.of(zip(paths, marks, strict=True), selection.looked_at, self._tops)


def _is_odd(tree: Tree) -> bool:
    """Say whether something in a directory may have a name that no copy can bring."""
    return WHITEOUT in "/".join([name for name, _, _ in tree])


def _is_plain(copy: Copy) -> bool:
    return len(copy.sources) == 1 and not copy.ignore


class Copies:
    """What a second process has told of copies; `told` is gone through in that one alone.

    What it has not told of is found here in the same way, with what git knows (`blobs`) too.
    """

    def __init__(self, ahead: Ahead, blobs: Blobs | None = None) -> None:
        self._ahead = ahead
        self.blobs = blobs
        self._left_out: set[str] | None = None
        self._found: dict[tuple[str, str], Copied] = {}
        self._hashes: list[Told] = []
        self.is_done = False
        self._here: Finder | None = None

    def hashes(self) -> Iterator[Told]:
        """Yield the hashes of files that were read for what is told since the last time."""
        self._listen()
        told, self._hashes = self._hashes, []
        yield from told

    def find(self, copy: Copy, ground: Ground) -> Copied | None:
        """Return what was told of a copy, if it is of one source, all of it, on the same ground."""
        if not _is_plain(copy):
            return None
        name = os.fspath(copy.root), copy.sources[0]
        if name not in self._found:
            self._listen()
        return self._found.get(name) if self._left_out == ground.left_out else None

    def _listen(self) -> None:
        """Take in what was told since the last time."""
        for answer in () if self.is_done else self._ahead.answered():
            if not answer:
                self.is_done = True
            elif self._left_out is None:
                self._left_out = marshal.loads(answer)  # of our own process  # noqa: S302
            else:
                for root, source, content, looked, *read in marshal.loads(answer):  # noqa: S302
                    self._found[root, source] = copied = Copied(
                        root, source, Content(*content), Looked(*looked), *read
                    )
                    if copied.digests:
                        self._hashes.append(copied.hashes)

    def look(self, copy: Copy, ground: Ground) -> Copied | None:
        """Find in this process what such a copy brings, as long as the other one is at work."""
        if self.is_done or not _is_plain(copy):
            return None
        if self._here is None:
            self._here = Finder(ground, self.blobs)
        if (found := self._here.find(copy)) is not None:
            self._hashes.append(found.hashes)
        return found

    def close(self) -> None:
        """End the other process: what it has not told by now is found here."""
        self.is_done = True
        self._ahead.close()
