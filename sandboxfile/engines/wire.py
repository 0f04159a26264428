"""The HTTP API of an engine: calls, streams of JSON messages, and what their failures mean."""

import errno
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3

from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.frozen import dataclass
from sandboxfile.process import LineSplitter

CALL_TIMEOUT = (5.0, 120.0)
PROBE_TIMEOUT = (1.5, 1.5)
# Also the limit for one blocked write of an upload, hence generous; silence is never limited.
STREAM_TIMEOUT = (300.0, None)
MESSAGE_LIMIT = 64 * 1024 * 1024

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine listens; `source` says who named it, `tls` holds ca, cert and key.pem."""

    url: str
    source: str = ""
    tls: Path | None = None

    def __str__(self) -> str:
        return self.url


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

    def __init__(self, session: requests.Session, base_url: str, address: Address) -> None:
        self.address = address
        self._session = session
        self._base = base_url
        self.version = ""

    def close(self) -> None:
        self._session.close()

    def probe(self) -> Message:
        """Ask for the version, fast; calls are made in the engine's own API version after it."""
        answer: Message = self._ask("GET", "/version", timeout=PROBE_TIMEOUT)
        if not isinstance(answer, dict) or "ApiVersion" not in answer:
            raise self._nonsense()
        self.version = f"/v{answer['ApiVersion']}"
        return answer

    def _nonsense(self) -> Unreachable:
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

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        timeout: tuple[float, float | None] = CALL_TIMEOUT,
    ) -> Any:
        try:
            _check_listening(self.address)
            with self._session.request(
                method, self._base + path, params=params, json=body, timeout=timeout
            ) as response:
                _check(response)
                # Podman answers some calls with an empty line.
                return json.loads(response.content) if response.content.strip() else None
        except ValueError as error:
            raise self._nonsense() from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise lost(self.address, error) from error

    @contextmanager
    def open(
        self,
        path: str,
        method: str = "POST",
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | bytes | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[requests.Response]:
        """Ask and give the open response; cancelling ends it from its other side.

        Raises Refused, Unreachable, Cancelled, and whatever the body's source raises.
        """
        cancel = cancel or Cancel()
        cancel.check()
        data = body if body is None or isinstance(body, bytes) else _guarded(body, cancel)
        try:
            _check_listening(self.address)
            with self._session.request(
                method,
                self._base + self.version + path,
                params=params,
                headers=headers,
                data=data,
                stream=True,
                timeout=STREAM_TIMEOUT,
            ) as response:
                _check(response)
                # close() from another thread leaves the reader blocked and the build running;
                # shutdown() ends both at once.
                with cancel.on_cancel(response.raw.shutdown):
                    yield response
                cancel.check()
        except _Upload as carried:
            raise carried.error from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            cancel.check()
            raise lost(self.address, error) from error

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | bytes | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Iterator[Message]]:
        """POST and give the JSON messages of the answer as they come."""
        with self.open(path, params=params, headers=headers, body=body, cancel=cancel) as response:
            yield self._messages(response)

    def _messages(self, response: requests.Response) -> Iterator[Message]:
        splitter = LineSplitter(MESSAGE_LIMIT)
        for chunk in response.iter_content(65536):
            yield from map(self._message, filter(None, splitter.feed(chunk)))
        yield from map(self._message, filter(None, splitter.flush()))

    def _message(self, line: str) -> Message:
        try:
            message = json.loads(line)
        except ValueError:
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


def _check_listening(address: Address) -> None:
    """Connect and hang up (30 µs), as the SDK never closes a socket that could not connect."""
    parts = urlsplit(address.url)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(PROBE_TIMEOUT[0])
            attempt.connect(parts.path)


def _guarded(body: Iterable[bytes], cancel: Cancel) -> Iterator[bytes]:
    try:
        for chunk in body:
            cancel.check()
            yield chunk
    except Exception as error:  # whatever it is: it is not the connection's
        raise _Upload(error) from error


def _check(response: requests.Response) -> None:
    if response.status_code < requests.codes.bad_request:
        return
    try:
        answer = response.json()
        # Podman's own words are under `cause`/`message`, Docker's under `message`.
        text = answer["message"] or answer["cause"]
    except (ValueError, KeyError, TypeError):
        text = response.text[:500].strip() or response.reason
    raise Refused(response.status_code, str(text))


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
    local = urlsplit(address.url).scheme in {"unix", "http+unix"}
    if number in {errno.EACCES, errno.EPERM} and local:
        return "allow yourself to use it: `sudo usermod -aG docker $USER`, then log in again"
    if local:
        return "start it (`sudo systemctl start docker`), or set DOCKER_HOST to where it listens"
    return "check DOCKER_HOST or `docker context ls`, and that the engine is running there"


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return "the connection broke"


def _system_error(error: BaseException) -> OSError | None:
    """Find the operating system's error inside the layers of the HTTP libraries."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue:
        each = queue.pop(0)
        if id(each) in seen or not isinstance(each, BaseException):
            continue
        seen.add(id(each))
        if isinstance(each, OSError) and each.errno is not None:
            return each
        queue += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
    return None
