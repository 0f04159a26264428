"""The first stage of `build`: nothing has changed since a run that found nothing to do.

Imports next to nothing, compares the `lstat` of everything that run had looked at, and says the
same again. Whatever is unusual (another option, a missing or foreign record, one changed byte of
a stat) sends the run to the second stage, which reads content; this record is never a source of
truth and may be deleted at any time.

A record is trusted only if everything in it was older, by two seconds, than the record itself
(git's rule for racy entries; two seconds is the coarsest clock of a common file system).
"""

import marshal
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


def signature(version: str, argv: "list[str]", environ: "dict[str, str]") -> str:
    """Return what two runs must have in common to come out the same, files aside."""
    relevant = {k: v for k, v in environ.items() if k.startswith(_PREFIXES) or k in _NAMES}
    # Keys are secrets: only whether there is one decides anything.
    hidden = {k: bool(v) if k.endswith(("_KEY", "_TOKEN")) else v for k, v in relevant.items()}
    return repr((version, sys.version, argv, sorted(hidden.items())))


def said(version: str, argv: "list[str]", environ: "dict[str, str]") -> "str | None":
    """Return what the same run said when it had nothing to do, if that is still so."""
    if "build" not in argv:
        return None
    try:
        with open(FILE, "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms to import
            records = marshal.loads(file.read())  # noqa: S302 - our own file in our own directory
        paths, marks, text = records[signature(version, argv, environ)]
        return text if _marks(paths.split("\0")) == marks else None
    except (OSError, ValueError, EOFError, TypeError, KeyError, AttributeError):
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
    paths = sorted(set(paths))
    marks = _marks(paths)
    newest = max((max(mark[:2]) for mark in _STAT.iter_unpack(marks)), default=0)
    if newest + SLACK_NS > time.time_ns():
        return
    record = ("\0".join(paths), marks, text)
    records = {**_kept(), signature(version, argv, environ): record}
    while len(records) > _RECORDS:
        del records[next(iter(records))]
    new = f"{FILE}.{os.getpid()}"
    try:
        with open(new, "wb") as file:  # noqa: PTH123
            file.write(marshal.dumps(records))
        os.replace(new, FILE)  # noqa: PTH105
    except OSError:
        return


def _kept() -> "dict[str, tuple[str, bytes, str]]":
    try:
        with open(FILE, "rb") as file:  # noqa: PTH123
            kept = marshal.loads(file.read())  # noqa: S302
    except (OSError, ValueError, EOFError, TypeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _marks(paths: "list[str]") -> bytes:
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
