"""The shell text that we write, run by the shells that images have."""

import ast
import http.server
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile import environment, ready, scripts
from sandboxfile.model import Ready, ReadyKind
from sandboxfile.places import Position
from tests.conftest import needs

AT = Position("novita.yaml", 1, 1)
SHELLS = ("dash", "bash", "busybox sh")

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux' /proc")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    program, *arguments = str(request.param).split()
    return [needs(program), *arguments]


def status(shell: list[str], kind: ReadyKind, value: str, *, code: int = 200, **env: str) -> int:
    text = ready.command(Ready(kind=kind, value=value, status=code, at=AT))
    ran = subprocess.run(
        [*shell, "-c", text], env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert not ran.stdout
    return ran.returncode


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_a_listening_port_is_ready(shell: list[str], listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert status(shell, "port", str(port)) == 0
    listener.close()
    assert status(shell, "port", str(port)) != 0


def test_a_connection_from_a_port_is_no_listener(shell: list[str], listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        assert status(shell, "port", str(client.getsockname()[1])) != 0


def test_a_listening_port_of_ipv6_is_ready(shell: list[str]) -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::1", 0))
        server.listen()
        assert status(shell, "port", str(server.getsockname()[1])) == 0


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[str]:
    """A process with a name that no other has, longer than the kernel keeps."""
    name = f"sf-sl'{os.getpid():d} eeper"
    program = tmp_path / name
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as process:
        yield name
        process.kill()


def test_a_process_is_found_by_its_name(shell: list[str], sleeper: str) -> None:
    assert status(shell, "process", sleeper) == 0
    assert status(shell, "process", sleeper[:-8]) != 0


def test_the_shell_that_asks_does_not_count(shell: list[str], tmp_path: Path) -> None:
    own = tmp_path / f"{Path(shell[0]).name}{os.getpid()}"
    own.symlink_to(shell[0])
    assert status([str(own), *shell[1:]], "process", own.name) != 0


def test_a_process_that_ended_does_not_count(shell: list[str], tmp_path: Path) -> None:
    program = tmp_path / f"sf-z{os.getpid()}"
    shutil.copy(shutil.which("sleep") or "", program)
    process = subprocess.Popen([program, "60"])
    os.kill(process.pid, 9)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but not reaped yet
    try:
        assert status(shell, "process", program.name) != 0
    finally:
        process.wait()


@pytest.mark.parametrize("name", ["ok", "with space", "it's", "$HOME", "-e", "*"])
def test_a_file_that_exists_is_ready(shell: list[str], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert status(shell, "file", str(path)) != 0
    path.touch()
    assert status(shell, "file", str(path)) == 0


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names, redirects to 200."""

    def do_GET(self) -> None:
        code = int(self.path.partition("?")[0].strip("/") or 200)
        self.send_response(code)
        self.send_header("Content-Length", "0")
        if code == 302:
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture(params=["curl", "wget", "busybox wget", "python3"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH on which this is the only HTTP client."""
    program, *applet = str(request.param).split()
    found = sys.executable if program == "python3" else needs(program)
    name = applet[0] if applet else program
    script = f'#!/bin/sh\nexec {shlex.quote(found)} {" ".join(applet)} "$@"\n'
    (tmp_path / name).write_text(script)
    (tmp_path / name).chmod(0o755)
    (tmp_path / "timeout").symlink_to(shutil.which("timeout") or "")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "code", "is_ready"),
    [
        ("", 200, True),
        ("/200?a=b&c='d", 200, True),
        ("/404", 200, False),
        ("/404", 404, True),
        ("/200", 204, False),
        ("/302", 200, False),
        ("/302", 302, True),
        ("/503", 200, False),
    ],
)
def test_a_url_is_ready_with_its_status(
    server: str, client: str, path: str, code: int, *, is_ready: bool
) -> None:
    found = status(["/bin/sh"], "url", server + path, code=code, PATH=client)
    assert (found == 0) == is_ready


def test_a_url_check_runs_in_every_shell(shell: list[str], server: str, client: str) -> None:
    proxy = "http://127.0.0.1:1"
    found = status(shell, "url", server, PATH=client, http_proxy=proxy, all_proxy=proxy)
    assert found == 0
    assert status(shell, "url", server + "/500", PATH=client) != 0


def test_nobody_listening_is_not_ready(client: str, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert status(["/bin/sh"], "url", f"http://127.0.0.1:{port}/", PATH=client) != 0


def test_an_image_without_a_client_says_so(tmp_path: Path) -> None:
    text = ready.command(Ready(kind="url", value="http://localhost/", at=AT))
    ran = subprocess.run(
        ["/bin/sh", "-c", text],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (
        1,
        "ready: the image has neither curl, wget nor python3\n",
    )


# --- the environment at run time --------------------------------------------------------------

HOSTILE = {
    "PATH": os.environ["PATH"],
    "PLAIN": "value",
    "EMPTY": "",
    "_LEADING": "underscore",
    "lower_9": "x",
    "SINGLE": "it's 'quoted' and '\\'' escaped",
    "DOUBLE": 'say "so"',
    "DOLLAR": "$HOME ${PATH} $(id) `id` $$ \\$X",
    "BACKSLASH": "a\\b\\\\c \\n \\",
    "EQUALS": "a=b==",
    "HASH": "# not a comment",
    "DASH": "-n -e --",
    "SPACES": "  two  ",
    "TAB": "a\tb\t",
    "NEWLINES": "one\n\nFAKE=1\nexport FAKE=2\n",
    "UNICODE": "žluťoučký 🐎 \u00a0",
    "GLOB": "* ? [a-z] {a,b} ~",
    "AMPERSAND": "a&b;c|d>e<f \\& \\1",
    "PERCENT": "%s %d %%",
    "BANG": "!! !x",
    "LONG": "x" * 20_000,
}
LEFT_OUT = {
    "HOME": "/root",
    "HOSTNAME": "h",
    "PWD": "/",
    "OLDPWD": "/",
    "SHLVL": "7",
    "_": "/bin/x",
    "TERM": "dumb",
    "SF_E1": "a build argument",
    "SOURCE_DATE_EPOCH": "0",
    "BAD-NAME": "x",
    "1BAD": "x",
    "BAD NAME": "x",
    "DOTTED.NAME": "x",
}


def keep_environment(shell: list[str], directory: Path, values: dict[str, str]) -> tuple[str, str]:
    """Run the script in this environment; return what it wrote."""
    profile, plain = directory / "profile.d" / "env.sh", directory / "environment"
    script = scripts.environment(profile=str(profile), plain=str(plain))
    subprocess.run([*shell, "-c", script], env=values, check=True)
    assert [path.stat().st_mode & 0o777 for path in (profile, plain)] == [0o644, 0o644]
    return profile.read_text(), plain.read_text()


def exported(shell: list[str], profile: Path) -> dict[str, str]:
    """Return the environment of a program that is started after the profile was read."""
    ran = subprocess.run(
        [
            *shell,
            "-c",
            f". {profile}; exec {sys.executable} -c 'import os; print(dict(os.environ))'",
        ],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not ran.stderr
    return dict(ast.literal_eval(ran.stdout))


def test_the_environment_is_kept_exactly(shell: list[str], tmp_path: Path) -> None:
    expected = HOSTILE | {"NO_PROXY": "localhost"}
    profile, _ = keep_environment(shell, tmp_path, expected | LEFT_OUT)
    assert profile.count("\nexport ") + 1 == len(expected) + 1  # one is inside of NEWLINES
    for reader in (["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]):
        found = exported(reader, tmp_path / "profile.d" / "env.sh")
        assert {name: found.get(name) for name in expected} == expected
        shells_own = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
        assert found.keys() - shells_own == expected.keys()


def test_the_plain_file_has_what_it_can_hold(shell: list[str], tmp_path: Path) -> None:
    _, plain = keep_environment(shell, tmp_path, HOSTILE | LEFT_OUT)
    held = {k: v for k, v in HOSTILE.items() if v and "\n" not in v and '"' not in v}
    assert plain == "".join(f"{name}={held[name]}\n" for name in sorted(held))


def test_every_shell_writes_the_same_bytes(tmp_path: Path) -> None:
    written = set()
    for index, each in enumerate(SHELLS):
        directory = tmp_path / str(index)
        directory.mkdir()
        values = dict(reversed(HOSTILE.items())) if index else HOSTILE
        written.add(keep_environment(each.split(), directory, values))
    assert len(written) == 1


MACHINE = {"SECRET_OF_THE_MACHINE": "x", "MANY": "a\nexport each=1\nSHELL='\n", "each": "y"}


def add_environment(shell: list[str], directory: Path, *, is_first: bool, **values: str) -> str:
    """Run the step that adds variables, on a machine with an environment of its own."""
    script = scripts.set_environment(
        values,
        is_first=is_first,
        profile=f"{directory}/profile.d/env.sh",
        plain=f"{directory}/environment",
    )
    ran = subprocess.run(
        [*shell, "-c", script],
        env=MACHINE | {"PATH": os.environ["PATH"], "HOME": "/"},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stderr


def test_a_step_adds_variables_and_takes_none_of_the_machines(
    shell: list[str], tmp_path: Path
) -> None:
    more = {"https_proxy": "http://user:password@proxy", "container": "podman"}
    given = {name: value for name, value in (HOSTILE | LEFT_OUT).items() if name != "LONG"} | more
    noise = add_environment(shell, tmp_path, is_first=True, **given, UID="7", PPID="8")
    first = (tmp_path / "environment").read_text()
    noise += add_environment(shell, tmp_path, is_first=False, PLAIN="an'other", NEW="$new")
    noise += add_environment(shell, tmp_path, is_first=False, PLAIN="third")
    assert noise == ""
    found = exported(["dash"], tmp_path / "profile.d/env.sh")
    kept = {name: value for name, value in HOSTILE.items() if name != "LONG"}
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    expected = kept | more | {"PLAIN": "third", "NEW": "$new"}
    assert {name: value for name, value in found.items() if name not in shells_own} == expected
    assert "UID=7\n" in first
    assert "PPID=8\n" in first
    assert "\nPLAIN=third\n" in (tmp_path / "environment").read_text()


def test_a_command_has_its_variables_where_there_is_no_env(shell: list[str]) -> None:
    values = {name: value for name, value in HOSTILE.items() if name != "LONG"} | {"UID": "7"}
    told = ("import os; print(dict(os.environ))",)
    script = scripts.with_variables(values, (sys.executable, "-c", *told))
    ran = subprocess.run([*shell, "-c", script], env={}, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    found = ast.literal_eval(ran.stdout)
    assert {name: found.get(name) for name in HOSTILE if name != "LONG"} == {
        name: value for name, value in values.items() if name != "UID"
    }


def test_images_that_are_built_here_get_the_same_bytes(tmp_path: Path) -> None:
    few = {"PATH": "/bin", "A_": "1", "A": "1", "A9": "1", "UID": "7"}
    for index, own in enumerate((HOSTILE | LEFT_OUT, few)):
        directory = tmp_path / str(index)
        directory.mkdir()
        profile, plain = keep_environment(["dash"], directory, own)
        assert environment.files(own) == {
            "profile.d/99-image-env.sh": profile.encode(),
            "environment": plain.encode(),
        }


def test_names_that_bash_forbids_to_set_make_no_noise(shell: list[str], tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "UID": "7", "EUID": "7", "PPID": "7"}
    _, plain = keep_environment(shell, tmp_path, given)
    assert "UID=7\n" in plain
    assert exported(["bash"], tmp_path / "profile.d" / "env.sh")["PATH"] == os.environ["PATH"]


def test_files_that_are_there_are_replaced(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("OLD=1\n")
    (tmp_path / "environment").chmod(0o600)
    _, plain = keep_environment(shell, tmp_path, {"PATH": os.environ["PATH"]})
    assert plain == f"PATH={os.environ['PATH']}\n"
