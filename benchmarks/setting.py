"""Where it is measured: a directory, an environment, an engine, a registry; and what is lacking.

On a machine without an engine one is started, if that can be done, and ended again. An engine that
is there is used and left as it was, but for its build cache.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import installed, tree
from benchmarks.tree import BASE, PREFIX, Tree
from dev import private
from dev.private import LackingError, NotReadyError
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose
from sandboxfile.errors import SandboxfileError
from sandboxfile.model import EngineChoice

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")
KEY = {"NOVITA_API_KEY": "of nobody: the service is on loopback"}
NAMED = ("DOCKER_HOST", "DOCKER_CONTEXT")
OF_DOCKER = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every subject is measured in.

    `program` is sandboxfile as its users have it.
    `base` is the engine's id of the base image, None without an engine, `docker` a docker client
    that builds with BuildKit, `registry` a registry's `host:port`. `lacking` says of each thing
    that could not be had why.
    """

    directory: Path
    environ: Mapping[str, str]
    program: Path
    engine: Engine | None = None
    base: str | None = None
    docker: str | None = None
    registry: str | None = None
    lacking: MutableMapping[str, str] = field(default_factory=dict)
    trees: MutableMapping[Path, Tree] = field(default_factory=dict)

    def tree(self, size: int) -> Tree:
        """Return the tree of so many templates in which everything is built: to be left as it is.

        What subjects share is made once.
        """
        root = self.directory / f"tree-{size}"
        if root not in self.trees:
            self.trees[root] = tree.locked(root, size, self.environ)
        return self.trees[root]

    def cloned(self, size: int) -> Tree:
        """Return a fresh clone of that tree."""
        root = self.directory / f"clone-{size}"
        if root not in self.trees:
            self.trees[root] = tree.clone(self.tree(size), root, self.environ)
        return self.trees[root]

    def untold(self, size: int) -> Tree:
        """Return a fresh clone in which nobody says what git's word for a file stands for."""
        root = self.directory / f"untold-{size}"
        if root not in self.trees:
            self.trees[root] = tree.clone(self.tree(size), root, self.environ)
            tree.untold(self.trees[root])
        return self.trees[root]

    def room(self, name: str) -> Path:
        """Return a new directory."""
        path = self.directory / name
        path.mkdir()
        return path


@contextmanager
def prepared(environ: Mapping[str, str]) -> Iterator[Setting]:
    """Make ready, and leave nothing behind."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sfbench-")))
        (directory / "bin").mkdir()
        own = {name: environ[name] for name in KEPT if name in environ}
        own |= {"HOME": str(_made(directory / "home")), "GIT_CONFIG_NOSYSTEM": "1"}
        own["PATH"] = f"{directory / 'bin'}:{own.get('PATH', os.defpath)}"
        program = installed.install(directory / "installed")
        setting = Setting(directory=directory, environ=own, program=program)
        yield _equipped(setting, environ, stack)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _equipped(setting: Setting, environ: Mapping[str, str], stack: ExitStack) -> Setting:
    lacking = setting.lacking
    own = {**setting.environ, **_of_docker(environ)}
    try:
        engine, url = _engine(own, stack)
    except (LackingError, NotReadyError, SandboxfileError) as error:
        lacking["engine"] = str(error)
        return setting
    own |= {"DOCKER_HOST": url} if url else {}
    base = _base(engine, setting.directory, lacking)
    docker = _client(setting.directory, own, lacking) if base else None
    if docker:
        stack.callback(_tidy, docker, own)
    return Setting(
        directory=setting.directory,
        environ=own,
        program=setting.program,
        engine=engine,
        base=base,
        docker=docker,
        registry=_registry(setting, stack),
        lacking=lacking,
    )


def _of_docker(environ: Mapping[str, str]) -> dict[str, str]:
    """Return how the user's docker client finds its engine, for a home that is not the user's."""
    found = {name: environ[name] for name in OF_DOCKER if name in environ}
    default = Path(environ.get("HOME", "/")) / ".docker"
    configuration = environ.get("DOCKER_CONFIG") or (str(default) if default.is_dir() else "")
    return {**found, "DOCKER_CONFIG": configuration} if configuration else found


def _engine(environ: Mapping[str, str], stack: ExitStack) -> tuple[Engine, str]:
    """Return the engine that answers, or a new one and its address."""
    try:
        return _chosen(environ, stack), ""
    except SandboxfileError as error:
        if any(environ.get(name) for name in NAMED):
            raise  # it is not there, and another is not what was asked for
        try:
            private.check_engine()
        except LackingError as why:
            raise LackingError(f"{error}; {why}") from None
    started = stack.enter_context(private.engine())
    return _chosen({**environ, "DOCKER_HOST": started.url}, stack), started.url


def _chosen(environ: Mapping[str, str], stack: ExitStack) -> Engine:
    engine = choose(EngineChoice(), environ=environ, network=None)
    return stack.enter_context(closing(engine))


def _base(engine: Engine, directory: Path, lacking: MutableMapping[str, str]) -> str | None:
    """Make the base image, of a static busybox."""
    archive = directory / "base.tar"
    try:
        with tarfile.open(archive, "w") as tar:
            private.add_busybox(tar, set())
    except LackingError as error:
        lacking["base image"] = str(error)
        return None
    return engine.load_root(archive, BASE, labels={})


def _client(
    directory: Path, environ: Mapping[str, str], lacking: MutableMapping[str, str]
) -> str | None:
    """Find a docker client that builds with BuildKit, and put it first on PATH.

    Those of Docker's own packages need buildx for that, Debian's up to 20.10 do not.
    """
    context = _made(directory / "probe")
    (context / "Dockerfile").write_text(f"FROM {BASE}\n")
    said = "there is none on PATH (Debian: docker.io)"
    for folder in environ["PATH"].split(":"):
        program = Path(folder) / "docker"
        if not os.access(program, os.X_OK):
            continue
        done = subprocess.run(
            [program, "build", "--quiet", "--tag", f"{PREFIX}/probe:1", context],
            env={**environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            (directory / "bin" / "docker").symlink_to(program.resolve())
            return str(program.resolve())
        said = f"`{program} build` with BuildKit: {' '.join(done.stderr.split())[-300:]}"
    lacking["docker build"] = said
    return None


def _registry(setting: Setting, stack: ExitStack) -> str | None:
    try:
        return stack.enter_context(private.registry(setting.room("registry")))
    except (LackingError, NotReadyError) as error:
        setting.lacking["registry"] = str(error)
        return None


def _tidy(docker: str, environ: Mapping[str, str]) -> None:
    """Take out of the engine what was put into it; its build cache remembers some of it."""
    for mine in (f"{PREFIX}/*", f"sandboxfile/{PREFIX}-*", f"*/{PREFIX}/*"):
        listed = subprocess.run(
            [docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}",
             "--filter", f"reference={mine}"],
            env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if names := listed.stdout.split():
            subprocess.run(
                [docker, "image", "rm", "--force", *names],
                env=environ, capture_output=True, check=False,
            )  # fmt: skip


def has(program: str, environ: Mapping[str, str]) -> str | None:
    """Return where a program is."""
    return shutil.which(program, path=environ["PATH"])
