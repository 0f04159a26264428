import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.local import body
from sandboxfile.local.server import Server
from sandboxfile.local.wire import Answer, Request, answer


def echo(request: Request) -> Answer:
    if request.path == "/empty":
        return Answer(status=202)
    if request.path == "/none":
        return Answer(status=204)
    if request.path.startswith("/file"):
        return Answer(status=200, file=Path(unquote(request.path.removeprefix("/file"))))
    if request.path == "/refused":
        return answer(403, "no")
    if request.path.startswith("/stream"):
        return answer(
            200, {"pieces": [len(piece) for piece in request.content], "length": request.length}
        )
    if request.path == "/defect":
        raise ZeroDivisionError
    return answer(
        200,
        {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "key": request.headers.get("x-api-key"),
            "size": len(request.body),
        },
    )


@pytest.fixture
def url() -> Iterator[str]:
    running = Server(
        echo, streams=lambda method, path: method == "PUT" and path in {"/stream", "/refused"}
    )
    yield running.url
    running.stop()


@pytest.fixture
def connection(url: str) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    yield opened
    opened.close()


def ask(
    connection: http.client.HTTPConnection, line: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    method, target = line.split()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body=body, headers=named)
    response = connection.getresponse()
    return response.status, response.read()


def test_a_request_arrives_as_a_value(connection: http.client.HTTPConnection) -> None:
    status, body = ask(connection, "POST /a%2Fb/c?x=1&y=&x=2", b"{}", X_API_Key="k")
    assert status == 200
    assert json.loads(body) == {
        "method": "POST",
        "path": "/a%2Fb/c",
        "query": {"x": "2", "y": ""},
        "key": "k",
        "size": 2,
    }


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "GET /empty") == (202, b"")
    first = connection.sock
    assert ask(connection, "DELETE /none", b'{"a": 1}') == (204, b"")
    assert ask(connection, "GET /x")[0] == 200
    assert ask(connection, "HEAD /x") == (200, b"")
    assert connection.sock is first


def test_a_chunked_body_is_read(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/x", body=iter([b"ab", b"c"]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["size"] == 3
    assert ask(connection, "GET /empty")[0] == 202


def test_a_chunked_upload_is_501_and_the_answer_arrives_whatever_was_sent(url: str) -> None:
    head = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered = raw(url, head + b"100000\r\n" + b"x" * 0x100000 + b"\r\n0\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 501 ")


def test_a_body_may_have_16_mib_and_no_more(
    url: str, connection: http.client.HTTPConnection
) -> None:
    assert ask(connection, "POST /x", b"x" * body.WHOLE_LIMIT)[0] == 200
    head = f"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body.WHOLE_LIMIT + 1}\r\n\r\n"
    assert raw(url, head.encode()).startswith(b"HTTP/1.1 413 ")
    chunk = f"{body.WHOLE_LIMIT + 1:x}"
    chunked = (
        f"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}\r\n"
    )
    assert raw(url, chunked.encode()).startswith(b"HTTP/1.1 413 ")


def raw(url: str, data: bytes) -> bytes:
    """Send bytes, close our side, return all that comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answered = b""
        while part := client.recv(65536):
            answered += part
    return answered


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"Content-Length: 10\r\n\r\nshort",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_a_broken_body_is_refused_and_the_connection_closed(url: str, rest: bytes) -> None:
    answered = raw(url, b"POST /x HTTP/1.1\r\nHost: localhost\r\n" + rest)
    assert int(answered.split()[1]) in {400, 413}
    assert b"Connection: close" in answered


SECOND = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        "POST /x HTTP/1.1\r\nHost: [",
        "POST /x HTTP/1.1\r\nHost: [::::]",
        "POST /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[",
        "POST http://[/templates HTTP/1.1\r\nHost: localhost",
    ],
)
def test_an_address_that_cannot_be_read_is_400_and_its_body_no_request(
    url: str, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered = raw(url, f"{head}\r\nContent-Length: {len(SECOND)}\r\n\r\n".encode() + SECOND)
    headers, _, body = answered.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in headers
    assert json.loads(body)["code"] == 400
    assert caplog.text == ""


def test_a_request_refused_before_its_body_was_read_ends_the_connection(url: str) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: attacker.example\r\nContent-Length: 5\r\n\r\n"
    answered = raw(url, head + SECOND)
    assert answered.startswith(b"HTTP/1.1 403 ")
    assert answered.count(b"HTTP/1.1 ") == 1


def test_what_is_no_http_gets_json(url: str) -> None:
    answered = raw(url, b"NONSENSE\r\n\r\n")
    assert json.loads(answered.partition(b"\r\n\r\n")[2] or answered)["code"] == 400


@pytest.mark.parametrize(
    "headers",
    [
        "Host: attacker.example",
        "Host: 127.0.0.1.attacker.example",
        "Host: localhost\r\nOrigin: https://attacker.example",
        "Host: localhost\r\nOrigin: null",
        "X: y",
    ],
)
def test_web_pages_are_kept_out(url: str, headers: str) -> None:
    answered = raw(url, f"GET /x HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    assert answered.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "headers",
    ["Host: localhost:1", "Host: [::1]", "Host: 127.0.0.1\r\nOrigin: http://localhost:3000"],
)
def test_programs_on_this_machine_are_answered(url: str, headers: str) -> None:
    answered = raw(url, f"GET /x HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n".encode())
    assert answered.startswith(b"HTTP/1.1 200 ")


def test_a_name_that_was_given_is_answered_and_no_other_nor_pages_of_it() -> None:
    named = Server(echo, host_names=frozenset({"docker.sandbox.test"}))
    for headers, status in (
        ("Host: docker.sandbox.test:3000", 200),
        ("Host: Docker.Sandbox.Test", 200),
        ("Host: sandbox.test", 403),
        ("Host: evil.docker.sandbox.test", 403),
        ("Host: docker.sandbox.test\r\nOrigin: http://docker.sandbox.test", 403),
    ):
        answered = raw(named.url, f"GET /x HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        assert int(answered.split()[1]) == status, headers
    named.stop()


def test_a_file_is_sent_in_place_of_a_body(
    connection: http.client.HTTPConnection, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 1_000_000)
    asked = quote(str(tmp_path / "blob"))
    assert ask(connection, f"GET /file{asked}") == (200, b"x" * 1_000_000)
    connection.request("HEAD", f"/file{asked}")
    response = connection.getresponse()
    assert (response.read(), response.getheader("Content-Length")) == (b"", "1000000")
    assert ask(connection, f"GET /file{asked}.gone")[0] == 404
    assert ask(connection, "GET /empty")[0] == 202


def test_a_defect_of_ours_is_500(
    connection: http.client.HTTPConnection, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = ask(connection, "GET /defect")
    assert (status, json.loads(body)["message"]) == (500, "internal server error")
    assert "ZeroDivisionError" in caplog.text
    assert ask(connection, "GET /empty")[0] == 202


def test_a_client_that_hangs_up_is_no_news(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert raw(url, b"") == b""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org", ""])
def test_it_listens_on_loopback_alone(host: str) -> None:
    with pytest.raises(UsageError, match="does not listen on"):
        Server(echo, host=host)


def test_a_port_that_is_taken_is_said(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(SandboxfileError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
        Server(echo, port=port)
    assert "another port" in caught.value.hint
    with pytest.raises(SandboxfileError, match=r"cannot listen on .*:70000"):
        Server(echo, port=70000)


def test_an_answer_that_is_lost_is_a_connection_that_closes() -> None:
    running = Server(lambda _: Answer(status=0, is_lost=True))
    opened = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)
    try:
        with pytest.raises(http.client.RemoteDisconnected):
            ask(opened, "POST /x", b"{}")
    finally:
        opened.close()
        running.stop()


# --- bodies that stream ----------------------------------------------------------------------


def test_a_body_streams_in_pieces_whatever_its_size(connection: http.client.HTTPConnection) -> None:
    size = body.WHOLE_LIMIT + 1
    status, answered = ask(connection, "PUT /stream", b"x" * size)
    assert status == 200
    pieces = json.loads(answered)["pieces"]
    assert sum(pieces) == json.loads(answered)["length"] == size
    assert max(pieces) <= body.PIECE
    first = connection.sock
    assert ask(connection, "PUT /stream", b"") == (200, b'{"pieces":[],"length":0}')
    assert connection.sock is first


def test_a_chunked_body_streams_too(connection: http.client.HTTPConnection) -> None:
    connection.request("PUT", "/stream", body=iter([b"ab", b"", b"c"]), encode_chunked=True)
    assert connection.getresponse().read() == b'{"pieces":[2,1],"length":null}'
    assert ask(connection, "GET /empty")[0] == 202


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10\r\n\r\nshort",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nsho",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nshort\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1_0\r\n",
    ],
)
def test_a_streamed_body_that_breaks_off_is_refused(url: str, rest: bytes) -> None:
    answered = raw(url, b"PUT /stream HTTP/1.1\r\nHost: localhost\r\n" + rest)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answered
    assert answered.count(b"HTTP/1.1 ") == 1


def test_another_transfer_coding_than_chunked_is_501(url: str) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    assert raw(url, head).startswith(b"HTTP/1.1 501 ")


def test_a_body_that_is_not_wanted_is_not_read_and_ends_the_connection(url: str) -> None:
    head = f"PUT /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(SECOND)}\r\n\r\n"
    answered = raw(url, head.encode() + SECOND)
    assert answered.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in answered
    assert answered.count(b"HTTP/1.1 ") == 1


def expecting(url: str, path: str) -> http.client.HTTPResponse | None:
    """Announce a body of two bytes and wait for `100 Continue`; the answer if it comes at once."""
    host, port = url.removeprefix("http://").split(":")
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2"
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(head.encode() + b"\r\n\r\n")
        said = client.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
        if said != b"HTTP/1.1 100":
            answered = http.client.HTTPResponse(client)
            answered.begin()
            return answered
        client.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"), socket.MSG_WAITALL)
        client.sendall(b"ab")
        assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        return None


def test_a_client_that_asks_is_told_to_go_ahead_only_when_its_body_is_wanted(url: str) -> None:
    assert expecting(url, "/stream") is None
    assert expecting(url, "/plain") is None
    refused = expecting(url, "/refused")
    assert refused is not None
    assert (refused.status, refused.getheader("Connection")) == (403, "close")


@pytest.mark.parametrize(
    "ambiguous",
    [
        "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "Content-Length: 49\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Content-Length : 44\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nxJUNK\r\n0\r\n\r\n",
        "no header at all\r\nContent-Length: 44\r\n\r\n",
        "Host: evil.test\r\n\r\n",
        "Origin: http://localhost\r\nOrigin: http://evil.test\r\n\r\n",
    ],
)
def test_nothing_behind_a_request_that_can_be_read_in_two_ways_is_carried_out(
    url: str, ambiguous: str
) -> None:
    smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answered = raw(url, f"POST /x HTTP/1.1\r\nHost: localhost\r\n{ambiguous}{smuggled}".encode())

    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.count(b"HTTP/1.1 ") == 1


# --- clients that only hold on ---------------------------------------------------------------

GET = b"GET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n"
Connect = Callable[[str], socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connected(url: str) -> socket.socket:
            host, _, port = url.removeprefix("http://").partition(":")
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=10))

        yield connected


def answered(client: socket.socket) -> bytes:
    client.sendall(GET)
    return client.recv(4096)


def test_idle_connections_give_way_and_those_within_a_request_do_not(connect: Connect) -> None:
    begun, end = threading.Semaphore(0), threading.Event()

    def slow(request: Request) -> Answer:
        if request.path == "/slow":
            begun.release()
            end.wait(10)
        return Answer(status=202)

    server = Server(slow, connections=6)  # a connection may be idle a moment after its answer
    try:
        first = connect(server.url)
        assert b" 202 " in answered(first)
        within = [connect(server.url) for _ in range(2)]
        for each in within:
            each.sendall(GET.replace(b"empty", b"slow"))
            assert begun.acquire(timeout=10)
        for _ in range(40):
            assert b" 202 " in answered(connect(server.url))
        assert first.recv(1) == b""

        for _ in range(4):
            connect(server.url).sendall(GET.replace(b"empty", b"slow"))
            assert begun.acquire(timeout=10)
        assert connect(server.url).recv(4096).startswith(b"HTTP/1.1 503 ")
        end.set()
        assert all(b" 202 " in each.recv(4096) for each in within)
    finally:
        end.set()
        server.stop()


def test_a_head_that_comes_a_byte_at_a_time_ends_its_connection(connect: Connect) -> None:
    server = Server(echo, head_s=0.3)
    try:
        client, patient = connect(server.url), connect(server.url)
        for byte in GET[:60]:
            time.sleep(0.02)
            try:
                client.send(bytes([byte]))
            except OSError:
                break
        client.settimeout(0.01)
        with suppress(ConnectionError):
            assert client.recv(1) == b""
        assert b" 202 " in answered(patient)
    finally:
        server.stop()


def test_pipelined_requests_are_answered_in_order(url: str, connect: Connect) -> None:
    client = connect(url)
    client.sendall(GET + GET.replace(b"empty", b"none") + GET.replace(b"empty", b"a"))
    said = b""
    while b'"path"' not in said:
        said += client.recv(4096)
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"202", b"204", b"200"]
