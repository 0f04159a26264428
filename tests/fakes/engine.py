"""A container engine's API on a unix socket: answers from a table, remembers what was asked."""

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION: Mapping[str, Any] = {"Version": "28.5.2", "ApiVersion": "1.51", "Os": "linux"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came in; `path` without the API's version."""

    method: str
    path: str
    parameters: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return all values of a parameter; `query` has the first of each."""
        return list(self.parameters[name])

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in self.parameters.items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is answered: `body` as JSON or bytes, or `messages` as a stream of JSON lines.

    A stream that is `cut` ends without its end; `hold` waits before the connection is closed.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[Any, ...] | None = None
    cut: bool = False
    hold: threading.Event | None = None


Reply = Answer | Callable[[Asked], Answer]


def pushed(put: Callable[[str, str, bytes], str], repository: str, manifest: bytes) -> Reply:
    """Answer a push as done, once `put` has brought the manifest to the registry."""

    def push(asked: Asked) -> Answer:
        tag = asked.query["tag"]
        said = f"{tag}: digest: {put(repository, tag, manifest)} size: {len(manifest)}"
        return Answer(messages=({"status": said},))

    return push


@dataclass
class FakeEngine:
    """The table of answers, by `METHOD /path`; several answers to one are given in turn."""

    url: str
    answers: dict[str, Reply | list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path}")
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if found is None and asked.path == "/_ping":
            return self._greeting()
        if found is None:
            message = f"no such thing: {asked.method} {asked.path}"
            return Answer(status=404, body={"message": message})
        return found(asked) if callable(found) else found

    def _greeting(self) -> Answer:
        """Say beside `OK` what the answer to `GET /version` says, as engines do."""
        version = self.answers.get("GET /version")
        said = version.body if isinstance(version, Answer) else None
        if not isinstance(said, Mapping) or "ApiVersion" not in said:
            return Answer(status=404)
        name = "Libpod" if said.get("Components") else "Docker"
        server = f"{name}/{said['Version']} ({said.get('Os', 'linux')})"
        headers = {"Api-Version": said["ApiVersion"], "Server": server}
        return Answer(body=b"OK", headers=headers)

    def requests(self, method: str, path: str) -> list[Asked]:
        return [each for each in self.asked if (each.method, each.path) == (method, path)]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, engine: FakeEngine) -> None:
        self.engine = engine
        super().__init__(path, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "client"  # a unix socket's peer has no address

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""

    def _respond(self) -> None:
        parts = urlsplit(self.path)
        _, _, rest = parts.path.partition("/v1.")
        path = "/" + rest.partition("/")[2] if rest else parts.path
        asked = Asked(
            method=self.command,
            path=path,
            parameters=parse_qs(parts.query),
            headers={key.lower(): value for key, value in self.headers.items()},
            body=self._read(),
        )
        assert isinstance(self.server, _Server)
        self._write(self.server.engine.answer(asked))

    do_GET = do_POST = do_HEAD = do_DELETE = _respond  # noqa: N815 - the base's names

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _write(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.messages is None:
            body = answer.body if isinstance(answer.body, bytes) else b""
            if answer.body is not None and not isinstance(answer.body, bytes):
                body = json.dumps(answer.body).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in answer.messages:
            line = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.wfile.write(b"%x\r\n%s\r\n\r\n" % (len(line) + 2, line))
            self.wfile.flush()
        if answer.hold:
            answer.hold.wait(30)
        if answer.cut:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(version: Mapping[str, Any] = VERSION, info: object = None) -> Iterator[FakeEngine]:
    """Run a fake engine that knows what it is, and nothing else."""
    directory = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # socket paths are short
    engine = FakeEngine(url=f"unix://{directory}/e.sock")
    engine.answers["GET /version"] = Answer(body=version)
    engine.answers["GET /info"] = Answer(body=info or {})
    server = _Server(f"{directory}/e.sock", engine)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        shutil.rmtree(directory)
