"""Which engine is chosen, and what is said when there is none."""

import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path

import pytest

from sandboxfile.engines.choose import choose, describe
from sandboxfile.engines.docker import DockerEngine
from sandboxfile.errors import SandboxfileError, Unreachable, UsageError
from sandboxfile.model import EngineChoice
from sandboxfile.places import Position
from tests.fakes.engine import VERSION, FakeEngine, serving

AUTO = EngineChoice()
PODMAN = {**VERSION, "Version": "5.0.0", "Components": [{"Name": "Podman Engine"}]}


@pytest.fixture
def system() -> Iterator[Path]:
    """An empty system; short, as the paths of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with serving() as engine:
        yield engine


def chosen(environ: dict[str, str], system: Path, choice: EngineChoice = AUTO) -> tuple[str, str]:
    """Return builder and reason of the engine that is chosen."""
    engine = choose(choice, environ=environ, network=None, system=system)
    info = engine.info()
    engine.close()
    return info.builder, info.why


def refused(environ: dict[str, str], system: Path, choice: EngineChoice = AUTO) -> SandboxfileError:
    with pytest.raises(SandboxfileError) as caught:
        choose(choice, environ=environ, network=None, system=system)
    return caught.value


def linked(stack: ExitStack, socket_path: Path, version: object = VERSION) -> str:
    """Let a fake engine listen at a path."""
    engine = stack.enter_context(serving(version))  # type: ignore[arg-type]
    socket_path.parent.mkdir(parents=True, exist_ok=True)
    socket_path.symlink_to(engine.url.removeprefix("unix://"))
    return f"unix://{socket_path}"


def context(home: Path, name: str, host: str) -> None:
    stored = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    stored.mkdir(parents=True)
    meta = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (stored / "meta.json").write_text(json.dumps(meta))


# --- the order -------------------------------------------------------------------------------


def test_docker_host_comes_first(fake: FakeEngine, system: Path) -> None:
    with ExitStack() as stack:
        linked(stack, system / "var/run/docker.sock")
        context(system, "other", "unix:///nowhere")
        environ = {"DOCKER_HOST": fake.url, "DOCKER_CONTEXT": "other", "HOME": str(system)}
        assert chosen(environ, system) == ("buildkit", f"DOCKER_HOST: {fake.url}")


def test_then_the_context_of_the_docker_client(fake: FakeEngine, system: Path) -> None:
    with ExitStack() as stack:
        linked(stack, system / "var/run/docker.sock")
        context(system, "mine", fake.url)
        why = f"docker context `mine`: {fake.url}"
        environ = {"HOME": str(system)}
        assert chosen({**environ, "DOCKER_CONTEXT": "mine"}, system)[1] == why
        (system / ".docker/config.json").write_text('{"currentContext": "mine"}')
        assert chosen(environ, system)[1] == why
        assert chosen({"DOCKER_CONFIG": str(system / ".docker")}, system)[1] == why
        # The context that every docker client has is no choice of anybody.
        environ["DOCKER_CONTEXT"] = "default"
        assert chosen(environ, system)[1].startswith("Docker's usual socket")


@pytest.mark.parametrize("config", ["not JSON", "[]", '{"currentContext": 3}', "{}"])
def test_a_configuration_without_a_context_is_passed_over(system: Path, config: str) -> None:
    (system / ".docker").mkdir()
    (system / ".docker/config.json").write_text(config)
    with ExitStack() as stack:
        url = linked(stack, system / "var/run/docker.sock")
        why = f"Docker's usual socket: {url}"
        assert chosen({"HOME": str(system)}, system)[1] == why


def test_then_the_usual_sockets_in_their_order(system: Path) -> None:
    environ = {"HOME": str(system / "home"), "XDG_RUNTIME_DIR": str(system / "run/user")}
    places = (
        ("Podman", system / "run/podman/podman.sock", PODMAN),
        ("rootless Podman", system / "run/user/podman/podman.sock", PODMAN),
        ("Docker Desktop", system / "home/.docker/desktop/docker.sock", VERSION),
        ("Docker Desktop", system / "home/.docker/run/docker.sock", VERSION),
        ("rootless Docker", system / "run/user/docker.sock", VERSION),
        ("Docker's usual socket", system / "var/run/docker.sock", VERSION),
    )
    with ExitStack() as stack:
        for source, path, version in places:  # each one found beats all that were there before
            url = linked(stack, path, version)
            builder = "podman" if version is PODMAN else "buildkit"
            assert chosen(environ, system) == (builder, f"{source}: {url}")


def test_a_socket_where_nobody_listens_is_passed_over(system: Path) -> None:
    dead = system / "var/run/docker.sock"
    dead.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    with ExitStack() as stack:
        url = linked(stack, system / "run/podman/podman.sock", PODMAN)
        assert chosen({}, system)[1] == f"Podman: {url}"


# --- what was asked for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "builder"), [("", "buildkit"), ("auto", "buildkit"), ("docker", "buildkit"),
                           ("classic", "classic")]
)  # fmt: skip
def test_the_environment_names_an_engine(
    fake: FakeEngine, system: Path, asked: str, builder: str
) -> None:
    environ = {"DOCKER_HOST": fake.url, "SANDBOXFILE_ENGINE": asked}
    assert chosen(environ, system)[0] == builder


def test_the_workspace_goes_before_the_environment(fake: FakeEngine, system: Path) -> None:
    environ = {"DOCKER_HOST": fake.url, "SANDBOXFILE_ENGINE": "podman"}
    assert chosen(environ, system, EngineChoice(kind="classic"))[0] == "classic"


@pytest.mark.parametrize("asked", ["dockr", "docker:name", "buildx-name", ":", "Docker"])
def test_a_wrong_name_in_the_environment_is_a_usage_error(system: Path, asked: str) -> None:
    error = refused({"SANDBOXFILE_ENGINE": asked}, system)
    assert isinstance(error, UsageError)
    assert error.message == f"SANDBOXFILE_ENGINE is `{asked}`, which is no engine"
    assert error.hint == "one of auto, docker, buildx, podman, classic, or `buildx:NAME`"


def test_an_engine_of_another_kind_is_not_taken(fake: FakeEngine, system: Path) -> None:
    error = refused({"DOCKER_HOST": fake.url}, system, EngineChoice(kind="podman"))
    assert error.message == "it is docker 28.5.2, and `podman` was asked for"


def test_podman_is_found_behind_docker(system: Path) -> None:
    with ExitStack() as stack:
        linked(stack, system / "var/run/docker.sock")
        url = linked(stack, system / "run/podman/podman.sock", PODMAN)
        why = chosen({}, system, EngineChoice(kind="podman"))[1]
        assert why == f"Podman: {url}"


def buildx(directory: Path, script: str = "echo github.com/docker/buildx v0.20.0 abc") -> str:
    """Put a plug-in on a PATH of its own."""
    directory.mkdir(exist_ok=True)
    program = directory / "docker-buildx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


FARM = """\
case $1 in
version) echo github.com/docker/buildx v0.20.0 abc;;
inspect) cat <<'SAID'
Name:   farm
Driver: {driver}

Nodes:
Name:      farm0
Endpoint:  tcp://127.0.0.1:1234
Status:    {status}
Platforms: {platforms}
SAID
esac
"""


NO_FARM = """\
[ "$1" = version ] && echo buildx v0.20.0 && exit
echo 'ERROR: no builder "farm" found' >&2
exit 1
"""


def farm(driver: str = "remote", status: str = "running", platforms: str = "linux/amd64*") -> str:
    return FARM.format(driver=driver, status=status, platforms=platforms)


def test_a_builder_of_its_own_does_not_see_the_images_of_the_engine(
    fake: FakeEngine, system: Path
) -> None:
    for driver, elsewhere in (("docker", False), ("remote", True), ("kubernetes", True)):
        environ = {
            "DOCKER_HOST": fake.url,
            "PATH": buildx(system / "bin", farm(driver)),
            "SANDBOXFILE_ENGINE": "buildx:farm",
        }
        engine = choose(AUTO, environ=environ, network=None, system=system)
        assert engine.info().elsewhere is elsewhere
        assert ("cache_export" in engine.info().can) is elsewhere
        engine.close()


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (farm(status="inactive"), Unreachable, "the builder `farm` does not run (driver remote)"),
        (farm(platforms="linux/arm64, linux/arm/v7"), Unreachable,
         "the builder `farm` cannot build for linux/amd64, only for linux/arm/v7, linux/arm64"),
        (NO_FARM, Unreachable,
         "buildx has no builder `farm`"),
    ],
)  # fmt: skip
def test_a_builder_that_cannot_be_used_is_one_clear_error(
    fake: FakeEngine, system: Path, script: str, kind: type[Exception], said: str
) -> None:
    environ = {"DOCKER_HOST": fake.url, "PATH": buildx(system / "bin", script)}
    place = Position("novita.yaml", 2, 1)
    error = refused(environ, system, EngineChoice(kind="buildx", builder="farm", at=place))
    assert isinstance(error, kind)
    assert error.message == said
    assert error.at == place
    assert "docker buildx" in error.hint


def test_buildx_is_an_engine_with_a_client(fake: FakeEngine, system: Path) -> None:
    environ = {
        "DOCKER_HOST": fake.url,
        "PATH": buildx(system / "bin", farm()),
        "SANDBOXFILE_ENGINE": "buildx:farm",
    }
    engine = choose(AUTO, environ=environ, network=None, system=system)
    info = engine.info()
    assert (info.kind, info.builder) == ("buildx", "buildx")
    assert "secrets" in info.can
    engine.close()


def test_buildx_without_its_client_is_refused(fake: FakeEngine, system: Path) -> None:
    environ = {"DOCKER_HOST": fake.url, "PATH": buildx(system / "bin", "exit 1").partition(":")[0]}
    error = refused(environ, system, EngineChoice(kind="buildx"))
    assert error.message == "this build needs a docker client with BuildKit, and none was found"
    assert "docker-buildx" in error.hint


@pytest.mark.parametrize("asked", ["farm", ""])
def test_a_builder_without_buildx_is_an_error_with_its_name(
    fake: FakeEngine, system: Path, asked: str
) -> None:
    """The docker client of 20.10 builds by itself, but knows no builders."""
    client = system / "bin/docker"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\n[ $1 = --version ] && echo Docker version 20.10.5\n")
    client.chmod(0o755)
    place = Position("novita.yaml", 2, 1)
    choice = EngineChoice(kind="buildx", builder=asked, at=place) if asked else AUTO
    environ = {"DOCKER_HOST": fake.url, "PATH": str(system / "bin")}
    error = refused({**environ, "SANDBOXFILE_ENGINE": "buildx:farm"}, system, choice)
    assert isinstance(error, Unreachable)
    assert error.message == "the builder `farm` needs docker-buildx, which is not installed"
    assert error.hint.startswith("install docker-buildx")
    assert error.at == (place if asked else None)


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("nonsense", "DOCKER_HOST is `nonsense`, which is no address of an engine"),
        ("unix://", "DOCKER_HOST is `unix://`, which is no address of an engine"),
        ("fd://3", "DOCKER_HOST is `fd://3`, which is no address of an engine"),
        ("tcp://", "DOCKER_HOST is `tcp://`, which is no address of an engine"),
        ("tcp://[::1", "DOCKER_HOST is `tcp://[::1`, which is no address of an engine"),
        ("tcp://::1]:2375", "DOCKER_HOST is `tcp://::1]:2375`, which is no address of an engine"),
        ("tcp://127.0.0.1:99999", "`tcp://127.0.0.1:99999`, which is no address of an engine"),
        ("tcp://127.0.0.1:x", "`tcp://127.0.0.1:x`, which is no address of an engine"),
        ("tcp://me:secret@127.0.0.1:1", "DOCKER_HOST names a user, which an engine does not ask"),
        ("tcp://192.0.2.7:2375", "without TLS: anybody on the way could change what is built"),
        ("http://engine.example:2375", "without TLS: anybody on the way could change"),
        ("ssh://me@host", "engines by ssh are reached through a forwarded socket"),
        ("unix:///nowhere/d.sock", "(named by DOCKER_HOST) cannot be reached: no such file"),
        ("tcp://127.0.0.1:1", "cannot be reached: connection refused"),
        ("tcp://[::1]:1", "cannot be reached: "),
        ("tcp://localhost:1", "cannot be reached: connection refused"),
    ],
)  # fmt: skip
def test_an_address_of_no_use_says_why(system: Path, host: str, said: str) -> None:
    error = refused({"DOCKER_HOST": host}, system)
    assert isinstance(error, Unreachable)
    assert said in error.message
    assert error.hint
    assert "secret" not in error.message


@pytest.mark.parametrize("name", ["e.sock", "e#1.sock", "e?x=1.sock", "e%41.sock"])
def test_the_path_of_a_socket_is_all_behind_the_slashes_as_for_docker(
    system: Path, tmp_path: Path, name: str
) -> None:
    with serving() as fake, chdir(tmp_path):
        Path(name).symlink_to(fake.url.removeprefix("unix://"))

        assert chosen({"DOCKER_HOST": f"unix://{name}"}, system)[0] == "buildkit"


def test_tls_without_its_files_says_so(system: Path) -> None:
    environ = {
        "DOCKER_HOST": "tcp://192.0.2.7:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(system),
    }
    error = refused(environ, system)
    assert "`tcp://192.0.2.7:2376` cannot be used" in error.message
    del environ["DOCKER_CERT_PATH"]  # then they lie beside config.json
    environ["HOME"] = str(system)
    assert "cannot be used" in refused(environ, system).message


def test_a_context_with_tls_brings_its_files(system: Path) -> None:
    context(system, "far", "tcp://192.0.2.7:2376")
    stored = hashlib.sha256(b"far").hexdigest()
    files = system / ".docker/contexts/tls" / stored / "docker"
    files.mkdir(parents=True)
    environ = {"HOME": str(system), "DOCKER_CONTEXT": "far"}
    assert "without TLS" in refused(environ, system).message
    (files / "ca.pem").touch()
    assert "cannot be used" in refused(environ, system).message


@pytest.mark.parametrize("meta", [None, "not JSON", "{}", '{"Endpoints": []}'])
def test_a_context_that_cannot_be_read_is_named(system: Path, meta: str | None) -> None:
    environ = {"HOME": str(system), "DOCKER_CONTEXT": "lost"}
    if meta is not None:
        context(system, "lost", "")
        stored = hashlib.sha256(b"lost").hexdigest()
        (system / f".docker/contexts/meta/{stored}/meta.json").write_text(meta)
    error = refused(environ, system)
    assert error.message == "the docker context `lost` (named by DOCKER_CONTEXT) cannot be read"
    assert "docker context ls" in error.hint


def test_a_context_without_a_home_is_nowhere(system: Path) -> None:
    assert "no container engine was found" in refused({"DOCKER_CONTEXT": "x"}, system).message


# --- nothing ---------------------------------------------------------------------------------


def test_everything_that_was_tried_is_in_the_error(system: Path) -> None:
    dead = system / "run/podman/podman.sock"
    dead.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    error = refused({"XDG_RUNTIME_DIR": str(system / "x")}, system)
    assert error.message.replace(str(system), "") == (
        "no container engine was found; tried:\n"
        "  Docker's usual socket (unix:///var/run/docker.sock): no such socket\n"
        "  rootless Docker (unix:///x/docker.sock): no such socket\n"
        "  rootless Podman (unix:///x/podman/podman.sock): no such socket\n"
        "  Podman (unix:///run/podman/podman.sock): the container engine at"
        " `unix:///run/podman/podman.sock` (named by Podman) cannot be reached:"
        " connection refused"
    )
    assert error.exit_code == 6


def test_without_any_socket_the_hint_is_to_install(system: Path) -> None:
    assert "install Docker Engine" in refused({}, system).hint


def test_doctor_hears_of_every_place(system: Path) -> None:
    environ = {"PATH": buildx(system / "bin").partition(":")[0]}
    with ExitStack() as stack:
        linked(stack, system / "var/run/docker.sock")
        linked(stack, system / "run/podman/podman.sock", PODMAN)
        told = describe(AUTO, environ=environ, system=system)
    assert [(what.replace(str(system), ""), verdict) for what, verdict in told] == [
        (
            "Docker's usual socket (unix:///var/run/docker.sock)",
            (
                "chosen: docker 28.5.2, API 1.51, builds by buildkit;"
                " can: cache import, cache mounts, cancel, heredoc, load, secrets"
            ),
        ),
        (
            "Podman (unix:///run/podman/podman.sock)",
            "works too: podman 5.0.0, API 1.51, builds by podman; can: cache mounts, heredoc, load",
        ),
        ("docker client /bin/docker-buildx", "builds with secrets, by buildx"),
    ]


def test_doctor_hears_why_nothing_works(system: Path) -> None:
    told = dict(describe(AUTO, environ={"DOCKER_HOST": "bad"}, system=system))
    assert told == {
        "the address of the engine": "DOCKER_HOST is `bad`, which is no address of an engine"
    }


def test_an_engine_over_tcp_is_an_engine() -> None:
    """Only loopback may do without TLS; the calls are the same."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(VERSION if self.path == "/version" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        environ = {"DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}"}
        engine = choose(AUTO, environ=environ, network=None)
        assert isinstance(engine, DockerEngine)
        assert engine.info().version == "28.5.2"
        engine.close()
        server.shutdown()
        thread.join()


def test_a_broken_configuration_of_docker_is_named(
    fake: FakeEngine, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (system / "config.json").write_text('{"auths": {"r": "nonsense"}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(system))
    error = refused({"DOCKER_HOST": "tcp://127.0.0.1:9"}, system)
    assert "Docker's config.json" in error.hint
    # At a socket nothing of it is needed, and what is wrong in it is in nobody's way.
    engine = choose(AUTO, environ={"DOCKER_HOST": fake.url}, network=None, system=system)
    assert engine.info().version == "28.5.2"
    engine.close()
