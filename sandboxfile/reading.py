"""Reads files that may be anything: regular ones only, inside the workspace where that is due."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LIMIT = 256 << 20  # bytes of a file that is read whole; what we keep of 100,000 files has less
_LINKS = 40  # as many as Linux follows (path_resolution(7)); a circle has no end


def read(path: Path, root: Path) -> bytes:
    """Return the content of a file that must lie inside `root`.

    Never waits (a FIFO is no file), never follows a link out. Raises OSError with the reason.
    """
    inside(path, root)
    return regular(path)


def regular(path: Path, *, limit: int = LIMIT) -> bytes:
    """Return the content of a file, of our own state too: a checkout may have brought it along.

    Never waits (a FIFO is no file), and reads none of more than `limit` bytes. Raises OSError with
    the reason.
    """
    with _opened(path) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        return _whole(file, found, limit)


def own(path: Path, *, limit: int = LIMIT) -> bytes:
    """As `regular`, for what is taken apart unseen: a file that is ours, and no link to one."""
    with _opened(path, os.O_NOFOLLOW) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(0, "it is not a regular file of ours")
        return _whole(file, found, limit)


def _opened(path: Path | str, more: int = 0) -> BinaryIO:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | more)
    try:
        return os.fdopen(handle, "rb")
    except BaseException:  # a directory
        os.close(handle)
        raise


def _whole(file: BinaryIO, found: os.stat_result, limit: int) -> bytes:
    # The size is looked at first: reading at most so much would ask for the memory at once.
    if found.st_size > limit:
        raise OSError(0, f"it is larger than {limit >> 20} MiB")
    return file.read()


def head(path: str, length: int) -> bytes:
    """Return how a file begins; follows no link, never waits. Raises OSError."""
    with _opened(path, os.O_NOFOLLOW) as file:
        return file.read(length)


def is_file(path: Path) -> bool:
    """Tell whether there is a file; False, not OSError, where nobody may look or no name can be."""
    return os.path.isfile(path)  # noqa: PTH113


def is_directory(path: Path) -> bool:
    """Tell whether there is a directory; False, not OSError, as with `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: Path) -> bool:
    """Tell whether there is anything; False, not OSError, as with `is_file`."""
    return os.path.exists(path)  # noqa: PTH110


def inside(path: Path, root: Path) -> Path:
    """Return where a path leads, links resolved. Raises OSError when that is outside `root`."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise OSError(0, "it leads out of the workspace")
    return real


def through(path: str) -> frozenset[str]:
    """Return a file, and all that it leads through where it is a link (see `way`).

    The directories that lead to it are not among that, nor are links above: with these resolved,
    all else is told.
    """
    above, name = os.path.split(path)
    with suppress(OSError):  # it changes just now
        return frozenset([path, *way(f"{os.path.realpath(above)}/{name}")])
    return frozenset([path])


def way(path: str) -> list[str]:
    """Return every link that an absolute path leads through, of directories too, and its end.

    Who wants to know whether a file is still the same has to look at all of these: the end stays
    as it is when a link on the way comes to lead elsewhere. Raises OSError.
    """
    found: list[str] = []
    at, left = "", path.split("/")
    while left and len(found) < _LINKS:
        name = left.pop(0)
        step = f"{at}/{name}" if name not in {"", "."} else at
        if name == "..":
            at = os.path.dirname(at)  # noqa: PTH120
        elif step != at and os.path.islink(step):  # noqa: PTH114
            found.append(step)
            text = os.readlink(step)  # noqa: PTH115
            at, left = "" if text.startswith("/") else at, [*text.split("/"), *left]
        else:
            at = step
    return [*found, at or "/"]
