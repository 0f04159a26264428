"""The first stage of `build` and `plan`: nothing has changed since a run that left nothing to do.

Imports next to nothing, compares the `lstat` of everything that run had looked at, and says the
same again. Whatever is unusual (another option, a missing or foreign record) sends the run to the
second stage, which reads content; a record is never a source of truth and may be deleted at any
time. Where all that has moved is what templates copy, the second stage is told what: the record
says which templates looked at it, and the others need not be looked at again (`settled`).

Of the directories on the way to all that, which are not looked at themselves, only the inode is
compared: one that was replaced, by a link out of the workspace it may be, has the same files in it.

Times are trusted only of what was older, by two seconds, than the run that made the record (git's
rule for racy entries; two seconds is the coarsest clock of a common file system). Few files may be
younger, such as the lock after a build: of these the content is compared, too.

Each command line has a record of its own, in a file named by a digest of all that two runs must
have in common: so runs do not wait for each other, and a run reads no other's. The file begins
with the lengths of its parts, and is compared in bulk: at 20,000 files, most of the time of a run
goes into `lstat`. A checkout may bring one along that somebody else wrote, of whatever content.
"""

import os
import sys
from struct import Struct, error, unpack

DIRECTORY = ".sandboxfile/fresh"
TIMES = "\0"  # stands in what goes to standard output where the seconds of the run belong

_COMMANDS = frozenset({"build", "plan"})
MAGIC = b"sffresh5"
PARTS = (
    "told", "printed", "read", "absent", "ways", "inodes", "general", "general_marks",
    "contents", "locks", "open", "names", "counts", "owned", "paths", "marks",
)  # fmt: skip
HEADER = Struct("<8s16Q")  # and the lengths of the parts
MARK = Struct("<2q3Q")  # of an `lstat`: mtime, ctime, size, inode, mode
_CHUNK = 1024  # paths compared at a time
_LARGEST = 1 << 28  # bytes of a record that is read
_MANY = 5_000  # paths from which on a second process is worth its start
_MOST = 1_000  # that may have moved
_NUMBER = Struct("<Q")
_GONE = b"\0" * MARK.size
_REGULAR, _DIRECTORY, _KIND = 0o100000, 0o040000, 0o170000
# What decides target, output and cost of a run, besides files and the command line.
_PREFIXES = ("SANDBOXFILE_", "NOVITA_", "E2B_")
_NAMES = ("HOME", "XDG_CONFIG_HOME", "CI")


# --- which run it is -------------------------------------------------------------------------


def name(version: str, argv: "list[str]", environ: "dict[str, str]", here: str) -> str:
    """Return a digest of what two runs must have in common to come out the same, files aside.

    The directory is part of it: paths in a record are relative to it, and a copied checkout brings
    the records of the other one along. So is the program: it may be another of the same version.
    """
    program = os.stat(__file__)  # noqa: PTH116 - pathlib costs 10 ms
    relevant = {k: v for k, v in environ.items() if k.startswith(_PREFIXES) or k in _NAMES}
    owner = os.stat(here).st_uid  # noqa: PTH116 - whose files are looked at depends on it
    same = (version, sys.version, program.st_ino, program.st_mtime_ns, here, owner, argv)
    return digest_of(
        ascii((same, sorted(relevant.items()))).encode()
    ).decode()  # values may be secrets


def values(names: "list[str]", environ: "dict[str, str]") -> bytes:
    """Return what a run has read of the environment: a digest of the values, and the names."""
    found = ascii([(name, environ.get(name)) for name in names])  # they may be secrets
    return b" ".join([digest_of(found.encode()), *map(str.encode, names)])


def digest_of(data: bytes) -> bytes:
    """Return the SHA-256 in hexadecimal, if possible without loading OpenSSL, as hashlib does."""
    if loaded := sys.modules.get("hashlib"):  # OpenSSL's is ten times as fast
        return loaded.sha256(data).hexdigest().encode()  # type: ignore[no-any-return]
    try:
        from _sha2 import sha256  # type: ignore[import-not-found] # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]
        except ImportError:  # a Python that is built to use OpenSSL only
            from hashlib import sha256
    digest: str = sha256(data).hexdigest()
    return digest.encode()


# --- reading ---------------------------------------------------------------------------------


class Record:
    """A record taken apart (see `records`, which makes it)."""

    told: bytes  # to standard error
    printed: bytes  # to standard output, with `TIMES`
    read: bytes  # of the environment, as `values` has it
    absent: bytes  # paths, each ended by a zero byte, that were not there
    ways: bytes  # paths of directories, and
    inodes: bytes  # their inodes
    general: bytes  # paths that are no template's own, the root's file first, and
    general_marks: bytes  # their marks
    contents: bytes  # paths that were too young to be known by their times, and their SHA-256
    locks: bytes  # the SHA-256 of locks that were as they are written
    open: bytes  # names of templates that are to be looked at again, whatever has moved
    names: bytes  # of each template, and of the one it is built on
    counts: bytes  # how many paths each template owns, and
    owned: bytes  # the numbers of these, in
    paths: bytes  # what templates own, and
    marks: bytes  # their marks

    def __init__(self, content: bytes) -> None:
        """Take a record apart. Raises ValueError, struct.error for what is none."""
        magic, *lengths = HEADER.unpack_from(content)
        if magic != MAGIC or HEADER.size + sum(lengths) != len(content):
            raise ValueError(magic)
        at = HEADER.size
        for part, length in zip(PARTS, lengths, strict=True):
            setattr(self, part, content[at : at + length])
            at += length


class Look:
    """What the first stage has found: what to `say` again, or what of a record has `moved`.

    That are numbers of the paths that templates own. Without a record all may have.
    """

    __slots__ = ("moved", "record", "said")

    def __init__(self, record: "Record | None" = None, moved: "tuple[int, ...]" = ()) -> None:
        self.record = record
        self.moved = moved
        self.said: tuple[str, str] | None = None
        if record is not None and not moved and not record.open:
            self.said = record.told.decode(), record.printed.decode()


def look(version: str, argv: "list[str]", environ: "dict[str, str]") -> Look:
    """Return what is known of the same run, if that is still so.

    What it said is what went to standard error and to standard output, in this one with `TIMES`
    where the seconds of the run stood.
    """
    if _COMMANDS.isdisjoint(argv):
        return Look()
    try:
        here = os.getcwd()  # noqa: PTH109
        digest = name(version, argv, environ, here)
    except OSError:
        return Look()
    for root in _roots(here, argv, environ):
        found = _look(root, f"{root}{DIRECTORY}/{digest}", environ)
        if found is not None:
            return found
    return Look()


def _roots(here: str, argv: "list[str]", environ: "dict[str, str]") -> "list[str]":
    """Return where a record may lie: where the run looks for its configuration, and all above.

    The options are only guessed at: where a wrong guess leads, there is no record of this run.
    """
    directory = _option("-C", "directory", argv, environ)
    file = _option("-f", "file", argv, environ)
    start = os.path.join(directory, os.path.dirname(file), "")  # noqa: PTH118, PTH120
    return [start + "../" * number for number in range(f"{here}{start}".count("/") + 1)]


def _option(short: str, name: str, argv: "list[str]", environ: "dict[str, str]") -> str:
    found = environ.get(f"SANDBOXFILE_{name.upper()}", "")
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word in {short, f"--{name}"}:
            found = following
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
        elif word.startswith(short):
            found = word[2:]
    return found


def _look(root: str, path: str, environ: "dict[str, str]") -> "Look | None":
    """Return what has moved since a record was made, None if that may be anything."""
    try:
        record = Record(_content(path, os.geteuid()))
        if record.read != values(record.read.decode().split()[1:], environ):
            return None
        if not _is_of(root, record.general, record.general_marks) or not _are_absent(record.absent):
            return None
        return Look(record, _moved(record))
    except (OSError, ValueError, LookupError, error):
        return None


def _content(path: "str | bytes", owner: "int | None" = None) -> bytes:
    """Return what a regular file has, nothing for another's if it has to be somebody's."""
    # Never waits: a checkout may bring a FIFO.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags)
    try:
        about = os.fstat(handle)
        is_meant = about.st_mode & _KIND == _REGULAR and owner in {None, about.st_uid}
        # Memory is asked for as much as there is said to be; a sparse file may say anything.
        return os.read(handle, about.st_size) if is_meant and about.st_size <= _LARGEST else b""
    finally:
        os.close(handle)


def _is_of(root: str, paths: bytes, marks: bytes) -> bool:
    """Say whether a record is about the `novita.yaml` that is in `root`, its first path.

    A checkout may bring a record of nothing; nobody can guess inode and change time of a file.
    """
    first = paths.partition(b"\0")[0].rpartition(b"/")[2]
    return _marks([os.fsencode(root) + first]) == marks[: MARK.size]


def _are_absent(paths: bytes) -> bool:
    return not any(os.path.lexists(path) for path in paths.split(b"\0") if path)


def _check_ways(ways: bytes, inodes: bytes) -> None:
    """Raise ValueError unless the directories on the way are the same ones, OSError without one."""
    names = ways.split(b"\0")
    names.pop()
    if packed([inode(os.lstat(name)) for name in names]) != inodes:
        raise ValueError(names)


def inode(stat: "os.stat_result | None") -> int:
    """Return the inode of a directory, 0 for what is none."""
    return stat.st_ino if stat and stat.st_mode & _KIND == _DIRECTORY else 0


def packed(numbers: "list[int]") -> bytes:
    return Struct(f"<{len(numbers)}Q").pack(*numbers)


# --- comparing -------------------------------------------------------------------------------


def _moved(record: Record) -> "tuple[int, ...]":
    """Return the numbers of the paths of templates that are no longer as they were.

    Raises ValueError if others are not, if too many are not, and for what is no record.
    """
    _compare(record.general, record.general_marks, 0)
    if len(record.marks) >= _MANY * MARK.size and _cores() > 1:
        moved = _compare_in_two(record.paths, record.marks, _MOST, record.ways, record.inodes)
    else:
        _check_ways(record.ways, record.inodes)
        moved = _compare(record.paths, record.marks, _MOST)
    moved += _rewritten(record, moved)
    if len(moved) > _MOST:
        raise ValueError(len(moved))
    _check_replaced(record, moved)
    return tuple(moved)


def _check_replaced(record: Record, moved: "list[int]") -> None:
    """Raise ValueError for a directory that is another one now, OSError if it is gone.

    It may be on the way to what other templates own.
    """
    found = [(number, MARK.unpack_from(record.marks, number * MARK.size)) for number in moved]
    directories = [(number, mark[-2]) for number, mark in found if mark[-1] & _KIND == _DIRECTORY]
    paths = record.paths.split(b"\0") if directories else []
    for number, known in directories:
        if inode(os.lstat(paths[number])) != known:
            raise ValueError(number)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _compare_in_two(
    paths: bytes, marks: bytes, most: int, ways: bytes = b"", inodes: bytes = b""
) -> "list[int]":
    """Compare in two processes, the ways too: threads would wait for each other at every path.

    That takes two thirds of the time where cores are idle, and no more of it on a busy machine.
    """
    cut = paths.index(b"\0", max(0, len(paths) - len(ways)) // 2) + 1
    first, second = paths[:cut], paths[cut:]
    count = first.count(b"\0")
    at = count * MARK.size
    end, other = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(other, packed(_compare(second, marks[at:], most)))  # a pipe has room for it
            code = 0
        finally:
            os._exit(code)  # whatever happened, and without a word
    try:
        os.close(other)
        _check_ways(ways, inodes)
        moved = _compare(first, marks[:at], most)
        told = os.read(end, most * _NUMBER.size)
    finally:
        os.close(end)
        status = os.waitpid(child, 0)[1]
    if status:
        raise ValueError(status)
    return [*moved, *(count + number for (number,) in _NUMBER.iter_unpack(told))]


def _compare(paths: bytes, marks: bytes, most: int) -> "list[int]":
    """Return the numbers of the paths whose mark is another. Raises ValueError for too many."""
    names = paths.split(b"\0")
    names.pop()
    if len(names) * MARK.size != len(marks):
        raise ValueError(len(names))
    moved: list[int] = []
    for at in range(0, len(names), _CHUNK):
        part = names[at : at + _CHUNK]
        start = at * MARK.size
        moved += _differing(at, part, marks[start : start + len(part) * MARK.size])
        if len(moved) > most:
            raise ValueError(moved)
    return moved


def _differing(first: int, names: "list[bytes]", marks: bytes) -> "list[int]":
    """Return the numbers of paths that have another mark, the first of them being `first`."""
    try:
        found = _marks(names)
    except OSError:  # one is gone
        found = b"".join([_marks([name]) if os.path.lexists(name) else _GONE for name in names])
    if found == marks:
        return []
    ends = range(MARK.size, len(found) + 1, MARK.size)
    return [
        first + number
        for number, end in enumerate(ends)
        if found[end - MARK.size : end] != marks[end - MARK.size : end]
    ]


def _rewritten(record: Record, moved: "list[int]") -> "list[int]":
    """Return the numbers of the paths that have another content by now, of those with one.

    Raises ValueError if one of them is no template's own.
    """
    if not record.contents:
        return []
    known, paths = record.contents.split(b"\0"), record.paths.split(b"\0")
    gone = [paths[number] for number in moved]
    return [
        paths.index(path)
        for path, digest in zip(known[:-1:2], known[1::2], strict=True)
        if path not in gone and digest_of(_content(path)) != digest
    ]


def mark(stat: os.stat_result) -> bytes:
    """Return what is compared of an `lstat`. Raises struct.error for a file of the year 2300."""
    mtime, ctime = stat.st_mtime_ns, stat.st_ctime_ns
    return MARK.pack(mtime, ctime, stat.st_size, stat.st_ino, stat.st_mode)


def marks(stats: "list[os.stat_result] | map[os.stat_result]") -> "list[bytes]":
    """Return the marks of many, in less time."""
    pack = MARK.pack
    return [pack(s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, s.st_mode) for s in stats]


def newest(marks: bytes) -> int:
    """Return the youngest time of modification or change in joined marks (ns), 0 without any."""
    numbers = unpack(f"<{len(marks) // 8}q", marks)  # five a mark, of which two are times
    return max(max(numbers[::5], default=0), max(numbers[1::5], default=0))


def _marks(paths: "list[bytes]") -> bytes:
    """Return the stat of each path, packed: one comparison for all of them. Raises OSError."""
    return b"".join(marks(map(os.lstat, paths)))
