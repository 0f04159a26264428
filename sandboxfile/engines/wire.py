"""The HTTP API of an engine: calls, streams of JSON messages, and what their failures mean."""

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from sandboxfile.cancel import Cancel
from sandboxfile.engines.transport import PIECE, Address, Body, Limits, Response, Transport
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.patterns import regex
from sandboxfile.process import LineSplitter

CALL_TIMEOUT: Limits = (5.0, 120.0)
PROBE_TIMEOUT: Limits = (1.5, 1.5)
# Also the limit for one blocked write of an upload, hence generous; silence is never limited.
STREAM_TIMEOUT: Limits = (300.0, None)
MESSAGE_LIMIT = 64 * 1024 * 1024

_SERVER = regex(r"(Docker|Libpod)/(\S+) \((\w+)\)")
_API = regex(r"[0-9]+\.[0-9]+")

Message = Mapping[str, Any]


class Refused(SandboxfileError):  # noqa: N818 - named for what it says
    """The engine answered a call with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the engine refused: {message}")
        self.status = status
        self.reason = message


class _Upload(Exception):  # noqa: N818
    """Carries an error of the body's source past the HTTP library, which would disguise it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Wire:
    """Calls to one engine, from any thread."""

    def __init__(self, transport: Transport, address: Address) -> None:
        self.address = address
        self._transport = transport
        self.version = ""

    def close(self) -> None:
        self._transport.close()

    def probe(self) -> Message:
        """Ask for the version, fast; calls are made in the engine's own API version after it."""
        answer: Message = self._greeted() or self._ask("GET", "/version", timeout=PROBE_TIMEOUT)
        if not isinstance(answer, dict) or "ApiVersion" not in answer:
            raise self.nonsense()
        self.version = f"/v{answer['ApiVersion']}"
        return answer

    def _greeted(self) -> Message | None:
        """Return what `GET /version` has to say as far as a greeting says it, None if it does not.

        Docker starts other programs to answer `/version`. The head of each answer names engine,
        version and system (Docker Engine API, SystemPing); a proxy may have put its own name there.
        """
        try:
            with self._transport.send(
                "GET", "/_ping", headers={}, body=None, limits=PROBE_TIMEOUT
            ) as response:
                api, server = response.header("Api-Version"), response.header("Server")
                is_good = response.status == HTTPStatus.OK
                with suppress(OSError):  # the head has said it all
                    response.read(PIECE)
        except OSError as error:
            raise lost(self.address, error) from error
        named = _SERVER.fullmatch(server)
        if not is_good or named is None or _API.fullmatch(api) is None:
            return None
        name, version, system = named.groups()
        components = [{"Name": "Podman Engine"}] if name == "Libpod" else []
        return {"ApiVersion": api, "Version": version, "Os": system, "Components": components}

    def nonsense(self) -> Unreachable:
        """Return the error for an answer that no engine gives."""
        return Unreachable(
            f"what listens at `{self.address}` does not answer like a container engine",
            hint=f"it was named by {self.address.source}" if self.address.source else "",
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> Any:
        """Return the JSON of the answer, None if it has none. Raises Refused, Unreachable."""
        return self._ask(method, self.version + path, params=params, body=body)

    def told(self, method: str, path: str, *, body: object = None) -> Mapping[str, Any]:
        """Return the JSON object of the answer. Raises Refused, Unreachable."""
        answer = self.ask(method, path, body=body)
        if not isinstance(answer, dict):
            raise self.nonsense()
        return answer

    def about(self, path: str) -> Mapping[str, Any]:
        """Return what is said of one thing, its `Id` in any case. Raises Refused, Unreachable."""
        return self._identified(self.told("GET", path))

    def made(self, path: str, body: object) -> str:
        """Have something made; its id. Raises Refused, Unreachable."""
        return str(self._identified(self.told("POST", path, body=body))["Id"])

    def listed(self, path: str, params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return what is said of several things, each with its `Id`. Raises as `about`."""
        found = self.ask("GET", path, params=params)
        if not isinstance(found, list):
            raise self.nonsense()
        return list(map(self._identified, found))

    def _identified(self, answer: Any) -> Mapping[str, Any]:
        if isinstance(answer, dict) and isinstance(answer.get("Id"), str) and answer["Id"]:
            return answer
        raise self.nonsense()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        timeout: Limits = CALL_TIMEOUT,
    ) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            with self._transport.send(
                method, _target(path, params), headers=headers, body=content, limits=timeout
            ) as response:
                _check(response)
                # Podman answers some calls with an empty line.
                said = response.read().strip()
        except OSError as error:
            raise lost(self.address, error) from error
        try:
            return json.loads(said) if said else None
        except (ValueError, RecursionError) as error:
            raise self.nonsense() from error

    @contextmanager
    def open(
        self,
        path: str,
        method: str = "POST",
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Response]:
        """Ask and give the open response; cancelling ends it from its other side.

        Raises Refused, Unreachable, Cancelled, and whatever the body's source raises.
        """
        cancel = cancel or Cancel()
        cancel.check()
        pieces = body if body is None or isinstance(body, bytes) else _guarded(body, cancel)
        try:
            with self._transport.send(
                method,
                _target(self.version + path, params),
                headers=headers or {},
                body=pieces,
                limits=STREAM_TIMEOUT,
            ) as response:
                _check(response)
                # close() from another thread leaves the reader blocked and the build running;
                # shutdown() ends both at once.
                with cancel.on_cancel(response.shutdown):
                    yield response
                cancel.check()
        except _Upload as carried:
            raise carried.error from None
        except OSError as error:
            cancel.check()
            raise lost(self.address, error) from error

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Iterator[Message]]:
        """POST and give the JSON messages of the answer as they come."""
        with self.open(path, params=params, headers=headers, body=body, cancel=cancel) as response:
            yield self._messages(response)

    def _messages(self, response: Response) -> Iterator[Message]:
        splitter = LineSplitter(MESSAGE_LIMIT)
        for chunk in response.pieces():
            yield from map(self._message, filter(None, splitter.feed(chunk)))
        yield from map(self._message, filter(None, splitter.flush()))

    def _message(self, line: str) -> Message:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Unreachable(f"the engine at `{self.address}` broke off in mid-message")
        return message


def segment(name: str) -> str:
    """Return an image name as part of a path."""
    return quote(name, safe="/:@")


def failure(message: Message) -> tuple[str, int | None] | None:
    """Return text and exit code if a message of a stream says that the call failed."""
    if "errorDetail" not in message and "error" not in message:
        return None
    detail = message.get("errorDetail")
    detail = detail if isinstance(detail, dict) else {}
    code = detail.get("code")
    text = detail.get("message") or message.get("error") or "no reason given"
    return str(text), code if isinstance(code, int) and code else None


def _target(path: str, params: Mapping[str, Any] | None) -> str:
    """Return path and query; a parameter may have several values."""
    return f"{path}?{urlencode(params, doseq=True)}" if params else path


def _guarded(body: Iterable[bytes], cancel: Cancel) -> Iterator[bytes]:
    try:
        for chunk in body:
            cancel.check()
            yield chunk
    except Exception as error:  # whatever it is: it is not the connection's
        raise _Upload(error) from error


def _check(response: Response) -> None:
    # A container that runs is started with 304; any other redirect would be somebody else's answer.
    if response.status < HTTPStatus.MULTIPLE_CHOICES or response.status == HTTPStatus.NOT_MODIFIED:
        return
    said = response.read()
    try:
        answer = json.loads(said)
        # Podman's own words are under `cause`/`message`, Docker's under `message`.
        text = answer["message"] or answer["cause"]
    except (ValueError, KeyError, TypeError):
        text = said[:500].decode("utf-8", "replace").strip() or response.reason
        text = text or f"HTTP {response.status}"
    raise Refused(response.status, str(text))


def lost(address: Address, error: BaseException) -> Unreachable:
    """Say why an engine cannot be reached: its exact address, the cause, one remedy."""
    cause = _system_error(error)
    number = cause.errno if cause else None
    why = cause.strerror.lower() if cause and cause.strerror else _reason(error)
    named = f" (named by {address.source})" if address.source else ""
    return Unreachable(
        f"the container engine at `{address}`{named} cannot be reached: {why}",
        hint=_remedy(address, number),
    )


def _remedy(address: Address, number: int | None) -> str:
    local = address.socket is not None
    if number in {errno.EACCES, errno.EPERM} and local:
        return "allow yourself to use it: `sudo usermod -aG docker $USER`, then log in again"
    if local:
        return "start it (`sudo systemctl start docker`), or set DOCKER_HOST to where it listens"
    return "check DOCKER_HOST or `docker context ls`, and that the engine is running there"


def _reason(error: BaseException) -> str:
    is_late = any(isinstance(each, TimeoutError) for each in _inside(error))
    return "no answer in time" if is_late else "the connection broke"


def _system_error(error: BaseException) -> OSError | None:
    """Find the operating system's error inside the layers of the HTTP libraries."""
    found = (e for e in _inside(error) if isinstance(e, OSError) and e.errno is not None)
    return next(found, None)


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was made of."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue:
        each = queue.pop(0)
        if id(each) in seen or not isinstance(each, BaseException):
            continue
        seen.add(id(each))
        yield each
        queue += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
