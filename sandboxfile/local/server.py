"""HTTP/1.1 for the local service, on loopback alone; what is answered is decided elsewhere."""

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from sandboxfile import __version__
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.local.wire import Answer, Request, refusal
from sandboxfile.loopback import is_loopback

BODY_LIMIT = 16 * 1024 * 1024  # docs/protocol.md, 6
LINE_LIMIT = 4096
LENGTH_DIGITS = 18  # of a Content-Length that is read at all
IDLE_S = 70.0
LINGER_S = 1.0
CHUNK = 65536
_LOG = logging.getLogger(__name__)

Handle = Callable[[Request], Answer]


class _Unacceptable(Exception):  # noqa: N818
    """A request that cannot be read to its end; the connection is closed after the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A listening socket and its threads; `url` has no trailing slash."""

    def __init__(self, handle: Handle, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind; port 0 picks a free one. Raises UsageError, SandboxfileError."""
        if not is_loopback(host):
            raise UsageError(
                f"the local service does not listen on `{host}`",
                hint="anyone who reaches it runs commands in containers: use 127.0.0.1",
            )
        try:
            self._http = _Listener(handle, host, port)
        except (OSError, OverflowError) as error:
            raise SandboxfileError(
                f"the local service cannot listen on {host}:{port}: {error}",
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

    def __init__(self, handle: Handle, host: str, port: int) -> None:
        self.handle = handle
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up; they do so whenever a run is stopped."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"sandboxfile/{__version__}"
    sys_version = ""
    timeout: ClassVar[float | None] = IDLE_S
    wbufsize = -1  # one write for the whole answer: two of them wait for each other's ACK
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        self._is_read = False
        try:
            self._check_origin()
            request = self._read()
            self._is_read = True
            assert isinstance(self.server, _Listener)
            answer = self.server.handle(request)
        except _Unacceptable as error:
            answer = refusal(error.status, str(error))
        except Exception:  # noqa: BLE001 - logged, and answered as the defect that it is
            _LOG.exception("the local service failed at %s %s", self.command, self.path)
            answer = refusal(500, "internal server error")
        if answer.is_lost:
            self.close_connection = True
            return
        if not self._is_read:  # what is left of it would be taken for the next request
            self.close_connection = True
        self._send(answer)
        if self.close_connection:
            self._linger()

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = do_HEAD = do_OPTIONS = _answer  # noqa: N815

    def _check_origin(self) -> None:
        """Keep web pages out: no page may talk to us through its visitor's browser."""
        host = _split(f"//{self.headers.get('Host', '')}", "Host").hostname or ""
        origin = self.headers.get("Origin")
        theirs = _split(origin, "Origin").hostname or "" if origin else host
        if not is_loopback(host) or not is_loopback(theirs):
            raise _Unacceptable(HTTPStatus.FORBIDDEN, "only programs on this machine are answered")

    def _read(self) -> Request:
        parts = _split(self.path, "the request's target")
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._body(),
        )

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            if self.command == "PUT":  # as the service's storage does (docs/protocol.md, 3.3)
                raise _Unacceptable(
                    HTTPStatus.NOT_IMPLEMENTED, "a chunked upload is not implemented"
                )
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > LENGTH_DIGITS:
            raise _Unacceptable(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        body = b""
        while size := self._chunk_size():
            body += self._exactly(size, room=BODY_LIMIT - len(body))
            self.rfile.readline(LINE_LIMIT)
        while self.rfile.readline(LINE_LIMIT).strip():
            pass  # trailers
        return body

    def _chunk_size(self) -> int:
        text = self.rfile.readline(LINE_LIMIT).partition(b";")[0].strip()
        try:
            return int(text, 16)
        except ValueError:
            raise _Unacceptable(HTTPStatus.BAD_REQUEST, "a chunk has no size") from None

    def _exactly(self, length: int, *, room: int = BODY_LIMIT) -> bytes:
        if not 0 <= length <= room:
            raise _Unacceptable(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request body is larger than 16 MiB"
            )
        body = self.rfile.read(length)
        if len(body) != length:
            raise _Unacceptable(HTTPStatus.BAD_REQUEST, "the request body ended too early")
        return body

    def _send(self, answer: Answer) -> None:
        with suppress(ConnectionError, TimeoutError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", str(len(answer.body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
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
        raise _Unacceptable(HTTPStatus.BAD_REQUEST, f"{what} is not an address") from None
