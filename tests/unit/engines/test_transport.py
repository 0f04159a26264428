"""Connections to an engine's socket: kept while they are good, given up when they are not."""

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sandboxfile.engines.sdk import DockerSdk
from sandboxfile.engines.transport import Address, Body, Response, Transport, UnixSocket

LIMITS = (5.0, 5.0)
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"

Serve = Callable[[socket.socket], None]


class Server:
    """A socket whose connections are each served by `serve`; how many there were."""

    def __init__(self, directory: Path, serve: Serve) -> None:
        self.path = directory / "s"
        self.connections = 0
        self._serve = serve
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if connection.recv(1, socket.MSG_PEEK):  # the SDK looks first whether anybody listens
                self.connections += 1
                self._serve(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


Make = Callable[[Serve], tuple[Server, Transport]]


@pytest.fixture(params=["socket", "sdk"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Serve, and speak to that in both ways: they are to do the same."""
    made: list[Server | Transport] = []

    def both(serve: Serve) -> tuple[Server, Transport]:
        server = Server(Path(directory), serve)
        made.append(server)
        if request.param == "socket":
            transport: Transport = UnixSocket(str(server.path))
        else:
            transport = DockerSdk(Address(url=f"unix://{server.path}"))
        made.append(transport)
        return server, transport

    with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:  # paths are short
        yield both
        for each in reversed(made):
            each.close()


def asked(connection: socket.socket) -> bytes:
    """Read the head of a request."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (piece := connection.recv(1)):
            raise ConnectionError
        head += piece
    return head


def always(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        while asked(connection):
            connection.sendall(answer)

    return serve


@contextmanager
def sent(transport: Transport, body: Body = None) -> Iterator[Response]:
    with transport.send("POST", "/x", headers={}, body=body, limits=LIMITS) as response:
        yield response


def test_a_connection_is_used_again_when_its_answer_was_read(make: Make) -> None:
    server, transport = make(always(WHOLE))
    for _ in range(3):
        with sent(transport) as response:
            assert (response.status, response.reason, response.read()) == (200, "OK", b"hi")
    assert server.connections == 1


def test_the_head_of_an_answer_has_fields(make: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: Docker/28 (linux)\r\nContent-Length: 0\r\n\r\n"
    _, transport = make(always(head))
    with sent(transport) as response:
        assert response.header("server") == "Docker/28 (linux)"
        assert response.header("Api-Version") == ""


def test_a_connection_with_an_answer_that_was_not_read_is_not_used_again(make: Make) -> None:
    _, transport = make(always(WHOLE))
    for _ in range(3):
        with sent(transport) as response:
            assert response.read(1) == b"h"


def test_an_engine_that_hangs_up_between_two_calls_is_called_anew(make: Make) -> None:
    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(WHOLE)

    _, transport = make(serve)
    for _ in range(3):
        with sent(transport) as response:
            assert response.read() == b"hi"
        time.sleep(0.05)  # until it has hung up


def test_pieces_come_as_they_are_sent(make: Make) -> None:
    go_on = threading.Event()

    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(CHUNKED + b"3\r\none\r\n")
        assert go_on.wait(5)
        connection.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    _, transport = make(serve)
    with sent(transport) as response:
        pieces = response.pieces()
        assert next(pieces) == b"one"
        go_on.set()
        assert list(pieces) == [b"two"]


def _leaving(requests: list[bytes]) -> Serve:
    """Answer the first request of each connection, and hang up when the second one is there."""

    def serve(connection: socket.socket) -> None:
        requests.append(asked(connection)[:4])
        connection.sendall(WHOLE)
        requests.append(asked(connection)[:4])

    return serve


def test_what_changes_nothing_is_asked_anew_when_the_engine_leaves_a_kept_connection() -> None:
    requests: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:
        server = Server(Path(directory), _leaving(requests))
        transport = UnixSocket(str(server.path))
        for _ in range(2):
            with transport.send("GET", "/x", headers={}, body=None, limits=LIMITS) as response:
                assert response.read() == b"hi"
        assert requests == [b"GET "] * 3

        with pytest.raises(OSError), sent(transport):  # noqa: PT011 - any of them
            pass
        assert requests.count(b"POST") == 1, "an engine may have begun what it was told to do"
        transport.close()
        server.close()


@pytest.mark.parametrize("length", [b"Content-Length: 9" + b"9" * 30, b"Content-Length: 30"])
def test_a_length_that_nothing_has_is_an_error_of_the_connection(make: Make, length: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\nhi")

    _, transport = make(serve)
    with sent(transport) as response, pytest.raises(OSError):  # noqa: PT011 - any of them
        response.read()


@pytest.mark.parametrize(
    "rest", [b"", b"9\r\nhalf", b"nonsense\r\n", b"-7\r\nx", b"f" * 20 + b"\r\nx"]
)
def test_an_answer_that_breaks_off_is_an_error_of_the_connection(make: Make, rest: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(CHUNKED + rest)

    _, transport = make(serve)
    with sent(transport) as response, pytest.raises(OSError):  # noqa: PT011 - any of them
        list(response.pieces())


def test_no_answer_at_all_is_an_error_of_the_connection(make: Make) -> None:
    _, transport = make(lambda connection: connection.close())
    with pytest.raises(OSError), sent(transport):  # noqa: PT011 - any of them
        pass


def test_a_refusal_is_read_though_not_everything_could_be_sent(make: Make) -> None:
    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(REFUSED)
        connection.shutdown(socket.SHUT_RD)

    _, transport = make(serve)
    with sent(transport, iter([b"x" * 65536] * 100)) as response:
        assert (response.status, response.read()) == (400, b"no")


def test_silence_ends_at_its_limit(make: Make) -> None:
    over = threading.Event()

    def serve(_: socket.socket) -> None:
        over.wait(5)

    _, transport = make(serve)
    with pytest.raises(TimeoutError):
        transport.send("GET", "/x", headers={}, body=None, limits=(5.0, 0.1))
    over.set()


@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"])
def test_shutting_down_wakes_who_reads_and_tells_the_engine(make: Make, head: bytes) -> None:
    noticed = threading.Event()

    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head)
        while connection.recv(1):
            continue
        noticed.set()

    _, transport = make(serve)
    with sent(transport) as response:
        threading.Timer(0.1, response.shutdown).start()
        with suppress(OSError):  # or the end, where that is how an answer without a length ends
            assert b"".join(response.pieces()) == b""
    assert noticed.wait(5)
    response.shutdown()  # once more is no error


def test_what_the_pieces_raise_comes_through(make: Make) -> None:
    def body() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    _, transport = make(always(WHOLE))
    with pytest.raises(KeyError), sent(transport, body()):
        pass


def test_no_more_connections_are_kept_than_needed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxfile.engines.transport.POOL", 1)
    _, transport = make(always(WHOLE))
    with sent(transport) as one, sent(transport) as other:
        assert one.read() == other.read() == b"hi"


def test_who_is_at_work_when_all_is_closed_leaves_no_connection_behind() -> None:
    left = threading.Event()

    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(WHOLE)
        if connection.recv(1) == b"":
            left.set()

    with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:
        server = Server(Path(directory), serve)
        transport = UnixSocket(str(server.path))
        with sent(transport) as response:
            transport.close()
            assert response.read() == b"hi"
        assert left.wait(30)
        server.close()


def test_a_small_context_is_sent_before_the_engine_has_read_any_of_it() -> None:
    is_sent = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield bytes(300_000)  # more than the system takes by itself
        is_sent.set()

    def serve(connection: socket.socket) -> None:
        if is_sent.wait(5.0):
            rest = b""
            while not rest.endswith(b"0\r\n\r\n"):
                rest = rest[-8:] + connection.recv(1 << 20)
            connection.sendall(WHOLE)

    with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:
        server = Server(Path(directory), serve)
        transport = UnixSocket(str(server.path))
        try:
            with transport.send("POST", "/", headers={}, body=pieces(), limits=LIMITS) as response:
                assert response.read() == b"hi"
        finally:
            transport.close()
            server.close()
