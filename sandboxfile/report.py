"""What is shown of a run: a live table, plain lines or JSON lines; logs on disk; the summary."""

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from sandboxfile import console, errors
from sandboxfile.cancel import STOPPED
from sandboxfile.errors import BuildFailed, ConfigError, Left, SandboxfileError
from sandboxfile.events import Event, Log, StepDone, StepStarted
from sandboxfile.graph import Outcome, Status
from sandboxfile.model import NAME
from sandboxfile.redact import Redactor, defuse

TAIL = 20
_GROUP_LINES = 1000
_LOG_BYTES = 64 << 20
_PAST = {
    "build": "built",
    "snapshot": "snapshot",
    "adopt": "adopted",
    "retag": "retagged",
    "up to date": "up to date",
}
_BAD: tuple[Status, ...] = ("failed", "cancelled", "skipped")
_UNFINISHED: tuple[Status, ...] = (*_BAD, "detached", "waiting")


# --- what a run came to ----------------------------------------------------------------------


def template_of(job: str) -> str:
    """Return the template that a job named `<kind>:<template>` works for, else the name itself."""
    return job.partition(":")[2] or job


def tally(actions: Mapping[str, str], outcomes: Iterable[Outcome]) -> Mapping[str, str]:
    """Say of each template what became of it: its action in the past, or how it went wrong."""
    worst: dict[str, Status] = {}
    for outcome in outcomes:
        name = template_of(outcome.name)
        if outcome.status in _UNFINISHED:
            known = worst.get(name, outcome.status)
            worst[name] = min(known, outcome.status, key=_UNFINISHED.index)
    return {name: worst.get(name) or _PAST.get(action, action) for name, action in actions.items()}


def summary(results: Mapping[str, str], seconds: float) -> str:
    """Return the last line of a run: `3 built, 1 snapshot, 96 up to date in 12.3s`."""
    counts = Counter(results.values())
    order = [*_UNFINISHED, *_PAST.values(), *counts]
    said = [f"{counts[word]} {word}" for word in dict.fromkeys(order) if counts[word]]
    return f"{', '.join(said) or 'nothing to do'} in {console.duration(seconds)}"


def exit_code(
    outcomes: Iterable[Outcome], *, keep_going: bool = False, interrupted: bool = False
) -> int:
    """Return the exit code of a run (table in `errors`).

    Failures that share a code give that code, others 1; under `keep_going` it is 7 as soon as a
    template came through. Builds that were left say by their error whether that was in time.
    """
    outcomes = tuple(outcomes)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    codes = {getattr(outcome.error, "exit_code", errors.BUG) for outcome in failed}
    late = {outcome.error.exit_code for outcome in outcomes if isinstance(outcome.error, Left)}
    if interrupted or (not failed and any(o.status == "cancelled" for o in outcomes)):
        return errors.INTERRUPTED
    if not failed:
        return max(late, default=errors.DONE)
    if errors.BUG in codes:
        return errors.BUG
    bad = {template_of(outcome.name) for outcome in outcomes if outcome.status in _BAD}
    if keep_going and {template_of(outcome.name) for outcome in outcomes} - bad:
        return errors.SOME_FAILED
    return codes.pop() if len(codes) == 1 else errors.FAILED


# --- logs on disk ----------------------------------------------------------------------------


class LogFiles:
    """Whole logs: `<directory>/<template>/<step>.log`, for the user alone, of limited size."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[str, TextIO | None] = {}
        self._sizes: Counter[str] = Counter()

    def path(self, job: str) -> Path | None:
        step, _, template = job.partition(":")
        if self._directory is None or not NAME.fullmatch(step) or not NAME.fullmatch(template):
            return None
        return self._directory / template / f"{step}.log"

    def write(self, job: str, line: str) -> None:
        """Add a line; the first of a run empties the file."""
        if job not in self._files:
            path = self.path(job)
            self._files[job] = None if path is None else self._create(path)
        file = self._files[job]
        if file is None or self._sizes[job] > _LOG_BYTES:
            return
        self._sizes[job] += len(line) + 1
        if self._sizes[job] > _LOG_BYTES:
            line = f"… (this log is cut at {_LOG_BYTES >> 20} MiB)"
        file.write(line + "\n")

    def end(self, job: str) -> Path | None:
        """Close the log of a job that ended; where it is, None if there is none."""
        file = self._files.get(job)
        if file is None:
            return None
        file.close()
        self._files[job] = None
        return self.path(job)

    def close(self) -> None:
        for job in self._files:
            self.end(job)

    @staticmethod
    def _create(path: Path) -> TextIO | None:
        """Open a log; without a place for it (a full disk, a read-only checkout) there is none."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, flags, 0o600)
        except OSError:
            return None
        return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")


# --- screens ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A job began or ended. `seconds` it took, `elapsed` is since the run began."""

    job: str
    state: Literal["started"] | Status
    seconds: float
    elapsed: float
    because: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        return self.job.partition(":")[0]

    @property
    def template(self) -> str:
        return template_of(self.job)

    @property
    def text(self) -> str:
        """What happened, in a few words."""
        match self.state:
            case "started" | "up to date":
                return f"{self.step} {self.state}"
            case "skipped":
                return f"{self.step} skipped, since {', '.join(self.because)} failed"
            case _:
                return f"{self.step} {self.state} in {console.duration(self.seconds)}"


class Screen(Protocol):
    """Where a run is shown. Text is ready to be shown; calls never overlap."""

    def change(self, change: Change) -> None:
        """Show that a job began or ended."""

    def step(self, job: str, text: str) -> None:
        """Show that a build step began."""

    def doing(self, job: str, text: str) -> None:
        """Show the last line of a job's log, where that costs no line."""

    def log(self, job: str, text: str) -> None:
        """Show a line of a log, which was asked for."""

    def notice(self, job: str, level: str, text: str) -> None:
        """Show a sentence for the user."""

    def failure(self, job: str, text: str, data: Mapping[str, object]) -> None:
        """Show why a job failed."""

    def group(self, title: str, lines: Iterable[str]) -> None:
        """Show lines that GitHub folds under a title."""

    def end(self, text: str, data: Mapping[str, object]) -> None:
        """Show the summary."""

    def close(self) -> None:
        """Leave the screen in order; a second time does nothing."""


class Quiet:
    """Only what went wrong."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def change(self, change: Change) -> None:
        """Say nothing."""

    def step(self, job: str, text: str) -> None:
        """Say nothing."""

    def doing(self, job: str, text: str) -> None:
        """Say nothing."""

    def log(self, job: str, text: str) -> None:
        """Say nothing."""

    def notice(self, job: str, level: str, text: str) -> None:
        if level == "warning":
            self.line(f"warning: {_about(job)}{text}")

    def failure(self, job: str, text: str, data: Mapping[str, object]) -> None:
        del data
        step, _, template = job.partition(":")
        self.line(f"\n{template}: {step} failed\n{text}")

    def group(self, title: str, lines: Iterable[str]) -> None:
        self.line("\n".join([f"::group::{title}", *lines, "::endgroup::"]))

    def end(self, text: str, data: Mapping[str, object]) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Leave everything as it is."""

    def line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Plain(Quiet):
    """One line for each job that begins or ends: for CI and for files."""

    def change(self, change: Change) -> None:
        if change.state == "waiting":
            return  # told in full at the end
        self.line(f"{console.duration(change.elapsed):>7}  {change.template}: {change.text}")

    def log(self, job: str, text: str) -> None:
        self.line(f"         {template_of(job)}: {text}")

    def notice(self, job: str, level: str, text: str) -> None:
        word = "warning: " if level == "warning" else ""
        self.line(f"         {_about(job)}{word}{text}")

    def end(self, text: str, data: Mapping[str, object]) -> None:
        del data
        self.line(text)


class Json:
    """One JSON object a line: for programs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def change(self, change: Change) -> None:
        more = {"because": list(change.because)} if change.because else {}
        self._write(change.state.replace(" ", "_"), change.job, seconds=change.seconds, **more)

    def step(self, job: str, text: str) -> None:
        self._write("step", job, text=text)

    def doing(self, job: str, text: str) -> None:
        """Say nothing: `log` does if it is asked for."""

    def log(self, job: str, text: str) -> None:
        self._write("log", job, text=text)

    def notice(self, job: str, level: str, text: str) -> None:
        self._write("notice", job, level=level, text=text)

    def failure(self, job: str, text: str, data: Mapping[str, object]) -> None:
        self._write("error", job, text=text, **data)

    def group(self, title: str, lines: Iterable[str]) -> None:
        """Say nothing: programs find the log by its path."""

    def end(self, text: str, data: Mapping[str, object]) -> None:
        self._write("summary", "", text=text, **data)

    def close(self) -> None:
        """Leave everything as it is."""

    def _write(self, event: str, job: str, **values: object) -> None:
        where = {"job": job, "template": template_of(job)} if job else {}
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
        self._stream.write(json.dumps({"event": event, **where, **rounded}) + "\n")
        self._stream.flush()


class Tty(Quiet):
    """A live table of what is running, with what is done scrolling away above it."""

    def __init__(self, stream: TextIO, *, colour: bool, now: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(stream)
        self._now = now
        self._running: dict[str, _Row] = {}
        self._console = Console(
            file=stream, force_terminal=True, no_color=not colour, highlight=False, markup=False
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def change(self, change: Change) -> None:
        self._live.start()  # once: again it does nothing
        if change.state == "started":
            row = _Row(template=change.template, step=change.step, since=self._now())
            self._running = {**self._running, change.job: row}
            return
        self._running = {job: r for job, r in self._running.items() if job != change.job}
        if change.state == "waiting":
            return  # told in full at the end
        mark, colour = _MARKS[change.state]
        self._above(f"{mark} {change.template}: {change.text}", colour)

    def step(self, job: str, text: str) -> None:
        self.doing(job, text)

    def doing(self, job: str, text: str) -> None:
        row = self._running.get(job)
        if row is not None:
            row.text = text

    def log(self, job: str, text: str) -> None:
        self._above(f"  {template_of(job)}: {text}", "dim")

    def notice(self, job: str, level: str, text: str) -> None:
        word = "warning: " if level == "warning" else ""
        self._above(f"  {_about(job)}{word}{text}", "yellow" if word else "")

    def end(self, text: str, data: Mapping[str, object]) -> None:
        del data
        self.close()
        self.line(text)

    def failure(self, job: str, text: str, data: Mapping[str, object]) -> None:
        self.close()  # what follows is to be read, not watched
        super().failure(job, text, data)

    def close(self) -> None:
        self._live.stop()

    def _above(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=True)

    def _table(self) -> Any:
        """Draw what is running; on the thread of the live display."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows = list(self._running.values())
        room = max(1, self._console.size.height - 2)
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows[:room]:
            took = console.duration(self._now() - row.since)
            table.add_row(*(Text(cell) for cell in (row.template, row.step, took, row.text)))
        more = len(rows) - room
        return Group(table, Text(f"and {more} more")) if more > 0 else table


@dataclass(slots=True, kw_only=True)
class _Row:
    template: str
    step: str
    since: float
    text: str = ""


_MARKS: Mapping[str, tuple[str, str]] = {
    "done": ("✓", "green"),
    "up to date": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "yellow"),
    "cancelled": ("-", "yellow"),
    "detached": ("→", "cyan"),
}


def _about(job: str) -> str:
    return f"{template_of(job)}: " if job else ""


def screen(
    kind: console.Screen,
    stream: TextIO,
    *,
    colour: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> Screen:
    """Open a screen on a stream."""
    match kind:
        case "tty":
            return Tty(stream, colour=colour, now=now)
        case "plain":
            return Plain(stream)
        case "json":
            return Json(stream)
        case _:
            return Quiet(stream)


# --- the reporter ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class Reporter:
    """Takes events and outcomes from any thread; defuses, redacts, logs, shows.

    `logs` is the directory of whole logs; `verbose` shows log lines as they come; `github` folds
    the logs of failed jobs and keeps their text from being read as workflow commands.
    """

    screen: Screen
    redactor: Redactor = field(default_factory=Redactor)
    logs: Path | None = None
    verbose: bool = False
    github: bool = False
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._began = self.now()
        self._files = LogFiles(self.logs)
        self._tails: dict[str, deque[str]] = {}
        self._failed: list[tuple[Outcome, Path | None]] = []
        self._outcomes: list[Outcome] = []

    def emit(self, event: Event) -> None:
        """Take an event, from any thread."""
        with self._lock:
            match event:
                case StepStarted(job=job, step=step):
                    self.screen.step(job, self._safe(self._keep(job, f"=> {step}")[3:]))
                case StepDone(job=job, step=step, cached=cached, seconds=seconds):
                    took = "cached" if cached else console.duration(seconds)
                    self._keep(job, f"=> {step} ({took})")
                case Log(job=job, text=text):
                    line = self._safe(self._keep(job, text))
                    self._tails.setdefault(job, deque(maxlen=TAIL)).append(line)
                    self.screen.doing(job, line)
                    if self.verbose:
                        self.screen.log(job, line)
                case _:
                    line = self.redactor.line(event.text.replace("\n", " "))
                    self.screen.notice(event.job, event.level, self._safe(line))

    def started(self, job: str) -> None:
        """Take note that a job began, from any thread."""
        with self._lock:
            self._change(job, "started")

    def settled(self, outcome: Outcome) -> None:
        """Take note of how a job ended."""
        with self._lock:
            self._outcomes.append(outcome)
            self._change(
                outcome.name, outcome.status, seconds=outcome.seconds, because=outcome.because
            )
            log = self._files.end(outcome.name)
            if outcome.status == "failed":
                self._failed.append((outcome, log))

    def finish(
        self, actions: Mapping[str, str], *, keep_going: bool = False, interrupted: bool = False
    ) -> int:
        """Show failures and the summary; the exit code. `actions` names all templates asked for."""
        with self._lock:
            for outcome, log in self._failed:
                self._failure(outcome, log)
            seconds = self.now() - self._began
            results = tally(actions, self._outcomes)
            data = {"seconds": seconds, "counts": dict(Counter(results.values()))}
            if interrupted:
                self.screen.notice("", "warning", STOPPED)
            else:
                self._tell_left()
            self.screen.end(summary(results, seconds), data)
            self.close()
        settled = [*self._outcomes, *self._idle(actions)]
        return exit_code(settled, keep_going=keep_going, interrupted=interrupted)

    def close(self) -> None:
        """Close logs and screen; needed when a run ends without `finish`."""
        with self._lock:
            self._files.close()
            self.screen.close()

    def _idle(self, actions: Mapping[str, str]) -> list[Outcome]:
        """Return an outcome for each template for which nothing had to run."""
        busy = {template_of(outcome.name) for outcome in self._outcomes}
        return [Outcome(name=name, status="up to date") for name in actions if name not in busy]

    def _tell_left(self) -> None:
        """Say what goes on without us, and what waits for that; each template once."""
        told: set[str] = set()
        for outcome in self._outcomes:
            name = template_of(outcome.name)
            text = _left(outcome)
            if text and name not in told:
                told.add(name)
                self._tell(outcome.name, f"{text}; {_pick_up(outcome)}")

    def _tell(self, job: str, text: str) -> None:
        self.screen.notice(job, "info", self._safe(self.redactor.line(text)))

    def _change(
        self,
        job: str,
        state: Literal["started"] | Status,
        *,
        seconds: float = 0.0,
        because: tuple[str, ...] = (),
    ) -> None:
        elapsed = self.now() - self._began
        change = Change(job=job, state=state, seconds=seconds, elapsed=elapsed, because=because)
        self.screen.change(change)

    def _keep(self, job: str, text: str) -> str:
        """Write a line to the job's log; return it defused and redacted."""
        line = self.redactor.line(text)
        self._files.write(job, line)
        return line

    def _safe(self, line: str) -> str:
        return defuse(line) if self.github else line

    def _failure(self, outcome: Outcome, log: Path | None) -> None:
        error, job = outcome.error, outcome.name
        assert error is not None
        if isinstance(error, BuildFailed):
            error.log = error.log or log
            error.tail = error.tail or tuple(self._tails.get(job, ()))
        text = console.error_text(error, redactor=self.redactor, ci=self.github)
        self.screen.failure(job, text, _failure_data(error, log))
        if self.github and log is not None:
            self._fold(job, log)

    def _fold(self, job: str, log: Path) -> None:
        """Put the end of a whole log where GitHub folds it; the runner's disk is gone later."""
        with log.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=_GROUP_LINES)
        step, _, template = job.partition(":")
        body = [self.redactor.line(line.rstrip("\n"), ci=True) for line in lines]
        self.screen.group(f"log of {step} {template}", body)


def _left(outcome: Outcome) -> str:
    """Say what a template was left at, nothing of jobs behind one that was told."""
    if isinstance(outcome.error, Left):
        return outcome.error.message
    owners = {template_of(job) for job in outcome.because}
    if outcome.status != "waiting" or template_of(outcome.name) in owners:
        return ""
    return f"waits for {', '.join(f'`{name}`' for name in sorted(owners))}"


def _pick_up(outcome: Outcome) -> str:
    name = template_of(outcome.name)
    watch = f", `sandboxfile logs {name} --follow` shows it" if outcome.status == "detached" else ""
    return f"`sandboxfile build {name}` goes on with it{watch}"


def _failure_data(error: BaseException, log: Path | None) -> Mapping[str, object]:
    at = error.at if isinstance(error, SandboxfileError) else None
    if isinstance(error, ConfigError) and error.problems:
        at = error.problems[0].at
    return {
        "at": str(at) if at else None,
        "hint": getattr(error, "hint", "") or None,
        "exit_code": getattr(error, "exit_code", errors.BUG),
        "log": str(log) if log else None,
    }
