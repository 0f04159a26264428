"""Images in a real engine, and on their way to and from real registries."""

import json
import socket
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose
from sandboxfile.errors import Cancelled, NotAllowed, SandboxfileError
from sandboxfile.model import EngineChoice, Login, Secret
from tests.fakes.building import Events, packed, spec
from tests.fakes.registry import PASSWORD, USER

pytestmark = pytest.mark.engine

ALICE = Login(username=USER, password=Secret(PASSWORD))
MALLORY = Login(username="mallory", password=Secret("hush-hush"))
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A repository name of its own for each test; its tag `1` is taken away at the end."""
    repository = f"sandboxfile-tests/{uuid.uuid4().hex}"
    yield repository
    engine.untag(f"{repository}:1")


def built(engine: Engine, busybox: str, name: str) -> str:
    """Build a small image of its own content; return its tag."""
    tag = f"{name}:1"
    dockerfile = f"FROM {busybox}\nRUN echo {name} > /name\n"
    engine.build(spec(dockerfile, tag), emit=Events().emit, cancel=Cancel())
    return tag


def push(engine: Engine, image: str, repository: str, login: Login | None = None) -> str:
    try:
        return engine.push(
            image, repository, "v1", login=login, emit=Events().emit, cancel=Cancel(), job="test"
        )
    finally:
        engine.untag(f"{repository}:v1")


def asked(registry: str, path: str) -> tuple[int, str]:
    """Ask a registry itself: status and digest."""
    connection = HTTPConnection(registry, timeout=10)
    connection.request("HEAD", f"/v2/{path}", headers={"Accept": ", ".join(MANIFESTS)})
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.getheader("Docker-Content-Digest", "")


# --- in the engine ---------------------------------------------------------------------------


def test_a_root_filesystem_becomes_an_image(engine: Engine, name: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(packed({"etc/thing": b"content"}))
    labels = {"plain": "x", "hard": 'a "b" $c \\d'}
    image_id = engine.load_root(tmp_path / "root.tar", f"{name}:1", labels=labels)
    assert engine.find(f"{name}:1") == image_id
    assert engine.image_config(f"{name}:1")["Labels"] == labels


def test_an_archive_that_is_none_is_refused(engine: Engine, name: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(b"no archive at all" * 1000)
    with pytest.raises(SandboxfileError):
        engine.load_root(tmp_path / "root.tar", f"{name}:1", labels={})
    assert engine.find(f"{name}:1") is None


def test_tags_are_given_and_taken(engine: Engine, busybox: str, name: str) -> None:
    tag = built(engine, busybox, name)
    image_id = engine.find(tag)
    engine.tag(tag, f"{name}:2")
    assert engine.find(f"{name}:2") == image_id
    engine.untag(tag)
    assert engine.find(tag) is None
    assert engine.find(f"{name}:2") == image_id
    engine.untag(f"{name}:2")
    assert image_id is not None
    assert engine.find(image_id) is None
    engine.untag(tag)  # gone already


def test_what_is_not_there_is_none(engine: Engine, name: str) -> None:
    assert engine.find(f"{name}:1") is None
    assert engine.find(f"{name}@sha256:{'0' * 64}") is None
    with pytest.raises(SandboxfileError, match=f"there is no image `{name}:1` in the engine"):
        engine.image_config(f"{name}:1")
    with pytest.raises(SandboxfileError, match="the engine refused"):
        engine.tag(f"{name}:1", f"{name}:2")


def test_images_are_removed_by_their_labels(engine: Engine, busybox: str, name: str) -> None:
    for tag, label in ((f"{name}:1", name), (f"{name}:2", "other")):
        engine.build(
            spec(
                f"FROM {busybox}\nRUN echo {tag}\n", tag, labels={"sandboxfile.tests.case": label}
            ),
            emit=Events().emit,
            cancel=Cancel(),
        )
    assert engine.remove_labelled({"sandboxfile.tests.case": name}) == 1
    assert engine.find(f"{name}:1") is None
    assert engine.find(f"{name}:2") is not None
    engine.untag(f"{name}:2")


def test_images_are_removed_in_spite_of_those_built_on_them(
    engine: Engine, busybox: str, name: str
) -> None:
    parent = built(engine, busybox, name)
    labels = {"sandboxfile.tests.case": name}
    mine, child = f"{name}:mine", f"{name}:child"
    for base, tag in ((parent, mine), (mine, child)):
        engine.build(
            spec(f"FROM {base}\nRUN echo {tag} > /{tag[-4:]}\n", tag, labels=labels),
            emit=Events().emit,
            cancel=Cancel(),
        )
    assert engine.remove_labelled(labels) >= 2
    assert (engine.find(mine), engine.find(child)) == (None, None)
    assert engine.find(parent) is not None
    engine.untag(parent)


# --- to and from registries ------------------------------------------------------------------


def test_the_digest_of_a_push_is_the_registrys(
    engine: Engine, busybox: str, registry: str, name: str
) -> None:
    tag = built(engine, busybox, name)
    digest = push(engine, tag, f"{registry}/{name}")
    assert asked(registry, f"{name}/manifests/v1") == (200, digest)
    assert push(engine, tag, f"{registry}/{name}") == digest


def test_what_was_pushed_can_be_pulled_by_digest(
    engine: Engine, busybox: str, registry: str, name: str
) -> None:
    tag = built(engine, busybox, name)
    reference = f"{registry}/{name}@{push(engine, tag, f'{registry}/{name}')}"
    engine.untag(tag)
    engine.untag(reference)
    assert engine.find(reference) is None
    events = Events()
    engine.ensure(reference, login=None, emit=events.emit, cancel=Cancel(), job="test")
    assert engine.find(reference) is not None
    assert events.lines
    again = Events()
    engine.ensure(reference, login=None, emit=again.emit, cancel=Cancel(), job="test")
    assert not again
    # It is a base now: no tag is needed, nor is the registry asked again.
    engine.build(spec(f"FROM {reference}\n", tag), emit=events.emit, cancel=Cancel())
    engine.untag(reference)


def test_a_login_opens_a_secured_registry(
    engine: Engine, busybox: str, secured_registry: str, name: str
) -> None:
    tag = built(engine, busybox, name)
    repository = f"{secured_registry}/{name}"
    digest = push(engine, tag, repository, ALICE)
    engine.untag(tag)
    reference = f"{repository}@{digest}"
    engine.untag(reference)
    with pytest.raises(NotAllowed):
        engine.ensure(reference, login=None, emit=Events().emit, cancel=Cancel(), job="test")
    engine.ensure(reference, login=ALICE, emit=Events().emit, cancel=Cancel(), job="test")
    engine.build(spec(f"FROM {reference}\n", tag), emit=Events().emit, cancel=Cancel())
    engine.untag(reference)


@pytest.mark.parametrize("login", [None, MALLORY])
def test_a_refused_push_names_the_registry_and_the_remedy(
    engine: Engine, busybox: str, secured_registry: str, name: str, login: Login | None
) -> None:
    events = Events()
    tag = built(engine, busybox, name)
    repository = f"{secured_registry}/{name}"
    with pytest.raises(NotAllowed) as caught:
        engine.push(
            tag, repository, "v1", login=login, emit=events.emit, cancel=Cancel(), job="test"
        )
    engine.untag(f"{repository}:v1")
    account = " as `mallory`" if login else ""
    start = f"the registry `{secured_registry}` refused `{repository}`{account}: "
    assert caught.value.message.startswith(start)
    assert caught.value.hint == f"log in with `docker login {secured_registry}`"
    assert "hush-hush" not in str(caught.value)
    assert not events.notices  # a refusal is not tried again


def test_a_digest_that_the_registry_does_not_have_is_said(
    engine: Engine, registry: str, name: str
) -> None:
    reference = f"{registry}/{name}@sha256:{'0' * 64}"
    with pytest.raises(NotAllowed, match=f"the registry `{registry}` has no `{registry}/{name}`"):
        engine.ensure(reference, login=None, emit=Events().emit, cancel=Cancel(), job="test")


def test_a_push_can_be_cancelled(engine: Engine, busybox: str, name: str) -> None:
    """The registry of this test accepts connections and never says a word."""
    tag = built(engine, busybox, name)
    cancel = Cancel()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        repository = f"127.0.0.1:{silent.getsockname()[1]}/{name}"
        events = Events()

        def emit(event: object) -> None:
            del event
            cancel.set()  # the engine has begun: it names the repository first

        with pytest.raises(Cancelled):
            engine.push(tag, repository, "v1", login=None, emit=emit, cancel=cancel, job="test")
        assert not events
    engine.untag(f"{repository}:v1")


def test_dockers_own_configuration_is_never_asked(
    engine_environ: Mapping[str, str],
    registry: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A credential helper that is not installed breaks every call of the SDK that looks for it."""
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "not-installed"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine = choose(EngineChoice(), environ=engine_environ, network="host")
    engine.build(spec("FROM scratch\nLABEL a=b\n", f"{name}:1"), emit=_drop, cancel=Cancel())
    assert push(engine, f"{name}:1", f"{registry}/{name}").startswith("sha256:")
    engine.close()


def _drop(event: object) -> None:
    """Nobody listens."""


def test_a_file_of_an_image_is_read(engine: Engine, busybox: str) -> None:
    assert b"root:" in engine.read(busybox, "/etc/passwd")
    assert b"root:" in engine.read(busybox, "/nowhere", "/etc/os-release", "/etc/passwd")
    assert engine.read(busybox, "/etc/os-release") == b""
    assert engine.read(busybox, "/etc") == b""
