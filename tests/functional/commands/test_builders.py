"""A builder of docker buildx that is not the engine: images go by the registry."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile.engines import Engine
from sandboxfile.engines.buildx import clients
from sandboxfile.imagetags import image_tag
from tests.fakes.buildx import BUILDER, Buildx, buildx
from tests.fakes.shell import User
from tests.functional.commands.conftest import Place, Serving

pytestmark = pytest.mark.engine

CONFIG = """\
version: 1
engine: {{buildx: {builder}}}
cache: {{to: {registry}/{nonce}/cache, from: [{registry}/{nonce}/cache]}}
targets:
  box: {{provider: novita, api_url: "{url}", registry: "{registry}/{nonce}"}}
templates:
  b-one: {{base: {base}, run: ["echo {nonce} > /one"], user: root}}
  b-two: {{base: {{template: b-one}}, files: [text -> /text], run: [cat /one /text > /two]}}
  b-own: {{base: {{dockerfile: Dockerfile}}, run: [cat /own /one-of-two || cat /own > /own-2]}}
"""

NO_BUILDER = """\
#!/bin/sh
[ "$1" = version ] && echo github.com/docker/buildx v0.13.1 && exit
echo 'ERROR: no builder "nosuch" found' >&2
exit 1
"""


@pytest.fixture
def farm(tmp_path: Path, user: User) -> Buildx:
    directory = tmp_path / "bin"
    directory.mkdir()
    return buildx(directory, user.environ["PATH"])


@pytest.fixture
def client(
    *, user: User, place: Place, serve: Serving, farm: Buildx, base: str, registry: str, nonce: str
) -> User:
    url = serve(place("box"), "--port", "0")
    user.write(
        "novita.yaml",
        CONFIG.format(builder=BUILDER, url=url, registry=registry, base=base, nonce=nonce),
    )
    user.write("Dockerfile", f"FROM {base}\nRUN echo {nonce} > /own\n")
    user.write("text", "text\n")
    environ = {**user.environ, **farm.environ, "NOVITA_API_KEY": "key-of-the-tests"}
    return replace(user, environ={**environ, "SANDBOXFILE_TARGET": "box"})


def test_images_are_pushed_by_the_builder_and_based_on_what_it_pushed(
    client: User, farm: Buildx, engine: Engine, registry: str, nonce: str
) -> None:
    client.build()
    entries = client.entries("box")
    assert set(entries) == {"b-one", "b-two", "b-own"}
    for name, entry in entries.items():
        assert re.fullmatch(rf"{registry}/{nonce}/{name}@sha256:[0-9a-f]{{64}}", entry.image)
        assert engine.find(image_tag(name, entry.image_key)) is None
        if not farm.is_real:
            (words,) = (each for each in farm.asked if any(f"/{name}:sf-" in w for w in each))
            cache = f"type=registry,ref={registry}/{nonce}/cache:{name}"
            assert {f"--cache-to={cache},mode=max", f"--cache-from={cache}"} <= set(words)
    generated = client.root / ".sandboxfile/generated"
    assert f"FROM {entries['b-one'].image}\n" in (generated / "b-two/Dockerfile").read_text()
    own = (generated / "b-own/Dockerfile").read_text()
    assert f"FROM {registry}/{nonce}/b-own@sha256:" in own
    # A fresh clone finds everything where the builder brought it.
    lock = (client.root / "novita.lock").read_bytes()
    (client.root / "novita.lock").unlink()
    assert {job.partition(":")[0] for job in client.build().done} <= {"snapshot", "tag"}
    assert (client.root / "novita.lock").read_bytes() == lock
    assert client.build().done == set()


def test_a_forced_build_is_pushed_anew(client: User, registry: str, nonce: str) -> None:
    client.build("b-one")
    client.build("b-one", "--force", "--no-cache")
    assert client.entries("box")["b-one"].image.startswith(f"{registry}/{nonce}/b-one@sha256:")


def test_without_a_registry_an_image_is_loaded_and_bases_must_be_at_one(
    client: User, engine: Engine
) -> None:
    client.edit("novita.yaml", lambda text: re.sub(r"cache:.*\n", "", text))
    ran = client.run("build", "--target", "local", "--progress", "plain")
    assert ran.code == 1
    entries = client.entries()
    assert set(entries) == {"b-one"}
    assert engine.find(image_tag("b-one", entries["b-one"].image_key)) is not None
    said = "the builder that `engine` names sees registries only, and this base is in none"
    assert ran.err.count(said) == 2
    assert "hint: give the target a `registry`" in ran.err


def test_a_builder_that_is_not_there_is_said_once(client: User) -> None:
    client.edit("novita.yaml", lambda text: text.replace(f"buildx: {BUILDER}", "buildx: nosuch"))
    program = Path(client.environ["PATH"].partition(":")[0]) / "docker-buildx"
    if not program.is_symlink():
        program.write_text(NO_BUILDER)
    ran = client.run("build")
    assert ran.code == 6
    assert ran.err.count("buildx has no builder `nosuch`") == 1
    assert "docker buildx create --name nosuch" in ran.err
    assert "novita.yaml:2:9: error: buildx has no builder" in ran.err


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("cache", f"novita.yaml:2:9: error: the builder `{BUILDER}` needs docker-buildx, which"),
        ("engine", "novita.yaml:2:8: error: a cache of the build (`cache`) needs docker-buildx,"),
    ],
)
def test_without_buildx_a_builder_and_a_cache_are_one_error_at_their_place(
    client: User, user: User, removed: str, said: str
) -> None:
    environ = {**client.environ, "PATH": user.environ["PATH"]}
    del environ["DOCKER_CONFIG"]  # where the plug-in is
    if any(each.is_buildx for each in clients({**environ, "HOME": str(client.home)})):
        pytest.skip("docker-buildx is installed here")
    client.edit("novita.yaml", lambda text: re.sub(rf"{removed}:.*\n", "", text))
    ran = replace(client, environ=environ).run("build")
    assert ran.code == 6
    assert ran.err.count("error: ") == ran.err.count(said) == 1
    assert "hint: install docker-buildx" in ran.err


def test_docker_s_own_builder_cannot_write_every_cache(client: User, engine: Engine) -> None:
    if "overlay" not in engine.info().store:
        pytest.skip("this engine can write caches itself")
    client.edit("novita.yaml", lambda text: re.sub(r"engine:.*\n", "", text))
    ran = client.run("build", "b-one")
    assert ran.code == 1
    assert ran.err.count("the build writes its layers to a cache (`cache.to`), which docker") == 1
    assert "use a builder of its own (`engine: {buildx: NAME}`" in ran.err
