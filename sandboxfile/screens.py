"""Where a run is shown: as plain lines, as JSON lines, or not at all but for what went wrong."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, Protocol, TextIO

from sandboxfile import console
from sandboxfile.frozen import dataclass
from sandboxfile.graph import Status
from sandboxfile.summary import template_of

NEWS_S = 15.0  # a log without a word for so long looks dead
RAREST_S = 300.0  # CI systems end what says nothing for ten minutes
_NEWS_WIDTH = 120
_LONG = frozenset({"build", "snapshot"})  # the other steps are told of when they took a while
_WHILE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A job began or ended. `seconds` it took, `elapsed` is since the run began.

    `details` is what is added to its line: bytes sent, steps cached.
    """

    job: str
    state: Literal["started"] | Status
    seconds: float
    elapsed: float
    because: tuple[str, ...] = ()
    details: str = ""

    @property
    def step(self) -> str:
        return self.job.partition(":")[0]

    @property
    def template(self) -> str:
        return template_of(self.job)

    @property
    def text(self) -> str:
        """What happened, in a few words."""
        more = f" ({self.details})" if self.details else ""
        match self.state:
            case "started" | "up to date":
                return f"{self.step} {self.state}"
            case _:
                return f"{self.step} {self.state} in {console.duration(self.seconds)}{more}"

    @property
    def is_worth_a_line(self) -> bool:
        """Tell whether people want to read it as it happens.

        What never ran is told of in one sentence at the end, however many jobs it is.
        """
        match self.state:
            case "waiting" | "skipped":
                return False
            case "started":
                return self.step in _LONG
            case "cancelled":
                return self.seconds > 0
            case "done" | "up to date":
                return self.step in _LONG or self.seconds >= _WHILE_S
            case _:
                return True


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

    def idle(self) -> None:
        """Show that it lives, where a reader could doubt it; called often while jobs run."""

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

    def idle(self) -> None:
        """Say nothing."""

    def notice(self, job: str, level: str, text: str) -> None:
        if level == "warning":
            self.line(f"warning: {about(job)}{text}")

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
    """A line for what takes time when it begins and ends, and for what else went on meanwhile.

    For CI and for files. Where nothing was said for `NEWS_S` seconds, the next step or line of a
    log is, so that a reader sees that it lives, and at what it is. Where there is none either, the
    job that was silent for longest is named, then ever more rarely.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._now = now
        self._began = self._last = now()
        self._patience = NEWS_S
        self._signs: dict[str, tuple[float, str]] = {}  # of what runs: when it said what last

    def change(self, change: Change) -> None:
        if change.state == "started":
            self._signs[change.job] = (self._now(), change.step)
        else:
            self._signs.pop(change.job, None)
        if change.is_worth_a_line:
            self.line(f"{console.duration(change.elapsed):>7}  {change.template}: {change.text}")

    def step(self, job: str, text: str) -> None:
        self.doing(job, text)

    def doing(self, job: str, text: str) -> None:
        now = self._now()
        if job in self._signs:
            self._signs[job] = (now, text[:_NEWS_WIDTH])
        if now - self._last >= NEWS_S:
            self._tell(now, f"{template_of(job)}: … {text[:_NEWS_WIDTH]}")

    def idle(self) -> None:
        now = self._now()
        if now - self._last < self._patience or not self._signs:
            return
        job = min(self._signs, key=self._signs.__getitem__)
        since, text = self._signs[job]
        told = [f"silent for {console.duration(now - since)}"] if now - since > NEWS_S / 2 else []
        if len(self._signs) > 1:
            told.append(f"{len(self._signs)} jobs run")
        rarer = min(2 * self._patience, RAREST_S)
        self._tell(now, f"{template_of(job)}: … {text}" + (f" ({', '.join(told)})" if told else ""))
        self._patience = rarer

    def _tell(self, now: float, text: str) -> None:
        self.line(f"{console.duration(now - self._began):>7}  {text}")

    def line(self, text: str) -> None:
        super().line(text)
        self._last = self._now()
        self._patience = NEWS_S

    def log(self, job: str, text: str) -> None:
        self.line(f"         {template_of(job)}: {text}")

    def notice(self, job: str, level: str, text: str) -> None:
        word = "warning: " if level == "warning" else ""
        self.line(f"         {about(job)}{word}{text}")

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

    def idle(self) -> None:
        """Say nothing: programs have clocks of their own."""

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


def about(job: str) -> str:
    """Return how a sentence about a job begins: with its template, if it has one."""
    return f"{template_of(job)}: " if job else ""
