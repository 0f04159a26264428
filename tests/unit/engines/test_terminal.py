"""Our streams joined to a command's: bytes both ways, over each kind of connection."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxfile.engines.docker import connect
from sandboxfile.engines.terminal import interact
from sandboxfile.engines.transport import Address
from sandboxfile.engines.wire import Wire
from sandboxfile.errors import SandboxfileError, Unreachable

UPGRADE = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"
Peer = Callable[[socket.socket], None]


def framed(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@contextmanager
def answering(peer: Peer, family: int = socket.AF_UNIX) -> Iterator[Address]:
    """Let `peer` have the other end of one connection, once the request was read."""
    with (
        tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory,
        socket.socket(family) as server,
    ):
        unix = family == socket.AF_UNIX
        server.bind(f"{directory}/s" if unix else ("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                head = b""
                while not head.endswith(b"}"):
                    head += connection.recv(65536)
                peer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        port = 0 if unix else server.getsockname()[1]
        yield Address(url=f"unix://{directory}/s" if unix else f"tcp://127.0.0.1:{port}")
        thread.join()


def joined(address: Address, *, tty: bool = False, stdin: bytes = b"") -> tuple[bytes, bytes]:
    """Interact with pipes for our streams; what came out."""
    (read, write), out, err = os.pipe(), os.pipe(), os.pipe()
    os.write(write, stdin)
    os.close(write)
    wire = Wire(connect(address), address)
    try:
        interact(wire, "e1", tty=tty, streams=(read, out[1], err[1]))
        os.close(out[1])
        os.close(err[1])
        return os.read(out[0], 65536), os.read(err[0], 65536)
    finally:
        wire.close()
        for each in (read, out[0], err[0]):
            os.close(each)


def drained(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_streams_are_taken_apart(family: int) -> None:
    def peer(connection: socket.socket) -> None:
        # The first bytes come with the answer, a frame comes in two halves, one is empty.
        whole = framed(1, b"out") + framed(2, b"err") + framed(1, b"") + framed(1, b" more")
        connection.sendall(UPGRADE + whole[:15])
        connection.sendall(whole[15:])

    with answering(peer, family) as address:
        assert joined(address) == (b"out more", b"err")


def test_stdin_arrives_and_ends() -> None:
    received = []

    def peer(connection: socket.socket) -> None:
        connection.sendall(UPGRADE)
        received.append(drained(connection))
        connection.sendall(framed(1, b"got it"))

    with answering(peer) as address:
        assert joined(address, stdin=b"some input") == (b"got it", b"")
    assert received == [b"some input"]


def test_a_terminal_is_not_framed() -> None:
    def peer(connection: socket.socket) -> None:
        connection.sendall(UPGRADE.replace(b"101 UPGRADED", b"200 OK") + b"\x01\x00raw")

    with answering(peer) as address:
        assert joined(address, tty=True) == (b"\x01\x00raw", b"")


def test_a_command_that_ends_early_does_not_care_for_the_rest() -> None:
    def peer(connection: socket.socket) -> None:
        connection.sendall(UPGRADE + framed(1, b"done"))
        connection.shutdown(socket.SHUT_RDWR)

    with answering(peer) as address:
        assert joined(address, stdin=b"x" * 60_000)[0] == b"done"


def test_a_refusal_is_said() -> None:
    def peer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 409 Conflict\r\n\r\ncontainer is not running")

    with (
        answering(peer) as address,
        pytest.raises(SandboxfileError, match="to start the command: container is not running"),
    ):
        joined(address)


def test_a_connection_that_breaks_before_the_answer_is_lost() -> None:
    with (
        answering(lambda connection: connection.close()) as address,
        pytest.raises(Unreachable, match=r"broke off|reset"),
    ):
        joined(address)


def test_an_engine_that_is_gone_is_lost(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no such file or directory"):
        joined(Address(url=f"unix://{tmp_path}/s"))
