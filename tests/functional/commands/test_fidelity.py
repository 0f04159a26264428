"""What the service would drop is said before anything is built, once, and asked once."""

import base64
import json
from collections.abc import Callable, Iterator

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from tests.fakes import push
from tests.fakes.building import spec
from tests.fakes.registry import LOGIN, PASSWORD, USER
from tests.fakes.service import FakeService, serving
from tests.fakes.shell import User

pytestmark = pytest.mark.engine

ABOUT = {
    "User": "1000:1000",
    "WorkingDir": "/srv",
    "Entrypoint": ["/entry.sh"],
    "Cmd": ["serve", "--port", "80"],
    "Env": ["PATH=/opt/bin:/usr/bin", "a-b=1"],
    "Healthcheck": {"Test": ["CMD", "true"]},
    "ExposedPorts": {"80/tcp": {}},
}
HISTORY = (
    "# debian.sh --arch 'amd64' out/ 'bookworm'",
    "RUN /bin/sh -c apt-get update && apt-get install -y nginx # buildkit",
)
CONFIG = """\
version: 1
templates:
  app:
    base: {image}
    ready: pgrep -x nginx
    pre_boot: date
    resources: {{cpu: 1, memory: 128}}
  there:
    base: {{remote: "code:stable"}}
    ready: {{port: 80}}
targets:
  it: {{provider: novita, api_url: "{url}", registry: "{registry}/team", builder: docker}}
"""
TOLD = """\

what the service does not take as it is:
novita.yaml:4:11: warning: the service ignores `USER 1000:1000` of the image, which is no name
  hint: write `user: NAME`: the service knows users by name
novita.yaml:4:11: warning: no shell can have the image's variables `a-b`: they are dropped
  hint: set them under `env` by other names
novita.yaml:5:12: warning: the ready check calls `pgrep` of `procps`, which nothing installs
  hint: write `ready: {process: NAME}`, which needs no tool, or add `procps` to `packages.apt`
novita.yaml:4:11: note: the service ignores `WORKDIR /srv` of the image: it is told as \
`workdir: /srv`
novita.yaml:4:11: note: the service ignores ENTRYPOINT and CMD of the image: it is told as \
`start: /entry.sh serve --port 80`
novita.yaml:4:11: note: the service ignores `EXPOSE` of the image
novita.yaml:10:5: warning: with `ready` alone, the `start` command of `code:stable` is dropped too
  hint: write `start` as well, or neither
"""


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        running.script = ("ready",)
        yield running


@pytest.fixture
def builder(user: User, secured_registry: str) -> User:
    """Somebody who has logged in to the registry as `docker login` does it."""
    directory = user.home / ".docker"
    directory.mkdir()
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (directory / "config.json").write_text(
        json.dumps({"auths": {secured_registry: {"auth": auth}}})
    )
    return user.having(NOVITA_API_KEY="key-123456", SANDBOXFILE_TARGET="it")


@pytest.fixture(scope="module")
def image(secured_registry: str) -> str:
    """A private image for two platforms; the name, its digests are in the index."""
    ours = push.image(config=ABOUT, history=HISTORY)
    index = push.index({"linux/arm64": push.image(architecture="arm64"), "linux/amd64": ours})
    headers = {"Authorization": LOGIN}
    push.push(f"http://{secured_registry}", "fidelity/app", "1", index, headers=headers)
    return f"{secured_registry}/fidelity/app"


def written(builder: User, image: str, service: FakeService, registry: str) -> None:
    text = CONFIG.format(image=image, url=service.url, registry=registry)
    builder.write("novita.yaml", text)


def test_a_plan_tells_what_the_service_does_not_take(
    builder: User, image: str, service: FakeService, secured_registry: str
) -> None:
    written(builder, f"{image}:1", service, secured_registry)

    ran = builder.run("plan")

    assert ran.code == 0, ran.err
    assert ran.out.partition("2 to build\n")[2] == TOLD
    assert [path.suffix for path in (builder.root / ".sandboxfile/configs").iterdir()] == [".json"]
    told = builder.run("plan", "--json").data["findings"]
    assert [each["level"] for each in told["app"]].count("warning") == 3
    assert told["there"] == [
        {
            "level": "warning",
            "text": "with `ready` alone, the `start` command of `code:stable` is dropped too",
            "at": "novita.yaml:10:5",
            "hint": "write `start` as well, or neither",
        }
    ]
    shown = builder.run("show", "steps", "app")
    assert shown.out.startswith(f"base: {image}:1\n")
    taken = "(taken over from the base)"
    assert f"workdir: /srv {taken}\nstart: /entry.sh serve --port 80 {taken}\n" in shown.out
    assert "warning: the ready check calls `pgrep`" in shown.out


def test_a_build_tells_once_and_nothing_when_there_is_nothing_to_do(
    builder: User, image: str, service: FakeService, secured_registry: str
) -> None:
    written(builder, f"{image}:1", service, secured_registry)
    first = builder.run("build", "there", "--progress", "plain")
    again = builder.run("build", "there", "--progress", "plain")

    assert (first.code, again.code) == (0, 0), first.err
    assert first.err.count("is dropped too") == 1
    assert "is dropped too" not in again.err
    assert "findings" not in json.dumps(builder.run("plan", "there", "--json").data["findings"])


def test_an_image_for_another_machine_is_refused_before_anything_is_built(
    builder: User, secured_registry: str, service: FakeService
) -> None:
    other = push.image(architecture="arm64", config={"User": "other"})
    headers = {"Authorization": LOGIN}
    digest = push.push(f"http://{secured_registry}", "fidelity/arm", "1", other, headers=headers)
    name = f"{secured_registry}/fidelity/arm@{digest}"
    written(builder, name, service, secured_registry)

    assert f"error: image `{name}` is not made for linux/amd64" in builder.run("plan", "app").out
    ran = builder.run("build", "app")
    assert (ran.code, ran.out) == (3, "")
    assert "novita.yaml:4:11: error: " in ran.err
    assert "it is made for linux/arm64" in ran.err
    assert service.builds == {}


OTHER = """\
version: 1
defaults: {{resources: {{cpu: 1, memory: 128}}}}
templates:
  app:
    base: {image}
  own:
    base: {{dockerfile: Dockerfile}}
targets:
  it: {{provider: novita, api_url: "{url}", registry: "{registry}/team"}}
  far: {{provider: novita, registry: "{registry}/team"}}
"""


def test_an_image_of_the_engine_tells_its_distribution_itself(
    *,
    builder: User,
    engine: Engine,
    busybox: str,
    service: FakeService,
    secured_registry: str,
    nonce: str,
    images: Callable[[str], None],
) -> None:
    image = f"sandboxfile-tests/other-{nonce}:1"
    release = "mkdir -p /etc && printf 'ID=void\\nNAME=Void\\n' > /etc/os-release"
    engine.build(
        spec(f"FROM {busybox}\nRUN {release}\n", image), emit=lambda _: None, cancel=Cancel()
    )
    images("app")
    images("own")
    builder.write(
        "novita.yaml", OTHER.format(image=image, url=service.url, registry=secured_registry)
    )
    builder.write("Dockerfile", f"FROM {image}\nRUN echo {nonce} > /own\n")
    told = "the base of `{}` is Void (its /etc/os-release says so), and the service {} only Debian"

    ran = builder.run("build", "--target", "far", "--offline")  # Novita's own is sure to refuse it

    assert (ran.code, ran.out) == (3, "")
    for name, place in (("app", "5:11"), ("own", "7:24")):
        assert f"novita.yaml:{place}: error: {told.format(name, 'takes')}" in ran.err
    assert "started" not in ran.err
    assert "`--allow-unsupported`" in ran.err

    ran = builder.run("build", "--progress", "plain")  # of another service nobody knows

    assert ran.code == 0, ran.err
    for name in ("app", "own"):
        before, warned, _ = ran.err.partition(told.format(name, "may take"))
        assert warned
        assert "started" not in before
    engine.untag(image)


def test_a_base_that_novita_refuses_is_told_by_its_name_alone(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: web\nbase: nginx:1.27-alpine\n")

    ran = user.run("validate", "-t", "novita")

    assert ran.code == 0
    assert "novita.yaml:3:7: error: the base of `web` is Alpine (its tag is" in ran.err
    assert "`--allow-unsupported`" in ran.err
    assert user.run("validate", "-t", "local", "--json").data["findings"] == []


def test_a_dockerfile_tells_of_its_user_before_it_is_ever_built(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: web\nbase: {dockerfile: Dockerfile}\n")
    user.write("Dockerfile", "FROM debian:12\nUSER 1000\n")

    ran = user.run("validate", "-t", "novita")

    assert ran.code == 0
    assert "Dockerfile:2:1: warning: the service ignores `USER 1000` of the image" in ran.err
    assert "  hint: write `user: NAME`" in ran.err


def test_a_plan_tells_of_the_user_that_a_dockerfile_begins_with(
    builder: User, image: str, service: FakeService, secured_registry: str
) -> None:
    builder.write(
        "novita.yaml", OTHER.format(image=f"{image}:1", url=service.url, registry=secured_registry)
    )
    builder.write("Dockerfile", f"FROM {image}:1\nRUN true\n")

    ran = builder.run("plan", "own")

    assert ran.code == 0, ran.err
    told = "warning: the service ignores `USER 1000:1000` of the image, which is no name"
    assert f"novita.yaml:7:24: {told}\n  hint: write `user: NAME`" in ran.out
