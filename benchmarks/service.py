"""The local template service: how fast it answers, and how many builds it gets through."""

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.setting import Setting
from benchmarks.timing import Figures, UnexpectedError, timed
from benchmarks.tree import BASE
from sandboxfile.errors import SandboxfileError

WAITING = 200
CALLS = 500
BUILDS = 32
RESOURCES = {"cpuCount": 1, "memoryMB": 128}
DONE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """A registered build."""

    template: str
    build: str

    @property
    def path(self) -> str:
        return f"/templates/{self.template}/builds/{self.build}"


class Client:
    """One connection to a service; raises SandboxfileError for any answer but the expected."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def call(self, line: str, expected: int, body: object = None) -> Any:
        method, path = line.split()
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "X-API-Key": "any"}
        self._connection.request(method, path, body=content, headers=headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != expected:
            raise SandboxfileError(f"`{line}` was answered {response.status}: {answer!r}")
        return json.loads(answer) if answer else None

    def register(self, name: str) -> Ids:
        made = self.call("POST /v3/templates", 202, {"name": name, **RESOURCES})
        return Ids(template=made["templateID"], build=made["buildID"])

    def status(self, ids: Ids) -> str:
        return str(self.call(f"GET {ids.path}/status?logsOffset=0&limit=100", 200)["status"])

    def reason(self, ids: Ids) -> str:
        return str(self.call(f"GET {ids.path}/status", 200)["reason"]["message"])


def measure(setting: Setting, sizes: Sequence[int]) -> dict[str, object]:  # noqa: ARG001 - has its own
    """Measure against `sandboxfile serve` in a process of its own.

    Raises SandboxfileError, UnexpectedError.
    """
    if setting.engine is None:
        return {"not measured": setting.lacking["engine"]}
    with ExitStack() as stack:
        parallel = 4
        url = stack.enter_context(_serving(setting, parallel))
        client = stack.enter_context(closing(Client(url)))
        found: dict[str, object] = {"at_rest": _latencies(client)}
        for number in range(WAITING):
            client.register(f"waiting-{number}")
        found[f"with_{WAITING}_waiting"] = _latencies(client)
        if setting.base is None:
            return {**found, "builds": f"not measured: {setting.lacking['base image']}"}
        return {**found, "builds": _builds(client, BASE, parallel)}


@contextmanager
def _serving(setting: Setting, parallel: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryFile("w+") as said:
        command = [str(setting.program), "serve", "--data", data, "--parallel", str(parallel)]
        with subprocess.Popen(
            command, env=dict(setting.environ), stdout=subprocess.PIPE, stderr=said, text=True
        ) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip()
                if not url:
                    process.wait()
                    said.seek(0)
                    raise UnexpectedError(f"`sandboxfile serve` did not start:\n{said.read()}")
                yield url
            finally:
                process.terminate()


def _latencies(client: Client) -> dict[str, Figures]:
    register = timed(lambda: client.register("measured"), CALLS)
    ids = client.register("measured")
    return {
        "register": register,
        "status": timed(lambda: client.status(ids), CALLS),
        "tags": timed(lambda: client.call(f"GET /templates/{ids.template}/tags", 200), CALLS),
    }


def _builds(client: Client, image: str, parallel: int) -> dict[str, object]:
    """Build templates in which nothing is done, and look how fast the service answers meanwhile."""
    waiting = [client.register(f"noop-{number}") for number in range(BUILDS)]
    began = time.monotonic()
    for ids in waiting:
        client.call(f"POST /v2{ids.path}", 202, {"fromImage": image, "readyCmd": "true"})
    meanwhile = timed(lambda: client.status(waiting[-1]), CALLS, warm=0)
    while waiting and time.monotonic() < began + DONE_S:
        states = {ids: client.status(ids) for ids in waiting}
        if failed := [ids for ids, state in states.items() if state == "error"]:
            raise UnexpectedError(f"a build failed: {client.reason(failed[0])}")
        waiting = [ids for ids in waiting if states[ids] != "ready"]
        time.sleep(0.02)
    if waiting:
        raise UnexpectedError(f"{len(waiting)} of {BUILDS} builds did not end in {DONE_S:g} s")
    seconds = time.monotonic() - began
    return {
        "count": BUILDS,
        "parallel": parallel,
        "seconds": round(seconds, 2),
        "per_minute": round(60 * BUILDS / seconds, 1),
        "status_meanwhile": meanwhile,
    }
