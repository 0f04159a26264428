"""The content of files by the IDs that git gives it, and a key of a template that consists of that.

Where everything was just checked out, git knows the content of all files. So the lock has for each
template, beside its keys, one of this kind (`git_key`): made as the template key is, but with the
ID of git's blob and the size of each file in place of its SHA-256, and together with the keys that
it stands for. Whoever finds the same knows the keys, and has read no file.

It depends on the content in the working tree alone, in a repository or not: the ID is what
git-hash-object(1) prints for the file with `--no-filters`.
"""

import os
from collections.abc import Mapping
from hashlib import sha1, sha256
from pathlib import Path

from sandboxfile.contents import Manifest, Selection
from sandboxfile.frozen import replace
from sandboxfile.gitindex import Index

_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20  # bytes read at a time


class UnknownError(Exception):
    """Git does not know the content of a file, or nobody can tell it."""


class Blobs:
    """What git's index says of the files of a workspace: `Digests` of another kind."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._index: Index | None = None
        self._is_read = False

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the ID of a file's content, and its size. Raises UnknownError."""
        if not self._is_read:
            self._index, self._is_read = Index.of(self._root, self._environ), True
        blob = self._index.blob(path, stat) if self._index else None
        if blob is None:
            raise UnknownError(path)
        return f"{blob.hex()}:{stat.st_size}"

    def distrust(self) -> None:
        """Know nothing any more: something has turned out to be otherwise."""
        self._index, self._is_read = None, True


def as_committed(selection: Selection, found: Manifest) -> Manifest:
    """Return what a selection is known to bring with IDs in place of SHA-256, read once more.

    Raises UnknownError where it is no longer so.
    """
    files = zip(selection.entries, found.files, strict=True)
    return replace(
        found,
        files=tuple(
            record._replace(content=_read(entry.path, record.content))
            if entry.kind == "file"
            else record
            for entry, record in files
        ),
    )


def _read(path: str, content: str) -> str:
    """Return the ID of a file that has this SHA-256, and its size. Raises UnknownError."""
    try:
        with os.fdopen(os.open(path, _READING), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            blob, known = sha1(b"blob %d\0" % size, usedforsecurity=False), sha256()
            while data := file.read(_CHUNK):
                blob.update(data)
                known.update(data)
            is_same = known.hexdigest() == content and file.tell() == size
    except OSError as error:
        raise UnknownError(path) from error
    if not is_same:
        raise UnknownError(path)
    return f"{blob.hexdigest()}:{size}"
