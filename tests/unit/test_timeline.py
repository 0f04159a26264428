"""Steps, their times and bytes are counted by job."""

import pytest

from sandboxfile import timeline
from sandboxfile.events import Log, Sent, StepDone, StepStarted
from sandboxfile.timeline import Figures, Part, Timeline


def test_a_step_lasts_from_its_start_to_its_end_or_as_long_as_it_says() -> None:
    now = [10.0]
    line = Timeline(now=lambda: now[0])
    line.take(StepStarted(job="build:a", step="[1/2] RUN make"))
    now[0] = 12.0
    line.take(StepDone(job="build:a", step="[1/2] RUN make", seconds=1.0))
    line.take(StepDone(job="build:a", step="other", seconds=3.0, cached=True))
    line.take(Log(job="build:a", text="nothing"))
    assert line.parts == [
        Part(job="build:a", step="[1/2] RUN make", began=10.0, ended=12.0),
        Part(job="build:a", step="other", began=9.0, ended=12.0, cached=True),
    ]


def test_what_is_told_late_counts_from_when_it_was() -> None:
    line = Timeline(now=lambda: 10.0)
    line.take(StepStarted(job="build:a", step="RUN", at=3.0))
    line.take(StepDone(job="build:a", step="RUN", at=5.0))
    assert line.parts == [Part(job="build:a", step="RUN", began=3.0, ended=5.0)]


def test_instructions_are_counted_and_bases_and_errands_are_not() -> None:
    line = Timeline()
    for step, cached in (
        ("[1/3] FROM docker.io/library/debian:12", True),
        ("[2/3] COPY . /app", True),
        ("[stage-1 3/3] RUN make", False),
        ("exporting to image", False),
        ("[auth] library/debian:pull", False),
        ("Step 2/3 : RUN x", True),
        ("STEP 1/3: FROM debian", True),
        ("build b-1", False),
    ):
        line.take(StepDone(job="build:a", step=step, cached=cached))
    line.take(Sent(job="build:a", bytes=5))
    line.take(Sent(job="push:a", bytes=7))
    line.take(Sent(job="push:a", bytes=7))
    assert line.figures("build:a") == Figures(bytes=5, instructions=3, cached=2)
    assert line.figures("push:a") == Figures(bytes=14)
    assert line.total(["build:a", "push:a", "tag:a"]) == Figures(bytes=19, instructions=3, cached=2)


def test_a_run_of_very_many_steps_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "_LIMIT", 2)
    line = Timeline()
    for number in range(5):
        line.take(StepDone(job="build:a", step=f"[{number}/5] RUN x"))
    assert len(line.parts) == 2
    assert line.figures("build:a").instructions == 5
