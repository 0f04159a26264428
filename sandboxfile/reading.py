"""Reads files that may be anything: regular ones only, inside the workspace where that is due."""

import os
import stat
from pathlib import Path


def read(path: Path, root: Path) -> bytes:
    """Return the content of a file that must lie inside `root`.

    Never waits (a FIFO is no file), never follows a link out. Raises OSError with the reason.
    """
    inside(path, root)
    return regular(path)


def regular(path: Path) -> bytes:
    """Return the content of a file, of our own state too: a checkout may have brought it along.

    Never waits (a FIFO is no file). Raises OSError with the reason.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read()


def head(path: str, length: int) -> bytes:
    """Return how a file begins; follows no link, never waits. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(length)


def is_file(path: Path) -> bool:
    """Tell whether there is a file; False, not OSError, where nobody may look or no name can be."""
    return os.path.isfile(path)  # noqa: PTH113


def exists(path: Path) -> bool:
    """Tell whether there is anything; False, not OSError, as with `is_file`."""
    return os.path.exists(path)  # noqa: PTH110


def inside(path: Path, root: Path) -> Path:
    """Return where a path leads, links resolved. Raises OSError when that is outside `root`."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise OSError(0, "it leads out of the workspace")
    return real
