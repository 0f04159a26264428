"""What a publisher needs around it in a test: a clock that only moves when slept on, an engine."""

from pathlib import Path
from typing import Any, cast

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.events import Emit, Event, Log, Notice
from sandboxfile.journal import Journal
from sandboxfile.model import (
    ImageBase,
    Login,
    Ready,
    RemoteBase,
    Resources,
    Secret,
    Target,
    Template,
)
from sandboxfile.places import Position
from sandboxfile.registry import Registry
from sandboxfile.service import TemplateService
from sandboxfile.targets import Release
from sandboxfile.targets.novita_v1 import NovitaV1
from sandboxfile.targets.novita_v3 import NovitaV3
from sandboxfile.targets.patience import Patience
from sandboxfile.web import Web
from tests.fakes.service import FakeService

KEYS = ("base", "start", "ready", "resources", "user", "workdir")
PLACES = {key: Position("novita.yaml", line, 3) for line, key in enumerate(KEYS, 10)}
AT = Position("novita.yaml", 2, 3)
MANIFEST = b'{"schemaVersion": 2, "config": {}, "layers": []}'


class Clock:
    """Seconds pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, cancel: Cancel, seconds: float) -> None:
        cancel.check()
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, **changes: Any) -> Patience:
        own = {"clock": self.read, "sleep": self.sleep, "random": lambda: 1.0}
        return Patience(**(own | changes))


class FakeEngine:
    """Pushes by handing a manifest to the fake service, which is also the registry."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.pushed: list[tuple[str, str, str, Login | None]] = []

    def push(
        self,
        image: str,
        repository: str,
        tag: str,
        *,
        login: Login | None,
        emit: Emit,
        cancel: Cancel,
        job: str,
    ) -> str:
        cancel.check()
        emit(Log(job=job, text="pushed"))
        self.pushed.append((image, repository, tag, login))
        name = repository.partition("/")[2]
        return self.service.put_manifest(name, tag, MANIFEST)


class World:
    """One service, one engine, one journal file; publishers come and go as runs do."""

    def __init__(self, service: FakeService, path: Path) -> None:
        self.service = service
        self.path = path
        self.clock = Clock()
        self.cancel = Cancel()
        self.engine = FakeEngine(service)
        self.events: list[Event] = []
        self.web = Web(user_agent="test", sleep=lambda _: None, cancel=self.cancel)
        self.key: Secret | None = Secret("key-123456")
        self.login: Login | None = Login(username="alice", password=Secret("pass-123456"))

    @property
    def registry(self) -> str:
        return self.service.url.removeprefix("http://") + "/acme"

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    @property
    def logs(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Log)]

    def journal(self, kind: type[Journal] = Journal) -> Journal:
        return kind.open(self.path, emit=self.events.append, cancel=self.cancel)

    def _engine(self) -> Engine:
        return cast("Engine", self.engine)

    def parts(self, **changes: Any) -> dict[str, Any]:
        target = Target(name="prod", provider="novita", registry=self.registry)
        web = changes.pop("web", self.web)
        parts = {
            "service": TemplateService(web, self.service.url, self.key),
            "journal": changes.pop("journal", None) or self.journal(),
            "registry": Registry(web, lambda _: None),
            "engine": self._engine,
            "target": target,
            "logins": lambda host: self.login if host in self.registry else None,
            "emit": self.events.append,
            "patience": self.clock.patience(),
        }
        return parts | changes

    def v3(self, **changes: Any) -> NovitaV3:
        return NovitaV3(**self.parts(**changes))

    def v1(self, **changes: Any) -> NovitaV1:
        return NovitaV1(**self.parts(**({"known": {}} | changes)))


def release(*, key: str = "ab", tags: tuple[str, ...] = (), **changes: Any) -> Release:
    fields = {
        "name": "api",
        "base": ImageBase(image="debian:12", at=AT),
        "instructions": (),
        "user": None,
        "workdir": None,
        "start": "python -m app",
        "ready": Ready(kind="command", value="test -e /ok", at=AT),
        "resources": Resources(cpu=2, memory=1024),
        "tags": tags,
        "pre_boot": None,
        "at": AT,
        "places": PLACES,
        **changes,
    }
    template = Template(**fields)
    remote = isinstance(template.base, RemoteBase)
    return Release(
        template=template,
        image=None if remote else f"sandboxfile/{template.name}:sf-{'cd' * 8}",
        image_key="sf1:" + "cd" * 32,
        template_key="sf1:" + key * 32,
        tags=tags,
    )


CONTENT = release().content_tag
