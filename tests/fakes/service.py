"""A template service on loopback that remembers every request and fails on demand.

It keeps the rules that decide what a client may do (protocol, 3, 4 and 5): names own template IDs,
tags are bound at registration, a registration fails waiting builds that share a tag, a trigger
cancels building ones. It also serves manifests, for what a publisher asks of a registry.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests.contract.contract import Exchange, faults

PAGE = 100
ACCEPTED = 202
NOT_FOUND = 404
SIGNATURE = "s1gned-and-secret"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as it came in; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer; `body` is sent as JSON unless it is bytes."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request that matches, instead of or after what it asks for.

    `answer` is given without carrying it out; with `lost` it is carried out and the connection
    closed; with neither the connection is closed at once.
    """

    method: str
    path: str
    answer: Answer | None = None
    lost: bool = False


@dataclass(kw_only=True)
class Build:
    id: str
    template: str
    tags: tuple[str, ...]
    state: str = "waiting"
    script: deque[str] = field(default_factory=deque)
    logs: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reason: dict[str, str] | None = None
    triggers: int = 0
    body: Any = None
    registered: Any = None

    def settle(self, state: str) -> None:
        """Put the build into a state in which it stays."""
        self.state = state
        self.script.clear()


def error(status: int, message: str, **headers: str) -> Answer:
    return Answer(status=status, body={"code": status, "message": message}, headers=headers)


class FakeService:
    """The service. `script` is what later builds go through once triggered, one state a poll."""

    def __init__(self) -> None:
        self.requests: list[Sent] = []
        self.faults: list[Fault] = []
        self.names: dict[str, str] = {}
        self.builds: dict[str, Build] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.script: Sequence[str] = ("building", "ready")
        self.scripts: deque[Sequence[str]] = deque()
        self.reasons: deque[dict[str, str] | None] = deque()
        self.logs: list[dict[str, str]] = []
        self.has_tags = True
        self.has_v3 = True
        self.has_template = True
        self.list_shape = "novita"  # or "e2b", or "v1": no list but the oldest
        self.page = PAGE
        self.foreign: set[str] = set()  # names of other teams' published templates
        self.in_use: dict[str, str] = {}  # why a template cannot be deleted
        self.slow = ""  # what the status says while the trigger's answer waits for the build's end
        self.slow_s = 0.5
        self.lacks: list[tuple[str, str, int]] = []
        self.has_logs = True
        self.harmful_triggers: list[str] = []
        self.files: dict[str, bytes] = {}  # archives by hash
        self.storage = ""  # where they are kept, this service if nowhere else
        self.lock = threading.RLock()
        self.url = ""

    def fail(self, method: str, path: str, *answers: Answer) -> None:
        """Give these answers to the next requests that match, in order."""
        self.faults += [Fault(method=method, path=path, answer=answer) for answer in answers]

    def lose(self, method: str, path: str, *, carried_out: bool) -> None:
        """Break off the next request that matches."""
        self.faults.append(Fault(method=method, path=path, lost=carried_out))

    def lack(self, method: str, path: str, status: int = 404) -> None:
        """Know nothing of these calls; 404 is a router's, with a text of its own."""
        self.lacks.append((method, path, status))

    def sent(self, method: str, path: str) -> list[Sent]:
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    def register(self, name: str, tags: Sequence[str], body: Any = None) -> Build:
        """Do what a registration does; tests also make the builds of other clients with it."""
        template = self.names.setdefault(name, f"tmpl{len(self.names):016}")
        tags = tuple(tags) or ("default",)
        for build in self.builds.values():
            if build.template == template and build.state == "waiting" and {*tags} & {*build.tags}:
                self._end(build, "The build was canceled because it was superseded by a newer one.")
        number = len(self.builds) + 1
        build = Build(
            id=f"00000000-0000-4000-8000-{number:012}",
            template=template,
            tags=tags,
            script=deque(self.scripts.popleft() if self.scripts else self.script),
            logs=list(self.logs),
            reason=self.reasons.popleft() if self.reasons else None,
            registered=body,
        )
        self.builds[build.id] = build
        self.tags.update({(template, tag): build.id for tag in tags})
        return build

    def trigger(self, build: Build, body: Any = None) -> Answer:
        build.triggers += 1
        for other in self.builds.values():
            shares = other.template == build.template and {*other.tags} & {*build.tags}
            if other is not build and other.state == "building" and shares:
                self._end(other, "build was cancelled")
        if build.state != "waiting":
            self.harmful_triggers.append(build.id)
            return error(400, "build is not in waiting state")
        build.state, build.body = "building", body
        return Answer(status=202)

    def put_manifest(self, repository: str, tag: str, body: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        for reference in (tag, digest):
            self.manifests[repository, reference] = body
        return digest

    def _end(self, build: Build, message: str) -> None:
        build.settle("error")
        build.reason = {"message": message}

    # --- answering ---------------------------------------------------------------------------

    def answer(self, request: Sent) -> Answer | None:
        """Return the answer, None to close the connection without one."""
        for method, path, status in self.lacks:
            if method == request.method and re.fullmatch(path, request.path):
                with self.lock:
                    self.requests.append(request)
                text = b"404 page not found" if status == NOT_FOUND else b"no"
                return Answer(status=status, body=text)
        if self.slow and request.method == "POST" and "/builds/" in request.path:
            return self._slow(request)
        with self.lock:
            self.requests.append(request)
            fault = next(
                (
                    each
                    for each in self.faults
                    if each.method == request.method and re.search(each.path, request.path)
                ),
                None,
            )
            if fault is None:
                return self._route(request)
            self.faults.remove(fault)
            if fault.lost:
                self._route(request)
            return fault.answer

    def _slow(self, request: Sent) -> Answer:
        """Answer a trigger when the build is done, as NovitaBox does."""
        with self.lock:
            self.requests.append(request)
            build = self.builds[request.path.rpartition("/")[2]]
            answer = self.trigger(build, request.body)
            if answer.status == ACCEPTED:
                build.settle(self.slow)
        if answer.status == ACCEPTED:
            time.sleep(self.slow_s)
            with self.lock:
                build.settle("ready")
        return answer

    def _route(self, request: Sent) -> Answer:
        build = r"/templates/(?P<template>[^/]+)/builds/(?P<build>[^/]+)"
        manifest = r"/v2/(?P<repository>.+)/manifests/(?P<reference>.+)"
        for method, pattern, act in (
            ("POST", r"/v3/templates", self._post_v3),
            ("POST", r"/v2/templates", self._post_v2),
            ("POST", r"/templates/tags", self._assign),
            ("DELETE", r"/templates/tags", self._unassign),
            ("POST", r"/templates(?:/(?P<template>[^/]+))?", self._post_v1),
            ("POST", rf"(?:/v2)?{build}", self._start),
            ("GET", rf"{build}/status", self._status),
            ("GET", r"/templates/(?P<template>[^/]+)/files/(?P<files>[0-9a-f]{64})", self._link),
            ("PUT", r"/storage/(?P<files>[0-9a-f]{64})", self._put),
            ("GET", r"/templates/aliases/(?P<name>[^/]+)", self._alias),
            ("GET", r"/templates/(?P<template>[^/]+)/tags", self._tags),
            ("GET", r"/templates", self._list),
            ("GET", r"/v2/templates", self._list_v2),
            ("GET", r"/templates/(?P<template>[^/]+)", self._template),
            ("DELETE", r"/templates/(?P<template>[^/]+)", self._delete),
            ("GET", manifest, self._manifest),
            ("HEAD", manifest, self._manifest),
        ):
            match = re.fullmatch(pattern, request.path)
            if request.method == method and match:
                routed: Callable[..., Answer] = act
                return routed(request, **match.groupdict())
        return error(404, "no such route")

    def _ids(self, build: Build) -> Mapping[str, Any]:
        return {"templateID": build.template, "buildID": build.id, "public": False}

    def _post_v3(self, request: Sent) -> Answer:
        if not self.has_v3:
            return error(404, "no matching operation was found")
        build = self.register(request.body["name"], request.body.get("tags", ()), request.body)
        return Answer(status=202, body={**self._ids(build), "tags": list(build.tags)})

    def _post_v2(self, request: Sent) -> Answer:
        return Answer(
            status=202, body=self._ids(self.register(request.body["alias"], (), request.body))
        )

    def _post_v1(self, request: Sent, template: str | None) -> Answer:
        name = request.body["alias"]
        if template is None and name in self.names:
            return error(403, f"Alias '{name}' already used")
        if template is not None and template not in self.names.values():
            return error(404, f"Template '{template}' not found")
        return Answer(status=202, body=self._ids(self.register(name, (), request.body)))

    def _start(self, request: Sent, template: str, build: str) -> Answer:
        if build not in self.builds or self.builds[build].template != template:
            return error(404, "Error when getting template: not found")
        return self.trigger(self.builds[build], request.body)

    def _link(self, request: Sent, template: str, files: str) -> Answer:
        del request
        if template not in self.names.values():
            return error(404, "Error when getting template: not found")
        url = f"{self.storage or self.url}/storage/{files}?signature={SIGNATURE}"
        return Answer(status=201, body={"present": files in self.files, "url": url})

    def _put(self, request: Sent, files: str) -> Answer:
        if "content-length" not in request.headers:
            return Answer(status=501, body=b"<Error><Code>NotImplemented</Code></Error>")
        self.files[files] = request.body
        return Answer(status=200)

    def _status(self, request: Sent, template: str, build: str) -> Answer:
        found = self.builds.get(build)
        if found is None:
            return error(400, f"Build '{build}' not found")
        if (found.state != "waiting" or found.triggers) and found.script:
            found.state = found.script.popleft()
        offset = int(request.query.get("logsOffset", "0"))
        is_waiting = found.state == "waiting"
        body: dict[str, Any] = {
            "templateID": template,
            "buildID": build,
            "status": found.state,
            "logs": [] if is_waiting else found.lines[offset:],
            "logEntries": [] if is_waiting else found.logs[offset : offset + PAGE],
        }
        if not self.has_logs:
            del body["logs"], body["logEntries"]
        if found.state == "error" and found.reason is not None:
            body["reason"] = found.reason
        return Answer(body=body)

    def _alias(self, request: Sent, name: str) -> Answer:
        del request
        template = self.names.get(unquote(name))
        if template is None:
            return error(404, f"template '{name}' not found")
        return Answer(body={"templateID": template, "public": False})

    def _tags(self, request: Sent, template: str) -> Answer:
        del request
        if not self.has_tags:
            return error(405, "method not allowed")
        rows = [
            {"tag": tag, "buildID": build, "createdAt": "2026-01-01T00:00:00Z"}
            for (owner, tag), build in self.tags.items()
            if owner == template
        ]
        return Answer(body=rows)

    def _assign(self, request: Sent) -> Answer:
        if not self.has_tags:
            return error(404, "404 page not found")
        name, _, build = request.body["target"].partition(":")
        if name not in self.names:
            return error(404, f"template '{name}' not found")
        self.tags.update({(self.names[name], tag): build for tag in request.body["tags"]})
        return Answer(status=201, body={"tags": request.body["tags"], "buildID": build})

    def _unassign(self, request: Sent) -> Answer:
        if not self.has_tags:
            return error(404, "404 page not found")
        name = request.body["name"]
        if "default" in request.body["tags"]:
            return error(400, "Cannot delete the 'default' tag")
        if name not in self.names:
            return error(404, f"template '{name}' not found")
        for tag in request.body["tags"]:
            self.tags.pop((self.names[name], tag), None)
        return Answer(status=204)

    def _list(self, request: Sent) -> Answer:
        del request
        return Answer(body=self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for name, template in self.names.items():
            build = self.tags.get((template, "default"), "00000000-0000-0000-0000-000000000000")
            mine = [each for each in self.builds.values() if each.template == template]
            if name not in self.foreign:
                rows.append(
                    {"templateID": template, "aliases": [name], "names": [f"team/{name}"],
                     "buildID": build, "cpuCount": 2, "memoryMB": 1024, "diskSizeMB": 5,
                     "public": False, "buildCount": len(mine), "buildStatus": "ready",
                     "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-02T00:00:00Z"}
                )  # fmt: skip
        return rows

    def _list_v2(self, request: Sent) -> Answer:
        if self.list_shape == "v1":
            return error(404, "no matching operation was found")
        rows = self._rows()
        if self.list_shape == "e2b":
            return self._page(rows, request)
        page = int(request.query["page"])
        size = min(int(request.query["limit"]), self.page)
        body = {"templates": rows[(page - 1) * size : page * size], "total": len(rows),
                "page": page, "limit": size, "totalPages": -(-len(rows) // size)}  # fmt: skip
        return Answer(body=body)

    def _page(self, rows: list[dict[str, Any]], request: Sent, **rest: Any) -> Answer:
        """Answer with a page of rows as E2B does: the header tells the next."""
        start = int(request.query.get("nextToken", "0"))
        end = start + min(int(request.query.get("limit", "100")), self.page)
        headers = {"X-Next-Token": str(end)} if end < len(rows) else {}
        body = {**rest, "builds": rows[start:end]} if rest else rows[start:end]
        return Answer(body=body, headers=headers)

    def _template(self, request: Sent, template: str) -> Answer:
        if not self.has_template:
            return error(404, "no matching operation was found")
        names = [name for name, owner in self.names.items() if owner == template]
        if {*names} & self.foreign:
            return error(403, f"You don't have access to this sandbox template '{template}'")
        if not names:
            return error(404, f"Template {template} not found")
        rows = [
            {"buildID": each.id, "status": each.state, "cpuCount": 2, "memoryMB": 1024,
             "createdAt": f"2026-01-01T00:{number:02}:00Z"}
            for number, each in enumerate(self.builds.values(), 1)
            if each.template == template
        ]  # fmt: skip
        return self._page(rows[::-1], request, templateID=template, aliases=names)

    def _delete(self, request: Sent, template: str) -> Answer:
        del request
        if template in self.in_use:
            text = f"cannot delete template '{template}' because there are {self.in_use[template]}"
            return error(400, text)
        names = [name for name, owner in self.names.items() if template in {owner, name}]
        if not names:
            return error(404, f"template '{template}' not found")
        owner = self.names.pop(names[0])
        self.builds = {key: each for key, each in self.builds.items() if each.template != owner}
        self.tags = {key: build for key, build in self.tags.items() if key[0] != owner}
        return Answer(status=204)

    def _manifest(self, request: Sent, repository: str, reference: str) -> Answer:
        del request
        body = self.manifests.get((repository, reference))
        if body is None:
            return error(404, "manifest unknown")
        headers = {
            "docker-content-digest": "sha256:" + hashlib.sha256(body).hexdigest(),
            "content-type": "application/vnd.oci.image.manifest.v1+json",
        }
        return Answer(body=body, headers=headers)


@contextmanager
def serving(service: FakeService) -> Iterator[FakeService]:
    """Serve on a free port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length", "0"))
            content = self.rfile.read(length)
            answer = service.answer(
                Sent(
                    method=self.command,
                    path=parts.path,
                    query={name: values[0] for name, values in parse_qs(parts.query).items()},
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=content
                    if self.command == "PUT"
                    else json.loads(content)
                    if content
                    else None,
                )
            )
            if answer is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._reply(answer)

        do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the library's names

        def _reply(self, answer: Answer) -> None:
            body = answer.body if isinstance(answer.body, bytes) else b""
            if answer.body is not None and not body:
                body = json.dumps(answer.body).encode()
            with suppress(OSError):
                self.send_response(answer.status)
                for name, value in {"content-length": str(len(body)), **answer.headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    # What our client asks, in whatever test, is as the API is described; some tests are about
    # other addresses, and about going there without a key.
    ours = [r for r in service.requests if re.match(r"/(v\d/)?templates", r.path)]
    with_key = [r for r in ours if {"x-api-key", "authorization"} & {*r.headers}]
    assert faults(exchange(each) for each in with_key) == []


def exchange(sent: Sent) -> Exchange:
    """Return a request as the description of the API is held against it."""
    body = sent.body if isinstance(sent.body, bytes) or sent.body is None else json.dumps(sent.body)
    return Exchange(
        method=sent.method,
        target=f"{sent.path}?{urlencode(sent.query)}",
        headers=sent.headers,
        body=body.encode() if isinstance(body, str) else body or b"",
    )
