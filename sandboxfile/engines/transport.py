"""How HTTP reaches an engine: over its unix socket at once, everywhere else through Docker's SDK.

At a socket of this machine there is neither TLS nor a proxy nor anything to resolve, so the
standard library's HTTP is enough. The SDK, and the HTTP libraries that it is made of, take longer
to import than everything else that happens before a build begins.
"""

import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self

from sandboxfile import __version__
from sandboxfile.frozen import dataclass

POOL = 32  # connections kept; one per thread of the widest run
PIECE = 65536
# What the system may hold of what we send, its own bookkeeping included, before the engine has read
# any: Docker starts a program first that unpacks it, and a small context is on its way by then.
_TAKEN = 1 << 20
UNIX = "unix"

Limits = tuple[float, float | None]  # seconds to connect (and for one write), and to wait to read
Body = bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine listens; `source` says who named it, `tls` holds ca, cert and key.pem."""

    url: str
    source: str = ""
    tls: Path | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def socket(self) -> str | None:
        """The path of a socket of this machine, which is, as for Docker, all behind `unix://`."""
        scheme, _, path = self.url.partition("://")
        return path if scheme == UNIX else None


class Response(Protocol):
    """An answer whose body is still to be read; at the end of its block it is done with.

    Reading raises OSError, TimeoutError among it, and nothing of the HTTP library beneath.
    """

    @property
    def status(self) -> int: ...

    @property
    def reason(self) -> str: ...

    def header(self, name: str) -> str:
        """Return a field of the answer's head, "" if it has none of this name."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self, amount: int | None = None) -> bytes:
        """Return the rest, or so many bytes of it, fewer only at the end."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the rest as it comes."""

    def shutdown(self) -> None:
        """End the connection from another thread: who reads wakes up, and the engine notices."""


class Transport(Protocol):
    """A pool of connections to one engine, for all threads."""

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> Response:
        """Send a request and return what is answered; no redirect is followed.

        `target` is path and query; a body in pieces goes out as they come. Raises OSError, and
        what the pieces raise.
        """

    def close(self) -> None:
        """Give back connections."""


class UnixSocket:
    """An engine at a socket of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[_Connection] = []
        self._room = POOL
        self._lock = Lock()

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> Response:
        own = {"User-Agent": f"sandboxfile/{__version__}", **headers}
        while True:
            connection = self._taken()
            was_kept = connection.sock is not None
            try:
                response = connection.exchange(method, target, own, body, limits)
            except ConnectionError:
                connection.close()
                # The engine may leave a connection that it kept at the moment we use it: what it
                # cannot have begun, or what changes nothing, is asked anew (RFC 9110, 9.2.2).
                if not was_kept or (connection.has_sent and method != "GET"):
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return _Answer(connection, response, self._keep)

    def close(self) -> None:
        with self._lock:  # whoever is at work still, in a thread of its own, closes behind itself
            idle, self._idle, self._room = self._idle, [], 0
        for connection in idle:
            connection.close()

    def _taken(self) -> "_Connection":
        """Return the connection that was used last, a new one if the engine has left all."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_left():
                    return connection
                connection.close()
        return _Connection(self._path)

    def _keep(self, connection: "_Connection") -> None:
        with self._lock:
            if len(self._idle) < self._room:
                self._idle.append(connection)
                return
        connection.close()


class _Connection(HTTPConnection):
    """One connection; `line` is its socket, also when the response alone still holds that."""

    line: socket.socket

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path
        self.has_sent = False  # anything of the request at hand

    def send(self, data: Any) -> None:
        super().send(data)
        self.has_sent = True

    def connect(self) -> None:
        self.line = self.sock = socket.socket(socket.AF_UNIX)
        with suppress(OSError):  # a system that allows less and says so
            self.line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TAKEN)
        self.line.settimeout(self.timeout)
        self.line.connect(self._path)

    def is_left(self) -> bool:
        """Tell whether the other side has closed, or speaks without being asked."""
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        return bool(poll.poll(0))

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> HTTPResponse:
        """Send a request, and return the response once its head is there."""
        writing, reading = limits
        self.has_sent = False
        self.timeout = writing
        if self.sock is not None:
            self.sock.settimeout(writing)
        # A refusal may come before everything was sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.request(method, target, body=body, headers=headers)
        self.line.settimeout(reading)
        with plain(HTTPException):
            return self.getresponse()


class _Answer:
    """The response of a connection, which is kept when all of it was read."""

    def __init__(
        self,
        connection: _Connection,
        response: HTTPResponse,
        keep: Callable[[_Connection], None],
    ) -> None:
        self.status = response.status
        self.reason = response.reason
        self._line = connection.line
        self._connection = connection
        self._response = response
        self._keep = keep

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        is_read = self._response.isclosed() and not self._response.will_close
        if is_read:
            self._keep(self._connection)
        else:
            self._response.close()
            self._connection.close()

    def read(self, amount: int | None = None) -> bytes:
        with plain(HTTPException):
            return self._response.read(amount)

    def pieces(self) -> Iterator[bytes]:
        with plain(HTTPException):
            while piece := self._response.read1(PIECE):
                yield piece

    def shutdown(self) -> None:
        with suppress(OSError):  # it has ended by itself
            self._line.shutdown(socket.SHUT_RDWR)


@contextmanager
def plain(kind: type[Exception]) -> Iterator[None]:
    """Turn what an HTTP library finds wrong with an answer into an error of the connection.

    That are errors of its own `kind`, and those of lengths that are no lengths.
    """
    try:
        yield
    except (kind, ValueError, OverflowError) as error:
        raise ConnectionError(f"no whole answer: {error!r}") from error
