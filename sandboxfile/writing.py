"""Writes small files whole: who reads one sees all of it, or what was there before."""

import os
import threading
from collections.abc import Callable
from pathlib import Path


def is_possible(directory: Path) -> bool:
    """Tell whether files can be made in a directory, as far as permissions say."""
    is_as_whom_we_act = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=is_as_whom_we_act)


def whole(path: Path, content: bytes, check: Callable[[Path], None] = lambda _: None) -> None:
    """Write a file over what is there, in one piece, once `check` has accepted a draft beside it.

    Raises OSError, and what `check` raises; then nothing is left. It is made under a name of this
    thread, never through a link that a checkout brought along. Nothing is synced: for what may be
    lost when a machine goes down.
    """
    new = _beside(path)
    try:
        new.unlink(missing_ok=True)  # left by a process of this number that was killed
        with new.open("xb") as file:
            file.write(content)
        check(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def new(path: Path, content: bytes, check: Callable[[Path], None]) -> None:
    """Write a file where there is none, in one piece, once `check` has accepted a draft beside it.

    Raises FileExistsError, OSError, and what `check` raises; then nothing is left.
    """
    draft = _beside(path)
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            file.write(content)
        check(draft)
        _place(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _place(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)  # unlike a rename it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # a file system that has no links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        draft.rename(path)


def _beside(path: Path) -> Path:
    """Return the path of a file that is not whole yet, which is this thread's alone."""
    return path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
