"""Publish where the service takes an image by digest: Novita's current domains and their kin."""

from collections.abc import Callable, Mapping

from sandboxfile import ready
from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.declined import Failing, Rejected
from sandboxfile.engines import Engine
from sandboxfile.errors import SandboxfileError, Unsupported
from sandboxfile.events import Emit
from sandboxfile.journal import Journal
from sandboxfile.model import Login, RegistryCredentials, RemoteBase, Target, Template, TemplateBase
from sandboxfile.registry import Registry
from sandboxfile.service import TemplateService
from sandboxfile.steps import Step
from sandboxfile.targets import Release, Snapshot
from sandboxfile.targets.building import Building
from sandboxfile.targets.failures import Asked
from sandboxfile.targets.known import Gaps, as_snapshot, is_ready, listed, owner
from sandboxfile.targets.patience import Patience
from sandboxfile.targets.room import Room
from sandboxfile.targets.roster import Roster
from sandboxfile.targets.tagging import Tagging
from sandboxfile.targets.uploading import Receiver, Uploader
from sandboxfile.triggers import BuildStep, Start


class NovitaV3:
    """Pushes to the target's registry, then has the service boot `repo@sha256:…` from there.

    `logins` gives the login for pushing to a registry, `pulls` what the service is to pull with.
    `emit` is the run's; `usable` tells whether a build that is ready there can be used here.
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
        pulls: Callable[[str], RegistryCredentials | None] | None = None,
        emit: Emit,
        patience: Patience | None = None,
        usable: Callable[[Release, Registration], bool] = lambda _release, _ids: True,
    ) -> None:
        self._service = service
        self._uploader = Uploader(service=service)
        self._journal = journal
        self._registry = registry
        self._engine = engine
        self._target = target
        self._logins = logins
        self._pulls = pulls or logins
        self._patience = patience or Patience()
        self._usable = usable
        self._room = Room(self._patience)
        self._gaps = Gaps(emit)
        self._roster = Roster(service)

    def expect(self, count: int) -> None:
        """List the account's templates once when many snapshots are looked for."""
        self._roster.expect(count)

    # --- the image ---------------------------------------------------------------------------

    def find_image(self, release: Release) -> str | None:
        """Return the image that the registry has under this image key, by digest."""
        if release.image is None or self._target.registry is None:
            return None
        repository = self._repository(release)
        digest = self._registry.head(f"{repository}:{release.image_tag}")
        return f"{repository}@{digest}" if digest else None

    def push(self, release: Release, *, emit: Emit, cancel: Cancel) -> str | None:
        """Push, and read the manifest back by its digest: a push is not done before that.

        What the registry has under this key already is not pushed again: the first build of a key
        is the one that all use. One that was asked for anew (`fresh`) takes its place.
        """
        if release.image is None:
            return None
        cancel.check()
        if not release.fresh and (there := self.find_image(release)) is not None:
            return there
        repository = self._repository(release)
        digest = self._engine().push(
            release.image,
            repository,
            release.image_tag,
            login=self._logins(_host(repository)),
            emit=emit,
            cancel=cancel,
            job=f"push:{release.template.name}",
        )
        self._registry.confirm(repository, digest)
        return f"{repository}@{digest}"

    def _repository(self, release: Release) -> str:
        if self._target.registry is None:
            raise SandboxfileError(
                f"target `{self._target.name}` names no registry to push images to",
                hint="add `registry: host/repository`, one that the service can pull from",
                at=self._target.at,
            )
        return f"{self._target.registry}/{repository_name(release)}"

    # --- the snapshot ------------------------------------------------------------------------

    def find_snapshot(self, release: Release) -> Snapshot | None:
        """Look in the journal, then under the content tag at the service."""
        if found := is_ready(self._service, self._journal, release):
            return found
        if (rows := self._roster.rows()) is not None:
            return listed(self._service, release, self._gaps, rows)
        return as_snapshot(owner(self._service, release, self._gaps))

    def snapshot(
        self, release: Release, image: str | None, *, emit: Emit, cancel: Cancel
    ) -> Snapshot:
        """Bring a build of exactly this content to its end."""
        hashes = _hashes(release)
        job = f"snapshot:{release.template.name}"
        start = self._start(release, image, hashes)
        return Building(
            release=release,
            service=self._service,
            journal=self._journal,
            patience=self._patience,
            room=self._room,
            job=job,
            emit=emit,
            cancel=cancel,
            register=lambda: self._register(release),
            trigger=lambda ids: self._service.trigger(
                ids, start, timeout_s=self._patience.answer_most
            ),
            prepare=lambda ids: self._upload(
                release, hashes, Receiver(ids=ids, job=job, emit=emit, cancel=cancel)
            ),
            owner=lambda: owner(self._service, release, self._gaps),
            usable=lambda ids: self._usable(release, ids),
            steps=_asked(release),
        ).finish()

    def _register(self, release: Release) -> Registration:
        """Register under the content tag alone: builds that share a tag cancel each other."""
        template = release.template
        resources = template.resources
        if "v3" not in self._gaps:
            try:
                return self._service.register(
                    template.name,
                    tags=(release.content_tag,),
                    cpu=resources.cpu,
                    memory=resources.memory,
                )
            except (Rejected, Failing) as error:
                if not error.is_missing:
                    raise
            self._gaps.note("v3")
        try:
            return self._service.register_v2(
                template.name, cpu=resources.cpu, memory=resources.memory
            )
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            raise Unsupported(
                f"this service takes no builds by the current API: {error.message}",
                hint=f"if it is of the legacy line, set `api: v1` in target `{self._target.name}`",
                at=self._target.at,
            ) from None

    def _upload(self, release: Release, hashes: Mapping[int, str], build: Receiver) -> str:
        """Bring the files of copies to the service; there is no image then."""
        if release.recipe is not None:
            files = {name: release.recipe.uploads[number] for number, name in hashes.items()}
            self._uploader.upload(build, files)
        return ""

    def _start(self, release: Release, image: str | None, hashes: Mapping[int, str]) -> Start:
        template, recipe = release.template, release.recipe
        if recipe is not None:
            return Start(
                image=recipe.image,
                template=recipe.template,
                login=self._pull_login(recipe.image),
                steps=tuple(_sent(step, hashes) for step in recipe.steps),
                start=template.start,
                ready=_ready(template),
                pre_boot=template.pre_boot,
                force=recipe.force,
            )
        remote = template.base.remote if isinstance(template.base, RemoteBase) else None
        return Start(
            image=image,
            template=remote if image is None else None,
            login=self._pull_login(image),
            steps=_steps(template),
            start=template.start,
            ready=ready.command(template.ready) if template.ready else None,
            pre_boot=template.pre_boot,
        )

    def _pull_login(self, image: str | None) -> RegistryCredentials | None:
        """Return what the service is to pull with: for the target's own registry, or a private one.

        What opens a registry is sent for images of that registry alone, and for a base image only
        when nobody gets it without: a file must not be able to hand out what is not needed.
        """
        if image is None or "/" not in image:
            return None
        host = _host(image)
        registry = self._target.registry
        if registry is not None and image.startswith(f"{registry}/"):
            return self._pulls(host)
        if self._target.provider == "local" or self._target.builder != "remote":
            return None
        return None if self._registry.is_public(image) else self._pulls(host)

    # --- tags --------------------------------------------------------------------------------

    def tag(
        self,
        release: Release,
        snapshot: Snapshot,
        *,
        remove: tuple[str, ...],
        emit: Emit,
        cancel: Cancel,
    ) -> tuple[str, ...]:
        """Give this build the user's tags and `default`, and take `remove` from it."""
        if "assign" in self._gaps:
            return release.tags
        moves_default = self._target.default and "default" not in release.held
        default = ("default",) if moves_default else ()
        # What was registered the older way learns only now which content it has.
        content = (release.content_tag,) if "v3" in self._gaps else ()
        wanted = (*release.tags, *content, *default)
        if not remove and snapshot.tags.issuperset(wanted):
            return release.tags
        tagging = Tagging(
            service=self._service,
            name=release.template.name,
            snapshot=snapshot,
            emit=emit,
            cancel=cancel,
        )
        tagging.settle(wanted, remove, lacking=lambda: self._gaps.note("assign"))
        return release.tags

    def close(self) -> None:
        """Close the journal; connections belong to who made them."""
        self._journal.close()


def repository_name(release: Release) -> str:
    """Return the template's name as a repository: what the engine's tag made of it."""
    name = (release.image or release.template.name).rpartition(":")[0]
    return name.rpartition("/")[2] or release.template.name


def _steps(template: Template) -> tuple[BuildStep, ...]:
    """Carry user and directory: the service ignores the image's own (docs/protocol.md, 3.6)."""
    steps = []
    if template.user is not None:
        steps.append(BuildStep(type="USER", args=(template.user,)))
    if template.workdir is not None:
        steps.append(BuildStep(type="WORKDIR", args=(template.workdir,)))
    return tuple(steps)


def _asked(release: Release) -> tuple[Asked, ...]:
    if release.recipe is not None:
        found = release.recipe.steps
        return tuple(Asked(at=each.at, script=each.args[0], title=each.title) for each in found)
    places = (release.template.place(step.type.lower()) for step in _steps(release.template))
    return tuple(Asked(at=place) for place in places)


def _hashes(release: Release) -> Mapping[int, str]:
    """Return the hash of the files of each copy that the service is to make; reads them."""
    uploads = release.recipe.uploads if release.recipe else {}
    return {number: upload.files_hash() for number, upload in uploads.items()}


def _sent(step: Step, hashes: Mapping[int, str]) -> BuildStep:
    return BuildStep(type=step.type, args=step.args, files_hash=hashes.get(step.copy, ""))


def _ready(template: Template) -> str | None:
    if template.ready is not None:
        return ready.command(template.ready)
    # With neither command the service would take over both from the template below, which an
    # image does not do: this is what it does itself without any (docs/protocol.md, 5.5).
    inherits = isinstance(template.base, TemplateBase) and template.start is None
    return "sleep 0" if inherits else None


def _host(repository: str) -> str:
    return repository.partition("/")[0]
