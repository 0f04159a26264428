"""An engine's socket with a recorder on the line: what a client sends, and nothing changed."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

BUILD = re.compile(rb"POST /\S*build\?\S* HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass(kw_only=True)
class Recorder:
    """What went to the engine, by connection."""

    url: str
    lines: list[bytearray] = field(default_factory=list)

    @property
    def contexts(self) -> list[bytes]:
        """The bodies of all builds, in order of their connections."""
        return [
            _chunks(line[found.end() :]) for line in self.lines for found in BUILD.finditer(line)
        ]


@contextmanager
def recording(docker_host: str, path: Path) -> Iterator[Recorder]:
    """Listen at `path`, and pass everything on to the engine."""
    recorder = Recorder(url=f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        engine = docker_host.removeprefix("unix://")
        accepting = threading.Thread(target=_accept, args=(server, engine, recorder), daemon=True)
        accepting.start()
        yield recorder
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(server: socket.socket, engine: str, recorder: Recorder) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(engine)
        line = bytearray()
        recorder.lines.append(line)
        threading.Thread(target=pump, args=(client, upstream, line), daemon=True).start()
        threading.Thread(target=answer, args=(upstream, client, bytearray()), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket, line: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            line += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def answer(upstream: socket.socket, client: socket.socket, line: bytearray) -> None:
    with upstream, client:
        pump(upstream, client, line)


def _chunks(body: bytes | bytearray) -> bytes:
    """Decode a chunked body (RFC 9112, section 7.1)."""
    content, at = b"", 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if size == 0:
            return content
        content += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
