"""The local template service as one part: store, builder and server, started and stopped."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Box, Engine
from sandboxfile.errors import BuildFailed, SandboxfileError
from sandboxfile.frozen import dataclass, field
from sandboxfile.local import guest as guests
from sandboxfile.local import names
from sandboxfile.local.admission import Admission
from sandboxfile.local.assembly import OWNER, Workshop
from sandboxfile.local.boot import Boot, NotReady, Patience, boot
from sandboxfile.local.builder import PARALLEL, Builder
from sandboxfile.local.endpoints import Api
from sandboxfile.local.faults import Faults
from sandboxfile.local.files import Files
from sandboxfile.local.limits import LIMITS, Limits
from sandboxfile.local.pushed import Pushes
from sandboxfile.local.records import Build, Level, Refusal, Setting
from sandboxfile.local.registry import Registry
from sandboxfile.local.repositories import Repositories
from sandboxfile.local.server import Server
from sandboxfile.local.store import Store
from sandboxfile.local.tokens import Tokens
from sandboxfile.local.wire import Answer, Request
from sandboxfile.model import Login, Resources, Secret

TAIL = 20  # lines of a start command's output that an error shows


class Missing(SandboxfileError):  # noqa: N818 - named for what it says
    """A template, or its image, is not on this machine, or not any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBuild:
    """A finished template: where its image is, and what runs in it.

    `env` holds what build steps added to the image's own variables; `start` and `ready` are
    empty where the template has none.
    """

    template_id: str
    build_id: str
    image: str
    start: str
    ready: str
    user: str
    workdir: str
    env: Mapping[str, str]
    resources: Resources
    started_as: str = ""  # where that is somebody else than `user`, in another directory
    started_in: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started template; pass user, workdir and env to commands that are to feel at home."""

    box: Box
    user: str
    workdir: str
    env: Mapping[str, str] = field(default_factory=dict)

    def interact(self, argv: tuple[str, ...], *, tty: bool) -> int:
        """Run a command joined to our own streams; its exit status."""
        return self.box.interact(argv, tty=tty, user=self.user, workdir=self.workdir, env=self.env)


class LocalService:
    """Templates of this user on this machine, and, once started, the API for them."""

    def __init__(
        self,
        engine: Engine,
        data: Path,
        *,
        logins: Callable[[str], Login | None],
        ready_interval_s: float = 2.0,
        limits: Limits = LIMITS,
        strict: bool = False,
        registry: str | None = None,
        key: Secret | None = None,
        parallel: int = PARALLEL,
        max_builds: int | None = None,
        faults: Iterable[str] = (),
        host_names: Iterable[str] = (),
    ) -> None:
        """Open the store in `data`. Raises SandboxfileError, UsageError.

        `strict` takes only the credential kinds that E2B takes, `key` only that credential;
        `registry` is where v1 clients push to, None for the service's own, and `host_names` what it
        may be called besides `localhost`. `parallel` builds run at once, `max_builds` may wait
        or run (None: any number), none of them beyond `limits`. `faults` are those of
        `sandboxfile.local.faults`, for tests.
        """
        self.faults = Faults(faults)
        self.engine = engine
        self.patience = Patience(interval_s=ready_interval_s, timeout_s=limits.ready)
        self._store = Store(data, limits=limits)
        self._files = _files(data)
        repositories = Repositories(data / "registry")
        workshop = Workshop(
            store=self._store,
            engine=engine,
            logins=logins,
            registry=registry,
            patience=self.patience,
            files=self._files.path,
            pushes=Pushes(repositories, is_open=self._store.is_open),
            limits=limits,
        )
        self._builder = Builder(workshop, parallel=parallel)
        admission = Admission(key=key, strict=strict)
        self._api = Api(
            self._store, self._builder, self._files, admission=admission, max_builds=max_builds
        )
        self._registry = Registry(
            repositories,
            Tokens(is_valid=admission.is_valid, is_waiting=self._is_waiting),
            is_waiting=self._is_waiting,
        )
        self._host_names = frozenset(name.lower() for name in host_names)
        self._server: Server | None = None
        self._is_stopped = False

    def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, on loopback only; the base URL. Raises UsageError, SandboxfileError."""
        self._server = Server(
            self.faults.around(self._handle),
            host=host,
            port=port,
            streams=self._streams,
            host_names=self._host_names,
        )
        for sweep in (self._builder.sweep, self._files.sweep):
            Thread(target=sweep, daemon=True).start()
        return self._server.url

    def _handle(self, request: Request) -> Answer:
        owner = self._registry if self._registry.owns(request.path) else self._api
        return owner.handle(request)

    def _streams(self, method: str, path: str) -> bool:
        owner = self._registry if self._registry.owns(path) else self._api
        return owner.streams(method, path)

    def _is_waiting(self, template: str) -> bool:
        self._builder.settle()
        return self._store.is_waiting(template)

    def stop(self) -> None:
        """Stop listening, cancel builds that run, remove their containers; within 2 s or so."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._server:
            self._server.stop()
        self._builder.stop()
        self._store.close()

    @property
    def owner(self) -> str:
        """The name under which this process owns containers; their label."""
        return self._store.presence.id

    def resolve(self, name_or_ref: str) -> LocalBuild:
        """Return the newest ready build of `name`, `name:tag`, `name:<build id>` or an id.

        Raises Missing when there is none.
        """
        self._builder.settle()
        try:
            build = self._store.resolve(names.parse(name_or_ref))
        except (ValueError, Refusal) as error:
            why = "" if str(error) == f"template '{name_or_ref}' not found" else f": {error}"
            raise Missing(
                f"there is no local template `{name_or_ref}`{why}",
                hint="build it with `sandboxfile build --target local`",
            ) from None
        return _finished(build)


def _files(data: Path) -> Files:
    directory = data / "files"
    try:
        return Files(directory)
    except OSError as error:
        raise SandboxfileError(
            f"the local service cannot keep files in `{directory}`: {error}",
            hint="make that directory writable, or point XDG_DATA_HOME elsewhere",
        ) from error


def _finished(build: Build) -> LocalBuild:
    assert build.result is not None  # ready builds have one
    setting = build.result.setting
    return LocalBuild(
        template_id=build.template,
        build_id=build.id,
        image=build.result.image,
        start=build.result.start,
        ready=build.result.ready,
        user=build.result.user or setting.user,
        workdir=build.result.workdir or setting.workdir or "/",
        env=setting.env,
        resources=build.resources,
        started_as=setting.user if build.result.user else "",
        started_in=setting.workdir or "/" if build.result.user else "",
    )


@contextmanager
def open_box(
    service: LocalService, engine: Engine, name_or_ref: str, *, cancel: Cancel | None = None
) -> Iterator[Running]:
    """Run a template: a container of its image, its start command running anew and ready.

    A local template is a snapshot of the file system; processes are not in it, so the start
    command runs again at each boot. Raises Missing, SandboxfileError, Cancelled, and BuildFailed
    with the end of the start command's output.
    """
    build = service.resolve(name_or_ref)
    if engine.find(build.image) is None:
        raise Missing(
            f"the image of local template `{name_or_ref}` is no longer in the engine",
            hint="build it again with `sandboxfile build --force --target local`",
        )
    labels = {"sandboxfile.run": build.build_id, OWNER: service.owner}
    with guests.opened(engine, build.image, labels=labels, resources=build.resources) as box:
        _boot(box, build, service.patience, cancel or Cancel())
        yield Running(box=box, user=build.user, workdir=build.workdir, env=build.env)


def _boot(box: Box, build: LocalBuild, patience: Patience, cancel: Cancel) -> None:
    """Start the template if it has anything to start or to wait for."""
    if not build.start and not build.ready:
        return
    tail: list[str] = []

    def say(message: str, *, level: Level = "info") -> None:
        if level == "info":
            tail.append(message)
            del tail[:-TAIL]

    guest, _ = guests.enter(box)
    setting = Setting(
        user=build.started_as or build.user,
        workdir=build.started_in or build.workdir,
        env=build.env,
    )
    what = Boot(start=build.start, ready=build.ready, setting=setting)
    try:
        boot(guest, what, patience=patience, cancel=cancel, say=say)
    except NotReady as error:
        raise BuildFailed(
            f"the template does not start: {error.message}", step="start", tail=tuple(tail)
        ) from None
