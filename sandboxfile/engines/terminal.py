"""A command in a container joined to our own terminal: bytes both ways, and the window's size."""

import json
import os
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

from sandboxfile.engines.transport import Address
from sandboxfile.engines.wire import Wire, lost
from sandboxfile.errors import SandboxfileError, Unreachable

CHUNK = 65536
LOOK_S = 0.25  # how soon a change of the window's size is noticed
SWITCHED = (b"HTTP/1.1 101", b"HTTP/1.1 200")
STDERR, HEADER = 2, 8


def interact(
    wire: Wire, exec_id: str, *, tty: bool, streams: tuple[int, int, int] = (0, 1, 2)
) -> None:
    """Start a prepared command and pump until its output ends.

    `streams` are the file descriptors of stdin, stdout and stderr. Raises Unreachable, and
    SandboxfileError when the engine does not start it.
    """
    stdin, stdout, stderr = streams
    try:
        with ExitStack() as stack:
            path = f"{wire.version}/exec/{exec_id}/start"
            connection, early = stack.enter_context(_upgraded(wire.address, path, tty=tty))
            if tty:
                stack.enter_context(_raw(stdin))
            pump = _Pump(connection, stdin, (stdout, stderr), tty=tty)
            pump.feed(early)
            size = None
            while pump.turn():
                if tty and (now := _window(stdout)) not in {None, size}:
                    size = now
                    _resize(wire, exec_id, size)
    except OSError as error:
        raise lost(wire.address, error) from error


class _Pump:
    """Moves bytes between a connection and file descriptors."""

    def __init__(
        self, connection: socket.socket, stdin: int, outputs: tuple[int, int], *, tty: bool
    ) -> None:
        self._connection = connection
        self._stdin: int | None = stdin
        self._outputs = outputs
        self._tty = tty
        self._held = b""

    def turn(self) -> bool:
        """Wait a moment for input from either side and pass it on; False at the end."""
        watched: list[int | socket.socket] = [self._connection]
        if self._stdin is not None:
            watched.append(self._stdin)
        buffered = isinstance(self._connection, ssl.SSLSocket) and self._connection.pending()
        readable, _, _ = select.select(watched, [], [], 0 if buffered else LOOK_S)
        if self._stdin in readable:
            self._send()
        if buffered or self._connection in readable:
            try:
                data = self._connection.recv(CHUNK)
            except ConnectionResetError:
                # The end of a command that left its input unread. What it said came before, and
                # an engine that is gone is noticed when it is asked for the exit status.
                return False
            self.feed(data)
            return bool(data)
        return True

    def _send(self) -> None:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, CHUNK)
        except OSError:  # a terminal that went away
            data = b""
        with suppress(BrokenPipeError, ConnectionResetError):
            if data:
                self._connection.sendall(data)
                return
            self._connection.shutdown(socket.SHUT_WR)
        self._stdin = None

    def feed(self, data: bytes) -> None:
        """Write what came to where it belongs; without a terminal both streams are framed."""
        if self._tty:
            _write(self._outputs[0], data)
            return
        self._held += data
        while len(self._held) >= HEADER:
            end = HEADER + int.from_bytes(self._held[4:HEADER], "big")
            if len(self._held) < end:
                return
            output = self._outputs[1 if self._held[0] == STDERR else 0]
            _write(output, self._held[HEADER:end])
            self._held = self._held[end:]


def _write(output: int, data: bytes) -> None:
    while data:
        data = data[os.write(output, data) :]


@contextmanager
def _upgraded(address: Address, path: str, *, tty: bool) -> Iterator[tuple[socket.socket, bytes]]:
    """Give a connection that carries raw bytes from here on, and those that came already."""
    body = json.dumps({"Detach": False, "Tty": tty}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with _connected(address) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = connection.recv(CHUNK)
            if not data:
                raise Unreachable(f"the engine at `{address}` broke off")
            answer += data
        status, _, early = answer.partition(b"\r\n\r\n")
        if not status.startswith(SWITCHED):
            text = early.decode("utf-8", "replace").strip()
            raise SandboxfileError(f"the engine refused to start the command: {text}")
        yield connection, early


def _connected(address: Address) -> socket.socket:
    if address.socket is not None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address.socket)
        except OSError:
            connection.close()
            raise
        return connection
    parts = urlsplit(address.url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 2375))
    if address.tls is None:
        return connection
    context = ssl.create_default_context(cafile=address.tls / "ca.pem")
    context.load_cert_chain(address.tls / "cert.pem", address.tls / "key.pem")
    return context.wrap_socket(connection, server_hostname=parts.hostname)


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Let every key through to the other side, and put the terminal back afterwards."""
    import termios
    import tty

    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _window(terminal: int) -> os.terminal_size | None:
    try:
        return os.get_terminal_size(terminal)
    except OSError:
        return None


def _resize(wire: Wire, exec_id: str, size: os.terminal_size | None) -> None:
    # Too early or too late is no harm: the next look tries again, or nobody is there to see.
    with suppress(SandboxfileError):
        if size is not None:
            params = {"h": size.lines, "w": size.columns}
            wire.ask("POST", f"/exec/{exec_id}/resize", params=params)
