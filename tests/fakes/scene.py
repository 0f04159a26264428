"""A workspace with what it builds against: engine, registry, service, and traps before them."""

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.errors import SandboxfileError
from sandboxfile.local.limits import Limits
from sandboxfile.local.service import LocalService
from sandboxfile.model import Login, Secret
from sandboxfile.service import TemplateService
from sandboxfile.web import Web
from tests.fakes import calls
from tests.fakes.program import Workspace, workspace
from tests.fakes.tripwire import Gate, Tripwire, gate, tripwire

KEY = "key-of-the-tests"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`building` is asked by a RUN of each template, `booting` by its ready command."""

    workspace: Workspace
    api: str
    service: Tripwire
    registry: Tripwire
    near: str
    client: TemplateService
    building: Gate
    booting: Gate
    engine: Engine
    base: str
    salt: str

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def names(self) -> tuple[str, str]:
        return f"a-{self.salt}", f"b-{self.salt}"

    def write(self, *names: str, extra: str = "") -> None:
        """Write `novita.yaml`: each template asks both gates on its way."""
        templates = "".join(self._template(name) for name in names or (self.name,))
        self.workspace.write(f"version: 1\n{self._target()}templates:\n{templates}{extra}")

    def _template(self, name: str) -> str:
        return (
            f"  {name}:\n"
            f"    base: {self.base}\n"
            "    resources: {cpu: 1, memory: 128}\n"
            "    tags: [blue]\n"
            f"    run: ['echo {name} > /salt', '{self.building.command()}']\n"
            f"    ready: '{self.booting.command()}'\n"
        )

    def _target(self) -> str:
        if self.workspace.target == "local":
            return ""
        return (
            "targets:\n  far:\n    provider: novita\n"
            f"    api_url: http://{self.service.address}\n    api: {self.api}\n"
            f"    registry: {self.registry.address}/team\n"
        )

    # --- what must hold at the end of it all -------------------------------------------------

    def check(self, *names: str) -> None:
        """Everything is built, once, and the lock says where."""
        rows = calls.templates(f"http://{self.near}", KEY)
        for name in names or (self.name,):
            owners = [row["templateID"] for row in rows if name in row["aliases"]]
            entry = self.workspace.entries[name]
            assert owners == [entry.template_id]
            assert entry.tags == ("blue",)
            assert self.client.find(name) == entry.template_id
            assert [each.build_id for each in self.client.tags(entry.template_id)
                    if each.tag == "blue"] == [entry.build_id]  # fmt: skip
        triggers = self.service.passed("POST", r"^(/v2)?/templates/[^/]+/builds/[^/]+$")
        # A trigger that arrives when the build is not waiting is answered 400.
        assert {each.status for each in triggers} <= {200, 202, 204}
        assert len({each.path for each in triggers}) == len(triggers)
        assert self.leftovers() == []

    def containers(self) -> list[str]:
        """Return the containers that the engine has of these templates' images."""
        client = docker.APIClient(base_url=self.workspace.environ["DOCKER_HOST"])
        images = [
            image["Id"]
            for name in self.names
            for image in client.images(filters={"label": f"sandboxfile.template={name}"})
        ]
        found = [
            container["Id"]
            for image in images
            for container in client.containers(all=True, filters={"ancestor": image})
        ]
        client.close()
        return found

    def leftovers(self) -> list[str]:
        """Return files that a killed run has left in the workspace."""
        known = {"novita.yaml", "novita.lock", "novita.local.lock", ".sandboxfile"}
        return sorted(path.name for path in self.workspace.root.iterdir() if path.name not in known)


@contextmanager
def scene(
    directory: Path,
    *,
    engine: Engine,
    registry: str,
    base: str,
    api: str,
    environ: Mapping[str, str],
    faults: tuple[str, ...] = (),
    login: Login | None = None,
) -> Iterator[Scene]:
    """Set the scene; `api` is v3, v1, or `local` for the service inside the program.

    Templates are based on `base`, an image of the engine, which is pushed to the registry. Where
    that wants a `login`, the service is given it, and the user has done `docker login`.
    """
    salt = uuid.uuid4().hex[:8]
    with ExitStack() as stack:
        images = stack.enter_context(tripwire(registry))
        service = LocalService(
            engine,
            directory / "service",
            logins=lambda _: login,
            ready_interval_s=0.1,
            limits=Limits(ready=30.0),
            registry=f"{images.address}/team",
            faults=faults,
        )
        stack.callback(service.stop)
        near = service.start().removeprefix("http://")
        front = stack.enter_context(tripwire(near))
        web = Web(user_agent="sandboxfile-tests")
        stack.callback(web.close)
        client = TemplateService(web, f"http://{near}", Secret(KEY), Secret(KEY))
        target = "local" if api == "local" else "far"
        given = {**environ, "NOVITA_API_KEY": KEY, "NOVITA_ACCESS_TOKEN": KEY}
        stack.callback(_remove, engine, near, salt)
        if login is not None:
            _log_in(directory / "home", login, registry, images.address)
        yield Scene(
            workspace=stack.enter_context(workspace(directory, target, given)),
            api=api,
            service=front,
            registry=images,
            near=near,
            client=client,
            building=stack.enter_context(gate()),
            booting=stack.enter_context(gate()),
            engine=engine,
            base=_at_registry(engine, base, registry, login),
            salt=salt,
        )


def _log_in(home: Path, login: Login, *hosts: str) -> None:
    """Do what `docker login` does."""
    pair = f"{login.username}:{login.password.reveal()}"
    auth = {"auth": base64.b64encode(pair.encode()).decode()}
    (home / ".docker").mkdir(parents=True)
    config = {"auths": dict.fromkeys(hosts, auth)}
    (home / ".docker/config.json").write_text(json.dumps(config))


def _at_registry(engine: Engine, image: str, registry: str, login: Login | None) -> str:
    repository = f"{registry}/sandboxfile-tests-base"
    engine.push(
        image, repository, "1",
        login=login, emit=lambda _: None, cancel=Cancel(), job="base",
    )  # fmt: skip
    return f"{repository}:1"


def _remove(engine: Engine, near: str, salt: str) -> None:
    # Snapshots first: an image is not removed while another is based on it.
    owners = [row["templateID"] for row in calls.templates(f"http://{near}", KEY)]
    for owner in (*owners, f"a-{salt}", f"b-{salt}"):
        with suppress(SandboxfileError):
            engine.remove_labelled({"sandboxfile.template": owner})
