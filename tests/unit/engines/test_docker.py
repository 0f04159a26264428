"""The Docker API as an engine: what is sent, and what odd answers become."""

import base64
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines.buildx import Client
from sandboxfile.engines.docker import DockerEngine, connect
from sandboxfile.engines.sdk import DockerSdk
from sandboxfile.engines.transport import Address
from sandboxfile.errors import (
    BuildFailed,
    Cancelled,
    NotAllowed,
    SandboxfileError,
    Unreachable,
    Unsupported,
)
from sandboxfile.model import TOKEN_USER, Login, Resources, Secret
from tests.fakes.building import Events, spec
from tests.fakes.engine import VERSION, Answer, FakeEngine, serving

ID = "sha256:" + "a" * 64
DIGEST = "sha256:" + "d" * 64
PUSHED = {"status": f"v1: digest: {DIGEST} size: 529"}
PUSH = "POST /images/reg.example/a/b/push"
BUILT = ({"id": "moby.image.id", "aux": {"ID": ID}},)


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with serving() as engine:
        engine.answers[f"GET /images/{ID}/json"] = Answer(body={"Id": ID, "Config": None})
        yield engine


@pytest.fixture(params=[connect, DockerSdk], ids=["socket", "sdk"])
def engine(fake: FakeEngine, request: pytest.FixtureRequest) -> Iterator[DockerEngine]:
    """Return an engine spoken to in both ways: all that is sent and understood is the same."""
    one = DockerEngine(
        Address(url=fake.url),
        network="host",
        retry_delays_s=(0.0, 0.0, 0.0),
        transport=request.param,
    )
    yield one
    one.close()


def build(engine: DockerEngine, events: Events | None = None, **fields: object) -> str:
    emit = (Events() if events is None else events).emit
    return engine.build(spec("FROM x\n", "t:1", **fields), emit=emit, cancel=Cancel()).image_id


# --- what it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ({"Version": "20.10.24+dfsg1", "ApiVersion": "1.41"}, {"cache_mounts"}),
        ({"Version": "23.0.0", "ApiVersion": "1.42"}, {"cache_mounts", "heredoc"}),
        ({"Version": "dev", "ApiVersion": "1.41"}, {"cache_mounts"}),
        ({"Version": "", "ApiVersion": "1.42"}, {"cache_mounts", "heredoc"}),
    ],
)
def test_what_an_engine_can_follows_from_its_version(
    version: dict[str, str], can: set[str]
) -> None:
    with serving(version) as fake:
        engine = DockerEngine(Address(url=fake.url))
        assert engine.info().can == can | {"cancel", "load"}
        assert engine.info().starts_to_unpack is (version["ApiVersion"] == "1.41")
        engine.close()


def test_no_docker_client_is_started_for_what_the_engine_does_alone(
    fake: FakeEngine, tmp_path: Path
) -> None:
    fake.answers["POST /build"] = Answer(messages=BUILT)
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho version 20.10.1 | tee {tmp_path}/started\n")
    program.chmod(0o755)
    own = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    engine = DockerEngine(Address(url=fake.url), clients=(Client(program=program, environ=own),))
    build(engine, needs=frozenset({"cache_mounts"}))
    assert not (tmp_path / "started").exists()
    assert "secrets" in engine.info().can
    assert (tmp_path / "started").exists()
    engine.close()


@pytest.mark.parametrize(
    ("version", "can"),
    [("4.3.1", {"cache_mounts", "load"}), ("5.8.6", {"cache_mounts", "load", "heredoc"})],
)
def test_podman_is_known_by_its_component(version: str, can: set[str]) -> None:
    podman = {
        "Version": version,
        "ApiVersion": "1.41",
        "Components": [{"Name": "Podman Engine", "Version": version}],
    }
    with serving(podman) as fake:
        engine = DockerEngine(Address(url=fake.url))
        info = engine.info()
        assert (info.kind, info.builder) == ("podman", "podman")
        assert info.can == can
        fake.answers["POST /build"] = Answer(messages=({"aux": {"ID": ID}},))
        fake.answers[f"GET /images/{ID}/json"] = Answer(body={"Id": ID})
        build(engine)
        (asked,) = fake.requests("POST", "/build")
        assert "version" not in asked.query
        with pytest.raises(Unsupported) as caught:
            build(engine, secrets={"a": Path("/a")})
        assert caught.value.hint == "use Docker Engine"
        engine.close()


@pytest.mark.parametrize(
    ("info", "store"),
    [
        ({"Driver": "overlay2", "DriverStatus": [["Supports d_type", "true"]]}, "overlay"),
        (
            {
                "Driver": "overlayfs",
                "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
            },
            "containerd",
        ),
        ({"Driver": "vfs", "DriverStatus": None}, "unknown"),
    ],
)
def test_the_store_of_images_is_known(info: object, store: str) -> None:
    with serving(info=info) as fake:
        engine = DockerEngine(Address(url=fake.url))
        assert engine.info().store == store
        engine.close()


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ({"Os": "windows"}, "runs windows containers"),
        ({"ApiVersion": "1.38"}, r"is too old for BuildKit \(API 1\.38\)"),
    ],
)
def test_an_engine_of_no_use_says_why(version: dict[str, str], said: str) -> None:
    with serving({**VERSION, **version}) as fake:
        engine = DockerEngine(Address(url=fake.url))
        with pytest.raises(Unsupported, match=said):
            engine.info()
        engine.close()


@pytest.mark.parametrize("body", [b"<html>hello</html>", [], {"some": "API"}, b"", b"\xff"])
def test_what_is_no_engine_is_not_taken_for_one(fake: FakeEngine, body: object) -> None:
    fake.answers["GET /version"] = Answer(body=body)
    engine = DockerEngine(Address(url=fake.url, source="DOCKER_HOST"))
    with pytest.raises(Unreachable, match="does not answer like a container engine") as caught:
        engine.info()
    assert caught.value.hint == "it was named by DOCKER_HOST"
    engine.close()


def test_the_engine_is_asked_once(fake: FakeEngine, engine: DockerEngine) -> None:
    threads = [threading.Thread(target=engine.info) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(asked.method, asked.path) for asked in fake.asked] == [("GET", "/_ping")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Server": "nginx/1.29", "Api-Version": "1.51"},
        {"Server": "Docker/28.5.2 (linux)"},
        {"Server": "Docker/28.5.2 (linux)", "Api-Version": "newest"},
        {"Server": "Docker/28.5.2", "Api-Version": "1.51"},
    ],
)
def test_an_engine_whose_greeting_does_not_say_what_it_is_is_asked(
    fake: FakeEngine, engine: DockerEngine, headers: dict[str, str]
) -> None:
    fake.answers["GET /_ping"] = Answer(body=b"OK", headers=headers)
    info = engine.info()
    assert (info.kind, info.version, info.api) == ("docker", "28.5.2", "1.51")
    assert [asked.path for asked in fake.asked] == ["/_ping", "/version"]


@pytest.mark.parametrize("status", [301, 403, 500])
def test_a_greeting_that_is_refused_says_nothing(
    fake: FakeEngine, engine: DockerEngine, status: int
) -> None:
    headers = {"Server": "Docker/1.0 (linux)", "Api-Version": "1.0"}
    fake.answers["GET /_ping"] = Answer(status=status, headers=headers)
    assert engine.info().version == "28.5.2"


@pytest.mark.parametrize(
    ("server", "kind", "version"),
    [
        ("Docker/20.10.24+dfsg1 (linux)", "docker", "20.10.24+dfsg1"),
        ("Libpod/4.3.1 (linux)", "podman", "4.3.1"),
    ],
)
def test_an_engine_says_what_it_is_when_it_is_greeted(
    fake: FakeEngine, engine: DockerEngine, server: str, kind: str, version: str
) -> None:
    headers = {"Server": server, "Api-Version": "1.41"}
    fake.answers["GET /_ping"] = Answer(body=b"OK", headers=headers)
    info = engine.info()
    assert (info.kind, info.version, info.api) == (kind, version, "1.41")
    assert [asked.path for asked in fake.asked] == ["/_ping"]


# --- builds ----------------------------------------------------------------------------------


def test_a_build_sends_what_the_specification_says(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.answers["POST /build"] = Answer(messages=BUILT)
    built = engine.build(
        spec(
            "FROM x\n",
            "t:1",
            context=lambda: iter([b"one", b"two"]),
            args={"A": "1"},
            labels={"b": "2"},
            stage="last",
            no_cache=True,
        ),
        emit=Events().emit,
        cancel=Cancel(),
    )
    assert (built.tag, built.image_id) == ("t:1", ID)
    (asked,) = fake.requests("POST", "/build")
    assert asked.body == b"onetwo"
    assert json.loads(asked.query["buildargs"]) == {"SOURCE_DATE_EPOCH": "0", "A": "1"}
    assert json.loads(asked.query["labels"]) == {"b": "2"}
    expected = {
        "version": "2",
        "t": "t:1",
        "dockerfile": "dockerfile",
        "target": "last",
        "nocache": "1",
        "networkmode": "host",
        "platform": "linux/amd64",
    }
    assert expected.items() <= asked.query.items()
    assert base64.b64decode(asked.headers["x-registry-config"]) == b"{}"


def test_a_stream_that_ends_without_an_image_is_an_engine_that_was_lost(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.answers["POST /build"] = Answer(messages=({"stream": "Step 1/1 : FROM x\n"},))
    with pytest.raises(Unreachable, match="ended the build without an image"):
        build(engine)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(messages=({"stream": "x"},), cut=True),
        Answer(messages=(b'{"stream": "brok',)),
        Answer(messages=(b'"a string"',)),
    ],
)
def test_a_broken_stream_is_no_success(
    fake: FakeEngine, engine: DockerEngine, answer: Answer
) -> None:
    fake.answers["POST /build"] = answer
    with pytest.raises(Unreachable):
        build(engine)


def test_an_image_that_is_not_there_after_all_is_no_success(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.answers["POST /build"] = Answer(messages=BUILT)
    del fake.answers[f"GET /images/{ID}/json"]
    with pytest.raises(Unreachable, match=f"the engine lost the image `{ID}`"):
        build(engine)


@pytest.mark.parametrize(
    ("message", "status", "said"),
    [
        ({"errorDetail": {"code": 7, "message": "boom"}, "error": "boom"}, 7, "exit status 7"),
        ({"errorDetail": {"message": "process did not complete: exit code: 9"}}, 9, "status 9"),
        ({"error": "plain"}, None, "plain"),
        ({"errorDetail": None, "error": ""}, None, "no reason given"),
        ({"errorDetail": {"message": "write: no space left on device"}}, None, "no space left"),
    ],
)
def test_an_error_in_the_stream_fails_the_build(
    fake: FakeEngine,
    engine: DockerEngine,
    message: object,
    status: int | None,
    said: str,
) -> None:
    # Even after an id: the last word counts.
    fake.answers["POST /build"] = Answer(messages=(*BUILT, message))
    with pytest.raises(BuildFailed, match=said) as caught:
        build(engine)
    assert caught.value.status == status
    assert ("docker system df" in caught.value.hint) == ("no space" in said)


def test_a_refused_build_says_what_the_engine_said(fake: FakeEngine, engine: DockerEngine) -> None:
    message = "dockerfile parse error line 2: unknown instruction: FOO"
    fake.answers["POST /build"] = Answer(status=400, body={"message": message})
    with pytest.raises(BuildFailed, match=f"the build failed: {message}"):
        build(engine)


def test_a_build_that_needs_a_session_says_so(fake: FakeEngine, engine: DockerEngine) -> None:
    error = {"errorDetail": {"message": "failed to authorize: no active sessions"}}
    fake.answers["POST /build"] = Answer(messages=(error,))
    with pytest.raises(Unsupported, match="BuildKit must ask for a login or a secret"):
        build(engine)


def test_a_context_that_cannot_be_read_without_a_session_names_the_remedy(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    said = 'failed to read downloaded context: Get "http://build-context-x": no such host'
    fake.answers["POST /build"] = Answer(messages=({"errorDetail": {"message": said}},))
    with pytest.raises(Unreachable) as caught:
        build(engine)
    assert "install docker-buildx" in caught.value.hint


def test_a_client_takes_over_where_a_context_cannot_be_read(
    fake: FakeEngine, tmp_path: Path
) -> None:
    program = tmp_path / "docker-buildx"
    script = '[ "$1" = version ] && echo buildx v0.20.0 && exit; cat >> "$0.stdin"'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    said = 'failed to read downloaded context: Get "http://build-context-x": no such host'
    fake.answers["POST /build"] = Answer(messages=({"errorDetail": {"message": said}},))
    fake.answers["GET /images/t:1/json"] = Answer(body={"Id": ID})
    engine = DockerEngine(Address(url=fake.url), clients=(Client(program=program),))
    for _ in range(2):
        assert build(engine, context=lambda: iter([b"context;"])) == ID
    # The engine was tried once; from then on the client is known to be needed.
    assert len(fake.requests("POST", "/build")) == 1
    assert (tmp_path / "docker-buildx.stdin").read_text() == "context;context;"
    engine.close()


def test_secrets_without_a_client_are_refused_before_anything_is_sent(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    with pytest.raises(Unreachable, match="a secret of the build needs docker-buildx"):
        build(engine, secrets={"a": Path("/a")})
    assert not fake.requests("POST", "/build")


def test_podman_says_that_it_does_not_stop(fake: FakeEngine) -> None:
    fake.answers["GET /version"] = Answer(
        body={**VERSION, "Components": [{"Name": "Podman Engine"}]}
    )
    hold = threading.Event()
    fake.answers["POST /build"] = Answer(messages=({"stream": "STEP 1/1: X\n"},), hold=hold)
    engine, cancel, events = DockerEngine(Address(url=fake.url)), Cancel(), Events()

    def emit(event: object) -> None:
        events.append(event)  # type: ignore[arg-type]
        cancel.set()

    with pytest.raises(Cancelled):
        engine.build(spec("", "t:1"), emit=emit, cancel=cancel)
    hold.set()
    assert events.notices == ["Podman finishes the step it is running before it stops"]
    engine.close()


# --- pushes and pulls ------------------------------------------------------------------------


@pytest.fixture
def pushable(fake: FakeEngine) -> FakeEngine:
    fake.answers["POST /images/t:1/tag"] = Answer(status=201)
    return fake


def push(engine: DockerEngine, events: Events | None = None, login: Login | None = None) -> str:
    return engine.push(
        "t:1",
        "reg.example/a/b",
        "v1",
        login=login,
        emit=(Events() if events is None else events).emit,
        cancel=Cancel(),
        job="j",
    )


def credentials(fake: FakeEngine) -> object:
    (asked,) = fake.requests("POST", "/images/reg.example/a/b/push")
    return json.loads(base64.urlsafe_b64decode(asked.headers["x-registry-auth"]))


def test_the_digest_is_the_one_of_the_status_line(
    pushable: FakeEngine, engine: DockerEngine
) -> None:
    messages = ({"status": "Preparing"}, {"status": "Pushing", "progressDetail": {}}, PUSHED)
    pushable.answers[PUSH] = Answer(messages=messages)
    events = Events()
    assert push(engine, events) == DIGEST
    assert events.lines == ["Preparing", PUSHED["status"]]
    (tagged,) = pushable.requests("POST", "/images/t:1/tag")
    assert tagged.query == {"repo": "reg.example/a/b", "tag": "v1"}
    assert credentials(pushable) == {}


def test_a_login_goes_with_the_push(pushable: FakeEngine, engine: DockerEngine) -> None:
    pushable.answers[PUSH] = Answer(messages=(PUSHED,))
    push(engine, login=Login(username="u", password=Secret("p\u00e4ss")))
    assert credentials(pushable) == {
        "username": "u",
        "password": "p\u00e4ss",
        "serveraddress": "reg.example",
    }


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("library/debian", "docker.io"),
        ("debian", "docker.io"),
        ("localhost/a", "localhost"),
        ("localhost:5000/a/b", "localhost:5000"),
        ("ghcr.io/a/b", "ghcr.io"),
    ],
)
def test_the_registry_is_the_one_of_the_repository(
    fake: FakeEngine, engine: DockerEngine, repository: str, registry: str
) -> None:
    fake.answers["POST /images/create"] = Answer(messages=({"error": "denied"},))
    with pytest.raises(NotAllowed, match=f"the registry `{registry}` refused"):
        engine.ensure(
            f"{repository}@{DIGEST}", login=None, emit=Events().emit, cancel=Cancel(), job="j"
        )


def test_an_identity_token_goes_as_one(pushable: FakeEngine, engine: DockerEngine) -> None:
    pushable.answers[PUSH] = Answer(messages=(PUSHED,))
    push(engine, login=Login(username=TOKEN_USER, password=Secret("t0ken")))
    assert credentials(pushable) == {"identitytoken": "t0ken", "serveraddress": "reg.example"}


# The texts of engines 20.10, 28 and 29 with both image stores, and of Podman.
DENIED = (
    "no basic auth credentials",
    "unauthorized: authentication required",
    "denied: requested access to the resource is denied",
    (
        "push access denied, repository does not exist or may require authorization: server"
        " message: insufficient_scope: authorization failed"
    ),
    "unexpected status from HEAD request to http://r/v2/a/blobs/x: 401 Unauthorized",
    "error from registry: bad credentials",
    "unexpected status: 403 Forbidden",
    "name unknown: The repository does not exist",
)
PASSING = (
    "EOF",
    "unexpected EOF",
    "Patch http://r/v2/a/blobs/uploads/x: dial tcp 127.0.0.1:5000: connect: connection refused",
    "read tcp: connection reset by peer",
    "write: broken pipe",
    'Put "http://r": net/http: timeout awaiting response headers',
    "dial tcp: lookup r on 1.2.3.4:53: no such host",
    "received unexpected HTTP status: 503 Service Unavailable",
    "unexpected status: 502 Bad Gateway",
    "toomanyrequests: 429 Too Many Requests",
    "net/http: TLS handshake timeout",
)


@pytest.mark.parametrize("text", DENIED)
def test_a_refusal_is_not_tried_again(
    pushable: FakeEngine, engine: DockerEngine, text: str
) -> None:
    pushable.answers[PUSH] = Answer(messages=({"errorDetail": {"message": text}},))
    with pytest.raises(NotAllowed, match=r"the registry `reg\.example`") as caught:
        push(engine)
    assert "docker login reg.example" in caught.value.hint
    assert len(pushable.requests("POST", PUSH.removeprefix("POST "))) == 1


def test_a_refusal_by_status_is_one_too(pushable: FakeEngine, engine: DockerEngine) -> None:
    pushable.answers[PUSH] = Answer(status=500, body={"message": "denied: no"})
    with pytest.raises(NotAllowed):
        push(engine)


@pytest.mark.parametrize("text", PASSING)
def test_what_may_pass_is_tried_again(
    pushable: FakeEngine, engine: DockerEngine, text: str
) -> None:
    broken = Answer(messages=({"errorDetail": {"message": text}},))
    pushable.answers[PUSH] = [broken, broken, Answer(messages=(PUSHED,))]
    events = Events()
    assert push(engine, events) == DIGEST
    assert events.notices == [f"`reg.example`: {text}; trying again in 0 s"] * 2


def test_a_push_without_a_digest_is_tried_again_and_then_given_up(
    pushable: FakeEngine, engine: DockerEngine
) -> None:
    pushable.answers[PUSH] = Answer(messages=({"status": "done?"},))
    with pytest.raises(Unreachable, match="without a digest") as caught:
        push(engine)
    assert "run again later" in caught.value.hint
    assert len(pushable.requests("POST", PUSH.removeprefix("POST "))) == 4


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("http: server gave HTTP response to HTTPS client", Unreachable, "speaks plain HTTP"),
        ("manifest invalid: bad", BuildFailed, "the transfer of `reg.example/a/b` failed"),
    ],
)
def test_other_failures_are_final(
    pushable: FakeEngine,
    engine: DockerEngine,
    text: str,
    error: type[SandboxfileError],
    said: str,
) -> None:
    pushable.answers[PUSH] = Answer(messages=({"error": text},))
    with pytest.raises(error, match=said):
        push(engine)
    assert len(pushable.requests("POST", PUSH.removeprefix("POST "))) == 1


def test_waiting_for_another_try_can_be_cancelled(pushable: FakeEngine) -> None:
    pushable.answers[PUSH] = Answer(messages=({"error": "EOF"},))
    engine = DockerEngine(Address(url=pushable.url), retry_delays_s=(1000.0,))
    cancel = Cancel()
    with pytest.raises(Cancelled):
        engine.push(
            "t:1",
            "reg.example/a/b",
            "v1",
            login=None,
            emit=lambda _: cancel.set(),
            cancel=cancel,
            job="j",
        )
    engine.close()


def test_a_pull_ends_when_the_run_is_stopped(fake: FakeEngine, engine: DockerEngine) -> None:
    hold, cancel = threading.Event(), Cancel()
    begun = ({"status": "Pulling fs layer"},)
    fake.answers["POST /images/create"] = Answer(messages=begun, hold=hold)
    with pytest.raises(Cancelled):
        engine.ensure(
            f"reg.example/a@{DIGEST}", login=None, emit=lambda _: cancel.set(), cancel=cancel,
            job="j",
        )  # fmt: skip
    hold.set()


def test_a_pull_names_repository_digest_and_platform(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.answers["POST /images/create"] = Answer(messages=({"status": "Pulling"},))
    reference = f"docker.io/library/debian:12@{DIGEST}"
    engine.ensure(reference, login=None, emit=Events().emit, cancel=Cancel(), job="j")
    (asked,) = fake.requests("POST", "/images/create")
    assert asked.query == {
        "fromImage": "docker.io/library/debian",
        "tag": DIGEST,
        "platform": "linux/amd64",
    }
    assert asked.headers["x-registry-auth"] == base64.b64encode(b"{}").decode()


# --- boxes -----------------------------------------------------------------------------------


def test_a_box_waits_with_init_and_limits_and_is_removed(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.answers["POST /containers/create"] = Answer(status=201, body={"Id": "c1"})
    fake.answers["HEAD /containers/c1/archive"] = Answer()
    fake.answers["POST /containers/c1/start"] = Answer(status=204)
    fake.answers["DELETE /containers/c1"] = Answer(status=204)
    wanted = Resources(cpu=2, memory=512)
    with engine.box("t:1", labels={"l": "1"}, resources=wanted) as box:
        assert box.id == "c1"
    (created,) = fake.requests("POST", "/containers/create")
    assert created.json["HostConfig"] == {
        "Init": True,
        "NetworkMode": "host",
        "Memory": 512 * 1024 * 1024,
        "NanoCpus": 2_000_000_000,
    }
    assert created.json["Labels"] == {"l": "1"}
    (removed,) = fake.requests("DELETE", "/containers/c1")
    assert removed.query == {"force": "1", "v": "1"}


def test_podman_is_told_how_a_committed_image_starts(fake: FakeEngine) -> None:
    """It ignores the configuration in the body of the call, and would keep the waiting."""
    fake.answers["GET /version"] = Answer(
        body={**VERSION, "Components": [{"Name": "Podman Engine"}]}
    )
    fake.answers["POST /containers/create"] = Answer(status=201, body={"Id": "c1"})
    fake.answers["HEAD /containers/c1/archive"] = Answer()
    fake.answers["POST /containers/c1/start"] = Answer(status=204)
    fake.answers["DELETE /containers/c1"] = Answer(status=204)
    config = {"Entrypoint": ["/e"], "Cmd": None}
    fake.answers["GET /images/t:1/json"] = Answer(body={"Id": "x", "Config": config})
    fake.answers["GET /images/t:2/json"] = Answer(body={"Id": ID})
    fake.answers["POST /commit"] = Answer(status=201, body={"Id": "short"})
    engine = DockerEngine(Address(url=fake.url))
    with engine.box("t:1", labels={}) as box:
        assert box.commit("t:2", labels={"a": '"$1"'}) == ID
    (asked,) = fake.requests("POST", "/commit")
    assert (asked.query["repo"], asked.query["tag"]) == ("t", "2")
    assert asked.values("changes") == [
        'ENTRYPOINT ["/e"]',
        "CMD []",
        'LABEL "a"="\\"\\$1\\""',
    ]
    engine.close()


def test_a_command_in_a_container_that_went_away_is_an_error(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.answers["POST /containers/create"] = Answer(status=201, body={"Id": "c1"})
    fake.answers["HEAD /containers/c1/archive"] = Answer()
    fake.answers["POST /containers/c1/start"] = Answer(status=204)
    fake.answers["DELETE /containers/c1"] = Answer(status=204)
    fake.answers["POST /containers/c1/exec"] = Answer(status=201, body={"Id": "e1"})
    fake.answers["POST /exec/e1/start"] = Answer(body=b"\x01\0\0\0\0\0\0\0")
    with engine.box("t:1", labels={}) as box:
        with pytest.raises(SandboxfileError, match="the container went away"):
            box.execute(("true",))
        fake.answers["GET /exec/e1/json"] = Answer(body={"Running": True})
        with pytest.raises(SandboxfileError, match=r"the connection to the command .* broke"):
            box.execute(("true",))
        fake.answers["GET /exec/e1/json"] = Answer(body={"Running": False, "ExitCode": None})
        with pytest.raises(SandboxfileError, match=r"the connection to the command .* broke"):
            box.execute(("true",))


@pytest.mark.parametrize("status", [404, 409])
def test_a_box_that_is_gone_or_going_is_removed_enough(
    fake: FakeEngine, engine: DockerEngine, status: int
) -> None:
    fake.answers["POST /containers/create"] = Answer(status=201, body={"Id": "c1"})
    fake.answers["HEAD /containers/c1/archive"] = Answer()
    fake.answers["POST /containers/c1/start"] = Answer(status=204)
    fake.answers["DELETE /containers/c1"] = Answer(status=status, body={"message": "gone"})
    with engine.box("t:1", labels={}):
        pass


def test_a_box_that_does_not_start_is_removed(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.answers["POST /containers/create"] = Answer(status=201, body={"Id": "c1"})
    fake.answers["HEAD /containers/c1/archive"] = Answer()
    fake.answers["POST /containers/c1/start"] = Answer(status=500, body={"message": "no luck"})
    fake.answers["DELETE /containers/c1"] = Answer(status=204)
    with (
        pytest.raises(BuildFailed, match="`t:1` does not start: no luck"),
        engine.box("t:1", labels={}),
    ):
        pass
    assert fake.requests("DELETE", "/containers/c1")


# --- an engine in trouble --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "out of order"}, "out of order"),
        ({"cause": "podman's reason", "message": ""}, "podman's reason"),
        (b"plain text", "plain text"),
        (b"", "Internal Server Error"),
        ([], r"\[\]"),
    ],
)
def test_a_refused_call_says_the_engines_reason(
    fake: FakeEngine, engine: DockerEngine, body: object, said: str
) -> None:
    fake.answers["GET /images/t:1/json"] = Answer(status=500, body=body)
    with pytest.raises(SandboxfileError, match=f"the engine refused: {said}"):
        engine.find("t:1")


@pytest.mark.parametrize("body", [[], {"some": "API"}, b"", b"[" * 100_000])
def test_an_answer_about_an_image_that_is_none_is_nobodys_bug(
    fake: FakeEngine, engine: DockerEngine, body: object
) -> None:
    fake.answers["GET /images/t:1/json"] = Answer(body=body)
    with pytest.raises(Unreachable, match="does not answer like a container engine"):
        engine.find("t:1")


@pytest.mark.parametrize("body", [[], {"Id": None}, {"Id": ""}, b"", "c1"])
def test_an_answer_without_the_id_of_what_was_made_is_nobodys_bug(
    fake: FakeEngine, engine: DockerEngine, body: object
) -> None:
    fake.answers["POST /containers/create"] = Answer(body=body)
    with pytest.raises(Unreachable, match="does not answer like a container engine"):
        engine.read("x:1", "/etc/os-release")
    with (
        pytest.raises(Unreachable, match="does not answer like a container engine"),
        engine.box("x:1", labels={}),
    ):
        pass


@pytest.mark.parametrize("body", [{}, b"", [1], [{"Names": ["x"]}], "c1"])
def test_a_list_that_is_none_is_nobodys_bug(
    fake: FakeEngine, engine: DockerEngine, body: object
) -> None:
    fake.answers["GET /containers/json"] = fake.answers["GET /images/json"] = Answer(body=body)
    for remove in (engine.remove_boxes, engine.remove_labelled):
        with pytest.raises(Unreachable, match="does not answer like a container engine"):
            remove(labels={"a": "b"})


def test_a_redirect_is_no_answer(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.answers["GET /images/t:1/json"] = Answer(status=307, body=b"")
    with pytest.raises(SandboxfileError, match="the engine refused: Temporary Redirect"):
        engine.find("t:1")


def test_untag_passes_other_refusals_on(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.answers["DELETE /images/t:1"] = Answer(status=409, body={"message": "in use"})
    with pytest.raises(SandboxfileError, match="in use"):
        engine.untag("t:1")


def test_an_import_that_fails_in_its_stream_is_said(
    fake: FakeEngine, engine: DockerEngine, tmp_path: Path
) -> None:
    fake.answers["POST /images/create"] = Answer(messages=({"error": "bad archive"},))
    (tmp_path / "root.tar").write_bytes(b"x")
    with pytest.raises(SandboxfileError, match=r"root\.tar` cannot be imported: bad archive"):
        engine.load_root(tmp_path / "root.tar", "t:1", labels={})
    assert not fake.requests("POST", "/images/t:1/tag")


# --- files of images -------------------------------------------------------------------------


def archived(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    member.size = len(content)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def link() -> bytes:
    member = tarfile.TarInfo("os-release")
    member.type, member.linkname = tarfile.SYMTYPE, "../usr/lib/os-release"
    return archived(member)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (Answer(body=archived(tarfile.TarInfo("os-release"), b"ID=debian\n")), b"ID=debian\n"),
        (Answer(body=link()), b""),
        (Answer(body=b"junk"), b""),
        (Answer(body=b"\0" * 10240), b""),
        (Answer(status=404, body={"message": "no such file"}), b""),
    ],
)
def test_a_file_of_an_image_is_read_without_running_it(
    fake: FakeEngine, engine: DockerEngine, answer: Answer, content: bytes
) -> None:
    fake.answers["POST /containers/create"] = Answer(body={"Id": "c1"})
    fake.answers["GET /containers/c1/archive"] = answer
    fake.answers["DELETE /containers/c1"] = Answer(status=204)

    assert engine.read("x:1", "/etc/os-release") == content

    (made,) = fake.requests("POST", "/containers/create")
    (asked,) = fake.requests("GET", "/containers/c1/archive")
    assert made.json["Image"] == "x:1"
    assert asked.query["path"] == "/etc/os-release"
    assert len(fake.requests("DELETE", "/containers/c1")) == 1
