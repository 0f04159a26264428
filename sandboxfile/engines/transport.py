"""How HTTP reaches an engine: over its unix socket at once, everywhere else through Docker's SDK.

Both give the same kind of response, urllib3's: the SDK's own transport is made of it. On a unix
socket the SDK adds nothing to it, and would have to be imported before anything can be built.
"""

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.connection import HTTPConnection

from sandboxfile import __version__
from sandboxfile.frozen import dataclass

POOL = 32  # connections kept; one per thread of the widest run
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


class Transport(Protocol):
    """A pool of connections to one engine, for all threads."""

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> BaseHTTPResponse:
        """Send a request and return the response, its body unread; no redirect is followed.

        `target` is path and query; a body in pieces goes out as they come. Raises OSError,
        HTTPError of urllib3, and what the pieces raise.
        """

    def close(self) -> None:
        """Give back connections."""


class UnixSocket:
    """An engine at a socket of this machine."""

    def __init__(self, path: str) -> None:
        self._pool = _Pool("localhost", maxsize=POOL, path=path)

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> BaseHTTPResponse:
        connecting, reading = limits
        return self._pool.urlopen(
            method,
            target,
            body=body,
            headers={"User-Agent": f"sandboxfile/{__version__}", **headers},
            timeout=Timeout(connect=connecting, read=reading),
            retries=False,
            redirect=False,
            chunked=not isinstance(body, bytes | None),
            preload_content=False,
        )

    def close(self) -> None:
        self._pool.close()


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, path: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        self.sock = connection


class _Pool(HTTPConnectionPool):
    ConnectionCls: Any = _Connection
