"""Docker's clients as children: which can build, what they are given, what they say."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines.buildx import Client, clients
from sandboxfile.engines.transport import Address
from sandboxfile.errors import BuildFailed, SandboxfileError, Unreachable, Unsupported
from sandboxfile.model import Login, Secret
from tests.fakes.building import Events, spec

OLD = "Docker version 20.10.24+dfsg1, build 297e128"
NEW = "Docker version 28.2.2, build e6534b4"
BUILDX = "github.com/docker/buildx v0.20.1 24200189"
BUILDX_DEBIAN = "github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3"
BUILDX_OLD = "github.com/docker/buildx v0.10.5 86bdced"

Program = Callable[..., Client]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write an executable that answers by its arguments and notes what it was given."""

    def write(name: str = "docker", *, build: str = "", **fields: object) -> Client:
        answers = {
            "--version": fields.pop("version", None),
            "buildx version": fields.pop("plugin", None),
            "version": fields.pop("own", None),
        }
        cases = "".join(
            f'"{given}") echo "{said}"; exit 0;;\n' for given, said in answers.items() if said
        )
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\ncase "$*" in\n{cases}esac\n'
            'case "$*" in *build*) ;; *) exit 1;; esac\n'
            f'for each; do printf "%s\\0" "$each"; done > "{tmp_path}/argv"\n'
            f'env > "{tmp_path}/env"\ncat > "{tmp_path}/stdin"\n{build}\n'
        )
        path.chmod(0o755)
        return Client(program=path, **fields)  # type: ignore[arg-type]

    return write


def given(tmp_path: Path) -> list[str]:
    return (tmp_path / "argv").read_text().split("\0")[:-1]


def run(client: Client, events: Events | None = None, **fields: object) -> None:
    emit = (Events() if events is None else events).emit
    client.build(spec("FROM x\n", "t:1", **fields), network=None, emit=emit, cancel=Cancel())


def printing(*lines: str) -> str:
    """Write a script that says lines as BuildKit's progress, on stderr."""
    return "".join(f"cat >&2 <<'SAID'\n{line}\nSAID\n" for line in lines)


# --- which can build -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answers", "way", "verdict"),
    [
        ("docker", {"version": OLD}, ("build",), "builds with secrets, by itself"),
        ("docker", {"version": OLD, "plugin": BUILDX}, ("build",),
         "builds with secrets, by itself"),
        ("docker", {"version": NEW}, (), "no BuildKit: the plug-in docker-buildx is missing"),
        ("docker", {"version": NEW, "plugin": BUILDX}, ("buildx", "build"),
         "builds with secrets, by buildx"),
        ("docker", {}, (), "no BuildKit: the plug-in docker-buildx is missing"),
        ("docker-buildx", {"own": BUILDX}, ("build",), "builds with secrets, by buildx"),
        ("docker-buildx", {}, (), "no BuildKit: the plug-in docker-buildx is missing"),
    ],
)  # fmt: skip
def test_a_client_is_asked_what_it_can(
    program: Program, name: str, answers: dict[str, str], way: tuple[str, ...], verdict: str
) -> None:
    client = program(name, **answers)
    assert (client.way, client.works(), client.verdict()) == (way, bool(way), verdict)
    assert client.name == f"docker client {client.program}"


def test_a_named_builder_needs_buildx(program: Program) -> None:
    assert not program(version=OLD, builder="farm").works()
    assert program(version=OLD, plugin=BUILDX, builder="farm").is_buildx


def test_a_program_that_cannot_run_does_not_work(tmp_path: Path) -> None:
    (tmp_path / "docker").touch()
    assert not Client(program=tmp_path / "docker").works()


def test_clients_are_found_in_their_order_and_once(tmp_path: Path) -> None:
    def touch(path: str) -> Path:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch(mode=0o755)
        return tmp_path / path

    expected = [
        touch("home/.docker/cli-plugins/docker-buildx"),
        touch("system/usr/libexec/docker/cli-plugins/docker-buildx"),
        touch("bin/docker-buildx"),
        touch("bin/docker"),
        touch("other/docker"),
    ]
    (tmp_path / "again").symlink_to(tmp_path / "bin")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/docker").touch(mode=0o644)  # cannot be run
    names = ("text", "bin", "again", "other", "absent", "n" * 300)  # at the last no one may look
    path = ":".join(str(tmp_path / each) for each in names)
    environ = {"HOME": str(tmp_path / "home"), "PATH": f"{path}::"}
    found = clients(environ, system=tmp_path / "system")
    assert [each.program for each in found] == expected
    environ["DOCKER_CONFIG"] = str(tmp_path / "elsewhere")
    assert clients(environ, system=tmp_path / "system")[0].program == expected[1]
    assert clients({}, system=tmp_path) == ()


# --- what they are given ---------------------------------------------------------------------


def test_an_old_client_is_given_its_options(program: Program, tmp_path: Path) -> None:
    client = program(version=OLD, address=Address(url="unix:///e.sock"), environ={"HOME": "/h"})
    wanted = spec(
        "FROM x\n",
        "t:1",
        context=lambda: iter([b"one", b"two"]),
        args={"A": "a b"},
        labels={"l": "$x"},
        secrets={"id": tmp_path / "plain", "other": tmp_path / 'with,comma"'},
        stage="last",
        no_cache=True,
    )
    client.build(wanted, network="host", emit=Events().emit, cancel=Cancel())
    quoted = str(tmp_path / 'with,comma"').replace('"', '""')
    assert given(tmp_path) == [
        "build",
        "--progress=plain",
        "--tag=t:1",
        "--file=dockerfile",
        "--platform=linux/amd64",
        "--network=host",
        "--target=last",
        "--no-cache",
        "--build-arg=SOURCE_DATE_EPOCH=0",
        "--build-arg=A=a b",
        "--label=l=$x",
        f"--secret=id=id,src={tmp_path}/plain",
        f'--secret=id=other,"src={quoted}"',
        "-",
    ]
    assert (tmp_path / "stdin").read_bytes() == b"onetwo"
    environment = (tmp_path / "env").read_text().splitlines()
    for line in ("DOCKER_BUILDKIT=1", "DOCKER_HOST=unix:///e.sock", "DOCKER_CONTEXT=", "HOME=/h"):
        assert line in environment


@pytest.mark.parametrize(
    ("said", "builder", "progress"),
    [
        (BUILDX, None, "rawjson"),
        (BUILDX_DEBIAN, "farm", "rawjson"),
        (BUILDX_OLD, None, "plain"),
        ("buildx of nobody knows when", None, "plain"),
    ],
)
def test_buildx_is_given_its_options(
    program: Program, tmp_path: Path, said: str, builder: str | None, progress: str
) -> None:
    run(program("docker-buildx", own=said, builder=builder))
    assert given(tmp_path)[:6] == [
        "build",
        f"--progress={progress}",
        "--provenance=false",
        "--sbom=false",
        "--load",
        f"--builder={builder or 'default'}",
    ]
    run(program(version=NEW, plugin=said, builder=builder))
    assert given(tmp_path)[:3] == ["buildx", "build", f"--progress={progress}"]


DIGEST = "sha256:" + "a" * 64
TELLING = (
    "for each; do case $each in --metadata-file=*) file=${each#*=};; esac; done\n"
    f'echo \'{{"containerimage.digest": "{DIGEST}"}}\' > "$file"'
)


def test_a_build_pushes_and_reads_and_writes_caches(program: Program, tmp_path: Path) -> None:
    client = program("docker-buildx", own=BUILDX, builder="farm", build=TELLING)
    wanted = spec(
        "FROM x\n",
        "t:1",
        push="r.example/a/b:sf-1",
        cache_to=("type=registry,ref=r.example/c:b,mode=max",),
        cache_from=("type=registry,ref=r.example/c:b", "type=gha,scope=b"),
    )
    digest = client.build(wanted, network="host", emit=Events().emit, cancel=Cancel())
    assert digest == DIGEST
    argv = given(tmp_path)
    told = next(each for each in argv if each.startswith("--metadata-file="))
    assert argv[:12] == [
        "build",
        "--progress=rawjson",
        "--provenance=false",
        "--sbom=false",
        "--builder=farm",
        "--allow=network.host",
        "--output=type=image,name=r.example/a/b:sf-1,push=true",
        told,
        "--cache-to=type=registry,ref=r.example/c:b,mode=max",
        "--cache-from=type=registry,ref=r.example/c:b",
        "--cache-from=type=gha,scope=b",
        "--file=dockerfile",
    ]
    assert not Path(told.partition("=")[2]).exists()


@pytest.mark.parametrize("build", ["", TELLING.replace("sha256", "md5"), TELLING.replace(".d", "")])
def test_a_push_of_which_nothing_is_told_is_none(program: Program, build: str) -> None:
    client = program("docker-buildx", own=BUILDX, builder="farm", build=build)
    with pytest.raises(Unreachable, match="did not say which image it has pushed"):
        run(client, push="r.example/a/b:sf-1")


@pytest.mark.parametrize(
    "known", [None, "[]", "{", '{"credsStore": "desktop", "auths": {"o": {}}}']
)
def test_logins_are_added_to_those_of_docker(
    program: Program, tmp_path: Path, known: str | None
) -> None:
    home = tmp_path / "home/.docker"
    home.mkdir(parents=True)
    if known is not None:
        (home / "config.json").write_text(known)
    (home / "contexts").mkdir()
    (home / "contexts/mine").write_text("a context")
    seen = f'cd "$DOCKER_CONFIG"; cp config.json "{tmp_path}/seen"; cp contexts/mine "{tmp_path}"'
    environ = {"HOME": str(tmp_path / "home")}
    client = program("docker-buildx", own=BUILDX, environ=environ, build=seen)
    login = Login(username="alice", password=Secret("pass word"))
    run(client, logins={"r.example:5000": login, "docker.io": login})
    config = json.loads((tmp_path / "seen").read_text())
    auth = base64.b64encode(b"alice:pass word").decode()
    hosts = ("r.example:5000", "https://index.docker.io/v1/")
    assert all(config["auths"][host] == {"auth": auth} for host in hosts)
    # The user's store has none of them, and would be asked first.
    assert config["credHelpers"] == dict.fromkeys(hosts, "")
    assert config.get("credsStore") == ("desktop" if known and "desktop" in known else None)
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert environment["BUILDX_CONFIG"] == str(home / "buildx")
    assert (tmp_path / "mine").read_text() == "a context"
    assert (home / "contexts/mine").exists()
    assert not Path(environment["DOCKER_CONFIG"]).exists()
    assert "pass word" not in " ".join(given(tmp_path))


def test_tls_goes_with_the_address(program: Program, tmp_path: Path) -> None:
    run(program(version=OLD, address=Address(url="tcp://h:2376", tls=Path("/certs"))))
    environment = (tmp_path / "env").read_text().splitlines()
    assert "DOCKER_TLS_VERIFY=1" in environment
    assert "DOCKER_CERT_PATH=/certs" in environment


def test_an_error_of_the_context_is_raised_as_it_is(program: Program) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise SandboxfileError("changed while being read")

    with pytest.raises(SandboxfileError, match="changed while being read"):
        run(program(version=OLD), context=broken)


# --- what they say ---------------------------------------------------------------------------

PLAIN = """\
#1 [internal] load build definition from dockerfile
#1 sha256:42245f46
#1 DONE 0.0s

#4 [1/2] FROM docker.io/library/x
#4 CACHED

#5 [2/2] RUN y
#5 sha256:b00b7b60
#5 0.223 hello #4 CACHED
#5 0.300 #5 ERROR: not ours
#5 DONE 1.5s

#6 exporting to image
#6 exporting layers done
#6 writing image sha256:48d84688 done
#6 DONE 0.1s
"""


def test_plain_progress_becomes_events(program: Program) -> None:
    events = Events()
    run(program(version=OLD, build=printing(PLAIN)), events)
    assert events.started == ["[1/2] FROM docker.io/library/x", "[2/2] RUN y", "exporting to image"]
    assert events.lines == ["hello #4 CACHED", "#5 ERROR: not ours"]
    assert events.done["[1/2] FROM docker.io/library/x"].cached
    assert events.done["[2/2] RUN y"].seconds == pytest.approx(1.5)


def test_a_failure_in_plain_progress_has_step_and_status(program: Program) -> None:
    error = "executor failed running [/bin/sh -c y]: exit code: 9"
    said = (
        "#5 [2/2] RUN y\n#5 0.1 last words\n"
        f"#5 ERROR: {error}\n------\n > [2/2] RUN y:\n------\n{error}"
    )
    with pytest.raises(BuildFailed) as caught:
        run(program(version=OLD, build=printing(said) + "exit 1"))
    assert caught.value.message == "the build failed at `[2/2] RUN y`: exit status 9"
    assert caught.value.tail == ("last words",)


def raw(**fields: object) -> dict[str, object]:
    stamps = {"started": "2026-11-23T17:15:13.725943517Z"}
    return {"digest": "v", "name": "[2/2] RUN y", **stamps, **fields}


def logged(data: bytes, stream: int = 1) -> dict[str, object]:
    return {"vertex": "v", "stream": stream, "data": base64.b64encode(data).decode()}


DONE = "2026-11-23T17:15:15Z"


@pytest.mark.parametrize("indent", [None, 2])  # buildx 0.13 writes its objects on many lines
def test_raw_progress_becomes_events(program: Program, indent: int | None) -> None:
    objects = (
        {"vertexes": [raw()]},
        {"logs": [logged(b"out\n"), logged(b"err\n", 2)], "vertexes": None},
        {"statuses": [{"id": "x"}]},
        {"vertexes": [raw(completed=DONE)]},
    )
    said = printing(*(json.dumps(each, indent=indent) for each in objects))
    events = Events()
    run(program("docker-buildx", own=BUILDX, build=said), events)
    assert events.lines == ["out", "err"]
    assert events.done["[2/2] RUN y"].seconds == pytest.approx(1.274057, abs=1e-5)


def test_a_failure_in_raw_progress_has_step_and_status(program: Program) -> None:
    error = "process y did not complete successfully: exit code: 7"
    failed = {"vertexes": [raw(completed=DONE, error=error)], "logs": [logged(b"last")]}
    said = printing(json.dumps(failed), "[1, 2]", f"ERROR: failed to solve: {error}")
    with pytest.raises(BuildFailed) as caught:
        run(program("docker-buildx", own=BUILDX, build=said + "exit 1"))
    assert (caught.value.step, caught.value.status) == ("[2/2] RUN y", 7)
    assert caught.value.tail == ("last",)


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("", BuildFailed, "the build failed: exit status 1"),
        ('ERROR: no builder "farm" found', Unsupported, "buildx has no builder `farm`"),
        ("ERROR: Cannot connect to the Docker daemon at x. Is it running?", Unreachable,
         "the container engine cannot be reached"),
        ("ERROR: dockerfile parse error on line 2", BuildFailed,
         "the build failed: dockerfile parse error on line 2"),
    ],
)  # fmt: skip
def test_other_failures_say_what_the_client_said(
    program: Program, said: str, error: type[SandboxfileError], message: str
) -> None:
    client = program("docker-buildx", own=BUILDX, builder="farm", build=printing(said) + "exit 1")
    with pytest.raises(error, match=message):
        run(client)
