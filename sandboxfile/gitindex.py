"""Git's index: the content of files, as far as git knows it already and nothing has changed since.

After a checkout git knows for every file that it tracks which content it has put there (the ID of
its blob) and what the file's `lstat` was then. While that is so, the file has that content, by the
rule that `git status` goes by, and need not be read. The form of the file is in
gitformat-index(5), versions 2 to 4.

What git knows is the content as it is committed, which in the working tree may be another one.
Nothing is believed where git's configuration names a filter (but for Git LFS), nor of files whose
attributes say that they are changed; of what was changed by settings that are gone since, the size
tells, so who uses an ID has to look at that, too. Racy files (git's rule) are not believed: those
that had changed so shortly before the index was written that they may have changed once more
without another time. Nor is an index that is split, of a kind not known here, or in a tree that is
somebody else's, nor where the environment tells git of another one.
"""

import os
import stat as filemode
import struct
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha1
from pathlib import Path

from sandboxfile import git, process, reading
from sandboxfile.contents import Tree
from sandboxfile.gitattributes import FILE as ATTRIBUTES
from sandboxfile.gitattributes import Attributes

_HEADER = struct.Struct(">4s2L")  # signature, version, entries
# ctime and mtime (s, ns), inode, mode, owner, group, size, the blob's ID, flags. The device is left
# out: it may have another number by now.
_ENTRY = struct.Struct(">4L4x5L20sH")
_unpacked = _ENTRY.unpack_from  # for tens of thousands
_EXTENSION = struct.Struct(">4sL")
_KIND, _REGULAR = filemode.S_IFMT(0xFFFF), filemode.S_IFREG
_LENGTH = 0xFFF  # of a name, in the flags; this one says that it is longer
_EXTENDED = 0x4000
_SPECIAL = 0xF000  # a conflict, files that git is told not to look at, or not to have
_BITS = 0xFFFFFFFF
_SUM = 20  # bytes of the SHA-1 at the end
_KNOWN = (b"sdir",)  # of the extensions that have to be understood; its directories are no files
_TICK_NS = 20_000_000  # two ticks of the kernel's clock that files are stamped by, at its slowest
_COARSE_NS = 2_000_000_000  # the same where times are whole seconds
_SECOND_NS = 1_000_000_000
_LIMIT = 1 << 16  # bytes of a file that names a directory of git's

_ELSEWHERE = (
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_WORK_TREE",
)
_EVERY = "core.repositoryformatversion"  # is in every repository's configuration, if git reads it
_DECISIVE = (
    r"^(filter\..*|core\.attributesfile|attr\.tree|extensions\.objectformat"
    r"|core\.repositoryformatversion)$"
)
_LFS = "filter.lfs."  # what it has in place of a large file is not as large


class Repository:
    """The working tree that a directory is in, and where git has its index.

    Raises OSError if there is none (gitrepository-layout(5)).
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._real = directory.resolve()
        self._top, self._git = _around(self._real)
        self._common = _named(self._git / "commondir", self._git) or self._git

    @property
    def size(self) -> int:
        """Bytes of the index. Raises OSError."""
        return (self._git / "index").lstat().st_size

    def index(self, environ: Mapping[str, str]) -> "Index":
        """Read the index. Raises OSError, ValueError, LookupError, struct.error if it is none.

        Raises ValueError, SandboxfileError, too, where it is not believed.
        """
        path = self._git / "index"
        about = path.lstat()
        content = reading.own(path)
        self._check(environ)
        index = Index(
            os.fspath(self._root),
            content,
            below=self._below(),
            written=min(about.st_mtime_ns, about.st_ctime_ns),
            attributes=self._attributes(environ),
        )
        for directory in index.having(ATTRIBUTES):
            if not os.path.lexists(self._top / directory / ATTRIBUTES):  # git has these in mind
                raise ValueError(directory)
        return index

    def _check(self, environ: Mapping[str, str]) -> None:
        """Ask git for what makes files in the tree others than committed. Raises ValueError.

        Git does not read the configuration of a tree that is somebody else's.
        """
        if not environ.keys().isdisjoint(_ELSEWHERE):
            raise ValueError(_ELSEWHERE)
        words = ("config", "--null", "--name-only", "--get-regexp", _DECISIVE)
        done = process.run(git.command(self._real, *words, env=environ))
        named = {name for name in done.stdout.split("\0") if name and not name.startswith(_LFS)}
        if done.status != 0 or named != {_EVERY}:
            raise ValueError(named)

    def _below(self) -> str:
        """Return what the names of files below the directory begin with in the index."""
        relative = os.fspath(self._real.relative_to(self._top))
        return "" if relative == "." else f"{relative}/"

    def _attributes(self, environ: Mapping[str, str]) -> Attributes:
        home = Path(environ.get("HOME") or os.sep)
        own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "git/attributes"
        above = [self._real, *self._real.parents]
        return Attributes(
            above[above.index(self._top) :: -1],
            (self._common / "info/attributes", own, Path(os.sep, "etc/gitattributes")),
        )


def _around(real: Path) -> tuple[Path, Path]:
    """Return the top of the working tree that a directory is in, and its part of the repository."""
    for top in (real, *real.parents):
        found = top / ".git"
        if reading.is_directory(found):
            return top, found
        if os.path.lexists(found):  # a tree besides the first one, or a submodule
            if (git_directory := _named(found, top, before="gitdir: ")) is not None:
                return top, git_directory
            break
    raise FileNotFoundError(real)


def _named(file: Path, above: Path, *, before: str = "") -> Path | None:
    """Return the directory that a file of git's names, None without one."""
    try:
        text = os.fsdecode(reading.regular(file, limit=_LIMIT)).rstrip("\n")
    except OSError:
        return None
    is_name = text.startswith(before) and "\0" not in text
    return above / text.removeprefix(before) if is_name else None


class Index:
    """What the index of one working tree says of the files below one directory.

    The names of files `below` the directory begin with that. It was `written` at a time (ns).
    """

    def __init__(
        self, root: str, content: bytes, *, below: str, written: int, attributes: Attributes
    ) -> None:
        self._root = f"{root.rstrip('/')}/"
        self._content = content
        self._children = _children(*_entries(content))
        self._below = below
        self._written = written
        self._attributes = attributes

    def having(self, name: str) -> list[str]:
        """Return the directories, from the top of the tree, in which git knows such a name."""
        return [directory for directory, known in self._children.items() if name in known]

    def blob(self, path: str, stat: os.stat_result) -> bytes | None:
        """Return the ID of the content of a file with this `lstat`, None if git does not know it.

        `path` is absolute, below the directory. The ID has 20 bytes, and is of the content as it
        is committed.
        """
        if not path.startswith(self._root):
            return None
        name = path[len(self._root) :]
        directory, _, last = (self._below + name).rpartition("/")
        at = self._children.get(directory, {}).get(last)
        found = self._blob(at, stat) if at else None
        return None if found is None or self._attributes.may_change(name) else found

    def _blob(self, at: int, stat: os.stat_result) -> bytes | None:
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
        return blob if is_same and not is_racy else None

    def tree(self, path: str, strange: AbstractSet[str]) -> Tree | None:
        """Return all that is in a directory, in no order; None if git does not know of just that.

        `path` is absolute. None, too, where something is a link, or has a name that is `strange`.
        Raises OSError.
        """
        if not f"{path}/".startswith(self._root):
            return None
        found: Tree = []
        waiting = [(path, path[len(self._root) :], "")]
        while waiting:
            directory, name, prefix = waiting.pop()
            known = self._children.get((self._below + name).removesuffix("/"))
            before = len(found)
            if not known or not self._add_level(
                found, directory, known, strange, name=name, prefix=prefix
            ):
                return None
            for below, _, blob in found[before:]:
                if not blob:
                    last = below.removeprefix(prefix)
                    inner = f"{name}/{last}" if name else last
                    waiting.append((f"{directory}/{last}", inner, f"{below}/"))
        return found

    def _add_level(
        self,
        found: Tree,
        directory: str,
        known: Mapping[str, int],
        strange: AbstractSet[str],
        *,
        name: str,
        prefix: str,
    ) -> bool:
        """Add what is in one directory, in which git knows of so much, if that is all."""
        listed = os.listdir(directory)  # noqa: PTH208 - a Path of each costs ten times as much
        changed = self._attributes.changed(name, has_own=ATTRIBUTES in listed)
        if changed is None or known.keys() != {*listed} or not strange.isdisjoint(listed):
            return False
        if changed and any(each.lower().endswith(changed) for each in listed):
            return False
        lstat, blob_of = os.lstat, self._blob
        for each in listed:  # tens of thousands
            at = known[each]
            stat = lstat(f"{directory}/{each}")
            blob = blob_of(at, stat) if at else b"" if filemode.S_ISDIR(stat.st_mode) else None
            if blob is None:
                return False
            found.append((prefix + each, stat, blob))
        return True


# --- what it says ----------------------------------------------------------------------------


def _entries(content: bytes) -> tuple[list[bytes], list[int]]:
    """Return the names of all entries of an index, and where each begins.

    Raises ValueError, LookupError, struct.error for what is no index that is understood.
    """
    kind, version, count = _HEADER.unpack_from(content)
    if kind != b"DIRC" or version not in {2, 3, 4}:
        raise ValueError(version)
    end = len(content) - _SUM
    total = sha1(content[:end], usedforsecurity=False).digest()
    if content[end:] not in {total, bytes(_SUM)}:  # git may be told to leave it out
        raise ValueError(end)
    names, starts = [], []
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
        names.append(name)
        starts.append(at)
        at = following
    _check_extensions(content[at:end])
    return names, starts


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


def _children(names: list[bytes], starts: list[int]) -> dict[str, dict[str, int]]:
    """Return where the entry of everything in each directory begins; directories have none: 0."""
    found: dict[str, dict[str, int]] = {}
    before, level = None, {}
    for name, at in zip(os.fsdecode(b"\0".join(names)).split("\0"), starts, strict=bool(names)):
        directory, _, last = name.rpartition("/")
        if directory != before:
            if directory not in found:
                _begin(found, directory)
            before, level = directory, found[directory]
        level[last] = at
    return found


def _begin(found: dict[str, dict[str, int]], directory: str) -> None:
    """Add a directory, and it and all that lead to it to the ones that they are in."""
    found[directory] = {}
    while directory:
        above, _, last = directory.rpartition("/")
        is_there = above in found
        found.setdefault(above, {})[last] = 0
        directory = "" if is_there else above
