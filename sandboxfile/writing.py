"""Writes small files whole: who reads one sees all of it, or what was there before."""

import os
import threading
from pathlib import Path


def whole(path: Path, content: bytes) -> None:
    """Write a file over what is there, in one piece. Raises OSError, and leaves nothing then.

    It is made beside its place under a name of this thread, never through a link that a checkout
    brought along. Nothing is synced: for what may be lost when a machine goes down.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        new.unlink(missing_ok=True)  # left by a process of this number that was killed
        with new.open("xb") as file:
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
