"""Shows other processes on the same store that this one lives, by a lock that any death frees."""

import fcntl
import os
from pathlib import Path
from uuid import uuid4


class Presence:
    """A file that stays locked for as long as this process lives; `id` names it.

    The kernel drops the lock at kill -9 too, and unlike a process id it is never given anew and
    means the same in every container that shares the directory.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.id = str(uuid4())
        self._file = os.open(directory / self.id, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def is_alive(self, owner: str) -> bool:
        """Tell whether the process that calls itself `owner` still runs."""
        if owner == self.id:
            return True
        path = self._directory / owner
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(file)

    def close(self) -> None:
        (self._directory / self.id).unlink(missing_ok=True)
        os.close(self._file)
