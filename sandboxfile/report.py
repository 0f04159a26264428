"""Takes what happens in a run and shows it: a live table, plain lines or JSON lines, and logs."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from sandboxfile import console, errors
from sandboxfile.cancel import STOPPED
from sandboxfile.errors import BuildFailed, ConfigError, Left, SandboxfileError
from sandboxfile.events import Event, Log, Notice, Sent, StepDone, StepStarted
from sandboxfile.frozen import replace
from sandboxfile.graph import Outcome, Status
from sandboxfile.livetable import Tty
from sandboxfile.logfiles import LogFiles
from sandboxfile.redact import Redactor, defuse
from sandboxfile.screens import Change, Json, Plain, Quiet, Screen
from sandboxfile.summary import chain, exit_code, figures, skipped, summary, tally, template_of
from sandboxfile.timeline import Timeline

TAIL = 20
_GROUP_LINES = 1000


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


@dataclass(kw_only=True)
class Reporter:
    """Takes events and outcomes from any thread; defuses, redacts, logs, shows.

    `logs` is the directory of whole logs; `verbose` shows log lines as they come; `github` folds
    the logs of failed jobs and keeps their text from being read as workflow commands. `target` is
    the one that was asked for by name: whoever goes on with a build has to name it, too.
    """

    screen: Screen
    redactor: Redactor = field(default_factory=Redactor)
    logs: Path | None = None
    verbose: bool = False
    github: bool = False
    now: Callable[[], float] = time.monotonic
    timeline: Timeline = field(default_factory=Timeline)
    target: str | None = None

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
            if isinstance(event, StepStarted | StepDone):
                event = replace(event, step=self.redactor.line(event.step))
            self.timeline.take(event)
            match event:
                case StepStarted(job=job, step=step):
                    self.screen.step(job, self._safe(self._keep(job, f"=> {step}")[3:]))
                case StepDone(job=job, step=step, cached=cached, seconds=seconds):
                    took = "cached" if cached else console.duration(seconds)
                    self._keep(job, f"=> {step} ({took})")
                case Sent():
                    pass
                case Log(job=job, text=text):
                    line = self._safe(self._keep(job, text))
                    self._tails.setdefault(job, deque(maxlen=TAIL)).append(line)
                    self.screen.doing(job, line)
                    if self.verbose:
                        self.screen.log(job, line)
                case Notice(job=job, text=text, level=level):
                    line = self.redactor.line(" ".join(map(str.strip, text.splitlines())))
                    self.screen.notice(job, level, self._safe(line))

    def started(self, job: str) -> None:
        """Take note that a job began, from any thread."""
        with self._lock:
            self._change(job, "started")

    def settled(self, outcome: Outcome) -> None:
        """Take note of how a job ended."""
        with self._lock:
            self._outcomes.append(outcome)
            self.timeline.settled(outcome)
            self._change(
                outcome.name,
                outcome.status,
                seconds=outcome.seconds,
                because=outcome.because,
                details=figures(self.timeline.figures(outcome.name)),
            )
            log = self._files.end(outcome.name)
            if outcome.status == "failed":
                self._failed.append((outcome, log))

    def has_log(self, job: str) -> bool:
        """Say whether a job that failed wrote a log."""
        return any(each.name == job and log is not None for each, log in self._failed)

    def idle(self) -> None:
        """Take note that time passes while jobs run: a long silence is told of."""
        with self._lock:
            self.screen.idle()

    def finish(
        self,
        actions: Mapping[str, str],
        *,
        critical: tuple[str, ...] = (),
        keep_going: bool = False,
        interrupted: bool = False,
    ) -> int:
        """Show failures and the summary; the exit code.

        `actions` names all templates asked for, `critical` the jobs that decided how long it took.
        """
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
            for text in skipped(self._outcomes):
                self._tell("", text)
            if told := chain(self._outcomes, critical):
                self._tell("", told)
            done = figures(self.timeline.total(each.name for each in self._outcomes))
            self.screen.end(summary(results, seconds) + (f"; {done}" if done else ""), data)
            self.close()
        return exit_code(self._outcomes, actions, keep_going=keep_going, interrupted=interrupted)

    def close(self) -> None:
        """Close logs and screen; needed when a run ends without `finish`."""
        with self._lock:
            self._files.close()
            self.screen.close()

    def _tell_left(self) -> None:
        """Say what goes on without us, and what waits for that; each template once."""
        told: set[str] = set()
        for outcome in self._outcomes:
            name = template_of(outcome.name)
            text = _left(outcome)
            if text and name not in told:
                told.add(name)
                self._tell(outcome.name, f"{text}; {self._pick_up(outcome)}")

    def _pick_up(self, outcome: Outcome) -> str:
        words = [template_of(outcome.name)] + ([f"--target {self.target}"] if self.target else [])
        follow = f", `sandboxfile logs {' '.join(words)} --follow` shows it"
        watch = follow if outcome.status == "detached" else ""
        return f"`sandboxfile build {' '.join(words)}` goes on with it{watch}"

    def _tell(self, job: str, text: str) -> None:
        self.screen.notice(job, "info", self._safe(self.redactor.line(text)))

    def _change(
        self,
        job: str,
        state: Literal["started"] | Status,
        *,
        seconds: float = 0.0,
        because: tuple[str, ...] = (),
        details: str = "",
    ) -> None:
        elapsed = self.now() - self._began
        change = Change(
            job=job,
            state=state,
            seconds=seconds,
            elapsed=elapsed,
            because=because,
            details=details,
        )
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
