"""A small container registry on loopback that can be told to misbehave."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from tests.fakes.push import Document, Image, digest


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(kw_only=True)
class FakeRegistry:
    """Keeps documents and blobs in memory; every field below `seen` is a way to misbehave."""

    host: str = ""
    documents: dict[tuple[str, str], Document] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    # What a client has to show: a user with password (`alice`, `secret`), or a token for that.
    wants: Literal["nothing", "basic", "bearer"] = "nothing"
    anonymous_tokens: bool = True
    token_answer: dict[str, object] | None = None
    token_status: int = 200
    challenge: str | None = None
    tokens: list[str] = field(default_factory=list)
    # What an answer lacks, or has too much of.
    digest_header: str | None = "right"
    content_type: str | None = None
    head_status: int | None = None
    statuses: list[int] = field(default_factory=list)
    error_body: bytes = b""
    damage: bytes = b""
    blobs_at: str | None = None

    def add(self, repository: str, tag: str, image: Image) -> str:
        """Keep an image under a tag; its digest."""
        for child in image.children:
            self.add(repository, child.digest, child)
        self.blobs |= {digest(blob): blob for blob in image.blobs}
        self.documents[repository, tag] = image.document
        self.documents[repository, image.digest] = image.document
        return image.digest

    @property
    def lines(self) -> list[str]:
        return [each.line for each in self.seen]

    @property
    def root(self) -> str:
        return f"http://{self.host}"


@contextmanager
def running(registry: FakeRegistry | None = None) -> Iterator[FakeRegistry]:
    """Serve a registry on a free port of 127.0.0.1 until the end of the block."""
    registry = registry or FakeRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry))
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


# A word that is in no name or text of the program: nothing that is written may have it.
USER, PASSWORD = "alice", "correct-horse"
LOGIN = basic(USER, PASSWORD)


class _Handler(BaseHTTPRequestHandler):
    registry: FakeRegistry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _route(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        query = parse_qs(parts.query)
        self.registry.seen.append(
            Seen(method=self.command, path=parts.path, query=query, headers=headers, body=body)
        )
        if parts.path == "/token":
            self._token(parse_qs(body.decode()))
        elif self.registry.statuses:
            self._answer(self.registry.statuses.pop(0), self.registry.error_body)
        elif parts.path.startswith("/v2/") and not self._is_allowed(headers):
            refusal = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
            self._answer(401, refusal, {"WWW-Authenticate": self._challenge(parts.path)})
        else:
            self._content(parts.path, headers)

    def _is_allowed(self, headers: Mapping[str, str]) -> bool:
        shown = headers.get("authorization", "")
        match self.registry.wants:
            case "nothing":
                return True
            case "basic":
                return shown == LOGIN
            case "bearer":
                return shown.removeprefix("Bearer ") in self.registry.tokens

    def _challenge(self, path: str) -> str:
        if self.registry.challenge is not None:
            return self.registry.challenge
        if self.registry.wants == "basic":
            return 'Basic realm="a \\"small\\" registry"'
        repository = path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
        realm = f'realm="{self.registry.root}/token",service="small"'
        return f'Bearer {realm},scope="repository:{repository}:pull"'

    def _token(self, form: Mapping[str, list[str]]) -> None:
        registry = self.registry
        shown = self.headers.get("authorization")
        refreshed = form.get("refresh_token") == ["refresh-me"]
        anonymous = self.command == "GET" and shown is None and registry.anonymous_tokens
        if not (refreshed or shown == LOGIN or anonymous):
            self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}')
            return
        token = f"token-{len(registry.tokens) + 1}"
        registry.tokens.append(token)
        answer = registry.token_answer
        given = {"token": token} if answer is None else {"token": token, **answer}
        self._answer(registry.token_status, json.dumps(given).encode())

    def _content(self, path: str, headers: Mapping[str, str]) -> None:
        rest, kind, name = path.removeprefix("/v2/").rpartition("/manifests/")
        if kind:
            self._manifest(rest, name, headers)
            return
        name = path.rpartition("/")[2]
        if self.registry.blobs_at is not None and path.startswith("/v2/"):
            self._answer(307, b"", {"Location": f"{self.registry.blobs_at}/elsewhere/{name}"})
        elif name in self.registry.blobs:
            self._answer(200, self._damaged(self.registry.blobs[name]))
        else:
            self._answer(404, b"")

    def _manifest(self, repository: str, name: str, headers: Mapping[str, str]) -> None:
        registry = self.registry
        document = registry.documents.get((repository, name))
        if self.command == "HEAD" and registry.head_status is not None:
            self._answer(registry.head_status, b"")
        elif document is None or document.media_type not in headers.get("accept", ""):
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}')
        else:
            given = {"Content-Type": registry.content_type or document.media_type}
            if registry.digest_header is not None:
                wanted = registry.digest_header
                given["Docker-Content-Digest"] = document.digest if wanted == "right" else wanted
            self._answer(200, self._damaged(document.body), given)

    def _damaged(self, body: bytes) -> bytes:
        return body + self.registry.damage

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _handler(served: FakeRegistry) -> type[_Handler]:
    class Handler(_Handler):
        registry = served

    return Handler
