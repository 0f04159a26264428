"""A run as a Chrome trace, for Perfetto (ui.perfetto.dev) and chrome://tracing.

The format is Google's "Trace Event Format", JSON object form: complete events (`ph: X`) with `ts`
and `dur` in microseconds, and metadata (`ph: M`) that names processes and threads. Two processes
stand for two views: the jobs of each template with their waits for a place, and the steps inside
the jobs. Slices of one thread must nest, so what overlaps has a thread of its own.
"""

import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from sandboxfile import reading, writing
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.graph import Outcome
from sandboxfile.schedule import kind_of
from sandboxfile.summary import template_of
from sandboxfile.timeline import Part, Timeline

_JOBS, _STEPS = 1, 2
_WAIT_S = 0.005  # what is shorter is no waiting for a place, but the handing over of a job
_BEGINNING = b'{"displayTimeUnit"'  # of what `document` returns
Slice = dict[str, object]


def check(path: Path) -> None:
    """Raise SandboxfileError unless a trace can be written there, before anything is built.

    Raises UsageError for a file that is there and is no trace: it may be anybody's only copy.
    """
    parent = path.absolute().parent
    if reading.is_directory(path) or not _is_possible(path, parent):
        raise SandboxfileError(
            f"the profile cannot be written to `{path}`",
            hint="`--profile` takes a file in a directory that is there and can be written",
        )
    _check_ours(path)


def _check_ours(path: Path) -> None:
    if not _is_stream(path) and not _is_ours(path):
        raise UsageError(
            f"`--profile {path}`: this file is there already, and is no profile",
            hint="name a file that is not there, or an older profile",
        )


def _is_possible(path: Path, parent: Path) -> bool:
    if _is_stream(path):
        return os.access(path, os.W_OK)
    return reading.is_directory(parent) and writing.is_possible(parent)


def _is_stream(path: Path) -> bool:
    """Say whether a path is a pipe, a device, or what we have open already, a file perhaps."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or _descriptor(path) is not None


def _descriptor(path: Path) -> int | None:
    """Return the number that a path like `/dev/stdout` stands for, None for others."""
    for link in reading.way(str(path.absolute())):
        directory, _, number = link.rpartition("/")
        if directory == f"/proc/{os.getpid()}/fd":
            return int(number)
    return None


def _open(path: Path) -> BinaryIO:
    # Opened anew, a file would be written from its beginning, by whoever writes next as well.
    number = _descriptor(path)
    return path.open("ab") if number is None else os.fdopen(os.dup(number), "wb")


def _is_ours(path: Path) -> bool:
    """Say whether a file can be replaced: there is none, it is empty, or it is a trace."""
    if not os.path.lexists(path):
        return True
    try:
        found = reading.head(os.path.realpath(path), len(_BEGINNING))
    except OSError:
        return False
    return found in {b"", _BEGINNING}


def write(path: Path, timeline: Timeline, *, critical: Collection[str] = ()) -> None:
    """Write the trace of a run; `critical` are the jobs that decided how long it took.

    Raises SandboxfileError.
    """
    content = json.dumps(document(timeline, critical=critical)).encode()
    try:
        if _is_stream(path):  # which a file put in its place would not reach
            with _open(path) as file:
                file.write(content)
            return
        _check_ours(path)  # once more: the run itself may have written a lock there
        writing.whole(path, content)
    except OSError as error:
        raise SandboxfileError(
            f"the profile cannot be written to `{path}`: {error.strerror}"
        ) from None


def document(timeline: Timeline, *, critical: Collection[str] = ()) -> dict[str, object]:
    """Return the trace as data; times count from when the first job was ready."""
    outcomes = [outcome for outcome in timeline.outcomes if outcome.began]
    zero = min((outcome.ready for outcome in outcomes), default=0.0)
    templates = list(dict.fromkeys(template_of(outcome.name) for outcome in outcomes))
    threads = {name: number for number, name in enumerate(templates, 1)}
    events = [_named(_JOBS, 0, "process_name", "jobs"), _named(_STEPS, 0, "process_name", "steps")]
    events += [_named(_JOBS, number, "thread_name", name) for name, number in threads.items()]
    for outcome in outcomes:
        thread = threads[template_of(outcome.name)]
        events += _of_job(outcome, timeline, thread, zero, is_critical=outcome.name in critical)
    events += _of_steps(timeline.parts, zero)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _named(process: int, thread: int, what: str, name: str) -> Slice:
    return {"ph": "M", "pid": process, "tid": thread, "name": what, "args": {"name": name}}


def _of_job(
    outcome: Outcome, timeline: Timeline, thread: int, zero: float, *, is_critical: bool
) -> Iterator[Slice]:
    kind = kind_of(outcome.name)
    began, ended = outcome.began - zero, outcome.began + outcome.seconds - zero
    if outcome.waited >= _WAIT_S:
        name = f"wait for a place to {kind}"
        yield {**_slice(name, "wait", outcome.ready - zero, began), "pid": _JOBS, "tid": thread}
    figures = timeline.figures(outcome.name)
    details = {
        "status": outcome.status,
        "bytes": figures.bytes,
        "instructions": figures.instructions,
        "cached": figures.cached,
        "critical": is_critical,
    }
    made = _slice(outcome.name, kind, began, ended)
    yield {**made, "pid": _JOBS, "tid": thread, "args": details}


def _of_steps(parts: Iterable[Part], zero: float) -> Iterator[Slice]:
    """Yield the steps, each in the first thread of its template that is free by then."""
    free: dict[str, list[tuple[int, float]]] = {}
    number = 0
    for part in sorted(parts, key=lambda part: (part.began, -part.ended)):
        name = template_of(part.job)
        lanes = free.setdefault(name, [])
        at = next((at for at, (_, until) in enumerate(lanes) if until <= part.began), len(lanes))
        if at == len(lanes):
            number += 1
            lanes.append((number, 0.0))
            yield _named(_STEPS, number, "thread_name", name if at == 0 else f"{name} ({at + 1})")
        lanes[at] = (lanes[at][0], part.ended)
        made = _slice(part.step, kind_of(part.job), part.began - zero, part.ended - zero)
        details = {"job": part.job, "cached": part.cached}
        yield {**made, "pid": _STEPS, "tid": lanes[at][0], "args": details}


def _slice(name: str, category: str, began: float, ended: float) -> Slice:
    """Return a complete event; both times are rounded, so that slices that meet still meet."""
    ts, end = (max(0, round(each * 1e6)) for each in (began, ended))
    return {"ph": "X", "name": name, "cat": category, "ts": ts, "dur": max(0, end - ts)}
