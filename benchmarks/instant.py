"""A template service on loopback whose builds are ready at once.

With it a run costs what sandboxfile, the engine and the registry cost, and nothing of the time that
a service takes. Only what publishing asks for is here (docs/protocol.md, sections 3 to 5).
"""

import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
_BUILD = re.compile(r"(?:/v2)?/templates/([^/]+)/builds/([^/]+?)(/status)?")
_TAGS = re.compile(r"/templates/([^/]+)/tags")
_ALIAS = re.compile(r"/templates/aliases/([^/]+)")


class Templates:
    """What the service knows; it forgets nothing and refuses nothing."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        with self._lock:
            if path == "/v3/templates":
                return self._register(body["name"], body.get("tags") or ["default"])
            if path == "/templates/tags":
                return self._assign(body) if method == "POST" else (204, None)
            if found := _BUILD.fullmatch(path):
                return self._build(method, *found.groups()[:2])
            if found := _TAGS.fullmatch(path):
                return 200, self._listed(found[1])
            if found := _ALIAS.fullmatch(path):
                known = self._ids.get(found[1])
                return (200, {"templateID": known, "public": False}) if known else _NOT_FOUND
            return _NOT_FOUND

    def _register(self, name: str, tags: list[str]) -> Answer:
        template = self._ids.setdefault(name, uuid.uuid4().hex[:20])
        build = str(uuid.uuid4())
        self._tags.setdefault(template, {}).update(dict.fromkeys(tags, build))
        ids = {"templateID": template, "buildID": build, "public": False}
        return 202, {**ids, "names": [name], "aliases": [name], "tags": tags}

    def _build(self, method: str, template: str, build: str) -> Answer:
        if method == "POST":
            return 202, None
        state = {"templateID": template, "buildID": build, "status": "ready"}
        return 200, {**state, "logs": [], "logEntries": []}

    def _assign(self, body: Mapping[str, Any]) -> Answer:
        name, _, build = body["target"].partition(":")
        template = self._ids.get(name, name)
        self._tags.setdefault(template, {}).update(dict.fromkeys(body["tags"], build))
        return 201, {"tags": body["tags"], "buildID": build}

    def _listed(self, template: str) -> list[Mapping[str, str]]:
        found = self._tags.get(self._ids.get(template, template), {})
        made = "2026-01-01T00:00:00Z"
        return [{"tag": tag, "buildID": build, "createdAt": made} for tag, build in found.items()]


_NOT_FOUND: Answer = (404, {"code": 404, "message": "not found"})


@contextmanager
def serving() -> Iterator[str]:
    """Run the service in threads of this process; yield its address."""
    templates = Templates()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, said = templates.answer(self.command, self.path.partition("?")[0], body)
            content = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
