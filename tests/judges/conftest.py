"""Official SDKs and command lines, unmodified, on a `sandboxfile serve` of their own.

Each SDK is driven in a process of its own (tests/judges/programs), by the environment that its
documentation names. Images are at the registry of the tests, on loopback.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Box, Engine
from sandboxfile.local.assembly import REPOSITORY
from tests.fakes.served import described
from tests.fakes.shell import measured

PROGRAMS = Path(__file__).parent / "programs"
KEY = "key-of-the-tests"
E2B_KEY = f"e2b_{'0' * 40}"
SMALL = {"cpu_count": 1, "memory_mb": 128}

Recipe = Sequence[tuple[str, Sequence[object], Mapping[str, object]]]


def step(method: str, *arguments: object, **options: object) -> tuple[str, Any, Any]:
    """One line of a recipe, with the Python SDKs' names."""
    return method, arguments, options


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of a call: its result, or the SDK's own error."""

    result: Any = None
    error: str | None = None
    message: str = ""
    line: int | None = None
    logs: list[list[str]] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """The result of a call that has to succeed."""
        assert self.error is None, f"{self.error}: {self.message}\n{self.text}"
        return self.result

    @property
    def text(self) -> str:
        return "\n".join(message for _, message in self.logs)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An SDK; calls go to one process of it, one after the other."""

    name: str
    process: subprocess.Popen[str]
    context: Path
    manages: bool  # the SDK lists and deletes
    inherits: bool  # the SDK reads the configuration of images, and keeps the environment

    def call(self, name: str, *arguments: object, **options: object) -> Said:
        return self._send(call=name, arguments=arguments, options=options)

    def build(self, recipe: Recipe, name: str, *, call: str = "build", **options: object) -> Said:
        return self._send(
            call=call,
            recipe=recipe,
            context=str(self.context),
            arguments=[name],
            options={**SMALL, **options},
        )

    def from_image(self, image: str) -> tuple[str, Any, Any]:
        """Begin with an image, whose configuration is not looked for."""
        return step("from_image", image, **({"inherit_config": False} if self.inherits else {}))

    def _send(self, **call: object) -> Said:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{self.name} ended"
        return Said(**json.loads(line))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running `sandboxfile serve`."""

    url: str


@pytest.fixture(scope="session")
def server(
    engine: Engine, engine_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A `sandboxfile serve` on the engine of the tests, with a data directory of its own.

    What the programs ask and are answered is held against the description of the API, too.
    """
    environ = {**measured(), **engine_environ, "SANDBOXFILE_NETWORK": "host", "TZ": "UTC"}
    data = tmp_path_factory.mktemp("served")
    before = _tags(engine_environ)
    try:
        with described(environ, "--port", "0", "--data", str(data)) as url:
            yield Server(url=url)
    finally:
        for tag in _tags(engine_environ) - before:
            engine.untag(tag)


def _tags(environ: Mapping[str, str]) -> set[str]:
    client = docker.APIClient(base_url=environ["DOCKER_HOST"])
    found = {tag for image in client.images(name=REPOSITORY) for tag in image["RepoTags"] or ()}
    client.close()
    return found


@pytest.fixture(scope="session")
def image(engine: Engine, busybox: str, registry: str) -> str:
    """An image at a registry on loopback: busybox."""
    repository = f"{registry}/judged/busybox"
    engine.push(
        busybox, repository, "1", login=None, emit=lambda _: None, cancel=Cancel(), job="image"
    )
    return f"{repository}:1"


@pytest.fixture(scope="session")
def environ(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The whole environment of the SDKs, by the variables that their documentation names."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("judge-home")),
        "TZ": "UTC",
        "NO_UPDATE_NOTIFIER": "1",  # the command line would ask its registry
        "NOVITA_API_URL": server.url,
        "NOVITA_API_KEY": KEY,
        "E2B_API_URL": server.url,
        "E2B_API_KEY": E2B_KEY,
    }


def _python(request: pytest.FixtureRequest, module: str) -> list[str]:
    python: str = request.getfixturevalue("sdk_python")
    return [python, str(PROGRAMS / "drive.py"), module]


def _javascript(request: pytest.FixtureRequest, package: str) -> list[str]:
    node: str = request.getfixturevalue("node")
    packages: Path = request.getfixturevalue("npm_packages")
    return [node, str(PROGRAMS / "drive.js"), str(packages / package)]


SDKS: Mapping[str, tuple[Callable[[pytest.FixtureRequest, str], list[str]], str]] = {
    "novita-python": (_python, "novita_sandbox.core"),
    "novita-js": (_javascript, "novita-sandbox"),
    "e2b-python": (_python, "e2b"),
}


@pytest.fixture(scope="session", params=SDKS)
def judge(
    request: pytest.FixtureRequest,
    environ: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Judge]:
    """Each official SDK in turn."""
    name: str = request.param
    command, package = SDKS[name]
    context = tmp_path_factory.mktemp(name)
    with driven(command(request, package), environ) as process:
        is_novita = name.startswith("novita")
        yield Judge(
            name=name, process=process, context=context, manages=is_novita, inherits=is_novita
        )


@contextmanager
def driven(command: list[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


@dataclass(frozen=True, kw_only=True)
class Inside:
    """A template as it was built, looked into by a shell in a container of it."""

    box: Box

    def sh(self, script: str) -> str:
        done = self.box.execute(("/bin/sh", "-c", script), user="root")
        assert done.status == 0, done.output
        return done.output.rstrip("\n")

    def listed(self, path: str) -> list[str]:
        """Return mode, owner, group and name of all that lies there."""
        script = f'cd {path} && ls -ld $(find . | sort) | tr -s " " | cut -d" " -f1,3,4,9-'
        return self.sh(script).splitlines()


Open = Callable[[str], Inside]


@pytest.fixture
def open_build(engine: Engine) -> Iterator[Open]:
    """Open builds by their ids."""
    with ExitStack() as stack:

        def opened(build_id: str) -> Inside:
            image = f"{REPOSITORY}:{build_id}"
            box = stack.enter_context(engine.box(image, labels={"sandboxfile.tests": "judges"}))
            return Inside(box=box)

        yield opened


@pytest.fixture
def nonce() -> str:
    """A name that no template had before."""
    return f"t{os.urandom(6).hex()}"
