"""Docker Engine by its API, building through BuildKit; Podman's socket by the same calls."""

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Box, BuilderKind, BuildSpec, Built, EngineImage, EngineInfo
from sandboxfile.engines.box import box, quoted, remove
from sandboxfile.engines.building import Build, ContextUnread
from sandboxfile.engines.buildx import REMEDY, Client
from sandboxfile.engines.probe import probe, refuse
from sandboxfile.engines.quirks import DOCKER, PODMAN, Quirks
from sandboxfile.engines.transfer import DELAYS_S, Transfer, split
from sandboxfile.engines.transport import Address, Transport, UnixSocket
from sandboxfile.engines.wire import Refused, Wire, failure, segment
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Emit, Sent
from sandboxfile.frozen import replace
from sandboxfile.model import PLATFORM, Login, Resources

CHUNK = 1024 * 1024
FILE_LIMIT = 256 << 10  # bytes of an archive with one small file


def connect(address: Address) -> Transport:
    """Open the way to an engine, without calling it yet. Raises Unreachable, SandboxfileError."""
    if address.socket is not None:
        return UnixSocket(address.socket)
    from sandboxfile.engines import sdk

    return sdk.DockerSdk(address)


class DockerEngine:
    """An engine behind the Docker API. One object serves all threads.

    `builder` picks the builder by name; None is BuildKit, or Podman's own on Podman. `network` is
    the operator's choice for builds and boxes. `clients` are docker clients on this machine, tried
    in order for what needs a session (build secrets).
    """

    def __init__(
        self,
        address: Address,
        *,
        builder: BuilderKind | None = None,
        network: str | None = None,
        clients: tuple[Client, ...] = (),
        why: str = "",
        retry_delays_s: tuple[float, ...] = DELAYS_S,
        transport: Callable[[Address], Transport] = connect,
    ) -> None:
        self._wire = Wire(transport(address), address)
        self._builder = builder
        self._network = network
        self._clients = clients
        self._why = why or f"found at {address}"
        self._delays_s = retry_delays_s
        self._info: EngineInfo | None = None
        self._needs_session = False  # turns out at the first build
        self._lock = Lock()

    def info(self) -> EngineInfo:
        """Ask the engine what it is, once. Raises Unreachable, Unsupported."""
        with self._lock:
            if self._info is None:
                elsewhere = False
                if self._builder == "buildx":
                    client = self._client()
                    elsewhere = client.builder is not None and client.inspect().elsewhere
                self._info = probe(
                    self._wire,
                    self._builder,
                    has_client=lambda: any(client.works() for client in self._clients),
                    has_buildx=lambda: any(client.is_buildx for client in self._clients),
                    why=self._why,
                    elsewhere=elsewhere,
                )
            return self._info

    def close(self) -> None:
        self._wire.close()

    # --- images ------------------------------------------------------------------------------

    def find(self, tag: str) -> str | None:
        """Return the id of the image with this tag (or digest reference or id), None if absent."""
        image = self.inspect(tag)
        return image.id if image else None

    def inspect(self, name: str) -> EngineImage | None:
        """Return what the engine has by a tag, digest reference or id, None if nothing."""
        image = self._inspected(name)
        if image is None:
            return None
        config = image.get("Config")
        return EngineImage(id=str(image["Id"]), config=config if isinstance(config, dict) else {})

    def image_config(self, tag: str) -> Mapping[str, Any]:
        """Return the Config of an image that is there. Raises SandboxfileError."""
        image = self.inspect(tag)
        if image is None:
            raise SandboxfileError(f"there is no image `{tag}` in the engine")
        return image.config

    def depth(self, tag: str) -> int:
        """Return how many layers the image consists of; engines can stack some 125."""
        image = self._inspected(tag) or {}
        return len((image.get("RootFS") or {}).get("Layers") or ())

    def read(self, image: str, *paths: str) -> bytes:
        """Return the first small file that an image has of these, b"" for none; runs nothing."""
        wire = self._ready()
        body = {"Image": image, "Cmd": ["none"]}  # an image without a command is refused else
        made = wire.made("/containers/create", body)
        try:
            return next(filter(None, (_file(wire, made, path) for path in paths)), b"")
        finally:
            wire.ask("DELETE", f"/containers/{made}", params={"force": "1"})

    def tag(self, image: str, tag: str) -> None:
        """Give an image of the engine another tag."""
        repository, version = split(tag)
        params = {"repo": repository, "tag": version}
        self._ready().ask("POST", f"/images/{segment(image)}/tag", params=params)

    def untag(self, tag: str) -> None:
        """Take a tag from an image, and the image too when it was its last; absent is fine."""
        try:
            self._ready().ask("DELETE", f"/images/{segment(tag)}", params={"force": "1"})
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise

    def remove_labelled(self, labels: Mapping[str, str]) -> int:
        """Remove images that carry all these labels, with their tags; how many there were."""
        filters = json.dumps({"label": [f"{key}={value}" for key, value in labels.items()]})
        found = self._ready().listed("/images/json", {"filters": filters})
        for image in found:
            # By name, not by id: an id is refused while another image is built on it, whereas
            # without names an image goes together with the last one that needs it.
            names = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
            for name in [each for each in names if "<none>" not in each] or [image["Id"]]:
                self._unname(name)
        return len(found)

    def _unname(self, name: str) -> None:
        try:
            self.untag(name)
        except Refused as refused:
            if refused.status != HTTPStatus.CONFLICT:  # still needed by another image
                raise

    def load_root(self, archive: Path, tag: str, *, labels: Mapping[str, str]) -> str:
        """Import a root filesystem archive as image `tag`; its id."""
        params = {
            "fromSrc": "-",
            "changes": [f"LABEL {quoted(key)}={quoted(labels[key])}" for key in sorted(labels)],
            "platform": PLATFORM,
        }
        headers = {"Content-Type": "application/x-tar"}
        image_id = ""
        with self._ready().stream(
            "/images/create", params=params, headers=headers, body=_chunks(archive)
        ) as messages:
            for message in messages:
                if failed := failure(message):
                    raise SandboxfileError(f"`{archive}` cannot be imported: {failed[0]}")
                image_id = str(message.get("status", image_id))
        # Tagged only now: some engines would give the tag to the half that they could read.
        self.tag(image_id, tag)
        return str(self._confirmed(tag)["Id"])

    def load(self, archive: Iterable[bytes], tag: str, *, cancel: Cancel) -> str:
        """Load images as `docker save` writes them; the id of the one with this tag."""
        headers = {"Content-Type": "application/x-tar"}
        with self._ready().stream(
            "/images/load", params={"quiet": "1"}, headers=headers, body=archive, cancel=cancel
        ) as messages:
            for message in messages:
                if failed := failure(message):
                    raise SandboxfileError(f"`{tag}` cannot be loaded: {failed[0]}")
        return str(self._confirmed(tag)["Id"])

    # --- registries --------------------------------------------------------------------------

    def ensure(
        self, reference: str, *, login: Login | None, emit: Emit, cancel: Cancel, job: str
    ) -> None:
        """Pull `repo@sha256:…` unless it is there.

        Raises NotAllowed, Unreachable, BuildFailed, Cancelled.
        """
        cancel.check()
        if self.find(reference) is not None:
            return
        repository, version = split(reference)
        self._transfer(repository, login, emit, job).pull(version, cancel)

    def push(
        self,
        image: str,
        repository: str,
        tag: str,
        *,
        login: Login | None,
        emit: Emit,
        cancel: Cancel,
        job: str,
    ) -> str:
        """Tag `image` as repository:tag, push it, return the digest of the stream.

        Transport errors and 5xx are retried; raises NotAllowed, Unreachable, BuildFailed.
        """
        cancel.check()
        self.tag(image, f"{repository}:{tag}")
        return self._transfer(repository, login, emit, job).push(tag, cancel)

    def _transfer(self, repository: str, login: Login | None, emit: Emit, job: str) -> Transfer:
        return Transfer(
            wire=self._ready(),
            repository=repository,
            login=login,
            emit=emit,
            job=job,
            delays_s=self._delays_s,
        )

    # --- builds ------------------------------------------------------------------------------

    def build(self, spec: BuildSpec, *, emit: Emit, cancel: Cancel) -> Built:
        """Build an image. Raises BuildFailed, Unsupported, Unreachable, Cancelled."""
        info = self.info()
        refuse(spec, info)
        started = time.monotonic()
        counted = replace(spec, context=lambda: _counted(spec, emit))
        made = self._built(counted, info, emit, cancel)
        image: Mapping[str, Any] = {"Id": made} if spec.push else self._confirmed(made)
        return Built(
            tag=spec.tag,
            image_id=str(image["Id"]),
            config=image.get("Config") or {},
            seconds=time.monotonic() - started,
        )

    def _built(self, spec: BuildSpec, info: EngineInfo, emit: Emit, cancel: Cancel) -> str:
        """Build by the engine's API, or by a docker client where that is needed."""
        cached = bool(spec.cache_to or spec.cache_from)
        session = bool(spec.secrets) or "secrets" in spec.needs or cached
        if info.builder != "buildx" and not session and not self._needs_session:
            build = Build(
                wire=self._wire,
                builder=info.builder,
                quirks=self._quirks,
                network=self._network,
            )
            try:
                return build.run(spec, emit=emit, cancel=cancel)
            except ContextUnread:
                self._client()  # which raises where there is none
                self._needs_session = True
        client = self._client(only_buildx=cached or spec.push is not None)
        return client.build(spec, network=self._network, emit=emit, cancel=cancel) or spec.tag

    def _client(self, *, only_buildx: bool = False) -> Client:
        only_buildx = only_buildx or self._builder == "buildx"
        for client in self._clients:
            if client.is_buildx or (client.works() and not only_buildx):
                return client
        raise Unreachable(
            "this build needs a docker client with BuildKit, and none was found", hint=REMEDY
        )

    # --- containers --------------------------------------------------------------------------

    def box(
        self,
        image: str,
        *,
        labels: Mapping[str, str],
        resources: Resources | None = None,
        unset: tuple[str, ...] = (),
    ) -> AbstractContextManager[Box]:
        """Run a container that only waits; it is removed at the end of the block.

        Variables of the image that are `unset` are none in it.
        """
        return box(
            self._ready(),
            image,
            labels=labels,
            resources=resources,
            network=self._network,
            unset=unset,
            quirks=self._quirks,
        )

    def remove_boxes(self, *, labels: Mapping[str, str]) -> None:
        """Remove boxes with all of these labels, left behind by a process that was killed."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        wire = self._ready()
        params = {"all": "1", "filters": json.dumps(filters)}
        for container in wire.listed("/containers/json", params):
            remove(wire, str(container["Id"]))

    # --- what it is --------------------------------------------------------------------------

    @property
    def _quirks(self) -> Quirks:
        return PODMAN if self.info().kind == "podman" else DOCKER

    def _ready(self) -> Wire:
        self.info()  # the first call of all asks for the API's version
        return self._wire

    def _inspected(self, name: str) -> Mapping[str, Any] | None:
        try:
            return self._ready().about(f"/images/{segment(name)}/json")
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _confirmed(self, name: str) -> Mapping[str, Any]:
        """Return an image that the engine says it just made, once it really is there."""
        found = self._inspected(name)
        if found is None:
            raise Unreachable(f"the engine lost the image `{name}` that it said it made")
        return found


def _counted(spec: BuildSpec, emit: Emit) -> Iterator[bytes]:
    """Yield the context, and tell how much of it was taken."""
    sent = 0
    try:
        for chunk in spec.context():
            sent += len(chunk)
            yield chunk
    finally:
        emit(Sent(job=spec.job, bytes=sent))


def _file(wire: Wire, container: str, path: str) -> bytes:
    """Return a small file of a container, b"" when there is none."""
    try:
        with wire.open(f"/containers/{container}/archive", "GET", params={"path": path}) as found:
            return _member(found.read(FILE_LIMIT))
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        return b""


def _member(archive: bytes) -> bytes:
    """Return the content of the one file in an archive, b"" when that is no whole regular file."""
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            first = members.next()
            file = members.extractfile(first) if first and first.isreg() else None
            return file.read() if file else b""
    except tarfile.TarError:
        return b""


def _chunks(archive: Path) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
