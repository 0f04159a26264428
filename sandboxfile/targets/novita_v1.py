"""Publish on the legacy line: register first, push to the service's own registry, then trigger."""

import shlex
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from sandboxfile import ready
from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.declined import NameTaken, Rejected
from sandboxfile.engines import Engine
from sandboxfile.errors import SandboxfileError
from sandboxfile.events import Emit, Notice
from sandboxfile.journal import Journal
from sandboxfile.loopback import is_loopback
from sandboxfile.model import Login, Secret, Target, Template
from sandboxfile.registry import Registry
from sandboxfile.service import TemplateService
from sandboxfile.targets import Release, Snapshot
from sandboxfile.targets.building import Building
from sandboxfile.targets.known import Gaps, find_v1, is_ready
from sandboxfile.targets.patience import Patience
from sandboxfile.targets.room import Room
from sandboxfile.targets.tagging import Tagging

REGISTRY_USER = "_e2b_access_token"
REPOSITORY = "e2b/custom-envs"
DEFAULT_USER = "user"  # of every sandbox, and of the start command (docs/protocol.md, 2.4)


class NovitaV1:
    """The order is the protocol's (docs/protocol.md, 2.3): the image's name is made of the IDs.

    `known` are the IDs of templates that the lock has: a name alone makes no rebuild here. The
    image goes to `docker.<domain>`, or to `<registry>/<template ID>:<build ID>` when the target
    names a registry; `logins` gives the login for either. `emit` is the run's.
    """

    def __init__(
        self,
        *,
        service: TemplateService,
        journal: Journal,
        registry: Registry,
        engine: Callable[[], Engine],
        target: Target,
        logins: Callable[[str], Login | None],
        emit: Emit,
        known: Mapping[str, str],
        patience: Patience | None = None,
    ) -> None:
        self._service = service
        self._journal = journal
        self._registry = registry
        self._engine = engine
        self._target = target
        self._logins = logins
        self._known = known
        self._patience = patience or Patience()
        self._room = Room(self._patience)
        self._gaps = Gaps(emit)

    def expect(self, count: int) -> None:
        """Take no note: nothing but the journal is asked."""

    def find_image(self, release: Release) -> str | None:  # noqa: ARG002 - the common face
        """Return None: an image here is named after its build and serves that one alone."""
        return None

    def push(self, release: Release, *, emit: Emit, cancel: Cancel) -> str | None:
        """Register the build, unless that is done, and push the image under its IDs."""
        self._check(release)
        return self._building(release, f"push:{release.template.name}", emit, cancel).prepared()

    def find_snapshot(self, release: Release) -> Snapshot | None:
        """Look in the journal; this API has no tag that would name content."""
        return is_ready(self._service, self._journal, release)

    def snapshot(
        self,
        release: Release,
        image: str | None,  # noqa: ARG002 - each build has its own
        *,
        emit: Emit,
        cancel: Cancel,
    ) -> Snapshot:
        """Trigger what was pushed and follow it; register and push first where that is missing."""
        self._check(release)
        job = f"snapshot:{release.template.name}"
        return self._building(release, job, emit, cancel).finish()

    def tag(
        self,
        release: Release,
        snapshot: Snapshot,
        *,
        remove: tuple[str, ...],
        emit: Emit,
        cancel: Cancel,
    ) -> tuple[str, ...]:
        """Give the build the user's tags where the service has them; `default` moves by itself."""
        cancel.check()
        if "assign" in self._gaps:
            return release.tags
        tagging = Tagging(
            service=self._service,
            name=release.template.name,
            snapshot=snapshot,
            emit=emit,
            cancel=cancel,
        )
        tagging.settle(release.tags, remove, lacking=lambda: self._gaps.note("assign"))
        return release.tags

    def close(self) -> None:
        """Close the journal; connections belong to who made them."""
        self._journal.close()

    # --- one build ---------------------------------------------------------------------------

    def _check(self, release: Release) -> None:
        if release.image is None:
            raise SandboxfileError(
                "the legacy line cannot build on a template that exists there only",
                hint="use a current domain, or start from an image",
                at=release.template.place("base"),
            )

    def _building(self, release: Release, job: str, emit: Emit, cancel: Cancel) -> Building:
        return Building(
            release=release,
            service=self._service,
            journal=self._journal,
            patience=self._patience,
            room=self._room,
            job=job,
            emit=emit,
            cancel=cancel,
            register=lambda: self._register(release, job, emit),
            trigger=lambda ids: self._service.trigger_v1(ids, timeout_s=self._patience.answer_most),
            prepare=lambda ids: self._push(release, ids, emit, cancel),
            owner=lambda: None,
        )

    def _register(self, release: Release, job: str, emit: Emit) -> Registration:
        """Register a build of the template that has this name, a new one only if none has."""
        name = release.template.name
        for text in _not_carried(release.template):
            emit(Notice(job=job, text=text, level="warning"))
        template_id = self._known.get(name) or find_v1(self._service, name, self._gaps)
        try:
            return self._ask(release, template_id)
        except NameTaken:
            # Made meanwhile by somebody of our team, or by an answer of ours that was lost.
            found = find_v1(self._service, name, self._gaps)
            if found is None or found == template_id:
                raise
            return self._ask(release, found)
        except Rejected as error:
            if template_id is None or error.status != 404:  # noqa: PLR2004 - an HTTP status
                raise
            text = f"template {template_id} of `{name}` is not there any more; making a new one"
            emit(Notice(job=job, text=text, level="warning"))
            return self._ask(release, None)

    def _ask(self, release: Release, template_id: str | None) -> Registration:
        template = release.template
        return self._service.register_v1(
            # The service keeps this text and shows it; what it boots is the image pushed.
            dockerfile=f"FROM {release.image}\n",
            alias=template.name,
            template_id=template_id,
            start=_inside(template, template.start),
            ready=_inside(template, ready.command(template.ready) if template.ready else None),
            cpu=template.resources.cpu,
            memory=template.resources.memory,
        )

    # --- its image ---------------------------------------------------------------------------

    def _push(self, release: Release, ids: Registration, emit: Emit, cancel: Cancel) -> str:
        assert release.image is not None
        root, login = self._destination()
        repository = f"{root}/{ids.template_id}"
        digest = self._engine().push(
            release.image,
            repository,
            ids.build_id,
            login=login,
            emit=emit,
            cancel=cancel,
            job=f"push:{release.template.name}",
        )
        self._registry.confirm(repository, digest)
        return f"{repository}@{digest}"

    def _destination(self) -> tuple[str, Login | None]:
        root = self._target.registry or f"{registry_host(self._target)}/{REPOSITORY}"
        return root, self._logins(root.partition("/")[0])


def _inside(template: Template, command: str | None) -> str | None:
    """Let a command begin in the template's directory: the service begins in the user's home."""
    if command is None or template.workdir is None:
        return command
    return f"cd {shlex.quote(template.workdir)} || exit 1; {command}"


def _not_carried(template: Template) -> list[str]:
    """Say what neither this API nor the image can tell the service (docs/protocol.md, 2.4)."""
    texts = []
    if template.user not in {None, DEFAULT_USER}:
        texts.append(
            f"the legacy service runs everything as `{DEFAULT_USER}`: "
            f"`user: {template.user}` is not carried over"
        )
    if template.workdir is not None:
        texts.append(
            f"the legacy service has no working directory: only start and ready commands "
            f"of `{template.name}` begin in {template.workdir}"
        )
    return texts


def registry_host(target: Target) -> str:
    """Return the host of a v1 service's own registry: the neighbour of its API, `docker.<domain>`.

    A local service is its own registry, at its own address.

    The token goes there, so it is the address that was checked for trust that decides, not
    `domain`, which may be written beside it. Raises SandboxfileError when there is no such host.
    """
    url = urlsplit(target.api_url or f"https://api.{target.domain}")
    host = url.hostname or ""
    if is_loopback(host):
        return url.netloc.rpartition("@")[2]
    if not host.startswith("api."):
        raise SandboxfileError(
            f"target `{target.name}` names no registry to push images to",
            hint="add `registry: host/repository`, one that the service can pull from",
            at=target.at,
        )
    return "docker." + host.removeprefix("api.")


def registry_login(token: Secret) -> Login:
    """Return the login for a v1 service's own registry (docs/protocol.md, 2.3, step 3)."""
    return Login(username=REGISTRY_USER, password=token)
