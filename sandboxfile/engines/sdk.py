"""Docker's SDK as the way to an engine: TLS, other machines, whatever the SDK learns to speak."""

import socket
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import docker
import requests.adapters
from docker.errors import DockerException
from urllib3 import BaseHTTPResponse

from sandboxfile.engines.transport import POOL, UNIX, Address, Body, Limits
from sandboxfile.errors import Unreachable

API = "1.41"  # given, it saves the SDK's own question for it: ours has a short time-out
LOOK_S = 1.5


class DockerSdk:
    """The transport of the SDK's client, and nothing else of it."""

    def __init__(self, address: Address) -> None:
        """Make the client, without a call. Raises Unreachable."""
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
    ) -> BaseHTTPResponse:
        _check_listening(self._address)
        response = self._client.request(
            method,
            self._client.base_url + target,
            headers={"Accept-Encoding": "identity", **headers},
            data=body,
            timeout=limits,
            stream=True,
            allow_redirects=False,
        )
        return cast("BaseHTTPResponse", response.raw)

    def close(self) -> None:
        self._client.close()


def _check_listening(address: Address) -> None:
    """Connect and hang up (30 µs), as the SDK never closes a socket that could not connect."""
    parts = urlsplit(address.url)
    if parts.scheme == UNIX:
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(LOOK_S)
            attempt.connect(parts.path)
