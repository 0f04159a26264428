"""What a template takes of the workspace: entries, selections of them, and their content."""

import os
import sys
from typing import Literal, NamedTuple

from sandboxfile import reading
from sandboxfile.frozen import dataclass
from sandboxfile.model import Copy
from sandboxfile.places import Position

Kind = Literal["file", "directory", "link"]
# How gzip, bzip2, xz and Zstandard begin; and what a tar archive has, and where (ustar).
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_TAR, _TAR_AT = b"ustar", 257
UTF8 = sys.getfilesystemencoding() == "utf-8"


class Entry(NamedTuple):
    """One file, directory or link (a tuple: there are tens of thousands).

    `name` is where it arrives, relative to the destination: UTF-8, with bytes that are none kept
    as surrogates. `path` is absolute, as the system spells it; `stat` is its lstat; `link` is the
    text of a link.
    """

    name: str
    path: str
    kind: Kind
    stat: os.stat_result
    executable: bool = False
    link: str = ""

    @property
    def size(self) -> int:
        return self.stat.st_size if self.kind == "file" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a copy takes (the context of a Dockerfile when `copy` is None), sorted by name.

    `single` says that it is one file, named without a glob: it arrives as the destination itself
    when that does not end in `/`. `root` is the directory of the workspace. `looked_at` has the
    directories and ignore files, there or not, that decide with the entries what is taken: while
    their stat stays, so does the selection.
    """

    copy: Copy | None
    entries: tuple[Entry, ...]
    at: Position
    root: str
    looked_at: frozenset[str]
    single: bool = False


class FileRecord(NamedTuple):
    """What a key knows of one entry; `source` is where it lies, for people, and in no key."""

    name: str
    kind: Kind
    executable: bool = False
    content: str = ""  # SHA-256 of a file, text of a link
    source: str = ""


# What is in a directory of which git knows all: names from there, each with the `lstat` and the ID
# of the content, which is empty for a directory.
Tree = list[tuple[str, os.stat_result, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a selection: everything about it that decides what is in the image."""

    files: tuple[FileRecord, ...]
    single: bool = False


def packed(selection: Selection) -> str | None:
    """Return a source of a copy that is an archive or compressed, by its content; None for none.

    What is in a directory that is copied counts not.
    """
    assert selection.copy is not None
    depths = {len(os.path.normpath(each).split("/")) for each in selection.copy.sources}
    root = os.fspath(selection.copy.root)
    for entry in selection.entries:
        name = os.path.relpath(entry.path, root)
        if entry.kind == "file" and len(name.split("/")) in depths and _is_packed(entry.path):
            return shown(name)
    return None


def _is_packed(path: str) -> bool:
    try:
        head = reading.head(path, _TAR_AT + len(_TAR))
    except OSError:  # whoever sends it says so
        return False
    return head.startswith(_PACKED) or head[_TAR_AT:] == _TAR


def is_shut(selection: Selection) -> bool:
    """Say whether a mode for all that is copied leaves directories that nobody may enter."""
    copy = selection.copy
    if copy is None or copy.mode is None:
        return False
    bits = int(copy.mode, 8)
    has_directories = any(entry.kind == "directory" for entry in selection.entries)
    return has_directories and bits != bits | (bits & 0o444) >> 2


def shown(path: str) -> str:
    """Return a file's name as it can be printed, whatever is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def as_bytes(name: str) -> bytes:
    """Return the bytes of an entry's name or link text."""
    return name.encode("utf-8", "surrogateescape")


def utf8(name: str) -> str:
    """Return a name of the file system as UTF-8, whatever the locale made of it."""
    return name if UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def spelled(text: str) -> str:
    """Return UTF-8 text as the file system's names are spelled here: the reverse of `utf8`."""
    return text if UTF8 else os.fsdecode(as_bytes(text))
