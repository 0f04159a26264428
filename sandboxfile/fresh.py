"""The first stage of `build` and `plan`: nothing has changed since a run that found nothing to do.

Imports next to nothing, compares the `lstat` of everything that run had looked at, and says the
same again. Whatever is unusual (another option, a missing or foreign record, one changed byte of
a stat) sends the run to the second stage, which reads content; a record is never a source of
truth and may be deleted at any time.

Of the directories on the way to all that, which are not looked at themselves, only the inode is
compared: one that was replaced, by a link out of the workspace it may be, has the same files in it.

A record is trusted only if everything in it was older, by two seconds, than the run that made it
(git's rule for racy entries; two seconds is the coarsest clock of a common file system).

Each command line has a record of its own, in a file named by a digest of all that two runs must
have in common: so runs do not wait for each other, and a run reads no other's. The file begins
with the lengths of its parts, and is compared in bulk: at 20,000 files, most of the time of a run
goes into `lstat`. A checkout may bring one along that somebody else wrote, of whatever content.
"""

import os
import sys
from struct import Struct, error

DIRECTORY = ".sandboxfile/fresh"
SLACK_NS = 2_000_000_000
TIMES = "\0"  # stands in what goes to standard output where the seconds of the run belong

_COMMANDS = frozenset({"build", "plan"})
_MAGIC = b"sffresh3"
_HEADER = Struct("<8s8Q")  # and the lengths of the parts, in the order of `_parts`
MARK = Struct("<2q3Q")  # of an `lstat`: mtime, ctime, size, inode, mode
_CHUNK = 4096  # paths compared at a time: the first that differs ends it
_MANY = 5_000  # paths from which on a second process is worth its start
_KEPT = 16  # records, and
_BYTES = 1 << 25  # what they may have together
_REGULAR, _DIRECTORY, _KIND = 0o100000, 0o040000, 0o170000
# What decides target, output and cost of a run, besides files and the command line.
_PREFIXES = ("SANDBOXFILE_", "NOVITA_", "E2B_")
_NAMES = ("HOME", "XDG_CONFIG_HOME", "CI")


# --- which run it is -------------------------------------------------------------------------


def _name(version: str, argv: "list[str]", environ: "dict[str, str]", here: str) -> str:
    """Return a digest of what two runs must have in common to come out the same, files aside.

    The directory is part of it: paths in a record are relative to it, and a copied checkout brings
    the records of the other one along. So is the program: it may be another of the same version.
    """
    program = os.stat(__file__)  # noqa: PTH116 - pathlib costs 10 ms
    relevant = {k: v for k, v in environ.items() if k.startswith(_PREFIXES) or k in _NAMES}
    owner = os.stat(here).st_uid  # noqa: PTH116 - whose files are looked at depends on it
    same = (version, sys.version, program.st_ino, program.st_mtime_ns, here, owner, argv)
    return _digest(ascii((same, sorted(relevant.items()))))  # values may be secrets


def _values(names: "list[str]", environ: "dict[str, str]") -> bytes:
    """Return what a run has read of the environment: a digest of the values, and the names."""
    values = ascii([(name, environ.get(name)) for name in names])  # they may be secrets
    return " ".join([_digest(values), *names]).encode()


def _digest(text: str) -> str:
    """Return the SHA-256 in hexadecimal, if possible without loading OpenSSL, as hashlib does."""
    try:
        from _sha2 import sha256  # type: ignore[import-not-found] # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]
        except ImportError:  # a Python that is built to use OpenSSL only
            from hashlib import sha256
    digest: str = sha256(text.encode()).hexdigest()
    return digest


# --- reading ---------------------------------------------------------------------------------


def said(version: str, argv: "list[str]", environ: "dict[str, str]") -> "tuple[str, str] | None":
    """Return what the same run wrote when it had nothing to do, if that is still so.

    That is what went to standard error and to standard output, in this one with `TIMES` where the
    seconds of the run stood.
    """
    if _COMMANDS.isdisjoint(argv):
        return None
    try:
        here = os.getcwd()  # noqa: PTH109
        name = _name(version, argv, environ, here)
    except OSError:
        return None
    for root in _roots(here, argv, environ):
        answer = _answer(root, f"{root}{DIRECTORY}/{name}", environ)
        if answer is not None:
            return answer
    return None


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


def _answer(root: str, path: str, environ: "dict[str, str]") -> "tuple[str, str] | None":
    """Return what a record says, None unless all of it is still as it was."""
    try:
        told, printed, read, absent, ways, inodes, paths, marks = _parts(_content(path))
        if read != _values(read.decode().split()[1:], environ):
            return None
        if not _is_of(root, paths, marks) or not _are_absent(absent):
            return None
        if not _lead(ways, inodes) or not _are(paths, marks):
            return None
        return told.decode(), printed.decode()
    except (OSError, ValueError, error):
        return None


def _content(path: str) -> bytes:
    # Never waits: a checkout may bring a FIFO.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags)
    try:
        about = os.fstat(handle)
        is_ours = about.st_mode & _KIND == _REGULAR and about.st_uid == os.geteuid()
        return os.read(handle, about.st_size) if is_ours else b""
    finally:
        os.close(handle)


def _parts(content: bytes) -> "list[bytes]":
    """Take a record apart. Raises ValueError, struct.error if it is none."""
    magic, *lengths = _HEADER.unpack_from(content)
    if magic != _MAGIC or _HEADER.size + sum(lengths) != len(content):
        raise ValueError(magic)
    parts, at = [], _HEADER.size
    for length in lengths:
        parts.append(content[at : at + length])
        at += length
    return parts


def _is_of(root: str, paths: bytes, marks: bytes) -> bool:
    """Say whether a record is about the `novita.yaml` that is in `root`, its first path.

    A checkout may bring a record of nothing; nobody can guess inode and change time of a file.
    """
    first = paths.partition(b"\0")[0].rpartition(b"/")[2]
    return _marks([os.fsencode(root) + first]) == marks[: MARK.size]


def _are_absent(paths: bytes) -> bool:
    return not any(os.path.lexists(path) for path in paths.split(b"\0") if path)


def _lead(ways: bytes, inodes: bytes) -> bool:
    """Say whether the directories on the way are the same ones."""
    names = ways.split(b"\0")
    names.pop()
    return _packed([_inode(os.lstat(name)) for name in names]) == inodes


def _inode(stat: "os.stat_result | None") -> int:
    """Return the inode of a directory, 0 for what is none."""
    return stat.st_ino if stat and stat.st_mode & _KIND == _DIRECTORY else 0


def _packed(inodes: "list[int]") -> bytes:
    return Struct(f"<{len(inodes)}Q").pack(*inodes)


# --- comparing -------------------------------------------------------------------------------


def _are(paths: bytes, marks: bytes) -> bool:
    """Say whether paths, each ended by a zero byte, have the marks."""
    is_shared = len(marks) >= _MANY * MARK.size and _cores() > 1
    return _compare_in_two(paths, marks) if is_shared else _compare(paths, marks)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _compare_in_two(paths: bytes, marks: bytes) -> bool:
    """Compare in two processes: threads would wait for each other at every path.

    That takes two thirds of the time where cores are idle, and no more of it on a busy machine.
    """
    cut = paths.index(b"\0", len(paths) // 2) + 1
    first, second = paths[:cut], paths[cut:]
    at = first.count(b"\0") * MARK.size
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if _compare(second, marks[at:]) else 1
        finally:
            os._exit(code)  # whatever happened, and without a word
    try:
        is_same = _compare(first, marks[:at])
    finally:
        status = os.waitpid(child, 0)[1]
    return is_same and status == 0


def _compare(paths: bytes, marks: bytes) -> bool:
    names = paths.split(b"\0")
    names.pop()
    size = _CHUNK * MARK.size
    chunks = range(0, len(names), _CHUNK)
    return len(names) * MARK.size == len(marks) and all(
        _marks(names[at : at + _CHUNK]) == marks[at * MARK.size : at * MARK.size + size]
        for at in chunks
    )


def mark(stat: os.stat_result) -> bytes:
    """Return what is compared of an `lstat`. Raises struct.error for a file of the year 2300."""
    mtime, ctime = stat.st_mtime_ns, stat.st_ctime_ns
    return MARK.pack(mtime, ctime, stat.st_size, stat.st_ino, stat.st_mode)


def newest(marks: bytes) -> int:
    """Return the youngest time of modification or change in joined marks (ns), 0 without any."""
    return max([max(times) for *times, _, _, _ in MARK.iter_unpack(marks)], default=0)


def _marks(paths: "list[bytes]") -> bytes:
    """Return the stat of each path, packed: one comparison for all of them. Raises OSError."""
    pack = MARK.pack
    return b"".join(
        [
            pack(s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, s.st_mode)
            for s in map(os.lstat, paths)
        ]
    )


# --- writing ---------------------------------------------------------------------------------


def remember(
    version: str,
    argv: "list[str]",
    environ: "dict[str, str]",
    *,
    here: str,
    config: str,
    since: int,
    paths: "list[str]",
    ways: "tuple[str, ...]" = (),
    seen: "dict[str, bytes] | None" = None,
    told: str,
    printed: str = "",
    read: "tuple[str, ...]" = (),
) -> None:
    """Keep what this run, which began at `since` (ns since the epoch), looked at and said.

    `here` is where it was started, `config` the path of the root's `novita.yaml`, `paths` what
    else it looked for, there or not, all absolute; `ways` are directories that lead to any of it,
    of which only that they are the same counts. `seen` has the `mark` of what it read, from before
    it did. `read` are names of variables of the environment that it read besides those of every
    run; `told` and `printed` are what it wrote to standard error and standard output.

    Nothing is kept if some of it is too young to be trusted, or changed since the run began.
    """
    root = os.path.dirname(config)  # noqa: PTH120
    try:
        directories = {way: inode for way in ways if (inode := _inode(_stat(way)))}
        others = [way for way in ways if way not in directories]
        found, absent = _looked_at(config, [*paths, *others], seen or {})
        inodes = {way: inode for way, inode in directories.items() if way not in found}
        marks = b"".join(found.values())
        if newest(marks) + SLACK_NS > since:
            return
        parts = (
            told.encode(),
            printed.encode(),
            _values(list(read), environ),
            _joined(absent, here, root),
            _joined(list(inodes), here, root),
            _packed(list(inodes.values())),
            _joined(list(found), here, root),
            marks,
        )
        header = _HEADER.pack(_MAGIC, *map(len, parts))
        _keep(f"{root}/{DIRECTORY}", _name(version, argv, environ, here), header, *parts)
    except (OSError, error):  # a file of the year 2300 has no mark
        return


def _looked_at(
    config: str, paths: "list[str]", seen: "dict[str, bytes]"
) -> "tuple[dict[str, bytes], list[str]]":
    """Return the marks of all that is there, the configuration first, and what is not there."""
    found = {config: mark(os.lstat(config)), **seen}
    absent = []
    for path in paths:
        stat = None if path in found else _stat(path)
        if stat is not None:
            found[path] = mark(stat)
        elif path not in found:
            absent.append(path)
    return found, _without_directory(absent, os.path.dirname(config), found)  # noqa: PTH120


def _without_directory(absent: "list[str]", root: str, found: "dict[str, bytes]") -> "list[str]":
    """Take directories in the workspace instead of what is not in them: they tell if it comes.

    One of them saves looking for several names, which takes longer than for one that is there. The
    root itself, in which much else comes and goes, is not taken.
    """
    left = []
    for path in dict.fromkeys(absent):
        above = os.path.dirname(path)  # noqa: PTH120
        if above not in found and above.startswith(f"{root}/") and (stat := _stat(above)):
            known = mark(stat)
        else:
            known = found.get(above, b"")
        if known and MARK.unpack(known)[-1] & _KIND == _DIRECTORY:
            found[above] = known
        else:
            left.append(path)
    return left


def _stat(path: str) -> "os.stat_result | None":
    try:
        return os.lstat(path)
    except OSError:
        return None


def _joined(paths: "list[str]", here: str, root: str) -> bytes:
    """Return paths, each ended by a zero byte, relative to `here`: the system walks less far."""
    inside, above = f"{here.rstrip('/')}/", f"{root.rstrip('/')}/"
    up = "../" * inside.count("/", len(above)) if inside.startswith(above) else above
    short = []
    for path in paths:
        if path.startswith(inside):
            short.append(path[len(inside) :] or ".")
        elif path.startswith(above):
            short.append(up + path[len(above) :])
        else:
            short.append(path)
    return os.fsencode("\0".join([*short, ""]))


def _keep(directory: str, name: str, *parts: bytes) -> None:
    """Write a record, whole or not at all, and drop the oldest of too many. Raises OSError."""
    if os.lstat(os.path.dirname(directory)).st_mode & _KIND != _DIRECTORY:  # noqa: PTH120
        return  # a link that was brought along
    stat = _stat(directory)
    if stat is not None and stat.st_mode & _KIND != _DIRECTORY:
        os.unlink(directory)  # noqa: PTH108 - of an older version, or brought along
        stat = None
    if stat is None:
        os.mkdir(directory, 0o700)  # noqa: PTH102
    new = f"{directory}/{name}.{os.getpid()}"
    try:
        with open(new, "xb") as file:  # noqa: PTH123
            file.writelines(parts)
        os.replace(new, f"{directory}/{name}")  # noqa: PTH105
    except OSError:
        os.unlink(new)  # noqa: PTH108
        raise
    _prune(directory)


def _prune(directory: str) -> None:
    with os.scandir(directory) as scan:
        stats = {each.path: each.stat(follow_symlinks=False) for each in scan}
    size = 0
    newest = sorted(stats, key=lambda path: stats[path].st_mtime_ns, reverse=True)
    for number, path in enumerate(newest):
        size += stats[path].st_size
        if number >= _KEPT or (size > _BYTES and number):
            os.unlink(path)  # noqa: PTH108
