"""Connections of the local service: how many there are, and how long each may keep us waiting."""

import io
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

MOST = 512  # a thread and a file each; beyond, whoever has been idle for longest gives way
_SHARE = 2  # of the files that the process may have open


def most() -> int:
    """Return how many connections there may be, leaving files for the engine and the store."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else min(MOST, files // _SHARE)


class Connections:
    """Open connections; those between two requests can be closed at any time (RFC 9112, 9.5)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._idle: dict[socket.socket, None] = {}  # the one that is idle for longest first

    def open(self, connection: socket.socket) -> bool:
        """Take a connection; False where all others are in the middle of a request."""
        with self._lock:
            oldest = next(iter(self._idle), None) if len(self._open) >= self._limit else None
            if oldest is not None:
                self._forget(oldest)
                with suppress(OSError):  # its own side was faster
                    oldest.shutdown(socket.SHUT_RDWR)
            if len(self._open) >= self._limit:
                return False
            self._open.add(connection)
            self._idle[connection] = None
            return True

    def idle(self, connection: socket.socket) -> None:
        with self._lock:
            if connection in self._open:
                self._idle.pop(connection, None)
                self._idle[connection] = None

    def busy(self, connection: socket.socket) -> None:
        with self._lock:
            self._idle.pop(connection, None)

    def close(self, connection: socket.socket) -> None:
        with self._lock:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)


class Patient(io.RawIOBase):
    """What comes over a connection; raises TimeoutError when it does not come in time.

    `stall_s` is how long the other side may say nothing. A limit for a whole request's head or
    body is set by `within`: a byte now and then would hold us for ever.
    """

    def __init__(self, connection: socket.socket, stall_s: float) -> None:
        self._connection = connection
        self._stall_s = stall_s
        self._end: float | None = None
        self._first: Callable[[], None] | None = None

    def within(self, seconds: float | None) -> None:
        """From now on, wait that long in all; None for as long as something comes."""
        self._end = None if seconds is None else time.monotonic() + seconds

    def on_first(self, call: Callable[[], None] | None) -> None:
        """Call that when the next byte has come; None for nothing."""
        self._first = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        rest = self._stall_s if self._end is None else self._end - time.monotonic()
        if rest <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(min(rest, self._stall_s))
        size = self._connection.recv_into(buffer)
        first, self._first = self._first, None
        if first:
            first()
        return size
