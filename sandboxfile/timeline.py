"""What happened when in a run: its jobs, the steps of builds inside them, bytes that were sent."""

import re
import time
from collections.abc import Callable, Iterable

from sandboxfile.events import Event, Sent, StepDone, StepStarted
from sandboxfile.frozen import dataclass, replace
from sandboxfile.graph import Outcome
from sandboxfile.patterns import regex

# An instruction as BuildKit and the older builders number it; bases are no work of a build.
_INSTRUCTION = regex(r"(?:\[[^]]*\d+/\d+\]|(?:Step|STEP) \d+/\d+ ?:)(?! *FROM )", re.IGNORECASE)
_LIMIT = 100_000  # parts: a run of a thousand templates has a tenth of that


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a job came to: bytes sent, instructions of its build, and how many were cached."""

    bytes: int = 0
    instructions: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A step inside a job; times are seconds of the monotonic clock."""

    job: str
    step: str
    began: float
    ended: float
    cached: bool = False


class Timeline:
    """Keeps what a run says about time and size; its caller lets one thread in at a time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: dict[tuple[str, str], float] = {}
        self._figures: dict[str, Figures] = {}
        self.parts: list[Part] = []
        self.outcomes: list[Outcome] = []

    def take(self, event: Event) -> None:
        match event:
            case StepStarted(job=job, step=step, at=at):
                self._open[job, step] = at or self._now()
            case StepDone(job=job, step=step):
                self._end(event)
                self._count(job, step, cached=event.cached)
            case Sent(job=job, bytes=sent):
                known = self.figures(job)
                self._figures[job] = replace(known, bytes=known.bytes + sent)
            case _:
                pass

    def settled(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def figures(self, job: str) -> Figures:
        return self._figures.get(job, Figures())

    def total(self, jobs: Iterable[str]) -> Figures:
        """Return the figures of several jobs together."""
        found = [self.figures(job) for job in jobs]
        return Figures(
            bytes=sum(each.bytes for each in found),
            instructions=sum(each.instructions for each in found),
            cached=sum(each.cached for each in found),
        )

    def _end(self, done: StepDone) -> None:
        ended = done.at or self._now()
        began = self._open.pop((done.job, done.step), ended - done.seconds)
        if len(self.parts) < _LIMIT:
            part = Part(job=done.job, step=done.step, began=began, ended=ended, cached=done.cached)
            self.parts.append(part)

    def _count(self, job: str, step: str, *, cached: bool) -> None:
        if _INSTRUCTION.match(step):
            known = self.figures(job)
            self._figures[job] = replace(
                known, instructions=known.instructions + 1, cached=known.cached + cached
            )
