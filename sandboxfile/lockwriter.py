"""The lock while a run fills it: every result is on disk before it is told, in few writes.

A lock of a thousand entries takes longer to read, check and write than many a build does to adopt.
So what several threads have at once goes into one write, and what was read or written last is not
read again while the file says the same.
"""

import threading
from functools import reduce
from pathlib import Path

from sandboxfile import lockfile
from sandboxfile.frozen import dataclass
from sandboxfile.lockfile import Entry, Latest, Lock


@dataclass(slots=True)
class _Change:
    """An entry on its way into the lock, and what became of it."""

    target: str
    template: str
    entry: Entry
    is_done: bool = False
    error: BaseException | None = None


class LockWriter:
    """One lock, changed by the threads of one run; other processes may change it as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest = Latest()
        self._turn = threading.Condition()
        self._waiting: list[_Change] = []
        self._is_writing = False

    def entry(self, target: str, template: str) -> Entry | None:
        """Return an entry as the file has it now. Raises ConfigError."""
        with self._turn:
            while self._is_writing:
                self._turn.wait()
            return lockfile.read(self._path, latest=self._latest).entry(target, template)

    def record(self, target: str, template: str, entry: Entry) -> None:
        """Put an entry into the lock; it is on disk when this returns. Raises as `update`."""
        change = _Change(target, template, entry)
        with self._turn:
            self._waiting.append(change)
            while self._is_writing and not change.is_done:
                self._turn.wait()
            batch = [] if change.is_done else self._begun()
        if batch:
            self._write(batch)
        if change.error is not None:
            raise change.error

    def _begun(self) -> list[_Change]:
        self._is_writing = True
        batch, self._waiting = self._waiting, []
        return batch

    def _write(self, batch: list[_Change]) -> None:
        error: BaseException | None = None
        try:
            lockfile.update(
                self._path, lambda lock: reduce(_with, batch, lock), latest=self._latest
            )
        except BaseException as caught:  # noqa: BLE001 - raised in every thread that it concerns
            error = caught
        with self._turn:
            for change in batch:
                change.is_done, change.error = True, error
            self._is_writing = False
            self._turn.notify_all()


def _with(lock: Lock, change: _Change) -> Lock:
    return lock.with_entry(change.target, change.template, change.entry)
