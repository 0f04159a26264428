"""What copies bring, found by one process of a run and told to another one.

A copy of one source, all of it, is found by its text and where that is written: what is told of
it is what `context` and `keys` find here. How the files arrive decides nothing about that.
"""

import marshal
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from sandboxfile import context, fresh, keys, looks
from sandboxfile.ahead import Ahead
from sandboxfile.errors import SandboxfileError
from sandboxfile.gathering import Ground
from sandboxfile.keys import Content
from sandboxfile.looks import Looked, Tops
from sandboxfile.model import Copy
from sandboxfile.statcache import Hashes, Reader


class Copied(NamedTuple):
    """What the copy of one source brings, and the hashes of the files that were read for it.

    `root` is the directory that the source is relative to.
    """

    root: str
    source: str
    content: Content
    looked: Looked
    hashes: Hashes


def told(copies: Iterator[Copy], ground: Ground, digests: Reader) -> Iterator[bytes]:
    """Yield what copies of one source bring, in plain data, and an empty text at the end.

    The first is what is never taken on this ground. Of a copy with a problem nothing is told:
    who asks for it finds the problem.
    """
    yield marshal.dumps(ground.left_out)
    tops = Tops(ground.root)
    for copy in copies:
        found = _found(copy, ground, digests, tops)
        if found is not None:
            content, looked = found
            (source,) = copy.sources
            copied = Copied(os.fspath(copy.root), source, content, looked, digests.noted())
            yield marshal.dumps(_plain(copied))
    yield b""


def _plain(copied: Copied) -> tuple[Any, ...]:
    return tuple(tuple(each) if isinstance(each, tuple) else each for each in copied)


def _found(
    copy: Copy, ground: Ground, digests: Reader, tops: Tops
) -> tuple[Content, Looked] | None:
    try:
        selection = context.select(copy, ground)
        content = keys.content_of(selection, digests)
        seen = ((entry.path, fresh.mark(entry.stat)) for entry in selection.entries)
        return content, looks.of(seen, selection.looked_at, tops)
    except (OSError, ValueError, struct.error, SandboxfileError):
        return None


class Copies:
    """What a second process has told of copies; `told` is gone through in that one alone."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._left_out: set[str] | None = None
        self._found: dict[tuple[str, str], Copied] = {}
        self.is_done = False

    def hashes(self) -> Iterator[Hashes]:
        """Yield the hashes of files that were read for what is told since the last time."""
        if self.is_done:
            return
        for answer in self._ahead.answered():
            if not answer:
                self.is_done = True
            elif self._left_out is None:
                self._left_out = marshal.loads(answer)  # of our own process  # noqa: S302
            else:
                root, source, content, looked, hashes = marshal.loads(answer)  # noqa: S302
                self._found[root, source] = copied = Copied(
                    root, source, Content(*content), Looked(*looked), Hashes(*hashes)
                )
                yield copied.hashes

    def find(self, copy: Copy, ground: Ground) -> Copied | None:
        """Return what was told of a copy, if it is of one source, all of it, on the same ground."""
        if len(copy.sources) != 1 or copy.ignore or self._left_out != ground.left_out:
            return None
        return self._found.get((os.fspath(copy.root), copy.sources[0]))

    def close(self) -> None:
        """End the other process: what it has not told by now is found here."""
        self.is_done = True
        self._ahead.close()
