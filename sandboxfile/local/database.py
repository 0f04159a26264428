"""The local service's SQLite file: several processes share it, and kill -9 spares it."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, RLock, Thread

from sandboxfile.errors import SandboxfileError
from sandboxfile.local import schema

FILE = "templates.db"  # in the data directory
_EACH = 50  # changes between checkpoints, and
_MOST = 10_000  # pages of the log, from which on whoever changes something makes one


class Unkept(SandboxfileError):  # noqa: N818 - named for what it says
    """The database takes or gives nothing: a full disk, as a rule."""


class Database:
    """One connection for all threads; everything may be called from any of them.

    Reads of more than one statement take `lock` around them.
    """

    def __init__(self, directory: Path) -> None:
        """Open the file, making its tables. Raises OSError, sqlite3.Error, SandboxfileError."""
        self.lock = RLock()
        self._connection = _open(directory)
        self._checkpoints = _Checkpoints(directory / FILE)

    def close(self) -> None:
        with self.lock:
            self._checkpoints.close()
            self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """For those who hold `lock`."""
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all of the block or nothing. Raises Unkept."""
        with self.lock, _told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
                self._checkpoints.changed()
            except BaseException:
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def update(self, statement: str, *values: object) -> bool:
        """Carry out one statement; whether it changed anything. Raises Unkept."""
        with self.lock, _told():
            found = self._connection.execute(statement, values).rowcount > 0
            self._checkpoints.changed()
            return found

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self.lock, _told():
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        return next(iter(self.rows(query, *values)), None)


class _Checkpoints:
    """Carries changes from the log into the file in the background, so that no call waits for it.

    That waits for the disk, several milliseconds; SQLite would do it at the end of some change.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changes = 0
        self._due = Event()
        self._is_over = False
        self._thread: Thread | None = None

    def changed(self) -> None:
        """Count a change; some begin a checkpoint. For those who hold the database's lock."""
        self._changes += 1
        if self._changes % _EACH == 0:
            self._due.set()
            if self._thread is None:
                self._thread = Thread(target=self._make, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread: the last connection that is closed carries over the rest."""
        self._is_over = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _make(self) -> None:
        db = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        try:
            while not self._is_over:
                self._due.wait()
                self._due.clear()
                with suppress(sqlite3.Error):  # a full disk: whoever changes something is told
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            db.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unkept(
            f"the local service cannot keep its data: {error}",
            hint="see whether its disk is full (`--data`, XDG_DATA_HOME)",
        ) from error


def _open(directory: Path) -> sqlite3.Connection:
    """Connect, and make the tables; one process at a time, for switching to WAL cannot wait."""
    gate = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        db = sqlite3.connect(
            directory / FILE, timeout=30, isolation_level=None, check_same_thread=False
        )
        with ExitStack() as unusable:
            unusable.callback(db.close)
            _make_ready(db, directory)
            unusable.pop_all()
        return db
    finally:
        os.close(gate)


def _make_ready(db: sqlite3.Connection, directory: Path) -> None:
    db.row_factory = sqlite3.Row
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise SandboxfileError(
            f"the local service's data in `{directory}` was written by a newer sandboxfile",
            hint="upgrade sandboxfile",
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # a process may die at any point, all stays
    db.execute(f"PRAGMA wal_autocheckpoint = {_MOST}")
    for number, change in enumerate(schema.CHANGES[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in change:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")


def one(db: sqlite3.Connection, query: str, *values: object) -> sqlite3.Row | None:
    return next(db.execute(query, values), None)


def number(db: sqlite3.Connection, query: str, *values: object) -> int:
    """Return the one number that a query of one row and one column gives."""
    return int(db.execute(query, values).fetchone()[0])
