"""The only door to child processes: a command in, its lines as they come, an outcome back."""

import atexit
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.frozen import dataclass, field

LINE_LIMIT = 64 * 1024
TAIL_LINES = 200
CONTINUATION = 0x80  # the two high bits of a UTF-8 byte that begins no character
GRACE_S = 1.0  # between SIGTERM and SIGKILL: a stopped run is to be over within two seconds

OnLine = Callable[[str], None]


class LineSplitter:
    """Bytes in any pieces to whole lines of text; a line over `limit` bytes comes in parts."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes, UTF-8 with replacement."""
        *ends, rest = data.split(b"\n")
        lines: list[str] = []
        for end in ends:
            lines += self._cut((self._take() + end).removesuffix(b"\r"))
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._limit:
            *full, last = _pieces(self._take(), self._limit)
            lines += [piece.decode("utf-8", "replace") for piece in full]
            self._parts, self._size = [last], len(last)
        return lines

    def flush(self) -> list[str]:
        """Return what is left of a last line that had no newline."""
        return self._cut(self._take().removesuffix(b"\r")) if self._parts else []

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        return line

    def _cut(self, line: bytes) -> list[str]:
        return [piece.decode("utf-8", "replace") for piece in _pieces(line, self._limit)]


def _pieces(line: bytes, limit: int) -> Iterator[bytes]:
    """Yield `line` in parts of at most `limit` bytes, none ending inside a character."""
    start = 0
    while len(line) - start > limit:
        end = start + limit
        while end > start + limit - 4 and line[end] & 0xC0 == CONTINUATION:
            end -= 1
        yield line[start:end]
        start = end
    yield line[start:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run, without a shell.

    `env` is added to our own environment, `stdin` is written and closed (nothing: /dev/null),
    `remedy` says how to get the program.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | Iterable[bytes] | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended; `status` is negative for a signal, `stderr` the last lines of it."""

    status: int
    stdout: str
    stderr: tuple[str, ...]
    seconds: float


def run(
    command: Command,
    *,
    on_line: OnLine | None = None,
    cancel: Cancel | None = None,
    timeout_s: float | None = None,
) -> Outcome:
    """Run a command in a process group of its own, to its end.

    `on_line` gets each line of both streams, from two threads. On cancel or time-out the whole
    group gets SIGTERM and a second later SIGKILL. Raises Unreachable when the program is not
    there, Cancelled, SandboxfileError at the time-out, and whatever reading `stdin` raises.
    """
    cancel = cancel or Cancel()
    cancel.check()
    started = time.monotonic()
    with _started(command) as child, cancel.on_cancel(lambda: _end(child)):
        pumps = _Pumps(child, command.stdin, on_line or _ignore)
        late = not _wait(child, timeout_s)
        pumps.join(child)
    cancel.check()
    if late:
        raise SandboxfileError(f"`{command.argv[0]}` did not end within {timeout_s:g} s")
    pumps.check()
    return Outcome(
        status=child.returncode,
        stdout=b"".join(pumps.stdout).decode("utf-8", "replace"),
        stderr=tuple(pumps.stderr),
        seconds=time.monotonic() - started,
    )


def _ignore(line: str) -> None:
    """Nobody listens."""


@contextmanager
def _started(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **command.env}
    try:
        child = subprocess.Popen(
            command.argv,
            env=environment,
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(command, error) from error
    _alive.add(child)
    try:
        yield child
    finally:
        if child.poll() is None:
            _signal(child, signal.SIGKILL)
        child.wait()
        _alive.discard(child)


_alive: set[subprocess.Popen[bytes]] = set()


@atexit.register
def _end_rest() -> None:
    """Leave nothing running behind threads that were given up when the run was stopped."""
    for child in tuple(_alive):
        if child.poll() is None:
            _signal(child, signal.SIGKILL)


def _not_started(command: Command, error: OSError) -> Unreachable:
    program = command.argv[0]
    if isinstance(error, FileNotFoundError):
        remedy = command.remedy or f"install `{program}` and put it on PATH"
        return Unreachable(f"`{program}` is not installed", hint=remedy)
    return Unreachable(f"`{program}` cannot be started: {error.strerror}", hint=command.remedy)


def _wait(child: subprocess.Popen[bytes], timeout_s: float | None) -> bool:
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end(child)
        child.wait()
        return False
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the group to end now, and make it end soon."""
    _signal(child, signal.SIGTERM)
    timer = threading.Timer(GRACE_S, _signal, (child, signal.SIGKILL))
    timer.daemon = True
    timer.start()


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


class _Pumps:
    """The threads that keep a child's three pipes moving."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        stdin: bytes | Iterable[bytes] | None,
        on_line: OnLine,
    ) -> None:
        self.stdout: list[bytes] = []
        self.stderr: deque[str] = deque(maxlen=TAIL_LINES)
        self._error: BaseException | None = None
        self._child = child
        self._threads = [
            self._thread(self._read, child.stdout, self.stdout.append, on_line),
            self._thread(self._read, child.stderr, _ignore_bytes, self._kept(on_line)),
        ]
        if stdin is not None:
            chunks = [stdin] if isinstance(stdin, bytes) else stdin
            self._threads.append(self._thread(self._write, child.stdin, chunks))

    def join(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the output; a grandchild that keeps a pipe open is ended."""
        for thread in self._threads:
            thread.join(GRACE_S)
            if thread.is_alive():
                _signal(child, signal.SIGKILL)
                thread.join(GRACE_S)

    def check(self) -> None:
        """Raise what went wrong in a thread."""
        if self._error is not None:
            raise self._error

    def _kept(self, on_line: OnLine) -> OnLine:
        def keep(line: str) -> None:
            self.stderr.append(line)
            on_line(line)

        return keep

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - raised again by check()
                self._error = self._error or error
                _end(self._child)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    @staticmethod
    def _read(pipe: IO[bytes], keep: Callable[[bytes], None], on_line: OnLine) -> None:
        splitter = LineSplitter()
        with pipe:
            while data := os.read(pipe.fileno(), LINE_LIMIT):
                keep(data)
                for line in splitter.feed(data):
                    on_line(line)
        for line in splitter.flush():
            on_line(line)

    @staticmethod
    def _write(pipe: IO[bytes], chunks: Iterable[bytes]) -> None:
        # A child that ends early shows why in its status; the broken pipe is only the echo.
        with suppress(BrokenPipeError), pipe:
            for chunk in chunks:
                pipe.write(chunk)


def _ignore_bytes(data: bytes) -> None:
    """Only lines are kept."""
