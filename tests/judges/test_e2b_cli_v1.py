"""E2B's command line 1.9.2, unmodified: it builds by Docker, pushes to the service, and triggers.

Containerd, whose client is another than Docker's, pushes and pulls too. The engine finds the
registry's name in an /etc/hosts of its own; docs/how-to.md has the same for a user. With E2B_DEBUG
the command line knows but one address for the API, port 3000.
"""

import json
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dev.private import PrivateEngine
from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose
from sandboxfile.local.assembly import REPOSITORY
from sandboxfile.lockfile import Entry, read
from sandboxfile.model import EngineChoice, Secret
from sandboxfile.service import TemplateService
from sandboxfile.web import Web
from tests.conftest import StartEngine, lacking
from tests.fakes.served import serving
from tests.fakes.shell import CHECKOUT, measured

pytestmark = pytest.mark.engine

PORT = 3000
HOST = "docker.sandbox.test"
HOSTS = f"127.0.0.1 localhost {HOST}\n"
TOKEN = "access-token-of-the-tests"
UP = "touch /tmp/up; sleep 600"


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str

    def ready(self) -> "Ran":
        assert self.code == 0, self.out
        return self


@dataclass(frozen=True, kw_only=True)
class Cli:
    """The command line in a directory with a Dockerfile."""

    command: tuple[str, ...]
    environ: dict[str, str]
    root: Path

    def run(self, *argv: str) -> Ran:
        return execute([*self.command, *argv], self.environ, self.root)

    def build(self, *argv: str) -> Ran:
        return self.run("template", "build", "--cpu-count", "1", "--memory-mb", "128", *argv)

    @property
    def project(self) -> dict[str, Any]:
        """The file that the command line keeps its template's id in."""
        return tomllib.loads((self.root / "e2b.toml").read_text())


def execute(command: list[str], environ: dict[str, str], root: Path, stdin: str = "") -> Ran:
    done = subprocess.run(
        command, cwd=root, env=environ, input=stdin, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Ran(code=done.returncode, out=done.stdout)


@pytest.fixture(scope="module")
def private(start_engine: StartEngine) -> Iterator[PrivateEngine]:
    with start_engine(hosts=HOSTS) as started:
        yield started


@pytest.fixture(scope="module")
def own_engine(private: PrivateEngine) -> Iterator[Engine]:
    chosen = choose(EngineChoice(), environ=private.environ, network="host")
    yield chosen
    chosen.close()


@pytest.fixture(scope="module")
def base(own_engine: Engine, busybox_archive: Path, registry: str) -> str:
    """Busybox at a registry: the command line pulls its base in any case."""
    repository = f"{registry}/judged/v1"
    own_engine.load_root(busybox_archive, "base:1", labels={})
    own_engine.push(
        "base:1", repository, "1", login=None, emit=lambda _: None, cancel=Cancel(), job="base"
    )
    return f"{repository}:1"


@pytest.fixture(scope="module")
def served(private: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running `sandboxfile serve` where the command line looks for it; its data."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            lacking(f"the command line wants port {PORT}, which something else has")
    data = tmp_path_factory.mktemp("served")
    environ = {
        **measured(), **private.environ, "HOME": str(data), "SANDBOXFILE_NETWORK": "host",
    }  # fmt: skip
    argv = ("--port", str(PORT), "--host-name", HOST, "--data", str(data), "--strict")
    with serving(environ, *argv) as url:
        assert url == f"http://127.0.0.1:{PORT}"
        yield data


@pytest.fixture
def cli(
    *, node: str, npm_packages: Path, private: PrivateEngine, served: Path, base: str,
    tmp_path: Path,
) -> Cli:  # fmt: skip
    """The command line with no more than the variables that docs/how-to.md names."""
    assert served.is_dir()
    root = tmp_path / "project"
    root.mkdir()
    (root / "e2b.Dockerfile").write_text(f"FROM {base}\nCOPY hello.txt /srv/hello.txt\n")
    (root / "hello.txt").write_text("hello\n")
    return Cli(
        command=(node, str(npm_packages / "e2b-cli-1" / "dist" / "index.js")),
        environ={
            **private.environ,
            "HOME": str(tmp_path),
            "DOCKER_CONFIG": str(tmp_path / "docker"),
            "NO_UPDATE_NOTIFIER": "1",
            "E2B_DEBUG": "true",
            "E2B_DOMAIN": f"sandbox.test:{PORT}",
            "E2B_ACCESS_TOKEN": TOKEN,
            "E2B_API_KEY": f"e2b_{'0' * 40}",
        },
        root=root,
    )


def build_id(ran: Ran) -> str:
    found = re.search(r"with build ID: (\S+)", ran.out)
    assert found, ran.out
    return found[1]


def log_in(cli: Cli) -> None:
    """Leave what `auth login` leaves, which asks a browser for the token and then for the teams."""
    asked = urllib.request.Request(
        f"http://localhost:{PORT}/teams", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        [team] = json.load(answer)
    config = {
        "email": "alice@example.org",
        "accessToken": TOKEN,
        "teamName": team["name"],
        "teamId": team["teamID"],
        "teamApiKey": team["apiKey"],
    }
    file = Path(cli.environ["HOME"], ".e2b", "config.json")
    file.parent.mkdir()
    file.write_text(json.dumps(config))


def imported(cli: Cli) -> Entry:
    """Let sandboxfile take over what the command line has built, and build it anew."""
    environ = {name: value for name, value in cli.environ.items() if name != "E2B_DOMAIN"}
    environ = {**measured(), **environ, "PYTHONPATH": CHECKOUT, "SANDBOXFILE_NETWORK": "host"}
    sandboxfile = [sys.executable, "-m", "sandboxfile"]
    said = execute([*sandboxfile, "import"], environ, cli.root).ready()
    template = cli.project["template_id"]
    assert f"`judged`: {template} keeps its ID, since builds find it by its name" in said.out
    file = cli.root / "novita.yaml"
    here = f'api_url: "http://localhost:{PORT}", api: v1'
    file.write_text(file.read_text().replace("domain: e2b.app", here))
    execute([*sandboxfile, "build"], environ, cli.root).ready()
    return read(cli.root / "novita.lock").targets["e2b"]["judged"]


def test_it_logs_in_builds_pushes_and_triggers(cli: Cli, own_engine: Engine, served: Path) -> None:
    first = cli.build("--name", "judged", "--cmd", UP, "--ready-cmd", "test -e /tmp/up").ready()

    template = cli.project["template_id"]
    assert "Login Succeeded" in first.out
    assert "> Docker image pushed." in first.out
    assert "Running start command: touch /tmp/up" in first.out  # the service's log, as text
    assert f"{HOST}:{PORT}/e2b/custom-envs/{template}:{build_id(first)}" in first.out
    with own_engine.box(f"{REPOSITORY}:{build_id(first)}", labels={}) as box:
        assert box.execute(("cat", "/srv/hello.txt")).output == "hello\n"
    assert list((served / "registry").iterdir()) == []

    (cli.root / "hello.txt").write_text("hello again\n")
    again = cli.build().ready()  # all else is in the project file
    assert cli.project["template_id"] == template
    assert build_id(again) != build_id(first)
    with own_engine.box(f"{REPOSITORY}:{build_id(again)}", labels={}) as box:
        assert box.execute(("cat", "/srv/hello.txt")).output == "hello again\n"

    ours = imported(cli)
    assert ours.template_id == template
    with own_engine.box(f"{REPOSITORY}:{ours.build_id}", labels={}) as box:
        assert box.execute(("cat", "/srv/hello.txt")).output == "hello again\n"

    log_in(cli)
    assert "judged" in cli.run("template", "list").ready().out
    cli.run("template", "delete", "--yes").ready()
    assert "judged" not in cli.run("template", "list").ready().out


def test_a_template_that_does_not_start_fails_with_its_log(cli: Cli) -> None:
    ran = cli.build("--name", "broken", "--cmd", "echo no such luck >&2; exit 3")

    assert ran.code == 1
    assert "no such luck" in ran.out
    assert "start command failed" in ran.out


def test_it_pushes_without_a_name_for_the_registry_too(cli: Cli, own_engine: Engine) -> None:
    environ = {name: cli.environ[name] for name in cli.environ if name != "E2B_DOMAIN"}
    mask = f"localhost:{PORT}/e2b/custom-envs/{{templateID}}:{{buildID}}"
    masked = replace(cli, environ={**environ, "E2B_IMAGE_URI_MASK": mask})
    login = ["docker", "login", f"localhost:{PORT}", "-u", "_e2b_access_token", "--password-stdin"]
    execute(login, cli.environ, cli.root, stdin=TOKEN).ready()

    ran = masked.build("--name", "masked").ready()

    assert own_engine.find(f"{REPOSITORY}:{build_id(ran)}")


def test_containerd_pushes_and_pulls_too(
    private: PrivateEngine, served: Path, base: str, tmp_path: Path
) -> None:
    assert served.is_dir()
    web = Web(user_agent="sandboxfile-tests")
    client = TemplateService(web, f"http://localhost:{PORT}", Secret(TOKEN))
    ids = client.register_v1(dockerfile=f"FROM {base}", alias="containers", cpu=1, memory=128)
    reference = f"localhost:{PORT}/e2b/custom-envs/{ids.template_id}:{ids.build_id}"
    sock = Path(private.url.removeprefix("unix://")).parent / "exec/containerd/containerd.sock"
    ctr = ["ctr", "--address", str(sock), "--namespace", "judges", "images"]
    known = ["--plain-http", "--user", f"_e2b_access_token:{TOKEN}"]

    execute([*ctr, "pull", "--plain-http", base], private.environ, tmp_path).ready()
    execute([*ctr, "push", *known, reference, base], private.environ, tmp_path).ready()
    execute([*ctr, "rm", base], private.environ, tmp_path).ready()
    execute([*ctr, "pull", *known, reference], private.environ, tmp_path).ready()

    client.trigger_v1(ids)
    while (status := client.status(ids)).state not in {"ready", "error"}:
        time.sleep(0.1)
    assert status.state == "ready", status.reason
    web.close()
