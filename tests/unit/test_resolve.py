import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.config import load
from sandboxfile.engines import Engine
from sandboxfile.engines.docker import DockerEngine
from sandboxfile.engines.transport import Address
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.events import Emit, Event
from sandboxfile.model import BootstrapBase, Login
from sandboxfile.places import Position
from sandboxfile.registry import Registry
from sandboxfile.resolve import Resolver
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from sandboxfile.surveyed import Survey
from sandboxfile.web import Web
from tests.fakes import push
from tests.fakes.engine import Answer, serving
from tests.fakes.registry import FakeRegistry, running
from tests.fakes.shell import User

DIGEST = "sha256:" + "d" * 64


def no_engine() -> Engine:
    raise Unreachable("there is no engine here")


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as registry:
        yield registry


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def web(slept: list[float]) -> Iterator[Web]:
    made = Web(user_agent="test/1", sleep=slept.append)
    yield made
    made.close()


@pytest.fixture
def said() -> list[Event]:
    return []


Make = Callable[..., Resolver]


@pytest.fixture
def resolver(web: Web, tmp_path: Path, said: list[Event]) -> Make:
    """Make a resolver for a machine without an engine."""

    def make(
        *,
        offline: bool = False,
        engine: Callable[[], Engine] = no_engine,
        cancel: Cancel | None = None,
        emit: Emit = said.append,
    ) -> Resolver:
        def login(_: str) -> Login | None:
            return None

        return Resolver(
            engine=engine,
            inspect=lambda name: engine().inspect(name),
            registry=lambda: Registry(web, login),
            logins=login,
            bootstrap_cache=tmp_path / "cache",
            mirror=None,
            offline=offline,
            emit=emit,
            cancel=cancel or Cancel(),
        )

    return make


def look(user: User, text: str, resolved: dict[str, str] | None = None) -> Survey:
    user.write("novita.yaml", "version: 1\n" + text)
    workspace = load.load(user.root / "novita.yaml")
    return survey(workspace, workspace.templates, resolved=resolved or {}, digests=NoCache())


def test_a_tag_becomes_the_digest_of_the_platform(
    user: User, server: FakeRegistry, resolver: Make
) -> None:
    ours = push.image()
    index = push.index({"linux/amd64": ours, "linux/arm64": push.image(architecture="arm64")})
    server.add("acme/base", "1", index)
    base = f"{server.host}/acme/base:1"

    pins = resolver().pins(look(user, f"name: x\nbase: {base}\n"))

    assert pins == {f"{base} linux/amd64": ours.digest}
    assert look(user, f"name: x\nbase: {base}\n", dict(pins))["x"].keys is not None


def test_a_base_of_several_templates_is_asked_for_once(
    user: User, server: FakeRegistry, resolver: Make
) -> None:
    server.add("base", "1", push.image())
    base = f"{server.host}/base:1"
    text = f"templates:\n  a: {{base: {base}}}\n  b: {{base: {base}}}\n  c: {{base: {base}}}\n"

    assert len(resolver().pins(look(user, text))) == 1
    once = len(server.seen)
    resolver().pins(look(user, f"name: x\nbase: {base}\n"))
    assert len(server.seen) == 2 * once


def test_what_the_lock_has_is_not_asked_for(
    user: User, server: FakeRegistry, resolver: Make
) -> None:
    base = f"{server.host}/base:1"
    known = {f"{base} linux/amd64": DIGEST}

    assert resolver().pins(look(user, f"name: x\nbase: {base}\n", known)) == {}
    assert server.seen == []


def test_all_images_of_a_dockerfile_are_pinned(
    user: User, server: FakeRegistry, resolver: Make
) -> None:
    for tag in ("1", "2"):
        server.add("base", tag, push.image(config={"Labels": {"tag": tag}}))
    one, two = (f"{server.host}/base:{tag}" for tag in ("1", "2"))
    user.write("Dockerfile", f"FROM {one} AS x\nFROM {two}\nCOPY --from={one} /a /a\n")

    pins = resolver().pins(look(user, "name: x\nbase: {dockerfile: Dockerfile}\n"))

    assert set(pins) == {f"{one} linux/amd64", f"{two} linux/amd64"}
    assert len(set(pins.values())) == 2


def test_an_image_that_nobody_has_is_told_at_its_place(
    user: User, server: FakeRegistry, resolver: Make
) -> None:
    with pytest.raises(SandboxfileError) as caught:
        resolver().pins(look(user, f"name: x\nbase: {server.host}/base:1\n"))

    assert caught.value.at is not None
    assert (caught.value.at.line, caught.value.at.column) == (3, 7)
    assert f"{server.host}/base" in caught.value.message


def test_a_registry_that_is_not_there_is_6(user: User, resolver: Make) -> None:
    with pytest.raises(Unreachable) as caught:
        resolver().pins(look(user, "name: x\nbase: 127.0.0.1:1/base:1\n"))

    assert caught.value.at is not None


@pytest.fixture
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send all requests to a proxy that is not there, as when a machine is offline."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@pytest.mark.usefixtures("_nobody_answers")
@pytest.mark.parametrize("has_it", [True, False])
def test_without_a_network_the_engine_is_asked_before_the_registry_is_asked_again(
    user: User, resolver: Make, said: list[Event], slept: list[float], *, has_it: bool
) -> None:
    with serving() as fake:
        fake.answers["GET /images/my-image:dev/json"] = Answer(body={"Id": DIGEST})
        engine = DockerEngine(Address(url=fake.url))
        find = resolver(engine=lambda: engine if has_it else no_engine())
        surveyed = look(user, "name: x\nbase: my-image:dev\n")
        if has_it:
            assert find.pins(surveyed) == {
                "engine:docker.io/library/my-image:dev linux/amd64": DIGEST
            }
            reason = "registry `docker.io` cannot be reached"
            assert f"`my-image:dev` is taken from the engine: {reason}" in str(said)
        else:
            with pytest.raises(Unreachable):
                find.pins(surveyed)
        engine.close()
    assert bool(slept) is not has_it


def test_offline_nobody_is_asked(user: User, server: FakeRegistry, resolver: Make) -> None:
    base = f"{server.host}/base:1"
    with pytest.raises(Unreachable) as caught:
        resolver(offline=True).pins(look(user, f"name: x\nbase: {base}\n"))

    assert caught.value.message == f"`{base}` is not in the lock, and `--offline` is given"
    assert server.seen == []


def test_offline_nothing_is_bootstrapped(user: User, resolver: Make, said: list[Event]) -> None:
    with pytest.raises(Unreachable) as caught:
        resolver(offline=True).pins(look(user, "name: x\nbase: {debian: bookworm}\n"))

    assert (
        "`debian: bookworm` has to be made from packages, and `--offline`" in caught.value.message
    )
    assert caught.value.at is not None
    assert caught.value.at.line == 3
    assert said == []


@pytest.mark.parametrize(
    ("resolved", "expected"),
    [
        ({"docker.io/library/debian:12 linux/amd64": DIGEST}, f"docker.io/library/debian@{DIGEST}"),
        ({"engine:docker.io/library/debian:12 linux/amd64": DIGEST}, "debian:12"),
    ],
)
def test_a_dockerfile_names_the_pinned_image(
    user: User, resolver: Make, resolved: dict[str, str], expected: str
) -> None:
    found = look(user, "name: x\nbase: debian:12\n", resolved)

    assert resolver().name(found["x"], resolved) == expected


def test_a_dockerfile_names_a_bootstrapped_base_by_its_content(user: User, resolver: Make) -> None:
    text = "name: x\nbase: {debian: bookworm}\n"
    (name,) = look(user, text).unresolved
    found = look(user, text, {name: DIGEST})

    assert isinstance(found["x"].template.base, BootstrapBase)
    assert resolver().name(found["x"], {name: DIGEST}) == f"sandboxfile/debian:bookworm-{'d' * 16}"


def test_a_base_that_is_pinned_and_not_the_engines_own_has_not_moved(
    user: User, resolver: Make
) -> None:
    resolved = {"docker.io/library/debian:12 linux/amd64": DIGEST}
    found = look(user, "name: x\nbase: debian:12\n", resolved)

    assert resolver().moved(found["x"], resolved) == {}


def test_fetching_a_base_ends_when_the_run_is_stopped(resolver: Make) -> None:
    hold, cancel = threading.Event(), Cancel()
    with serving() as fake:
        begun = ({"status": "Pulling fs layer"},)
        fake.answers["POST /images/create"] = Answer(messages=begun, hold=hold)
        engine = DockerEngine(Address(url=fake.url))
        find = resolver(engine=lambda: engine, cancel=cancel, emit=lambda _: cancel.set())
        with pytest.raises(Cancelled):
            find.image(f"debian@{DIGEST}", {}, job="build:x", at=Position("novita.yaml", 3, 1))
        hold.set()
        engine.close()


def test_a_base_of_many_templates_is_brought_into_the_engine_once(
    user: User, resolver: Make
) -> None:
    resolved = {"docker.io/library/debian:12 linux/amd64": DIGEST}
    templates = "".join(f"  t{number}: {{base: debian:12}}\n" for number in range(8))
    found = look(user, f"templates:\n{templates}", resolved)
    with serving() as fake:
        path = f"GET /images/docker.io/library/debian@{DIGEST}/json"
        fake.answers[path] = Answer(body={"Id": DIGEST, "Config": {}})
        engine = DockerEngine(Address(url=fake.url))
        find = resolver(engine=lambda: engine)
        with ThreadPoolExecutor(4) as pool:
            bases = list(pool.map(lambda each: find.base(each, resolved), found.templates.values()))
        asked = [each for each in fake.asked if each.path.startswith("/images/")]
        engine.close()
    assert {base.digest for base in bases} == {DIGEST}
    assert len(bases) == 8
    assert len(asked) == 2  # whether it is there, and what it says of itself


@pytest.mark.usefixtures("_nobody_answers")
def test_a_base_that_the_engine_alone_has_is_told_of_once(
    user: User, resolver: Make, said: list[Event]
) -> None:
    with serving() as fake:
        fake.answers["GET /images/my-image:dev/json"] = Answer(body={"Id": DIGEST})
        engine = DockerEngine(Address(url=fake.url))
        surveyed = look(user, "templates: {a: {base: my-image:dev}, b: {base: my-image:dev}}\n")
        assert len(resolver(engine=lambda: engine).pins(surveyed)) == 1
        engine.close()
    assert str(said).count("is taken from the engine") == 1


@pytest.mark.usefixtures("_nobody_answers")
def test_images_that_the_engine_alone_has_are_told_of_in_one_line(
    user: User, resolver: Make, said: list[Event]
) -> None:
    names = [f"my-image:{number}" for number in range(5)]
    with serving() as fake:
        for name in names:
            fake.answers[f"GET /images/{name}/json"] = Answer(body={"Id": DIGEST})
        engine = DockerEngine(Address(url=fake.url))
        lines = "".join(f"  t{number}: {{base: {name}}}\n" for number, name in enumerate(names))
        assert len(resolver(engine=lambda: engine).pins(look(user, f"templates:\n{lines}"))) == 5
        engine.close()
    [event] = said
    assert str(event.text) == (  # type: ignore[union-attr]
        "`my-image:0`, `my-image:1`, `my-image:2` and 2 more are taken from the engine: "
        "registry `docker.io` cannot be reached"
    )
