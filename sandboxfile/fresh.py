"""The first stage of `build`: nothing has changed since a run that found nothing to do.

Imports next to nothing, compares the `lstat` of everything that run had looked at, and says the
same again. Whatever is unusual (another option, a missing or foreign record, one changed byte of
a stat) sends the run to the second stage, which reads content; this record is never a source of
truth and may be deleted at any time.

A record is trusted only if everything in it was older, by two seconds, than the record itself
(git's rule for racy entries; two seconds is the coarsest clock of a common file system).

The file is text between zero bytes, read by splitting it: a checkout may bring one along that
somebody else wrote. A record is what a run depends on, what it said, the names of the variables of
the environment that `novita.yaml` reads with a digest of their values, the marks of the paths, and
the paths; two zero bytes end it.
"""

import os
import sys
from struct import Struct

FILE = ".sandboxfile/fresh"
SLACK_NS = 2_000_000_000
_STAT = Struct("<5Q")
_MASK = (1 << 64) - 1
_ABSENT = b"\0" * _STAT.size
_RECORDS = 16  # different command lines remembered
# What decides target, output and cost of a run, besides files and the command line.
_PREFIXES = ("SANDBOXFILE_", "NOVITA_", "E2B_")
_NAMES = ("HOME", "XDG_CONFIG_HOME", "CI")


def signature(version: str, argv: "list[str]", environ: "dict[str, str]") -> str:
    """Return what two runs must have in common to come out the same, files aside.

    The directory is part of it: paths in a record are absolute, and a copied checkout brings the
    records of the other one along.
    """
    from hashlib import sha256

    relevant = {k: v for k, v in environ.items() if k.startswith(_PREFIXES) or k in _NAMES}
    same = (version, sys.version, os.getcwd(), argv, sorted(relevant.items()))  # noqa: PTH109
    return sha256(ascii(same).encode()).hexdigest()  # values may be secrets


def said(version: str, argv: "list[str]", environ: "dict[str, str]") -> "str | None":
    """Return what the same run said when it had nothing to do, if that is still so."""
    if "build" not in argv:
        return None
    try:
        wanted = signature(version, argv, environ).encode() + b"\0"
        for record in _kept():
            if record.startswith(wanted):
                _, text, read, marks, *paths = record.split(b"\0")
                if read != _read(read.decode().split()[1:], environ):
                    return None
                same = _marks(paths).hex().encode() == marks and _is_ours(paths)
                return text.decode() if same else None
    except (OSError, ValueError):
        return None
    return None


def _read(names: "list[str]", environ: "dict[str, str]") -> bytes:
    """Return what a run has read of the environment: a digest of the values, and the names."""
    from hashlib import sha256

    values = ascii([(name, environ.get(name)) for name in names])  # they may be secrets
    return " ".join([sha256(values.encode()).hexdigest(), *names]).encode()


def _is_ours(paths: "list[bytes]") -> bool:
    """Say whether a record is about the `novita.yaml` that is here.

    A checkout may bring a record of nothing; nobody can guess inode and change time of a file.
    """
    here = os.fsencode(os.getcwd())  # noqa: PTH109
    mine = [path for path in paths if path in {here + b"/novita.yaml", here + b"/novita.yml"}]
    return any(_marks([path]) != _ABSENT for path in mine)


def remember(
    version: str,
    argv: "list[str]",
    environ: "dict[str, str]",
    *,
    since: int,
    paths: "list[str]",
    text: str,
    read: "tuple[str, ...]" = (),
) -> None:
    """Keep what this run, which began at `since` (ns since the epoch), looked at and said.

    `read` are names of variables of the environment that it read besides those of every run.

    Nothing is kept if some of it is too young to be trusted, or changed since the run began.
    """
    looked_at = sorted({os.fsencode(path) for path in paths})
    marks = _marks(looked_at)
    newest = max((max(mark[:2]) for mark in _STAT.iter_unpack(marks)), default=0)
    if newest + SLACK_NS > since:
        return
    mine = signature(version, argv, environ).encode()
    values = _read(list(read), environ)
    record = b"\0".join([mine, text.encode(), values, marks.hex().encode(), *looked_at])
    try:
        others = [each for each in _kept() if each and not each.startswith(mine + b"\0")]
        records = [*others[1 - _RECORDS :], record]
        new = f"{FILE}.{os.getpid()}"
        with open(new, "wb") as file:  # noqa: PTH123
            file.write(b"".join(each + b"\0\0" for each in records))
        os.replace(new, FILE)  # noqa: PTH105
    except OSError:
        return


def _kept() -> "list[bytes]":
    try:
        # Never waits: a checkout may bring a FIFO, of which a read ends at once or not at all.
        handle = os.open(FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(handle, "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms to import
        content = file.read() or b""  # None of a FIFO that somebody writes to
    return [each.strip(b"\0") for each in content.split(b"\0\0")]


def _marks(paths: "list[bytes]") -> bytes:
    """Return the stat of each path, packed: one comparison for all of them."""
    lstat, pack, mask = os.lstat, _STAT.pack, _MASK
    marks = []
    for path in paths:
        try:
            found = lstat(path)
        except OSError:
            marks.append(_ABSENT)
            continue
        marks.append(
            pack(
                found.st_mtime_ns & mask,
                found.st_ctime_ns & mask,
                found.st_size,
                found.st_ino,
                found.st_mode,
            )
        )
    return b"".join(marks)
