"""Publish on this machine: the local template service, started for the run, by the usual API."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock

from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.errors import SandboxfileError
from sandboxfile.events import Emit
from sandboxfile.frozen import replace
from sandboxfile.journal import Journal
from sandboxfile.local.assembly import REPOSITORY
from sandboxfile.local.limits import LIMITS
from sandboxfile.local.service import LocalService
from sandboxfile.model import Login, Secret, Target
from sandboxfile.registry import Registry
from sandboxfile.service import TemplateService
from sandboxfile.targets import Release, Snapshot
from sandboxfile.targets.novita_v3 import NovitaV3
from sandboxfile.targets.patience import Patience
from sandboxfile.web import Web

# The service is this very process: no failure is a passing one, and asking costs next to nothing.
PATIENCE = Patience(
    poll_first=0.1, poll_most=0.5, failed_polls=5.0, waiting=60.0, settle=2.0, resettle=5.0,
    confirm=0.0, outlived=False,
)  # fmt: skip
# How fast images come says something of this machine's network, and nothing of the service.
_LIMITS = replace(LIMITS, base=LIMITS.build)
OWN_KEY = "the local service's own key"


class LocalPublisher:
    """Hands images over inside the engine; the rest is the way of every other target.

    The service runs only while something is published or asked, under a key of its own that
    nobody else learns.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        data: Path,
        journal: Path,
        target: Target,
        logins: Callable[[str], Login | None],
        emit: Emit,
        cancel: Cancel,
        ready_interval_s: float = 2.0,
        patience: Patience = PATIENCE,
    ) -> None:
        """Publish to the store in `data`; `journal` is the file of that target's journal.

        `emit` and `cancel` are the run's.
        """
        self._patience = patience
        self._engine = engine
        self._data = data
        self._journal = journal
        self._target = target
        self._logins = logins
        self._emit = emit
        self._cancel = cancel
        self._interval_s = ready_interval_s
        self._lock = Lock()
        self._service: LocalService | None = None
        self._web: Web | None = None
        self._publisher: NovitaV3 | None = None

    def expect(self, count: int) -> None:
        """Pass on how many snapshots are looked for."""
        self._started().expect(count)

    def find_image(self, release: Release) -> str | None:
        """Return the engine's id of the image."""
        return self._engine.find(release.image) if release.image else None

    def push(self, release: Release, *, emit: Emit, cancel: Cancel) -> str | None:  # noqa: ARG002
        """Push nothing: the service uses the same engine."""
        if release.image is None:
            return None
        found = self._engine.find(release.image)
        if found is None:
            raise SandboxfileError(
                f"the image `{release.image}` is not in the engine any more",
                hint="build again with `--force`",
                at=release.template.at,
            )
        return found

    def find_snapshot(self, release: Release) -> Snapshot | None:
        """Return a ready build of this content, unless an image of it has been removed.

        One is the template's own; by the other, which it was made of, the lock knows it.
        """
        found = self._started().find_snapshot(release)
        if found is None:
            return None
        ids = Registration(template_id=found.template_id, build_id=found.build_id)
        return found if self._is_whole(release, ids) else None

    def _is_whole(self, release: Release, ids: Registration) -> bool:
        if self._engine.find(f"{REPOSITORY}:{ids.build_id}") is None:
            return False
        return release.image is None or self._engine.find(release.image) is not None

    def snapshot(
        self, release: Release, image: str | None, *, emit: Emit, cancel: Cancel
    ) -> Snapshot:
        """Register, trigger, follow to the end."""
        return self._started().snapshot(release, image, emit=emit, cancel=cancel)

    def tag(
        self,
        release: Release,
        snapshot: Snapshot,
        *,
        remove: tuple[str, ...],
        emit: Emit,
        cancel: Cancel,
    ) -> tuple[str, ...]:
        """Move the tags."""
        return self._started().tag(release, snapshot, remove=remove, emit=emit, cancel=cancel)

    def close(self) -> None:
        """Stop the service; what it still builds is cancelled and its containers removed."""
        with self._lock, ExitStack() as stack:  # one that fails does not keep the others open
            if self._web:
                stack.callback(self._web.close)
            if self._publisher:
                stack.callback(self._publisher.close)
            if self._service:
                stack.callback(self._service.stop)

    def _started(self) -> NovitaV3:
        with self._lock:
            if self._publisher is None:
                self._publisher = self._start()
            return self._publisher

    def _start(self) -> NovitaV3:
        key = Secret(secrets.token_urlsafe(32))
        self._service = LocalService(
            self._engine,
            self._data,
            logins=self._logins,
            ready_interval_s=self._interval_s,
            limits=_LIMITS,
            key=key,
        )
        url = self._service.start()
        self._web = Web()
        return NovitaV3(
            service=TemplateService(self._web, url, key, key_source=OWN_KEY),
            journal=Journal.open(self._journal, emit=self._emit, cancel=self._cancel),
            registry=Registry(self._web, self._logins),
            engine=lambda: self._engine,
            target=self._target,
            logins=self._logins,
            emit=self._emit,
            patience=self._patience,
            usable=self._is_whole,
        )


class LocalTemplates:
    """The local template service for as long as its templates are asked about and retagged."""

    def __init__(
        self, *, engine: Engine, data: Path, logins: Callable[[str], Login | None]
    ) -> None:
        key = Secret(secrets.token_urlsafe(32))
        with ExitStack() as stack:
            web = stack.enter_context(closing(Web()))
            local = LocalService(engine, data, logins=logins, key=key)
            stack.callback(local.stop)
            self.service = TemplateService(web, local.start(), key, key_source=OWN_KEY)
            self._open = stack.pop_all()

    def close(self) -> None:
        """Stop the service."""
        self._open.close()
