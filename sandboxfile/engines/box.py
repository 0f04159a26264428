"""A container that only waits, to run commands in: what `run`, `shell` and snapshots need."""

import json
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from threading import Lock
from typing import Any

from sandboxfile.engines import Executed
from sandboxfile.engines.quirks import Quirks
from sandboxfile.engines.terminal import interact
from sandboxfile.engines.transfer import split
from sandboxfile.engines.transport import Response
from sandboxfile.engines.wire import Refused, Wire, segment
from sandboxfile.errors import BuildFailed, SandboxfileError
from sandboxfile.model import Resources
from sandboxfile.patterns import regex
from sandboxfile.process import LineSplitter

MIB = 1024 * 1024
SETTLE_S = 10.0  # a start takes a tenth of a second
OUTPUT_LIMIT = 1 << 20  # bytes of a command's output that are kept, the last ones
# Newer engines refuse to start what older ones start, and end with this status, for a user who is
# not there.
_NOBODY = regex("unable to find (user|group) ")
NOT_RUN = 126
STDERR, HEADER = 2, 8  # of a multiplexed stream: its number, its header's size
# Works with every shell, reaps nothing (init does), and ends at once when told to.
IDLE = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"]
# Some engines start commands with umask 0, others with 022; snapshots must not depend on it.
UMASK = ("/bin/sh", "-c", 'umask 022; exec "$@"', "sh")


@contextmanager
def box(
    wire: Wire,
    image: str,
    *,
    labels: Mapping[str, str],
    resources: Resources | None,
    network: str | None,
    unset: tuple[str, ...] = (),
    quirks: Quirks,
) -> Iterator["DockerBox"]:
    """Run a waiting container of an image; it is removed at the end of the block."""
    try:
        identifier = _created(
            wire, image, labels, resources, network, unset=unset, init=quirks.init
        )
    except Refused as refused:
        raise BuildFailed(f"no container of `{image}`: {refused.reason}") from refused
    try:
        _check_shell(wire, identifier, image)
        _start(wire, identifier, image)
        yield DockerBox(wire, identifier, image, quirks)
    finally:
        remove(wire, identifier)


def _created(
    wire: Wire,
    image: str,
    labels: Mapping[str, str],
    resources: Resources | None,
    network: str | None,
    *,
    unset: tuple[str, ...],
    init: bool,
) -> str:
    host: dict[str, Any] = {"Init": init}
    if network:
        host["NetworkMode"] = network
    if resources:
        host |= {"Memory": resources.memory * MIB, "NanoCpus": resources.cpu * 10**9}
    body = {
        "Image": image,
        "Entrypoint": IDLE,
        "Cmd": [],
        "Labels": dict(labels),
        "HostConfig": host,
    }
    if unset:  # a name without a value takes the image's variable away
        body["Env"] = list(unset)
    return wire.made("/containers/create", body)


def _check_shell(wire: Wire, identifier: str, image: str) -> None:
    """Look before starting: the start would succeed, and init fail a moment later."""
    try:
        wire.ask("HEAD", f"/containers/{identifier}/archive", params={"path": IDLE[0]})
    except Refused as refused:
        raise BuildFailed(
            f"`{image}` has no {IDLE[0]}, which running commands in it needs",
            hint="use a base image with a shell",
        ) from refused


def _start(wire: Wire, identifier: str, image: str) -> None:
    try:
        wire.ask("POST", f"/containers/{identifier}/start")
    except Refused as refused:
        raise BuildFailed(f"`{image}` does not start: {refused.reason}") from refused


def remove(wire: Wire, identifier: str) -> None:
    """Remove a container, running or not; gone already is fine."""
    try:
        wire.ask("DELETE", f"/containers/{identifier}", params={"force": "1", "v": "1"})
    except Refused as refused:
        # 404: gone already; 409: somebody else is removing it this moment.
        if refused.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise


class DockerBox:
    """A running container; made by `box`."""

    def __init__(self, wire: Wire, identifier: str, image: str, quirks: Quirks) -> None:
        self._wire = wire
        self._quirks = quirks
        self._id = identifier
        self._image = image
        self._gate = Lock()  # commands start, or a commit is made: see _settle
        self._begun: set[str] = set()

    @property
    def id(self) -> str:
        return self._id

    def execute(
        self,
        argv: tuple[str, ...],
        *,
        user: str | None = None,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> Executed:
        """Run a command to its end; each output line goes to `on_line` as it comes.

        Lines of standard error go to `on_error` if it is given. Of a long output the last MiB is
        kept: a command may write for ever.
        """
        output = Tail(OUTPUT_LIMIT)
        tell = {1: on_line, STDERR: on_error or on_line}
        splitters = {1: LineSplitter(), STDERR: LineSplitter()}
        with ExitStack() as stack:
            try:
                exec_id, response = self._started(stack, argv, user, workdir, env)
            except Refused as refused:
                if not _NOBODY.match(refused.reason):
                    raise
                return Executed(status=NOT_RUN, output=refused.reason)
            for stream, data in frames(response.read):
                output.add(data)
                for line in splitters[stream].feed(data):
                    _tell(tell[stream], line)
        for stream, splitter in splitters.items():
            for line in splitter.flush():
                _tell(tell[stream], line)
        return Executed(status=self._status(exec_id), output=output.text)

    def _started(
        self,
        stack: ExitStack,
        argv: tuple[str, ...],
        user: str | None,
        workdir: str | None,
        env: Mapping[str, str] | None,
    ) -> tuple[str, Response]:
        with self._gate:
            exec_id = self._prepared(argv, user, workdir, env)
            self._begun.add(exec_id)
            stack.callback(self._begun.discard, exec_id)
            started = self._wire.open(
                f"/exec/{exec_id}/start",
                body=json.dumps({"Detach": False, "Tty": False}).encode(),
                headers={"Content-Type": "application/json"},
            )
            return exec_id, stack.enter_context(started)

    def interact(
        self,
        argv: tuple[str, ...],
        *,
        tty: bool,
        user: str | None = None,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command joined to our own stdin, stdout and stderr; its exit status."""
        exec_id = self._prepared(argv, user, workdir, env, tty=tty, stdin=True)
        interact(self._wire, exec_id, tty=tty)
        return self._status(exec_id)

    def put(self, archive: Iterable[bytes], directory: str) -> None:
        """Unpack a plain tar as root in a directory of the box that is there.

        Owners and modes are the archive's; neither a directory nor what is none takes the other's
        place. Raises BuildFailed, and whatever the archive's source raises.
        """
        params = {"path": directory, "noOverwriteDirNonDir": "1"}
        headers = {"Content-Type": "application/x-tar"}
        path = f"/containers/{self._id}/archive"
        try:
            with self._wire.open(path, "PUT", params=params, headers=headers, body=archive) as done:
                done.read()
        except Refused as refused:
            raise BuildFailed(f"files cannot be put into `{directory}`: {refused.reason}") from None

    def commit(self, tag: str, *, labels: Mapping[str, str]) -> str:
        """Save the filesystem as image `tag`; its id.

        How the image starts is as the box's image had it, not the waiting of the box; its labels
        are those of the image, of the box, and `labels`, the later ones winning.
        """
        config = self._wire.about(f"/images/{segment(self._image)}/json").get("Config") or {}
        repository, version = split(tag)
        params: dict[str, Any] = {"container": self._id, "repo": repository, "tag": version}
        # Left out or null, these would be inherited from the box.
        starts = {key: config.get(key) or [] for key in ("Entrypoint", "Cmd")}
        if not self._quirks.commit_config:
            own = [f"{key.upper()} {json.dumps(value)}" for key, value in starts.items()]
            own += [f"LABEL {quoted(key)}={quoted(value)}" for key, value in labels.items()]
            params["changes"] = own
        body = {**config, **starts, "Labels": {**(config.get("Labels") or {}), **labels}}
        with self._gate:
            self._settle()
            self._wire.ask("POST", "/commit", params=params, body=body)
        return str(self._wire.about(f"/images/{segment(tag)}/json")["Id"])

    def _settle(self) -> None:
        """Wait until every command has really started, which is a moment after its output opens.

        A commit freezes the container; a runtime that is then about to join it freezes too, and
        holds what thawing it would need: the engine never comes back (seen with 20.10).
        """
        end = time.monotonic() + SETTLE_S
        for exec_id in sorted(self._begun):
            while not self._has_started(exec_id) and time.monotonic() < end:
                time.sleep(0.02)

    def _has_started(self, exec_id: str) -> bool:
        try:
            state = self._wire.told("GET", f"/exec/{exec_id}/json")
        except Refused:
            return True  # ended, and forgotten
        ended = not state.get("Running") and state.get("ExitCode") is not None
        return ended or bool(state.get("Pid"))

    def _prepared(
        self,
        argv: tuple[str, ...],
        user: str | None,
        workdir: str | None,
        env: Mapping[str, str] | None,
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> str:
        body = {
            "Cmd": [*UMASK, *argv],
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "Env": [f"{name}={value}" for name, value in (env or {}).items()],
        }
        if user:
            body["User"] = user
        if workdir:
            body["WorkingDir"] = workdir
        return self._wire.made(f"/containers/{self._id}/exec", body)

    def _status(self, exec_id: str) -> int:
        try:
            state = self._wire.told("GET", f"/exec/{exec_id}/json")
        except Refused as refused:
            raise SandboxfileError(f"the container went away: {refused.reason}") from refused
        status = state.get("ExitCode")
        if state.get("Running") or status is None:
            raise SandboxfileError("the connection to the command in the container broke")
        return int(status)


class Tail:
    """The last `limit` bytes of what is added, at least as long as that much has come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())

    @property
    def text(self) -> str:
        """What is kept, as UTF-8 with replacement."""
        return b"".join(self._pieces)[-self._limit :].decode("utf-8", "replace")


def quoted(value: str) -> str:
    """Quote a value of an ENV or LABEL instruction."""
    for each in ("\\", '"', "$"):
        value = value.replace(each, "\\" + each)
    return f'"{value}"'


def _tell(on_line: Callable[[str], None] | None, line: str) -> None:
    if on_line:
        on_line(line)


def frames(read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (1 stdout or 2 stderr, bytes) of a multiplexed stream (Engine API, attach)."""
    while len(header := read(HEADER)) == HEADER:
        stream, length = struct.unpack(">BxxxL", header)
        if length and (data := read(length)):
            yield (STDERR if stream == STDERR else 1), data
