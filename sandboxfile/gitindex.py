"""Git's index: the content of files, as far as git knows it already and nothing has changed since.

After a checkout git knows for every file that it tracks which content it has put there (the ID of
its blob) and what the file's `lstat` was then. While that is so, the file has that content, by the
rule that `git status` goes by, and need not be read. The form of the file is in
gitformat-index(5), versions 2 to 4.

What git knows is the content as it is committed. It is not believed where the one in the working
tree may be another of the same size: files that a filter changes (gitattributes(5): `filter`,
`working-tree-encoding`). Where line ends are converted the size is another, so who compares both,
ID and size, cannot be wrong. Racy files (git's rule) are not believed either: those that had
changed when the index was written so shortly before that they may have changed once more without
another time. Nor is an index that is somebody else's, is split, or is of a kind not known here.
"""

import itertools
import os
import re
import stat as filemode
import struct
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha1
from pathlib import Path

from sandboxfile import reading
from sandboxfile.gitattributes import Attributes, names_another, text_of
from sandboxfile.patterns import regex

_HEADER = struct.Struct(">4s2L")  # signature, version, entries
# ctime and mtime (s, ns), inode, mode, owner, group, size, the blob's ID, flags. The device is left
# out: it may have another number by now.
_ENTRY = struct.Struct(">4L4x5L20sH")
_unpacked = _ENTRY.unpack_from  # for tens of thousands
_KIND, _REGULAR = filemode.S_IFMT(0xFFFF), filemode.S_IFREG
_STAT = struct.Struct(
    ">8L"
)  # ctime, mtime, inode, owner, group, size: the device may be numbered anew
_EXTENSION = struct.Struct(">4sL")
_LENGTH = 0xFFF  # of a name, in the flags; this one says that it is longer
_EXTENDED = 0x4000
_SPECIAL = 0xF000  # a conflict, files that git is told not to look at, or not to have
_BITS = 0xFFFFFFFF
_SUM = 20  # bytes of the SHA-1 at the end
_KNOWN = (b"sdir",)  # of the extensions that have to be understood; its directories are no files
_TICK_NS = 20_000_000  # two ticks of the kernel's clock that files are stamped by, at its slowest
_COARSE_NS = 2_000_000_000  # the same where times are whole seconds
_SECOND_NS = 1_000_000_000
_OTHER = regex(rb"^\s*objectformat\b", re.IGNORECASE | re.MULTILINE)  # IDs are of SHA-256
_MOST = 1 << 20  # bytes of a file that people write


class Index:
    """What the index of one working tree says of the files below one directory.

    `starts` has where in `content` each file's entry begins, by its name from the top of the tree;
    all names of files `below` the directory begin with that. It was `written` at a time (ns).
    """

    def __init__(
        self,
        root: str,
        content: bytes,
        *,
        below: bytes,
        written: int,
        attributes: Attributes,
    ) -> None:
        self._root = f"{root.rstrip('/')}/"
        self._content = content
        self._starts = _starts(content)
        self._below = below
        self._written = written
        self._attributes = attributes

    @classmethod
    def of(cls, root: Path, environ: Mapping[str, str]) -> "Index | None":
        """Read the index of the working tree that a directory is in, None where there is none.

        None, too, for one that is not believed.
        """
        with suppress(OSError, ValueError, LookupError, struct.error):
            tree = _Tree.around(root)
            path = tree.git / "index"
            about = path.lstat()
            content = reading.own(path)
            tree.check()
            return cls(
                os.fspath(root),
                content,
                below=tree.below(root),
                written=min(about.st_mtime_ns, about.st_ctime_ns),
                attributes=tree.attributes(root, environ),
            )
        return None

    def blob(self, path: str, stat: os.stat_result) -> bytes | None:
        """Return the ID of the content of a file with this `lstat`, None if git does not know it.

        `path` is absolute, below the directory. The ID has 20 bytes, and is of the content as it
        is committed.
        """
        if not path.startswith(self._root):
            return None
        name = path[len(self._root) :]
        at = self._starts.get(self._below + os.fsencode(name))
        if at is None:
            return None
        ctime, ctime_ns, mtime, mtime_ns, inode, mode, uid, gid, size, blob, flags = _unpacked(
            self._content, at
        )
        modified, changed = stat.st_mtime_ns, stat.st_ctime_ns
        is_same = (
            modified == mtime * _SECOND_NS + mtime_ns
            and changed == ctime * _SECOND_NS + ctime_ns
            and stat.st_size & _BITS == size
            and stat.st_ino & _BITS == inode
            and stat.st_uid == uid
            and stat.st_gid == gid
            and mode & _KIND == _REGULAR
            and not flags & _SPECIAL
        )
        newest = max(modified, changed)
        is_racy = newest + (_TICK_NS if ctime_ns and mtime_ns else _COARSE_NS) >= self._written
        if not is_same or is_racy or self._attributes.may_change(name):
            return None
        found: bytes = blob
        return found


# --- where it is -----------------------------------------------------------------------------


class _Tree:
    """A working tree: its `top`, its own part of the repository, and what all trees of it share."""

    def __init__(self, top: Path, git: Path, common: Path) -> None:
        self.top = top
        self.git = git
        self.common = common

    @classmethod
    def around(cls, directory: Path) -> "_Tree":
        """Return the tree that a directory is in (gitrepository-layout(5)). Raises OSError."""
        real = directory.resolve()
        for top in (real, *real.parents):
            git = top / ".git"
            if git.is_dir():
                return cls(top, git, _named(git / "commondir", git) or git)
            if os.path.lexists(git):
                own = _named(git, top, before="gitdir: ")
                if own is None:
                    break
                return cls(top, own, _named(own / "commondir", own) or own)
        raise FileNotFoundError(directory)

    def check(self) -> None:
        """Refuse a repository of another kind. Raises ValueError, OSError."""
        if _OTHER.search(text_of(self.common / "config")):
            raise ValueError(self.common)

    def attributes(self, root: Path, environ: Mapping[str, str]) -> Attributes:
        """Return what may be changed below a directory. Raises ValueError, OSError."""
        home = Path(environ.get("HOME") or os.sep)
        own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "git"
        shared = Path(os.sep, "etc")
        for config in (
            self.common / "config",
            self.git / "config.worktree",
            own / "config",
            home / ".gitconfig",
            shared / "gitconfig",
        ):
            if names_another(config, home):
                raise ValueError(config)
        real = root.resolve()
        above = [real, *itertools.takewhile(lambda each: each != self.top.parent, real.parents)]
        files = self.common / "info/attributes", own / "attributes", shared / "gitattributes"
        return Attributes(above[::-1], files)

    def below(self, root: Path) -> bytes:
        """Return what the names of files below a directory begin with in the index."""
        relative = os.fspath(root.resolve().relative_to(self.top))
        return b"" if relative == "." else os.fsencode(relative) + b"/"


def _named(file: Path, above: Path, *, before: str = "") -> Path | None:
    """Return the directory that a file of git's names, None without one."""
    try:
        text = reading.regular(file, limit=_MOST).decode()
    except (OSError, UnicodeDecodeError):
        return None
    return above / text.removeprefix(before).rstrip("\n") if text.startswith(before) else None


# --- what it says ----------------------------------------------------------------------------


def _starts(content: bytes) -> dict[bytes, int]:
    """Return where the entries of an index begin, by name.

    Raises ValueError, LookupError, struct.error for what is no index that is understood.
    """
    kind, version, count = _HEADER.unpack_from(content)
    if kind != b"DIRC" or version not in {2, 3, 4}:
        raise ValueError(version)
    end = len(content) - _SUM
    total = sha1(content[:end], usedforsecurity=False).digest()
    if content[end:] not in {total, bytes(_SUM)}:  # git may be told to leave it out
        raise ValueError(end)
    starts: dict[bytes, int] = {}
    at, name = _HEADER.size, b""
    for _ in range(count):  # tens of thousands
        flags = content[at + 60] << 8 | content[at + 61]
        start = at + (64 if flags & _EXTENDED else 62)
        if version == 4:  # noqa: PLR2004
            name, following = _compressed(content, start, name)
        else:
            length = flags & _LENGTH
            stop = start + length if length < _LENGTH else content.index(b"\0", start)
            name = content[start:stop]
            following = at + ((stop - at + 8) & ~7)  # at least one zero byte
        starts[name] = at
        at = following
    _check_extensions(content[at:end])
    return starts


def _compressed(content: bytes, at: int, before: bytes) -> tuple[bytes, int]:
    """Return a name that says only how it differs from the one `before`, and where it ends."""
    byte = content[at]
    less = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = content[at]
        less = ((less + 1) << 7) | (byte & 0x7F)
    stop = content.index(b"\0", at + 1)
    return before[: len(before) - less] + content[at + 1 : stop], stop + 1


def _check_extensions(rest: bytes) -> None:
    """Raise ValueError for an extension that has to be understood, and is not."""
    at = 0
    while at < len(rest):
        name, length = _EXTENSION.unpack_from(rest, at)
        if name[:1].islower() and name not in _KNOWN:
            raise ValueError(name)
        at += _EXTENSION.size + length
