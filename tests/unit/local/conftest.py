"""A store, and the API over it with a builder that never gets to work."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sandboxfile.engines.docker import DockerEngine
from sandboxfile.engines.transport import Address
from sandboxfile.local import names
from sandboxfile.local.admission import Admission
from sandboxfile.local.assembly import Workshop
from sandboxfile.local.boot import Patience
from sandboxfile.local.builder import Builder
from sandboxfile.local.endpoints import Api
from sandboxfile.local.files import Files
from sandboxfile.local.records import Flow, Registered, Registration, Result, Setting
from sandboxfile.local.store import Store
from sandboxfile.local.wire import Answer, Request
from sandboxfile.model import Resources, Secret
from tests.contract.contract import Exchange, faults

KEY = "sk_test"
NOON = 1_700_000_000.0


class Clock:
    """A clock that is moved by hand, and a microsecond on at each look."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        self.now += 0.000_001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store(tmp_path / "data", now=clock)
    yield opened
    opened.close()


def register(store: Store, name: str, *tags: str, flow: Flow = "v2") -> Registered:
    return store.register(
        Registration(flow=flow, name=names.parse(name), tags=tags, resources=Resources())
    )


def finish(store: Store, made: Registered) -> Registered:
    """Bring a registered build to ready."""
    store.trigger(made.template, made.build)
    result = Result(image=f"image:{made.build}", setting=Setting(user="user"), start="", ready="")
    assert store.finish(made.build, result)
    return made


@dataclass(kw_only=True)
class Client:
    """Calls the API without a socket."""

    store: Store
    builder: Builder
    files: Files
    key: Secret | None = None
    strict: bool = False
    max_builds: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> Api:
        return Api(
            self.store,
            self.builder,
            self.files,
            admission=Admission(key=self.key, strict=self.strict),
            max_builds=self.max_builds,
        )

    def raw(
        self, line: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        method, path = line.split(" ", 1)
        answer = self.api.handle(
            Request(method=method, path=path, body=body, query=query or {}, headers=self.headers)
        )
        self._check(line, query or {}, answer)
        return answer.status, answer.body, dict(answer.headers)

    def _check(self, line: str, query: dict[str, str], answer: Answer) -> None:
        """Hold every answer to the description of the API, whatever else a test looks at."""
        method, path = line.split(" ", 1)
        exchange = Exchange(
            method=method,
            target=f"{path}?{urlencode(query)}",
            status=answer.status,
            answer_headers={name.lower(): value for name, value in answer.headers.items()},
            answer=answer.body,
        )
        if answer.status != 405 and b"no matching operation" not in answer.body:
            assert faults([exchange], requests=False) == []

    def call(self, line: str, body: object = None, **query: str) -> tuple[int, Any]:
        content = b"" if body is None else json.dumps(body).encode()
        status, answered, _ = self.raw(line, content, query)
        return status, json.loads(answered) if answered else None

    def made(self, name: str, *tags: str) -> Registered:
        """Register through the store; the shortest way to have a build."""
        return register(self.store, name, *tags)

    def ready(self, name: str, *tags: str) -> Registered:
        return finish(self.store, self.made(name, *tags))


def unreachable_engine() -> DockerEngine:
    return DockerEngine(Address(url="tcp://127.0.0.1:1"))


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Files:
    return Files(tmp_path / "data" / "files", now=clock)


@pytest.fixture
def client(store: Store, files: Files) -> Iterator[Client]:
    workshop = Workshop(
        store=store,
        engine=unreachable_engine(),
        logins=lambda _: None,
        registry=None,
        patience=Patience(),
    )
    builder = Builder(workshop, parallel=0)
    yield Client(store=store, builder=builder, files=files)
    builder.stop()
