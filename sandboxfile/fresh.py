"""The first stage of `build`: nothing has changed since a run that found nothing to do.

Imports next to nothing, compares the `lstat` of everything that run had looked at, and says the
same again. Whatever is unusual (another option, a missing or foreign record, one changed byte of
a stat) sends the run to the second stage, which reads content; this record is never a source of
truth and may be deleted at any time.

A record is trusted only if everything in it was older, by two seconds, than the record itself
(git's rule for racy entries; two seconds is the coarsest clock of a common file system).

The file is text between zero bytes, read by splitting it: a checkout may bring one along that
somebody else wrote. A record is what a run depends on, what it said, the marks of the paths, and
the paths; two zero bytes end it.
"""

import os
import sys
import time
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
_SECRET = ("_KEY", "_TOKEN", "_PASSWORD")


def signature(version: str, argv: "list[str]", environ: "dict[str, str]") -> str:
    """Return what two runs must have in common to come out the same, files aside.

    The directory is part of it: paths in a record are absolute, and a copied checkout brings the
    records of the other one along.
    """
    relevant = {k: v for k, v in environ.items() if k.startswith(_PREFIXES) or k in _NAMES}
    # Keys are secrets: only whether there is one decides anything.
    hidden = {k: bool(v) if k.endswith(_SECRET) else v for k, v in relevant.items()}
    return ascii((version, sys.version, os.getcwd(), argv, sorted(hidden.items())))  # noqa: PTH109


def said(version: str, argv: "list[str]", environ: "dict[str, str]") -> "str | None":
    """Return what the same run said when it had nothing to do, if that is still so."""
    if "build" not in argv:
        return None
    try:
        wanted = signature(version, argv, environ).encode() + b"\0"
        for record in _kept():
            if record.startswith(wanted):
                _, text, marks, *paths = record.split(b"\0")
                return text.decode() if _marks(paths).hex().encode() == marks else None
    except (OSError, ValueError):
        return None
    return None


def remember(
    version: str,
    argv: "list[str]",
    environ: "dict[str, str]",
    *,
    paths: "list[str]",
    text: str,
) -> None:
    """Keep what this run looked at and said; nothing if some of it is too young to be trusted."""
    looked_at = sorted({os.fsencode(path) for path in paths})
    marks = _marks(looked_at)
    newest = max((max(mark[:2]) for mark in _STAT.iter_unpack(marks)), default=0)
    if newest + SLACK_NS > time.time_ns():
        return
    mine = signature(version, argv, environ).encode()
    record = b"\0".join([mine, text.encode(), marks.hex().encode(), *looked_at])
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
        with open(FILE, "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms to import
            return [each.strip(b"\0") for each in file.read().split(b"\0\0")]
    except FileNotFoundError:
        return []


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
