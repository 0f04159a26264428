"""HTTP/1.1 for the local service, on loopback alone; what is answered is decided elsewhere."""

import io
import logging
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from sandboxfile import __version__
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.local.body import Body, Unacceptable, check
from sandboxfile.local.connections import Connections, Patient, most
from sandboxfile.local.wire import Answer, Request, refusal
from sandboxfile.loopback import is_loopback

IDLE_S = 70.0
HEAD_S = 10.0  # for a whole head, once it has begun (docs/protocol.md, 6)
WHOLE_S = 70.0  # for a body that is held in memory
LINGER_S = 1.0
CHUNK = 65536
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LOG = logging.getLogger(__name__)

Handle = Callable[[Request], Answer]
Streams = Callable[[str, str], bool]  # of method and path


class Server:
    """A listening socket and its threads; `url` has no trailing slash.

    Bodies are read before they are handled, up to 16 MiB; those of requests that `streams` are
    left to the handler, piece by piece.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        streams: Streams = lambda _method, _path: False,
        host_names: frozenset[str] = frozenset(),
        connections: int | None = None,
        head_s: float = HEAD_S,
    ) -> None:
        """Bind; port 0 picks a free one. Raises UsageError, SandboxfileError.

        `host_names` are names for this machine that clients may call it by, besides `localhost`.
        `connections` may be open at once (None: as many as are good for us), `head_s` is for
        the head of a request.
        """
        if not is_loopback(host):
            raise UsageError(
                f"the local service does not listen on `{host}`",
                hint="anyone who reaches it runs commands in containers: use 127.0.0.1",
            )
        try:
            self._http = _Listener((host, port), handle, streams, host_names)
            self._http.connections = Connections(connections or most())
            self._http.head_s = head_s
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise SandboxfileError(
                f"the local service cannot listen on {host}:{port}: {why}",
                hint="choose another port, or 0 for a free one",
            ) from error
        self._thread = Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handle: Handle,
        streams: Streams,
        host_names: frozenset[str],
    ) -> None:
        self.handle = handle
        self.streams = streams
        self.host_names = host_names
        self.connections = Connections(most())
        self.head_s = HEAD_S
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, if there may be one more."""
        if self.connections.open(request):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.sendall(_FULL)
        super().shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """End a connection; called by the base class."""
        self.connections.close(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up; they do so whenever a run is stopped."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"sandboxfile/{__version__}"
    sys_version = ""
    timeout: ClassVar[float | None] = IDLE_S
    wbufsize = -1  # one write for the whole answer: two of them wait for each other's ACK
    disable_nagle_algorithm = True
    _is_awaited = False  # the client waits for our word before it sends its body

    def setup(self) -> None:
        """Read with our own patience; called by the base class."""
        super().setup()
        self.rfile.close()
        self._line = Patient(self.connection, IDLE_S)
        self.rfile = io.BufferedReader(self._line, CHUNK)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it; called by the base class."""
        self._line.within(None)
        self._line.on_first(self._begun)
        self._listener.connections.idle(self.connection)
        super().handle_one_request()

    def _begun(self) -> None:
        self._listener.connections.busy(self.connection)
        self._line.within(self._listener.head_s)

    def _answer(self) -> None:
        self._listener.connections.busy(self.connection)  # also where it came with the one before
        self._line.on_first(None)
        body: Body | None = None
        try:
            check(self.headers)
            self._check_origin()
            body = Body(self.rfile, self.headers, go_ahead=self._go_ahead)
            answer = self._listener.handle(self._request(body))
        except Unacceptable as error:
            answer = refusal(error.status, str(error))
        except Exception:  # noqa: BLE001 - logged, and answered as the defect that it is
            _LOG.exception("the local service failed at %s %s", self.command, self.path)
            answer = refusal(500, "internal server error")
        self._is_awaited = False
        if answer.is_lost:
            self.close_connection = True
            return
        # What is left of a body would be taken for the next request.
        if body is None or not body.is_read:
            self.close_connection = True
        self._send(answer)
        if self.close_connection:
            self._linger()

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = do_HEAD = do_OPTIONS = _answer  # noqa: N815

    @property
    def _listener(self) -> _Listener:
        assert isinstance(self.server, _Listener)
        return self.server

    def _check_origin(self) -> None:
        """Keep web pages out: no page may talk to us through its visitor's browser.

        A page may have its own name resolve to loopback, so a host has to be one that we know.
        """
        host = _split(f"//{self.headers.get('Host', '')}", "Host").hostname or ""
        origin = self.headers.get("Origin")
        theirs = _split(origin, "Origin").hostname or "" if origin else "localhost"
        known = is_loopback(host) or host in self._listener.host_names
        if not known or not is_loopback(theirs):
            raise Unacceptable(HTTPStatus.FORBIDDEN, "only programs on this machine are answered")

    def handle_expect_100(self) -> bool:
        """Keep a client waiting that asks whether to send its body; called by the base class."""
        self._is_awaited = True
        return True

    def _go_ahead(self) -> None:
        if self._is_awaited:
            self._is_awaited = False
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
            self.wfile.flush()

    def _request(self, body: Body) -> Request:
        parts = _split(self.path, "the request's target")
        streams = self._listener.streams(self.command, parts.path)
        self._line.within(None if streams else WHOLE_S)
        if body.length is None and self.command == "PUT" and not streams:
            raise Unacceptable(HTTPStatus.NOT_IMPLEMENTED, "a chunked upload is not implemented")
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=b"" if streams else body.whole(),
            content=body if streams else (),
            length=body.length,
            query_string=parts.query,
        )

    def _send(self, answer: Answer) -> None:
        try:
            file = answer.file.open("rb") if answer.file else io.BytesIO(answer.body)
        except OSError as error:  # removed meanwhile
            self._send(refusal(404, f"not there any more: {error.strerror}"))
            return
        with file, suppress(ConnectionError, TimeoutError):
            self.connection.settimeout(IDLE_S)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", str(file.seek(0, io.SEEK_END)))
                file.seek(0)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                shutil.copyfileobj(file, self.wfile)
            self.wfile.flush()

    def _linger(self) -> None:
        """Let the client read the answer: closing with data unread resets the connection."""
        deadline = time.monotonic() + LINGER_S
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            while time.monotonic() < deadline and self.connection.recv(CHUNK):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not even HTTP; called by the base class."""
        self.close_connection = True
        self._send(refusal(code, message or explain or "bad request"))

    def log_message(self, *_args: object) -> None:
        """Stay silent: standard error is the user's screen."""


def _split(text: str, what: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # brackets without an address in them
        raise Unacceptable(HTTPStatus.BAD_REQUEST, f"{what} is not an address") from None
