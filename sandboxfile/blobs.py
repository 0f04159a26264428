"""The content of files by the IDs that git gives it, and a key of a template that consists of that.

Where everything was just checked out, git knows the content of nearly all files. So the lock has
for each template, beside its keys, one of this kind (`git_key`): made as the template key is, but
with the ID of git's blob and the size of each file in place of its SHA-256, and together with the
keys that it stands for. Whoever finds the same knows the keys, and has read next to nothing.

It depends on the content in the working tree alone, in a repository or not: the ID is what
git-hash-object(1) prints for the file with `--no-filters`.
"""

import os
import struct
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from hashlib import sha1, sha256
from pathlib import Path
from typing import Protocol

from sandboxfile.contents import UTF8, Manifest, Selection, Tree, as_bytes
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import replace
from sandboxfile.statcache import signature

_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20  # bytes read at a time
# What it takes to read files here, to ask git, and to take an index apart, for comparison (ns).
_A_FILE, _A_BYTE, _ASKING, _A_BYTE_OF_AN_INDEX = 30_000, 1, 25_000_000, 7
_MOST = 1_000_000_000  # ns that reading what git does not know may take


class UnknownError(Exception):
    """Nobody tells the content of a file in git's terms: it cannot be read, or changes."""


class _Repository(Protocol):
    """What `gitindex` knows of one; most runs never ask."""

    @property
    def size(self) -> int: ...

    def index(self, environ: Mapping[str, str]) -> "_Index": ...


class _Index(Protocol):
    def blob(self, path: str, stat: os.stat_result) -> bytes | None: ...

    def tree(self, path: str, strange: AbstractSet[str]) -> Tree | None: ...


class Blobs:
    """The IDs of the files of a workspace in a git repository: `Digests` of another kind."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._repository: _Repository | None = None
        self._index: _Index | None = None
        self._is_looked_for = self._is_read = False
        self._left = 0  # ns that reading may take without asking git, and
        self._most = _MOST  # in all

    @property
    def are_there(self) -> bool:
        """Whether there is an index, which may be none that is believed; to be asked first."""
        if not self._is_looked_for:
            self._is_looked_for = True
            from sandboxfile.gitindex import Repository

            with suppress(OSError):
                repository = Repository(self._root)
                self._left = _ASKING + repository.size * _A_BYTE_OF_AN_INDEX
                self._repository = repository
        return self._repository is not None

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the ID of a file's content, and its size; `stat` is its lstat.

        What git does not know is read, and so are few small files in a large repository. Raises
        UnknownError, also where git is not believed or does not know much: what is read here may
        have to be read once more.
        """
        cost = _A_FILE + stat.st_size * _A_BYTE
        blob = None
        if cost > self._left or self._is_read:
            index = self._opened()
            if index is None:
                raise UnknownError(path)
            blob = index.blob(path, stat)
        if blob is None:
            self._left -= cost
            self._most -= cost
            if self._most < 0:
                raise UnknownError(path)
            blob = _read(path, stat)
        return text(blob, stat.st_size)

    def tree(self, path: str, strange: AbstractSet[str]) -> Tree | None:
        """Return all that is in a directory, sorted by the bytes of its names.

        None if git does not know of just that, or where something is a link or has a `strange`
        name. Raises OSError.
        """
        index = self._opened()
        found = index.tree(path, strange) if index and UTF8 else None
        if found is None:
            return None
        is_plain = "".join([each[0] for each in found]).isascii()
        return sorted(found) if is_plain else sorted(found, key=_name)

    def _opened(self) -> _Index | None:
        if not self._is_read:
            self._is_read = True
            if self.are_there:
                assert self._repository is not None
                with suppress(OSError, ValueError, LookupError, struct.error, SandboxfileError):
                    self._index = self._repository.index(self._environ)
        return self._index


def text(blob: bytes, size: int) -> str:
    """Return the content of a file as it stands in a key of this kind."""
    return f"{blob.hex()}:{size}"


def _name(each: tuple[str, os.stat_result, bytes]) -> bytes:
    return as_bytes(each[0])


def as_committed(selection: Selection, found: Manifest) -> Manifest:
    """Return what a selection is known to bring with IDs in place of SHA-256, read once more.

    Raises UnknownError where it is no longer so.
    """
    files = zip(selection.entries, found.files, strict=True)
    return replace(
        found,
        files=tuple(
            record._replace(content=_checked(entry.path, entry.stat, record.content))
            if entry.kind == "file"
            else record
            for entry, record in files
        ),
    )


def _checked(path: str, stat: os.stat_result, content: str) -> str:
    """Return the ID and the size of a file that has this SHA-256. Raises UnknownError."""
    known = sha256()
    blob = _read(path, stat, known)
    if known.hexdigest() != content:
        raise UnknownError(path)
    return text(blob, stat.st_size)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def _read(path: str, stat: os.stat_result, *others: _Hash) -> bytes:
    """Return the ID of a file as it is with this `lstat`. Raises UnknownError."""
    blob = sha1(b"blob %d\0" % stat.st_size, usedforsecurity=False)
    mark = signature(stat)
    left = stat.st_size + 1  # and no more: it may be growing
    try:
        descriptor = os.open(path, _READING)
        try:
            before = os.fstat(descriptor)
            while data := os.read(descriptor, min(left, _CHUNK)):
                left -= len(data)
                for each in (blob, *others):
                    each.update(data)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnknownError(path) from error
    if left != 1 or signature(before) != mark or signature(after) != mark:
        raise UnknownError(path)
    return blob.digest()
