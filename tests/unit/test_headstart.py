"""What begins before it is certain to be wanted: heard of when it is taken over, or never."""

import threading
import time
from contextlib import suppress

import pytest

from sandboxfile import headstart
from sandboxfile.cancel import Cancel
from sandboxfile.errors import BuildFailed, Cancelled
from sandboxfile.events import Emit, Event, Log, Sent, StepDone, StepStarted
from sandboxfile.headstart import HeadStart

JOB = "build:api"
LIMIT_S = 30.0


def begun_with(
    *events: Event, error: Exception | None = None
) -> tuple[HeadStart, threading.Event, threading.Event]:
    """Begin what says something, is `told` of that, waits to `go` on, and says a last word."""
    told, go = threading.Event(), threading.Event()

    def work(emit: Emit, cancel: Cancel) -> str:
        for event in events:
            emit(event)
        told.set()
        with cancel.on_cancel(go.set):
            assert go.wait(LIMIT_S)
        cancel.check()
        if error is not None:
            raise error
        emit(Log(job=JOB, text="last"))
        return "sha256:1"

    start = HeadStart()
    start.begin("image", work, cancel=Cancel())
    assert told.wait(LIMIT_S)
    return start, told, go


def test_what_was_told_is_heard_when_it_is_taken_over_with_its_own_times() -> None:
    first = StepStarted(job=JOB, step="[1/2] FROM")
    start, _, go = begun_with(first, StepDone(job=JOB, step=first.step), Log(job=JOB, text="one"))
    before = time.monotonic()
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        go.set()  # the rest comes while somebody listens

    begun = start.get("image")
    assert begun is not None
    assert begun.result(listen) == "sha256:1"

    assert [type(event) for event in heard] == [StepStarted, StepDone, Log, Log]
    for event in heard[:2]:
        assert isinstance(event, StepStarted | StepDone)
        assert 0 < event.at <= before
    assert begun.span.began <= before <= begun.span.ended
    assert begun.span == begun.span, "it has ended"


def test_whoever_takes_it_over_gets_what_it_raised() -> None:
    start, _, go = begun_with(error=BuildFailed("no"))
    go.set()
    begun = start.get("image")
    assert begun is not None
    with pytest.raises(BuildFailed, match="no"):
        begun.result(lambda _: None)


def test_what_is_not_wanted_is_stopped_and_nobody_hears_of_it() -> None:
    start, _, go = begun_with(Log(job=JOB, text="one"))
    begun = start.get("image")
    assert begun is not None
    start.keep({"image", "another"})
    assert not go.is_set()
    start.keep({"another"})
    assert start.get("image") is None
    heard: list[Event] = []
    with pytest.raises(Cancelled):
        begun.result(heard.append)
    assert Log(job=JOB, text="last") not in heard


def test_closing_stops_what_nobody_took_over() -> None:
    start, _, _ = begun_with()
    begun = start.get("image")
    assert begun is not None
    start.close()
    assert begun.span.ended <= time.monotonic(), "it has come to its end"
    with pytest.raises(Cancelled):
        begun.result(lambda _: None)


def test_what_was_given_up_can_be_waited_for() -> None:
    start, working, ended = HeadStart(), threading.Event(), threading.Event()

    def work(_: Emit, cancel: Cancel) -> str:
        working.set()
        with suppress(Cancelled):
            cancel.wait(LIMIT_S)
        time.sleep(0.05)  # as an engine that has a step to end
        ended.set()
        return "too late"

    start.begin("image", work, cancel=Cancel())
    assert working.wait(LIMIT_S)
    start.keep(())
    start.vacate()
    assert ended.is_set()
    assert start.get("image") is None


def test_closing_waits_for_nobody_who_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headstart, "ENDING_S", 0.0)
    start, deaf = HeadStart(), threading.Event()
    begun = start.begin("image", lambda _emit, _cancel: str(deaf.wait(LIMIT_S)), cancel=Cancel())
    start.close()
    assert not deaf.is_set()
    deaf.set()
    assert begun.result(lambda _: None) == "True"


def test_it_stops_with_the_run() -> None:
    run = Cancel()
    start = HeadStart()
    working = threading.Event()

    def work(_: Emit, cancel: Cancel) -> str:
        working.set()
        cancel.wait(LIMIT_S)
        return "never"

    begun = start.begin("image", work, cancel=run)
    assert working.wait(LIMIT_S)
    run.set()
    with pytest.raises(Cancelled):
        begun.result(lambda _: None)
    late = start.begin("late", work, cancel=run)
    with pytest.raises(Cancelled):
        late.result(lambda _: None)


def test_who_waits_until_all_was_sent_waits_no_longer_than_that() -> None:
    start, _, go = begun_with(Sent(job=JOB, bytes=1))
    begun = start.get("image")
    assert begun is not None
    begun.wait_sent(LIMIT_S)
    assert not go.is_set(), "it works on"
    start.close()


def test_who_waits_for_what_ends_without_sending_goes_on() -> None:
    start = HeadStart()
    begun = start.begin("image", lambda _emit, _cancel: "there", cancel=Cancel())
    began = time.monotonic()
    begun.wait_sent(LIMIT_S)
    assert time.monotonic() - began < LIMIT_S
    assert begun.result(lambda _: None) == "there"
