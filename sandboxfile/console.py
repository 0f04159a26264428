"""Words for people: errors with their place drawn, times, what kind of screen there is."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from sandboxfile.errors import BuildFailed, ConfigError, SandboxfileError
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem, excerpt
from sandboxfile.redact import Redactor

Progress = Literal["auto", "tty", "plain", "json", "quiet"]
Screen = Literal["tty", "plain", "json", "quiet"]

_MINUTE_S, _HOUR_S = 60, 3600
_UNIT = 1000
_MAX_SOURCE = 1 << 20
_MAX_CARETS = 60
_MAX_STEP = 100
_OPTIONS = regex(r"(?<=\bRUN )(?:--\S+ )+")


def screen(progress: Progress, *, is_tty: bool, environ: Mapping[str, str]) -> Screen:
    """Return how progress is shown: a live table needs a real terminal and nobody's CI."""
    if progress != "auto":
        return progress
    live = is_tty and environ.get("TERM") != "dumb" and not _yes(environ.get("CI"))
    return "tty" if live else "plain"


def has_colour(*, is_tty: bool, environ: Mapping[str, str]) -> bool:
    """Say whether to use colours (no-color.org: NO_COLOR present and not empty means no)."""
    return is_tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def in_github(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_ACTIONS") == "true"


def _yes(value: str | None) -> bool:
    return (value or "").lower() not in {"", "0", "false", "no"}


def duration(seconds: float) -> str:
    """Write a time span as people do: `0.4s`, `12.3s`, `4m05s`, `1h02m`."""
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}s"
    return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"


def size(count: int) -> str:
    """Write a number of bytes as people do: `512 B`, `1.2 MB`; units are powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _UNIT - 0.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _UNIT
    return f"{value:.1f} TB"


def source(file: str) -> str | None:
    """Return the text of a file that an error points into, None if it cannot be read."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return stream.read(_MAX_SOURCE).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(handle)


def error_text(
    error: BaseException,
    *,
    redactor: Redactor | None = None,
    read: Callable[[str], str | None] = source,
    ci: bool = False,
) -> str:
    """Write an error for a screen: place, message, excerpt, status, log's end, hint; no newline.

    What others wrote (messages of engines and services, log lines) is defused and redacted; with
    `ci` also for a CI system that reads commands from logs.
    """
    redactor = redactor or Redactor()
    if isinstance(error, ConfigError):
        return redactor.lines(str(error), ci=ci)
    if not isinstance(error, SandboxfileError):
        return redactor.lines(f"error: this is a bug in sandboxfile: {error!r}", ci=ci)
    blocks = [_head(error, message(error, redactor), read)]
    if isinstance(error, BuildFailed):
        blocks += _end_of_log(error)
    if error.hint:
        blocks.append(f"hint: {_hanging(error.hint)}")
    return redactor.lines("\n".join(blocks), ci=ci)


def message(error: SandboxfileError, redactor: Redactor) -> str:
    """Return what an error says; the log has the whole of a long step that it names.

    What is secret is taken out before, since nobody would recognise half of it.
    """
    step = error.step if isinstance(error, BuildFailed) else ""
    return error.message.replace(step, _in_short(redactor.lines(step))) if step else error.message


def _in_short(step: str) -> str:
    step = _OPTIONS.sub("", step, count=1)
    return step if len(step) <= _MAX_STEP else f"{step[:_MAX_STEP].rstrip()} …"


def _head(error: SandboxfileError, message: str, read: Callable[[str], str | None]) -> str:
    if error.at is None:
        return f"error: {_hanging(message)}"
    lines = _around(error.at, read)
    shown = next((text for number, text in lines if number == error.at.line), "")
    width = len(shown.rstrip()) - error.at.column + 1
    problem = Problem(
        at=error.at,
        message=_hanging(message),
        width=max(1, min(width, _MAX_CARETS)),
        excerpt=lines,
    )
    return str(problem)


def _hanging(text: str) -> str:
    """Indent all lines but the first: a message may quote others, who do not begin our lines.

    A line of theirs at the left edge could be a command to a CI system, or a message of ours.
    """
    return re.sub(r"\n(?![ \t])", "\n  ", text)


def _around(at: Position, read: Callable[[str], str | None]) -> tuple[tuple[int, str], ...]:
    text = read(at.file)
    lines = () if text is None else excerpt(text, at.line)
    # The file may have been edited since it was read: no line, no drawing.
    return lines if any(number == at.line for number, _ in lines) else ()


def _end_of_log(error: BuildFailed) -> list[str]:
    lines = []
    if error.step and error.step not in error.message:
        lines.append(f"step: {_hanging(error.step)}")
    if error.status is not None and str(error.status) not in error.message:
        lines.append(f"exit status: {error.status}")
    if error.tail:
        count = len(error.tail)
        lines.append(f"last {count} lines of the log:" if count > 1 else "last line of the log:")
        lines += [f"  | {_hanging(line)}" for line in error.tail]
    if error.log is not None:
        lines.append(f"whole log: {_short(error.log)}")
    return lines


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
