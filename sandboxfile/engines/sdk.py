"""Docker's SDK as the way to an engine: TLS, other machines, whatever the SDK learns to speak."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self, cast

import docker
import requests.adapters
from docker.errors import DockerException
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Late

from sandboxfile import logs
from sandboxfile.engines.transport import PIECE, POOL, Address, Body, Limits, Response, plain
from sandboxfile.errors import Unreachable

API = "1.41"  # given, it saves the SDK's own question for it: ours has a short time-out
LOOK_S = 1.5


class DockerSdk:
    """The transport of the SDK's client, and nothing else of it."""

    def __init__(self, address: Address) -> None:
        """Make the client, without a call. Raises Unreachable."""
        logs.silence()  # which tell of every call
        self._address = address
        tls: Any = False
        try:
            if address.tls:
                ca, cert, key = (str(address.tls / f"{name}.pem") for name in ("ca", "cert", "key"))
                tls = docker.tls.TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
            client = docker.APIClient(
                base_url=address.url, version=API, tls=tls, max_pool_size=POOL
            )
        except DockerException as error:
            raise Unreachable(
                f"the container engine at `{address}` cannot be used: {error}",
                hint="check DOCKER_HOST, `docker context ls` and Docker's config.json",
            ) from error
        client.trust_env = False  # neither proxies nor .netrc are for an engine
        for scheme in ("http://", "https://"):
            if scheme in client.adapters:
                client.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=POOL))
        self._client = client

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: Body, limits: Limits
    ) -> Response:
        _check_listening(self._address)
        try:
            response = self._client.request(
                method,
                self._client.base_url + target,
                headers={"Accept-Encoding": "identity", **headers},
                data=body,
                timeout=limits,
                stream=True,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise TimeoutError(str(error)) from error
        return _Answer(cast("BaseHTTPResponse", response.raw))

    def close(self) -> None:
        self._client.close()


def _check_listening(address: Address) -> None:
    """Connect and hang up (30 µs), as the SDK never closes a socket that could not connect."""
    if address.socket is not None:
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(LOOK_S)
            attempt.connect(address.socket)


class _Answer:
    """A response as the SDK's HTTP library has it; that keeps the connection when it was read."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self._response = response

    def header(self, name: str) -> str:
        return self._response.headers.get(name) or ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def read(self, amount: int | None = None) -> bytes:
        with _plain():
            return self._response.read(amount)

    def pieces(self) -> Iterator[bytes]:
        with _plain():
            yield from self._response.stream(PIECE)

    def shutdown(self) -> None:
        with suppress(OSError, ValueError):  # it has ended by itself
            self._response.shutdown()


@contextmanager
def _plain() -> Iterator[None]:
    """Turn errors of the HTTP library into those of connections."""
    try:
        with plain(HTTPError):
            yield
    except ConnectionError as error:
        if isinstance(error.__cause__, Late):
            raise TimeoutError(str(error.__cause__)) from error
        raise
