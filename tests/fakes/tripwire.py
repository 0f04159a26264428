"""Places where the world stands still, so that a test can act at exactly that moment."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_NO_ROUTE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"

Moment = Literal["arrived", "carried out"]


@dataclass(eq=False, kw_only=True)
class Trap:
    """The `nth` request like this stops: before the server sees it, or before its answer leaves.

    A `method` of "" is any.
    """

    method: str
    path: str
    moment: Moment = "arrived"
    nth: int = 1
    _sprung: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def matches(self, method: str, path: str) -> bool:
        if self._sprung.is_set() or self.method not in {"", method}:
            return False
        if not re.search(self.path, path):
            return False
        self.nth -= 1
        return self.nth == 0

    def spring(self) -> None:
        """Hold the connection until `release`, which drops it."""
        self._sprung.set()
        self._released.wait()

    @property
    def is_sprung(self) -> bool:
        return self._sprung.is_set()

    def __str__(self) -> str:
        return f"request {self.method} {self.path}"

    def release(self) -> None:
        self._released.set()


@dataclass(eq=False, kw_only=True)
class Asked:
    """A request that was passed on; `status` is None until an answer came."""

    method: str
    path: str
    status: int | None = None


class Tripwire:
    """A proxy on loopback in front of an HTTP/1.1 server, with traps.

    What `lacks` finds in `METHOD path`, without a body, is a call that the server does not have.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._traps: list[Trap] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.asked: list[Asked] = []
        self.lacks: re.Pattern[str] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def trap(self, method: str, path: str, moment: Moment = "arrived", *, nth: int = 1) -> Trap:
        trap = Trap(method=method, path=path, moment=moment, nth=nth)
        self._traps.append(trap)
        return trap

    def passed(self, method: str, path: str) -> list[Asked]:
        return [each for each in self.asked if each.method == method and re.search(path, each.path)]

    def close(self) -> None:
        for trap in self._traps:
            trap.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._upstream) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(self, client, server).carry()

    def sprung(self, method: str, path: str) -> Trap | None:
        return next((trap for trap in self._traps if trap.matches(method, path)), None)


class _Connection:
    def __init__(self, wire: Tripwire, client: socket.socket, server: socket.socket) -> None:
        self._wire = wire
        self._client = client
        self._server = server
        self._asked: Asked | None = None
        self._held: Trap | None = None

    def carry(self) -> None:
        back = threading.Thread(target=self._answers, daemon=True)
        back.start()
        with suppress(OSError):
            self._requests()
        for each in (self._server, self._client):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        back.join()

    def _requests(self) -> None:
        while data := self._client.recv(65536):
            if request := _REQUEST.match(data):
                method, path = request[1].decode(), request[2].decode()
                if self._wire.lacks and self._wire.lacks.search(f"{method} {path}"):
                    self._client.sendall(_NO_ROUTE)
                    continue
                trap = self._wire.sprung(method, path)
                if trap is not None and trap.moment == "arrived":
                    trap.spring()
                    return
                self._asked, self._held = Asked(method=method, path=path), trap
                self._wire.asked.append(self._asked)
            self._server.sendall(data)

    def _answers(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(65536):
                if (status := _STATUS.match(data)) and self._asked is not None:
                    self._asked.status = int(status[1])
                if self._held is not None:
                    self._held.spring()
                    break
                self._client.sendall(data)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


@contextmanager
def tripwire(address: str) -> Iterator[Tripwire]:
    """Put a proxy in front of `host:port`."""
    host, _, port = address.rpartition(":")
    wire = Tripwire((host, int(port)))
    try:
        yield wire
    finally:
        wire.close()


class Gate:
    """What commands inside a build or a sandbox ask by HTTP: it holds, refuses or lets through."""

    def __init__(self) -> None:
        self.state: Literal["open", "hold", "refuse"] = "open"
        self.url = ""
        self.asked = 0
        self._lock = threading.Lock()
        self._held = 0

    @property
    def is_busy(self) -> bool:
        """Whether somebody is held; false again when the process that asked has ended."""
        return self._held > 0

    def command(self) -> str:
        """Return the shell command that asks; it fails unless it is let through."""
        return f"wget -q -O /dev/null {self.url}"

    def count(self, *, asked: int = 0, held: int = 0) -> None:
        with self._lock:
            self.asked += asked
            self._held += held


@contextmanager
def gate() -> Iterator[Gate]:
    """Open a gate on loopback."""
    it = Gate()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state = it.state
            it.count(asked=1)
            if state == "hold":
                it.count(held=1)
                with suppress(OSError):
                    self.connection.recv(1)
                it.count(held=-1)
                return
            self.send_response(200 if state == "open" else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    it.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield it
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
