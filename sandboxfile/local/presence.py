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
        # Locked before it gets its name: nobody ever sees it free while we live.
        unborn = directory / f".{self.id}"
        self._file = os.open(unborn, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unborn.rename(directory / self.id)

    def is_alive(self, owner: str) -> bool:
        """Tell whether the process that calls itself `owner` still runs."""
        if owner == self.id:
            return True
        try:
            file = os.open(self._directory / owner, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def dead(self) -> list[str]:
        """Return who died without saying goodbye, until `bury` is called for them."""
        known = [path.name for path in self._directory.iterdir() if path.name[0] != "."]
        return [owner for owner in known if not self.is_alive(owner)]

    def bury(self, owner: str) -> None:
        (self._directory / owner).unlink(missing_ok=True)

    def close(self) -> None:
        self.bury(self.id)
        os.close(self._file)
