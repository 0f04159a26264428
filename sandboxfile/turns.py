"""Turns at names: whoever has one keeps other processes from the same name, and from no other.

A lock file for each name, which is there only while somebody has the turn: it is removed before
the lock is given back, and whoever waited for it meanwhile sees that it is no longer the file of
that name and takes the new one. What a killed process leaves behind is locked by nobody.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sandboxfile import flock
from sandboxfile.cancel import Cancel
from sandboxfile.frozen import dataclass, field

POLL_S = 0.05
_LONGEST = 200  # characters; names that differ only beyond share a turn


@dataclass(slots=True)
class _Turn:
    """One name's turn in this process: how many threads have it or wait for it, and its file."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    file: int = -1


class Turns:
    """The turns below one directory, which is made when needed. Threads of a process share them."""

    def __init__(self, directory: Path, cancel: Cancel) -> None:
        self._directory = directory
        self._cancel = cancel
        self._lock = threading.Lock()
        self._turns: dict[Path, _Turn] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Keep other processes from `name` while the block runs.

        Waiting raises Cancelled when the run is stopped; a free turn is had even then. Raises
        OSError where no lock file can be made.
        """
        path = self._directory / quote(name, safe="")[:_LONGEST]
        turn = self._joined(path)
        try:
            with turn.lock:
                if turn.file < 0:
                    turn.file = self._taken(path)
            yield
        finally:
            self._left(path, turn)

    def _joined(self, path: Path) -> _Turn:
        with self._lock:
            turn = self._turns.setdefault(path, _Turn())
            turn.users += 1
            return turn

    def _left(self, path: Path, turn: _Turn) -> None:
        with self._lock:
            turn.users -= 1
            if turn.users:
                return
            del self._turns[path]
        if turn.file >= 0:
            with suppress(OSError):
                path.unlink()
            os.close(turn.file)

    def _taken(self, path: Path) -> int:
        while True:
            file = self._opened(path)
            try:
                while not flock.attempt(file):
                    self._cancel.wait(POLL_S)
                if is_current(file, path):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _opened(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def is_current(file: int, path: Path) -> bool:
    """Tell whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False
