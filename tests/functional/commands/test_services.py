"""Both generations of the service's API, through a registry with a password."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxfile.engines import Engine
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.web import Web
from tests.fakes.registry import PASSWORD, USER
from tests.fakes.shell import Ran, User
from tests.functional.commands.conftest import Serving

pytestmark = pytest.mark.engine

CONFIG = """\
version: 1
templates:
  {parent}:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    files: [hello.txt -> /srv/hello/]
    user: user
    workdir: /srv/hello
    start: pwd > /tmp/where; id -un > /tmp/who; sleep 600
    ready: until test -s /tmp/who; do sleep 0.1; done
    resources: {{cpu: 1, memory: 128}}
    tags: [stable]
  {child}:
    base: {{template: {parent}}}
    run: [cp /srv/hello/hello.txt /srv/copy]
targets:
  box:
    {{provider: novita, api_url: "{url}", api: {api}, registry: "{registry}", tags: [shared]}}
"""
KEY = "key-of-the-tests"
LOGIN = {"SANDBOXFILE_REGISTRY_USERNAME": USER, "SANDBOXFILE_REGISTRY_PASSWORD": PASSWORD}
V3_ONLY = pytest.mark.parametrize("api", ["v3"], indirect=True)


@dataclass(frozen=True, kw_only=True)
class World:
    """A service with who runs it, and a workspace of two templates built there."""

    host: User
    url: str
    registry: str
    client: User
    first: Ran
    parent: str
    child: str
    engine: Engine

    def forget(self) -> None:
        """Take the workspace's images out of the engine, as on another machine."""
        for name in (self.parent, self.child):
            self.engine.remove_labelled({"sandboxfile.template": name})
            assert self.engine.find(self.engine_tag(name)) is None

    def engine_tag(self, name: str) -> str:
        key = self.client.entries("box")[name].image_key.removeprefix("sf1:")
        return f"sandboxfile/{name}:sf-{key[:16]}"


def docker_config(directory: Path, host: str) -> str:
    """Do what `docker login` does."""
    directory.mkdir(parents=True)
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return str(directory)


@pytest.fixture(scope="module", params=["v3", "v1"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(
    *,
    api: str,
    serve: Serving,
    place: Callable[[str], User],
    engine: Engine,
    base: str,
    secured_registry: str,
    images: Callable[[str], None],
) -> World:
    """The v1 service reads what was pushed with its own login; v3 is given one by the client."""
    host, registry = place("host"), f"{secured_registry}/{api}"
    if api == "v1":
        config = docker_config(host.root / "docker", secured_registry)
        url = serve(host.having(DOCKER_CONFIG=config), "--v1-registry", registry)
    else:
        url = serve(host)
    parent, child = f"fn-served-{api}", f"fn-upon-{api}"
    for name in (parent, child):
        images(name)
    client = place("client").having(NOVITA_API_KEY=KEY, SANDBOXFILE_TARGET="box", **LOGIN)
    names = {"parent": parent, "child": child, "api": api, "url": url, "registry": registry}
    client.write("novita.yaml", CONFIG.format(base=base, nonce=os.urandom(6).hex(), **names))
    client.write("hello.txt", "hello\n")
    return World(
        host=host,
        url=url,
        registry=registry,
        client=client,
        first=client.run("build", "--progress", "json", "--json"),
        parent=parent,
        child=child,
        engine=engine,
    )


@pytest.fixture
def checkout(world: World, tmp_path: Path) -> User:
    """A copy of the workspace, which the test may change."""
    root = tmp_path / "checkout"
    shutil.copytree(world.client.root, root)
    return world.client.at(root)


def test_templates_are_built_through_a_registry_with_a_password(world: World, api: str) -> None:
    first, entries = world.first, world.client.entries("box")

    assert first.code == 0, first.err
    assert first.done == {
        f"{step}:{name}"
        for step in ("build", "push", "snapshot", "tag")
        for name in (world.parent, world.child)
    }
    for name, entry in entries.items():
        middle = entry.template_id if api == "v1" else name
        assert entry.image.startswith(f"{world.registry}/{middle}@sha256:")
        assert first.of(name)["template_id"] == entry.template_id
        assert first.of(name)["image"] == entry.image
    assert entries[world.parent].tags == ("shared", "stable")
    assert entries[world.child].tags == ("shared",)


def test_what_was_built_runs_at_the_service(world: World, api: str) -> None:
    ran = world.host.command(
        "run", world.parent, "--", "cat", "/tmp/who", "/tmp/where", "/srv/hello/hello.txt"
    )
    copy = world.host.command("run", f"{world.child}:shared", "--", "cat", "/srv/copy")

    assert (ran.code, ran.out) == (0, "user\n/srv/hello\nhello\n"), ran.err
    assert copy.out == "hello\n"
    if api == "v3":  # the legacy API has no field for it
        assert world.host.command("run", world.parent, "--", "pwd").out == "/srv/hello\n"


def test_a_second_build_does_nothing(world: World) -> None:
    ran = world.client.run("build")

    assert ran.err == "target box: SANDBOXFILE_TARGET\n2 up to date, nothing to do\n"


def test_no_secret_is_written(world: World) -> None:
    for path in world.client.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert PASSWORD.encode() not in content, path
            assert KEY.encode() not in content, path
    assert PASSWORD not in world.first.err + world.first.out


def test_a_login_of_dockers_own_serves_too(
    world: World, checkout: User, secured_registry: str
) -> None:
    config = docker_config(checkout.root / "config", secured_registry)
    checkout.replace("novita.yaml", "/srv/copy]", "/srv/with-login]")

    ran = checkout.without(*LOGIN).having(DOCKER_CONFIG=config).build()

    assert ran.done - {f"tag:{world.child}"} == {
        f"{step}:{world.child}" for step in ("build", "push", "snapshot")
    }


def test_a_changed_start_command_is_a_new_snapshot_of_the_same_image(
    world: World, checkout: User
) -> None:
    before = checkout.entries("box")
    checkout.replace("novita.yaml", "sleep 600", "sleep 601")

    ran = checkout.build()

    names = (world.parent, world.child)  # who has no start command takes over the parent's
    assert ran.done == {f"{step}:{name}" for name in names for step in ("snapshot", "tag")}
    after = checkout.entries("box")
    for name in names:
        assert after[name].template_id == before[name].template_id
        assert after[name].build_id != before[name].build_id
        assert after[name].image_key == before[name].image_key


def test_images_that_left_the_engine_are_missed_only_by_who_builds_on_them(
    world: World, checkout: User
) -> None:
    world.forget()

    assert checkout.build().done == set()
    checkout.replace("novita.yaml", "/srv/copy]", "/srv/elsewhere]")
    ran = checkout.build()
    assert ran.done - {f"tag:{world.child}"} == {
        f"{step}:{world.child}" for step in ("build", "push", "snapshot")
    }
    # Pulled, not built again.
    assert (
        not (checkout.root / f".sandboxfile/logs/{world.parent}/build.log")
        .read_text()
        .count("NONCE")
    )


# --- what only the current API can -----------------------------------------------------------


@V3_ONLY
def test_another_machine_finds_what_was_built(world: World, place: Callable[[str], User]) -> None:
    world.forget()
    other = place("other").having(NOVITA_API_KEY=KEY, SANDBOXFILE_TARGET="box", **LOGIN)
    for name in ("novita.yaml", "hello.txt"):
        other.write(name, (world.client.root / name).read_text())

    plan = other.run("plan", "--json").data
    ran = other.build("--json")

    assert [each["action"] for each in plan["templates"]] == ["adopt", "adopt"]
    assert {job.partition(":")[0] for job in ran.done} == {"snapshot", "tag"}
    assert ran.data["summary"]["counts"] == {"adopt": 2}
    assert other.entries("box") == world.client.entries("box")
    assert world.engine.find(world.engine_tag(world.parent)) is None


@V3_ONLY
def test_what_is_at_the_registry_is_not_built_for_another_service(
    world: World, checkout: User, serve: Serving, place: Callable[[str], User]
) -> None:
    url = serve(place("second-host"), "--strict")
    checkout.edit("novita.yaml", lambda text: text.replace("  box:", "  second:"))
    checkout.replace("novita.yaml", world.url, url)
    user = checkout.without("NOVITA_API_KEY").having(E2B_API_KEY=KEY, SANDBOXFILE_TARGET="second")

    ran = user.build()

    assert not [job for job in ran.done if job.startswith(("build:", "push:"))]
    images = {name: entry.image for name, entry in checkout.entries("box").items()}
    assert {n: entry.image for n, entry in checkout.entries("second").items()} == images


OWN_REGISTRY = """\
version: 1
name: {name}
base: {base}
env: {{NONCE: "{nonce}"}}
files: [hello.txt -> /srv/hello/]
resources: {{cpu: 1, memory: 128}}
targets:
  box: {{provider: novita, api_url: "{url}", api: v1}}
"""


def test_the_legacy_api_needs_no_other_registry_than_the_services_own(
    *,
    serve: Serving,
    place: Callable[[str], User],
    base: str,
    nonce: str,
    images: Callable[[str], None],
) -> None:
    host, name = place("own-registry-host"), "fn-own-registry"
    url = serve(host)
    images(name)
    client = place("own-registry").having(NOVITA_API_KEY=KEY, SANDBOXFILE_TARGET="box")
    client.write("novita.yaml", OWN_REGISTRY.format(name=name, base=base, nonce=nonce, url=url))
    client.write("hello.txt", "hello\n")

    ran = client.run("build", "--json")

    assert ran.code == 0, ran.err
    entry = client.entries("box")[name]
    registry = url.removeprefix("http://")
    assert entry.image.startswith(f"{registry}/e2b/custom-envs/{entry.template_id}@sha256:")
    assert host.command("run", name, "--", "cat", "/srv/hello/hello.txt").out == "hello\n"
    assert client.run("build").err.endswith("1 up to date, nothing to do\n")


PROJECT = """\
template_id = "{id}"
template_name = "{name}"
dockerfile = "e2b.Dockerfile"
start_cmd = "touch /tmp/up; sleep 600"
ready_cmd = "test -e /tmp/up"
cpu_count = 1
memory_mb = 128
"""


@V3_ONLY
def test_a_template_that_another_tool_made_keeps_its_id(
    world: World,
    place: Callable[[str], User],
    base: str,
    nonce: str,
    images: Callable[[str], None],
) -> None:
    name = "fn-taken-over"
    images(name)
    web = Web(user_agent="sandboxfile-tests")
    service = TemplateService(web, world.url, Secret(KEY))
    made = service.register(name, tags=("default",), cpu=1, memory=128)
    web.close()
    user = place("taken-over").having(NOVITA_API_KEY=KEY, **LOGIN)
    user.write("e2b.toml", PROJECT.format(id=made.template_id, name=name))
    user.write("e2b.Dockerfile", f"FROM {base}\nRUN echo {nonce} > /srv-taken-over\n")

    assert user.run("import").code == 0
    here = f'api_url: "{world.url}", registry: "{world.registry}"'
    user.replace("novita.yaml", "domain: e2b.app", here)
    ran = user.run("build")

    assert ran.code == 0, ran.err
    entry = user.entries("e2b")[name]
    assert entry.template_id == made.template_id
    assert entry.build_id != made.build_id
    done = world.host.command("run", name, "--", "cat", "/srv-taken-over")
    assert done.out == f"{nonce}\n", done.err
