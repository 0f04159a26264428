"""A recorder on the line between a client and a service: every byte passes, nothing changes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from tests.contract.contract import Exchange
from tests.fakes.wiretap import answer, pump


@dataclass(kw_only=True)
class Connection:
    """What went over one connection, either way."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


@dataclass(kw_only=True)
class Recording:
    """An address that leads to the service, and what went there."""

    url: str
    connections: list[Connection] = field(default_factory=list)

    def exchanges(self) -> list[Exchange]:
        """Return all requests that were answered, by connection."""
        return [each for connection in self.connections for each in exchanges(connection)]


@contextmanager
def recorded(url: str) -> Iterator[Recording]:
    """Listen on loopback and pass everything on to the service at `url`."""
    upstream = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        recording = Recording(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        address = (upstream.hostname, upstream.port)
        accepting = threading.Thread(target=_accept, args=(server, address, recording), daemon=True)
        accepting.start()
        yield recording
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(server: socket.socket, address: tuple[str, int], recording: Recording) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        try:
            upstream = socket.create_connection(address)
        except OSError:  # the service has ended
            client.close()
            continue
        connection = Connection()
        recording.connections.append(connection)
        asked, answered = connection.asked, connection.answered
        for end in (client, upstream):
            # What was read is sent at once: waiting for more would add the wait of an ACK.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(client, upstream, asked), daemon=True).start()
        threading.Thread(target=answer, args=(upstream, client, answered), daemon=True).start()


def exchanges(connection: Connection) -> Iterator[Exchange]:
    """Read the messages of a connection (RFC 9112); one that was cut short is left out."""
    asked, answered = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
    asked.receive_data(bytes(connection.asked))
    answered.receive_data(bytes(connection.answered))
    with suppress(h11.RemoteProtocolError):
        while (sent := _message(asked)) is not None:
            request, body = sent
            assert isinstance(request, h11.Request)
            # Which request an answer belongs to decides where it ends (HEAD has no body).
            host = [("host", "service")]
            answered.send(h11.Request(method=request.method, target=request.target, headers=host))
            answered.send(h11.EndOfMessage())
            got = _message(answered)
            if got is None:
                return
            response, content = got
            assert isinstance(response, h11.Response)
            yield Exchange(
                method=request.method.decode(),
                target=request.target.decode(),
                headers=_plain(request),
                body=body,
                status=response.status_code,
                answer_headers=_plain(response),
                answer=content,
            )
            if not _goes_on(asked, response):
                return
            answered.start_next_cycle()


def _message(reader: h11.Connection) -> tuple[h11.Request | h11.Response, bytes] | None:
    """Return the next whole message; None at the end."""
    head: h11.Request | h11.Response | None = None
    body = b""
    while True:
        event = reader.next_event()
        match event:
            case h11.Request() | h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return (head, body) if head else None
            case h11.InformationalResponse():
                pass
            case _:
                return None


def _goes_on(asked: h11.Connection, response: h11.Response) -> bool:
    """Let the reader of requests go on to the next one; False where both sides end here."""
    asked.send(h11.Response(status_code=response.status_code, headers=[("content-length", "0")]))
    asked.send(h11.EndOfMessage())
    if asked.our_state is not h11.DONE:
        return False
    asked.start_next_cycle()
    return True


def _plain(message: h11.Request | h11.Response) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in message.headers}
