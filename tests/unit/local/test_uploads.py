"""Uploads to a whole local service in a process of its own, which is killed amid one."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sandboxfile.local import body

HASH = "a" * 64
SERVE = """
import sys
from pathlib import Path
from sandboxfile.engines.docker import DockerEngine
from sandboxfile.engines.transport import Address
from sandboxfile.local.service import LocalService
from sandboxfile.model import Secret

engine = DockerEngine(Address(url="tcp://127.0.0.1:1"))
service = LocalService(engine, Path(sys.argv[1]), logins=lambda _: None, key=Secret("k"))
print(service.start(port=int(sys.argv[2])), flush=True)
sys.stdin.read()
service.stop()
"""


@dataclass(frozen=True, kw_only=True)
class Client:
    process: subprocess.Popen[str]
    host: str

    def ask(
        self, line: str, content: bytes | Iterator[bytes] = b"", *, key: bool = True
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        headers = {"X-API-Key": "k"} if key else {}
        method, target = line.split()
        connection.request(method, target, content, headers)
        response = connection.getresponse()
        answered = response.status, response.read()
        connection.close()
        return answered

    def link(self, template: str) -> tuple[bool, str]:
        status, answer = self.ask(f"GET /templates/{template}/files/{HASH}")
        assert status == 201
        shape = json.loads(answer)
        url = urlsplit(shape["url"])
        assert url.netloc == self.host
        return shape["present"], f"{url.path}?{url.query}"

    def register(self) -> str:
        _, answer = self.ask("POST /v3/templates", b'{"name": "app"}')
        return str(json.loads(answer)["templateID"])

    def half(self, target: str, files: Path) -> None:
        """Send half an archive, see it arrive on disk, and kill the service."""
        host, port = self.host.split(":")
        head = f"PUT {target} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: 2000000\r\n\r\n"
        with socket.create_connection((host, int(port)), 10) as half:
            half.sendall(head.encode() + b"x" * 1_000_000)
            deadline = time.monotonic() + 30
            while not any(path.stat().st_size for path in files.glob(".*.part")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@contextmanager
def serving(data: Path, port: int = 0) -> Iterator[Client]:
    command = [sys.executable, "-c", SERVE, str(data), str(port)]
    with subprocess.Popen(
        command, env={**os.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield Client(process=process, host=url.removeprefix("http://"))


def test_an_upload_is_whole_or_not_there_and_a_link_outlives_kill_9(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        template = client.register()
        present, target = client.link(template)
        assert not present
        client.half(target, tmp_path / "files")
    with serving(tmp_path, int(client.host.rpartition(":")[2])) as client:
        assert not client.link(template)[0]
        large = b"x" * (body.WHOLE_LIMIT + 1)
        chunked = client.ask(f"PUT {target}", iter([large]), key=False)
        assert chunked[0] == 501
        assert client.ask(f"PUT {target}", large, key=False) == (200, b"")
        assert client.link(template)[0]
        kept = tmp_path / "files" / f"{HASH}.tar"
        assert kept.read_bytes() == large
