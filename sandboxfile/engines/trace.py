"""What an engine says while it builds: BuildKit's trace and the older plain text, as events."""

import base64
import json
import re
import time
from collections import deque
from collections.abc import Iterator

from sandboxfile.errors import BuildFailed
from sandboxfile.events import Emit, Log, StepDone, StepStarted, Stream
from sandboxfile.frozen import dataclass, field
from sandboxfile.patterns import regex
from sandboxfile.process import LineSplitter

TAIL = 20

Field = tuple[int, int | bytes]
STDERR = 2
VERTEXES, LOGS = 1, 3  # fields of a StatusResponse
MORE = 0x80  # set on every byte of a varint but the last
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """The state of one build step; times are seconds since the epoch, None when not yet."""

    digest: str
    name: str = ""
    cached: bool = False
    started: float | None = None
    completed: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of a step's output, not necessarily a whole line; stream 2 is stderr."""

    vertex: str
    stream: int
    data: bytes


def decode(trace: str) -> Iterator[Vertex | Output]:
    """Yield what a `moby.buildkit.trace` message holds: base64 of a protobuf StatusResponse.

    Field numbers are those of BuildKit's api/services/control/control.proto. Raises ValueError.
    """
    for number, value in _fields(base64.b64decode(trace)):
        if number == VERTEXES and isinstance(value, bytes):
            yield _vertex(value)
        elif number == LOGS and isinstance(value, bytes):
            yield _output(value)


def _vertex(data: bytes) -> Vertex:
    values = dict(_fields(data))
    return Vertex(
        digest=_text(values.get(1)),
        name=_text(values.get(3)),
        cached=bool(values.get(4)),
        started=_time(values.get(5)),
        completed=_time(values.get(6)),
        error=_text(values.get(7)),
    )


def _output(data: bytes) -> Output:
    values = dict(_fields(data))
    stream, message = values.get(3), values.get(4)
    return Output(
        vertex=_text(values.get(1)),
        stream=stream if isinstance(stream, int) else 1,
        data=message if isinstance(message, bytes) else b"",
    )


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _time(value: int | bytes | None) -> float | None:
    if not isinstance(value, bytes):
        return None
    parts = dict(_fields(value))
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    return float(seconds) + float(nanos) / 1e9


def _fields(data: bytes) -> Iterator[Field]:
    """Yield (field number, value) of a message in protobuf's wire format.

    Nearly all numbers in it have one byte, which is read here: a build has thousands of them.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = data[at], at + 1
        if key >= MORE:
            key, at = _varint(data, at - 1)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == DELIMITED:
            length, at = data[at] if at < end else MORE, at + 1
            if length >= MORE:
                length, at = _varint(data, at - 1)
        elif kind in {FIXED64, FIXED32}:
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > end:
            raise ValueError("cut off")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & (MORE - 1)) << shift
        shift += 7
        if byte < MORE:
            return value, at


@dataclass(slots=True)
class _Step:
    """What has been said about one step so far; `called` is the name as the engine says it."""

    name: str = ""
    called: str = ""
    began: float | None = None
    told: bool = False
    done: bool = False
    error: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    splitters: dict[Stream, LineSplitter] = field(default_factory=dict)


class Narrator:
    """Turns an engine's account of one build into events, and remembers how it failed."""

    def __init__(self, job: str, emit: Emit, *, within: str = "") -> None:
        self._job = job
        self._within = within
        self._emit = emit
        self._steps: dict[str, _Step] = {}
        self._text_step = ""
        self._text_cached = False
        self._text_began = 0.0
        self._broken = False
        self._lines = LineSplitter()
        self._tail: deque[str] = deque(maxlen=TAIL)

    def trace(self, message: str) -> None:
        """Tell what a BuildKit trace says; one that cannot be read loses lines, not the build."""
        try:
            items = list(decode(message))
        except ValueError:
            return
        for item in items:
            if isinstance(item, Vertex):
                self.vertex(item)
            else:
                self.output(item)

    def vertex(self, vertex: Vertex) -> None:
        step = self._steps.setdefault(vertex.digest, _Step())
        if vertex.name not in {"", step.called}:
            step.called = vertex.name
            step.name = as_written(vertex.name, within=self._within)
        step.error = vertex.error or step.error
        if vertex.started is not None and not step.told:
            step.told, step.began = True, vertex.started
            self._started(step.name)
        if vertex.completed is not None and not step.done:
            step.done = True
            self._flush(step)
            if not step.error:
                seconds = vertex.completed - (step.began or vertex.completed)
                self._done(step.name, cached=vertex.cached, seconds=max(0.0, seconds))

    def output(self, output: Output) -> None:
        step = self._steps.setdefault(output.vertex, _Step())
        stream: Stream = "stderr" if output.stream == STDERR else "stdout"
        splitter = step.splitters.setdefault(stream, LineSplitter())
        for line in splitter.feed(output.data):
            self._say(step, line, stream)

    def text(self, data: str) -> None:
        """Tell a piece of the plain log of the classic builder or of Podman."""
        for line in self._lines.feed(data.encode()):
            self._line(line)

    def close(self) -> None:
        """Tell what is still held back."""
        for step in self._steps.values():
            self._flush(step)
        for line in self._lines.flush():
            self._line(line)
        self._end_text_step()

    def failure(self, message: str, code: int | None = None, *, hint: str = "") -> BuildFailed:
        """Make the error of this build: its step, exit status and the end of the step's log."""
        self._broken = True
        self.close()
        failed = self._failed(message)
        name = failed.name if failed else self._text_step
        name = "" if name.startswith(INTERNAL) else name
        tail = failed.tail if failed else self._tail
        status = code if code is not None else exit_status(message)
        cause = f"exit status {status}" if status is not None else _cleaned(message)
        where = f" at `{name}`" if name else ""
        return BuildFailed(
            f"the build failed{where}: {cause}",
            hint=hint,
            step=name,
            status=status,
            tail=tuple(tail),
        )

    def _failed(self, message: str) -> _Step | None:
        """Find the step to blame: the others only say that they were cancelled because of it."""
        failed = [step for step in self._steps.values() if step.error]
        blamed = [step for step in failed if step.error in message]
        honest = [step for step in failed if "context canceled" not in step.error]
        return next(iter([*blamed, *honest, *failed]), None)

    def _line(self, line: str) -> None:
        if TEXT_STEP.match(line):
            self._end_text_step()
            self._text_step, self._text_cached = as_written(line.strip()), False
            self._tail.clear()
            self._text_began = time.monotonic()
            self._started(self._text_step)
            return
        self._text_cached = self._text_cached or "Using cache" in line
        if not _CHATTER.match(line):
            self._tail.append(line)
            self._emit(Log(job=self._job, text=line, step=self._text_step))

    def _end_text_step(self) -> None:
        if self._text_step and not self._broken:
            seconds = time.monotonic() - self._text_began
            self._done(self._text_step, cached=self._text_cached, seconds=seconds)

    def _flush(self, step: _Step) -> None:
        for stream, splitter in step.splitters.items():
            for line in splitter.flush():
                self._say(step, line, stream)

    def _say(self, step: _Step, line: str, stream: Stream) -> None:
        step.tail.append(line)
        self._tail.append(line)
        self._emit(Log(job=self._job, text=line, stream=stream, step=step.name))

    def _started(self, name: str) -> None:
        if not name.startswith(INTERNAL):
            self._emit(StepStarted(job=self._job, step=name))

    def _done(self, name: str, *, cached: bool, seconds: float) -> None:
        if not name.startswith(INTERNAL):
            self._emit(StepDone(job=self._job, step=name, cached=cached, seconds=seconds))


# BuildKit's own errands: reading the Dockerfile, unpacking the context.
INTERNAL = ("[internal]", "copy /context /")
TEXT_STEP = regex(r"(?:Step|STEP) \d+/\d+ ?:")
_CHATTER = regex(
    r" ---> |Removing intermediate container |Successfully (?:built|tagged) "
    # Podman's
    r"|--> |COMMIT |[0-9a-f]{64}$|\[Warning\] one or more build args were not consumed"
)
_EXIT = regex(r"(?:exit (?:code|status):? |returned a non-zero code: )(\d+)")


_WRAPPING = regex(
    r"^(?:failed to solve(?: with frontend [\w.]+)?: |failed to create LLB definition: "
    r"|rpc error: code = \w+ desc = )+"
)


_EXEC = regex(r'(.*?\bRUN (?:--\S+ )*)\["/bin/sh", ?"-c", ?"(.*)"\]', re.DOTALL)
_COPY = regex(r"\[[^\]]*\] COPY ")


def as_written(step: str, *, within: str = "") -> str:
    """Return the name of a step with a command as people write it, not in exec form.

    That is how our Dockerfiles have it, since it means the same on every engine. Of a command of
    several lines the first is shown, and nothing that a terminal would obey. The source of a copy
    is shown without the directory `within` which the whole build is.
    """
    if within and _COPY.match(step):
        return step.replace(f" [{within}", " [", 1)
    found = _EXEC.fullmatch(step)
    script = _script(found[2]).strip() if found else None
    if found is None or not script:
        return step
    first, *more = script.splitlines()
    shown = "".join(each if each.isprintable() else " " for each in first)
    return f"{found[1]}{shown}{' …' if more else ''}"


def _script(text: str) -> str:
    """Return what is between the quotes of a JSON text, from which BuildKit has taken some."""
    try:
        words = json.loads(f'["{text}"]')
    except (ValueError, RecursionError):
        return text.replace("\\n", "\n")
    return str(words[0]) if len(words) == 1 else ""


def exit_status(message: str) -> int | None:
    """Return the exit status that an engine's message ends with."""
    found = _EXIT.findall(message)
    return int(found[-1]) if found else None


def _cleaned(message: str) -> str:
    """Return an engine's message without the names of its inner workings, on one line."""
    return " ".join(_WRAPPING.sub("", message).split())
