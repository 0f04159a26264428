"""What one run of a build says to the engine: each question once, and nothing without need."""

import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator

import pytest

from sandboxfile import app, lockfile
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.packs import MEMBERS
from sandboxfile.pins import pin_name
from tests.fakes import engine as engines
from tests.fakes.engine import Answer, Asked, FakeEngine, pushed
from tests.fakes.service import FakeService, serving
from tests.fakes.shell import User

BASE, MADE = (f"sha256:{letter * 64}" for letter in "ab")
MANIFEST = b'{"schemaVersion": 2, "config": {}, "layers": []}'
NAMES = ("api", "web")
CONFIG = """\
version: 1
targets:
  it: {{provider: novita, api_url: "{url}", registry: "{host}/acme"}}
templates:
  api: {{base: "mine:1", files: [text -> /text], run: [echo api]}}
  web: {{base: "mine:1", files: [text -> /text], run: [echo web]}}
"""
LOOK_INTO_THE_BASE = {
    "POST /containers/create": 1,
    "GET /containers/c1/archive": 2,
    "DELETE /containers/c1": 1,
}


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        running.script = ("ready",)
        yield running


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with engines.serving() as running:
        yield running


@pytest.fixture
def builder(user: User, engine: FakeEngine, service: FakeService) -> User:
    """Return somebody whose templates are based on an image that the engine alone has."""
    host = service.url.removeprefix("http://")
    user.write("novita.yaml", CONFIG.format(url=service.url, host=host))
    user.write("text", "one")
    pins = {f"{ENGINE_PREFIX}{pin_name('mine:1')}": BASE}
    lockfile.update(user.root / app.LOCAL_LOCK, lambda lock: lock.with_resolved(pins))
    own = {"NOVITA_API_KEY": "key-123456", "SANDBOXFILE_TARGET": "it", "DOCKER_HOST": engine.url}
    builder = user.having(**own)
    engine.answers |= {
        "GET /images/mine:1/json": Answer(body={"Id": BASE, "Config": {"User": "me"}}),
        "POST /containers/create": Answer(status=201, body={"Id": "c1"}),
        "GET /containers/c1/archive": _file,
        "DELETE /containers/c1": Answer(status=204),
        "POST /build": Answer(messages=({"id": "moby.image.id", "aux": {"ID": MADE}},)),
        f"GET /images/{MADE}/json": Answer(body={"Id": MADE, "Config": {"User": "me"}}),
    }
    for name in NAMES:
        engine.answers[f"POST /images/{host}/acme/{name}/push"] = pushed(
            service.put_manifest, f"acme/{name}", MANIFEST
        )
    return builder


def _file(asked: Asked) -> Answer:
    """Answer like an image that has the file at the second of the places where it may be."""
    if asked.query["path"] == "/usr/lib/os-release":
        return Answer(status=404, body={"message": "no such file"})
    content, archive = b"ID=debian\n", io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("os-release")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return Answer(body=archive.getvalue())


def planned(builder: User, engine: FakeEngine) -> dict[str, str]:
    """Let the images to be built be tagged; the template of each."""
    keys = {
        f"sandboxfile/{each['name']}:sf-{each['image_key'].partition(':')[2][:16]}": each["name"]
        for each in builder.run("plan", "--json", "--offline").data["templates"]
    }
    engine.answers |= {f"POST /images/{image}/tag": Answer(status=201) for image in keys}
    return keys


def changed(
    builder: User, engine: FakeEngine, text: str, *, forgotten: bool = False
) -> Counter[str]:
    """Build with other files; what was said to the engine, images by their template's name.

    With `forgotten`, what was read out of images before is not there any more.
    """
    builder.write("text", text)
    keys = planned(builder, engine)
    engine.asked.clear()
    if forgotten:
        shutil.rmtree(builder.home / ".cache/sandboxfile/os-release")
    built = builder.build()
    assert {f"build:{name}" for name in NAMES} < built.done
    lines = [f"{asked.method} {asked.path}" for asked in engine.asked]
    for image, name in keys.items():
        lines = [line.replace(image, name) for line in lines]
    return Counter(line for line in lines if "/push" not in line)


def test_each_question_is_asked_once_and_a_base_is_looked_into_in_the_first_run_only(
    builder: User, engine: FakeEngine
) -> None:
    first = changed(builder, engine, "two", forgotten=True)
    second = changed(builder, engine, "three")

    # The base is asked about at first, and after each build, which it must not have moved in.
    each_run = {"GET /_ping": 1, "GET /images/mine:1/json": 1 + len(NAMES)}
    each_build = {"POST /build": 2, f"GET /images/{MADE}/json": 2}
    each_template: dict[str, int] = {}
    for name in NAMES:
        each_template |= {f"GET /images/{name}/json": 1, f"POST /images/{name}/tag": 1}
    assert second == {**each_run, **each_build, **each_template}
    assert first == {**second, **LOOK_INTO_THE_BASE}


def sent(engine: FakeEngine) -> dict[str, list[str]]:
    """Return what each build brought: where its Dockerfile is in it, and then all its members."""
    found = {}
    for asked in engine.requests("POST", "/build"):
        with tarfile.open(fileobj=io.BytesIO(asked.body)) as archive:
            name = asked.query["t"].partition("/")[2].partition(":")[0]
            found[name] = [asked.query["dockerfile"], *archive.getnames()]
    return found


def test_small_contexts_go_together_to_an_engine_that_starts_a_program_for_each(
    builder: User, engine: FakeEngine
) -> None:
    changed(builder, engine, "two")
    apart = sent(engine)
    engine.answers["GET /version"] = Answer(body={**engines.VERSION, "ApiVersion": "1.41"})
    changed(builder, engine, "three")
    together = sent(engine)
    written = [builder.root / f".sandboxfile/generated/{name}/Dockerfile" for name in NAMES]

    alone = apart["api"][1:]
    assert apart["web"] == apart["api"] == [".sandboxfile/Dockerfile", *alone]
    both = [each for name in NAMES for each in (name, *(f"{name}/{member}" for member in alone))]
    assert together == {name: [f"{name}/.sandboxfile/Dockerfile", *both] for name in NAMES}
    assert all('COPY ["copy-1/text", "/text"]' in path.read_text() for path in written)
    builder.write("text", "four")
    planned(builder, engine)
    engine.asked.clear()
    builder.build("web")
    builder.build("api")
    each = {name: (name, *(f"{name}/{member}" for member in alone)) for name in NAMES}
    assert sent(engine) == {
        name: [f"{name}/.sandboxfile/Dockerfile", *each[name]] for name in NAMES
    }, "one template has nobody to go with"


def test_who_brings_many_files_goes_alone_however_little_is_in_them(
    builder: User, engine: FakeEngine
) -> None:
    engine.answers["GET /version"] = Answer(body={**engines.VERSION, "ApiVersion": "1.41"})
    builder.replace("novita.yaml", "[text -> /text], run: [echo api]", "[many/ -> /many]")
    for number in range(MEMBERS):
        builder.write(f"many/{number}", "")
    changed(builder, engine, "two")
    brought = sent(engine)
    assert {name: {each.partition("/")[0] for each in brought[name]} for name in NAMES} == {
        name: {name} for name in NAMES
    }


def test_an_engine_at_a_socket_needs_no_docker_sdk(builder: User, engine: FakeEngine) -> None:
    planned(builder, engine)
    ran = builder.command(
        "build", "api", "--progress", "quiet", python=("-X", "importtime", "-m", "sandboxfile")
    )
    assert ran.code == 0, ran.err
    imported = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    assert "http.client" in imported
    assert imported & {"docker", "requests", "urllib3"} == set()


def test_what_the_registry_has_is_sent_with_nothing(
    builder: User, engine: FakeEngine, service: FakeService
) -> None:
    engine.answers["GET /version"] = Answer(body={**engines.VERSION, "ApiVersion": "1.41"})
    tags = {name: image.rpartition(":")[2] for image, name in planned(builder, engine).items()}
    service.put_manifest("acme/web", tags["web"], MANIFEST)
    builder.run("build")
    brought = sent(engine)
    assert list(brought) == ["api"]
    assert [each for each in brought["api"] if each.startswith("web")] == []
