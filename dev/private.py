"""A Docker Engine and a registry of one's own, and an image for them: for tests and benchmarks.

All of it is on this machine alone, needs nothing of Docker Hub, and is gone when it is left.
"""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "user:x:1000:1000::/home/user:/bin/sh\n"
    "nobody:x:65534:65534::/:/bin/false\n"
)
GROUP = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"


# What `engine` leaves where it could not leave anything itself: $1 dockerd, $2 files, $3 bridge.
# Of a process that nobody waits for, and whose parent is gone, `kill -0` says when it has ended.
SWEEP = """
read -r left && exit
exec 2>/dev/null
kill -TERM "$1"
for _ in $(seq 200); do kill -0 "$1" || break; sleep 0.1; done
kill -KILL -- "-$1"
while read -r device path rest; do
    case $path in "$2"/*) umount -l "$path" ;; esac
done </proc/self/mounts
ip link del "$3"
rm -rf "$2"
"""


class LackingError(Exception):
    """Something that is needed is not on this machine; the text says what, and where it is from."""


class NotReadyError(Exception):
    """A program was started and did not begin to answer; the text ends with what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateEngine:
    """A dockerd of one's own; `stop` kills it without warning."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def environ(self) -> dict[str, str]:
        """What docker clients need to find it."""
        return {"DOCKER_HOST": self.url, "PATH": os.environ["PATH"]}

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def bound(*command: str) -> list[str]:
    """Return a command line that is ended (SIGTERM) with the thread that starts it.

    An interrupted pytest-xdist kills its processes, and nothing is torn down then. Without setpriv
    (Debian: util-linux) such a command goes on.
    """
    setpriv = shutil.which("setpriv")
    return [*((setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()), *command]


# --- a private engine ------------------------------------------------------------------------


def check_engine() -> None:
    """Raise LackingError where `engine` cannot start one."""
    missing = [each for each in ("dockerd", "containerd", "runc", "ip") if not shutil.which(each)]
    if os.geteuid() != 0:
        raise LackingError("a private engine needs root")
    if missing:
        raise LackingError(
            f"a private engine needs {', '.join(missing)} (Debian: docker.io, iproute2)"
        )


@contextmanager
def engine(hosts: str = "") -> Iterator[PrivateEngine]:
    """Run a dockerd with nothing in common with any other on this machine. Raises NotReadyError.

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
        stack.enter_context(_swept(str(process.pid), str(directory), bridge))
        stack.callback(_end, process)
        _wait(lambda: _ping(directory / "d.sock"), process, directory / "log")
        yield PrivateEngine(url=f"unix://{directory}/d.sock", process=process)


@contextmanager
def _swept(*arguments: str) -> Iterator[None]:
    """Run SWEEP where this process is killed before this is left."""
    sweeper = subprocess.Popen(
        ["/bin/sh", "-c", SWEEP, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # no signal of the terminal is for it
    )
    try:
        yield
    finally:
        sweeper.communicate(b"left\n")


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
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.02)
    said = log.read_text(errors="replace")[-3000:]
    raise NotReadyError(f"{process.args!r} did not become ready:\n{said}")


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


# --- a registry ------------------------------------------------------------------------------


@contextmanager
def registry(directory: Path, auth: str = "") -> Iterator[str]:
    """Run a registry on loopback, its files in `directory`; yield its `host:port`.

    `auth` is the section of that name of its configuration. Raises LackingError, NotReadyError.
    """
    program = shutil.which("docker-registry")
    if program is None:
        raise LackingError("a registry needs docker-registry (Debian: the package docker-registry)")
    # It picks its port itself: one that we had found free could be somebody else's by then.
    (directory / "config.yml").write_text(
        "version: 0.1\n"
        "log: {level: info, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:0'}}\n{auth}"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            bound(program, "serve", str(directory / "config.yml")),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(lambda: _address(directory / "log"), process, directory / "log")
        yield _address(directory / "log")
    finally:
        _end(process)


def _address(log: Path) -> str:
    """Return where a registry says that it listens, empty while it does not yet."""
    found = re.search(r"listening on (127\.0\.0\.1:\d+)\D", log.read_text(errors="replace"))
    return found[1] if found else ""


# --- an image --------------------------------------------------------------------------------


def add_busybox(tar: tarfile.TarFile, there: set[str], *, binaries: str = "bin") -> None:
    """Add a root filesystem: a static busybox, the users root and `user`, and /tmp.

    Programs that are `there` already are kept. Raises LackingError.
    """
    program = shutil.which("busybox")
    if program is None:
        raise LackingError("an image needs busybox (Debian: the package busybox-static)")
    _add_file(tar, f"{binaries}/busybox", Path(program).read_bytes(), 0o755)
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name not in there and name != "busybox":
            link = tarfile.TarInfo(f"{binaries}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("home", 0o755), ("home/user", 0o755)):
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, mode
        directory.uid = directory.gid = 1000 if name == "home/user" else 0
        tar.addfile(directory)
    _add_file(tar, "etc/passwd", ACCOUNTS.encode(), 0o644)
    _add_file(tar, "etc/group", GROUP.encode(), 0o644)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
