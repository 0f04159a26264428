"""Content hashes of files, remembered while a file's stat stays the same.

It only saves reading: an unreadable cache is an empty one, and losing it costs time, nothing else.
An entry holds (mtime, ctime, size, inode) and the SHA-256. The device is left out: the number of
one and the same disk differs between containers and boots.

Racy files (git's rule): a file may be rewritten within one tick of the file system's clock, with
its size and times as they were. So a hash is only kept for later runs when the file's mtime and
ctime were at least two seconds old at the moment it was read. Git compares with the moment the
index was written, which is later and so trusts more. Within one run, what was read once for a stat
stands: the run sees each file as of one moment, and the archive writer compares what it sends.
"""

import os
import stat as filemode
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple, Protocol
from zlib import crc32

from sandboxfile import reading, writing
from sandboxfile.errors import SandboxfileError
from sandboxfile.fresh import newest

SLACK_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT)

_MAGIC = b"sfstat3\n"
# Magic, CRC-32 of the rest, entries, bytes of names, whether all files were read.
_HEADER = struct.Struct("<8sIQQB")
_STAT = struct.Struct("<4Q")  # mtime, ctime, size, inode: the beginning of a mark of `fresh`
SIZE = 32  # of a SHA-256
_RECORD = _STAT.size + SIZE
_WHOLE = 1 << 20  # files up to this size are read in one go
_ATTEMPTS = 3
# What a `sparing` one reads before it opens its file, which takes as long for many thousands.
_SMALL = 64 << 10  # bytes of a file
_FEW = 300  # files
_SELDOM = 16  # files read here until a helper is asked again, which takes as long as to open one
_UNSIGNED = (1 << 64) - 1
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Hashes(NamedTuple):
    """Signatures with hashes of files, by name; those of `young` ones are for this run alone."""

    old: dict[str, bytes]
    young: dict[str, bytes]


Read = tuple[str, bytes, bytes]  # a file's path, its mark of `fresh`, and its SHA-256
Look = Callable[["os.DirEntry[str]"], os.stat_result]
LSTAT: Look = methodcaller("stat", follow_symlinks=False)
Told = Callable[[], Hashes]  # what was read elsewhere, put together when it is asked for


class Helper(Protocol):
    """Another process that reads files of the same workspace, in the same run."""

    def hashes(self) -> Iterable[Told]:
        """Return what it has read since the last time, without waiting."""

    def close(self) -> None:
        """End it. May be called again."""


class Digests(Protocol):
    """Where the content hashes of files come from."""

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the SHA-256 (hex) of a file's content; `stat` is its lstat.

        Raises OSError when it cannot be read, SandboxfileError when it never holds still.
        """


class NoCache:
    """Reads every file once in a run and remembers nothing."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bytes], bytes] = {}

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the SHA-256 (hex) of a file's content; see `Digests`."""
        known = self._seen.get((path, signature(stat)))
        if known is None:
            _, known = read(path)
            self._seen[path, signature(stat)] = known
        return known.hex()


class Reader:
    """Reads files as they are looked at, each once, in the process it was made for.

    It has no cache, and no lock: it is for one thread. What it says of a file is of one and the
    same state of it. `since` is from before all reading, by a clock as that of a `StatCache`.

    What it has of each file is given up at every `keep`, for what it is given then in one piece:
    memory that is used again is faster than new one.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.since = (clock or time.time_ns)()
        self._read: dict[str, tuple[os.stat_result, str]] = {}
        self._kept: dict[str, Callable[[], Iterable[Read]] | None] = {}  # by directory
        self._known: dict[str, tuple[bytes, bytes]] = {}  # and what of it was needed again

    def within(self, directory: str) -> Look:
        """Return what looks at the things in a directory, and reads the files among them."""
        if directory not in self._kept:
            return self._look
        kept, self._kept[directory] = self._kept[directory], None
        for path, mark, content in kept() if kept else ():
            self._known[path] = mark, content
        return LSTAT

    def _look(self, found: "os.DirEntry[str]") -> os.stat_result:
        """Return the `lstat` of what is in a directory, and read it at once if it is a file.

        The system looks up the path of a file that is opened first only once. Raises OSError.
        """
        if found.is_file(follow_symlinks=False):
            path = found.path
            try:
                stat, content = _read_as(path)
            except OSError:
                pass  # who asks for its content is told why
            else:
                if content is not None:
                    self._read[path] = stat, content.hex()
                    return stat
        return LSTAT(found)

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the SHA-256 (hex) of a file's content; see `Digests`."""
        read = self._read.get(path)
        if read is not None and (read[0] is stat or signature(read[0]) == signature(stat)):
            return read[1]
        known = self._known.get(path)
        if known is not None and known[0].startswith(signature(stat)):
            return known[1].hex()
        _, content = _read_as(path, stat)
        if content is None:
            raise _changed(path)
        self._read[path] = stat, content.hex()
        return content.hex()

    def keep(self, directories: Iterable[str], files: Callable[[], Iterable[Read]]) -> None:
        """Have `files` for later, which has what was read since the last time, by directory."""
        if self._read:
            self._kept |= dict.fromkeys(directories, files)
            self._read.clear()


class StatCache:
    """The cache of one workspace, in one file; safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        root: Path,
        clock: Callable[[], int],
        helper: Helper | None,
        *,
        sparing: bool,
    ) -> None:
        self._path = path
        self._root = os.fspath(root).rstrip("/") + "/"
        self._clock = clock
        self._helper = helper
        self._lock = threading.Lock()
        self._kept: dict[str, bytes] | None = None
        self._is_whole = True  # as far as is known
        if not sparing:
            self._kept, self._is_whole = _load(path)
        self._spared = 0
        self._used: dict[str, bytes] = {}
        self._seen: dict[str, bytes] = {}
        self._told: list[Told] = []  # and not yet in the two above
        self._noted: Hashes | None = None
        self._count = 0
        self._due = 0  # files read, from which on the helper is asked again

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        root: Path,
        clock: Callable[[], int] | None = None,
        helper: Helper | None = None,
        sparing: bool = False,
    ) -> "StatCache":
        """Read the cache at `path`; keys are paths relative to the workspace `root`.

        `clock` tells the time in nanoseconds since the epoch, as the file system stamps files
        (default: the system's). What `helper` has read is not read here. A `sparing` one is for who
        asks about little of a large workspace: while that is so, it reads what it is asked for, and
        the cache stays unread and as it is.
        """
        return cls(path, root, clock or time.time_ns, helper, sparing=sparing)

    def digest(self, path: str, stat: os.stat_result) -> str:
        """Return the SHA-256 (hex) of a file's content; see `Digests`."""
        name = path.removeprefix(self._root)
        mark = signature(stat)
        record = self._recorded(name, stat.st_size)
        if record is not None and record[: _STAT.size] == mark:
            self._used[name] = record
            content = record[_STAT.size :]
        else:
            content = self._learned(name, mark) or self._read(name, path, stat, mark)
        if self._noted is not None:
            is_kept = self._used.get(name, b"")[: _STAT.size] == mark
            (self._noted.old if is_kept else self._noted.young)[name] = mark + content
        return content.hex()

    def _recorded(self, name: str, size: int) -> bytes | None:
        if self._kept is None:
            self._spared += 1
            if size <= _SMALL and self._spared <= _FEW:
                return None
            self._kept, self._is_whole = _load(self._path)
        return self._kept.get(name)

    def _learned(self, name: str, mark: bytes) -> bytes | None:
        """Return the hash of what was read in this run, here or elsewhere."""
        known, helper = self._seen.get(name, b""), self._helper
        if helper is not None and self._count >= self._due and known[: _STAT.size] != mark:
            self._due = self._count + _SELDOM
            with self._lock:
                self._told += helper.hashes()
        if self._told:
            self._learn()
            known = self._seen.get(name, b"")
        return known[_STAT.size :] if known[: _STAT.size] == mark else None

    def _read(self, name: str, path: str, stat: os.stat_result, mark: bytes) -> bytes:
        now = self._clock()
        (found, content), own = _read_as(path, stat), mark
        if content is None:
            found, content = read(path)
            own = signature(found)
        with self._lock:
            self._count += 1
            self._seen[name] = mark + content
            if _is_old(max(found.st_mtime_ns, found.st_ctime_ns), now):
                self._used[name] = own + content
            else:
                self._used.pop(name, None)
        return content

    @property
    def is_whole(self) -> bool:
        """Whether an earlier run read every file; so says, too, one that has not looked."""
        return self._is_whole

    def alone(self) -> None:
        """Read without help from here on: what is not read by now was not needed."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    @property
    def count(self) -> int:
        """How many files were read in this process."""
        return self._count

    def noted(self) -> Hashes:
        """Return what was asked for since the last call; the first one begins to take notes."""
        found, self._noted = self._noted or Hashes({}, {}), Hashes({}, {})
        return found

    def learn(self, told: Told) -> None:
        """Take what another process of this run was told here; most runs never look at it."""
        with self._lock:
            self._told.append(told)

    def _learn(self) -> None:
        with self._lock:
            while self._told:
                old, young = self._told.pop(0)()
                self._used |= old
                for name, record in (*old.items(), *young.items()):
                    self._seen.setdefault(name, record)

    def save(self, *, whole: bool = False) -> None:
        """Write the cache, atomically; a cache that cannot be written is left as it was.

        `whole` says that this run saw every file of the workspace, so that others can be dropped.
        """
        if self._kept is None:
            if not whole:
                return
            self._kept, self._is_whole = _load(self._path)
        self._learn()
        is_whole = whole or self._is_whole
        with self._lock:
            records = dict(self._used) if whole else self._kept | self._used
        if records != self._kept or is_whole != self._is_whole:
            with suppress(OSError):
                _store(self._path, records, is_whole=is_whole)
                self._kept, self._is_whole = records, is_whole


def hashes(files: Sequence[Read], since: int) -> Hashes:
    """Return the hashes of files that were read `since` a time."""
    found = {name: mark[: _STAT.size] + content for name, mark, content in files}
    if _is_old(newest(b"".join([mark for _, mark, _ in files])), since):  # nearly always
        return Hashes(found, {})
    young = {name for name, mark, _ in files if not _is_old(newest(mark), since)}
    return Hashes(
        {name: record for name, record in found.items() if name not in young},
        {name: record for name, record in found.items() if name in young},
    )


def _is_old(time_ns: int, now: int) -> bool:
    """Say whether files of up to a time, read now, can be trusted later to be the same by stat."""
    return time_ns <= now - SLACK_NS


def signature(stat: os.stat_result) -> bytes:
    """Return what is compared of a stat, packed."""
    return _STAT.pack(
        stat.st_mtime_ns & _UNSIGNED,
        stat.st_ctime_ns & _UNSIGNED,
        stat.st_size,
        stat.st_ino & _UNSIGNED,
    )


def read(path: str) -> tuple[os.stat_result, bytes]:
    """Return a regular file's stat and SHA-256, of one and the same state of the file.

    Raises OSError when it cannot be read, SandboxfileError when it never holds still.
    """
    for _ in range(_ATTEMPTS):
        found, content = _read_as(path)
        if content is not None:
            return found, content
        if not filemode.S_ISREG(found.st_mode):
            break
    raise _changed(path)


def _changed(path: str) -> SandboxfileError:
    return SandboxfileError(
        f"`{path}` changed while being read", hint="run again when nothing writes to it"
    )


def _read_as(path: str, stat: os.stat_result | None = None) -> tuple[os.stat_result, bytes | None]:
    """Return a file's stat, and its SHA-256 if it was so before the reading and is so afterwards.

    Where the stat from before is at hand, only the one after is asked.
    """
    # Neither a link put in its place nor a FIFO may lead or hold us.
    descriptor = os.open(path, _READING)
    try:
        before = stat or os.fstat(descriptor)
        if not filemode.S_ISREG(before.st_mode):
            return before, None
        content = _hash(descriptor, before.st_size)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    is_same = (
        after.st_mtime_ns == before.st_mtime_ns
        and after.st_ctime_ns == before.st_ctime_ns
        and after.st_ino == before.st_ino
        and after.st_size == before.st_size
    )
    return before, content if is_same else None


def _hash(descriptor: int, size: int) -> bytes | None:
    """Return the hash of exactly `size` bytes, None if there are fewer or more."""
    if size <= _WHOLE:  # one byte more than there is: a larger buffer costs more than the read
        data = os.read(descriptor, size + 1)
        return sha256(data).digest() if len(data) == size else None
    hashed = sha256()
    left = size
    while left and (data := os.read(descriptor, min(left, _WHOLE))):
        hashed.update(data)
        left -= len(data)
    return None if left or os.read(descriptor, 1) else hashed.digest()


# --- the file: header, records of stat and hash, names joined by NUL -------------------------


def _load(path: Path) -> tuple[dict[str, bytes], bool]:
    """Return the records of a cache, and whether they are of all files."""
    try:
        data = reading.regular(path)
        magic, checksum, count, length, is_whole = _HEADER.unpack_from(data)
    except (OSError, struct.error):
        return {}, False
    body = data[_HEADER.size :]
    if magic != _MAGIC or checksum != crc32(body) or len(body) != count * _RECORD + length:
        return {}, False
    names = os.fsdecode(body[count * _RECORD :]).split("\0") if count else []
    records = [body[at : at + _RECORD] for at in range(0, count * _RECORD, _RECORD)]
    return dict(zip(names, records, strict=False)), bool(is_whole)


def _store(path: Path, records: dict[str, bytes], *, is_whole: bool) -> None:
    ordered = sorted(records)
    names = os.fsencode("\0".join(ordered))
    body = b"".join([*(records[name] for name in ordered), names])
    header = _HEADER.pack(_MAGIC, crc32(body), len(ordered), len(names), is_whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    writing.whole(path, header + body)
