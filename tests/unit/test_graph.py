"""The graph runs jobs in order, says how each one ended, and stops when told."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sandboxfile import schedule
from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, Left, SandboxfileError
from sandboxfile.graph import Job, Outcome, Results, _Forgetful, _Reporter, _Run, run


def statuses(results: Results) -> dict[str, str]:
    return {name: outcome.status for name, outcome in results.outcomes.items()}


def start(*jobs: Job[Any], **options: Any) -> Results:
    heard: list[Outcome] = []
    values = {"settled": heard.append, "cancel": Cancel(), "workers": 4, **options}
    results = run(jobs, **values)
    assert [outcome.name for outcome in heard] == list(results.outcomes) or "settled" in options
    return results


def fail(_: Results) -> Any:
    raise SandboxfileError("no daemon")


def test_who_waits_is_told_while_a_job_runs_and_no_more_after_it() -> None:
    asked = threading.Event()
    times: list[threading.Thread] = []

    def idle() -> None:
        times.append(threading.current_thread())
        asked.set()

    results = start(Job("build:api", lambda _: asked.wait(30)), idle=idle)

    assert statuses(results) == {"build:api": "done"}
    assert set(times) == {threading.main_thread()}


# --- order and results -----------------------------------------------------------------------


def test_results_flow_and_failures_skip_only_what_needs_them() -> None:
    built: Job[str] = Job("build:api", lambda _: "sha256:1")
    pushed: Job[int] = Job("push:api", lambda results: len(results[built]), (built,))
    bad: Job[str] = Job("build:web", fail)
    after: Job[None] = Job("push:web", lambda _: None, (bad,))
    last: Job[None] = Job("snapshot:web", lambda _: None, (after, pushed))
    before = sys.stdout

    results = start(built, pushed, bad, after, last)

    assert results[pushed] == 8
    assert statuses(results) == {
        "build:api": "done",
        "push:api": "done",
        "build:web": "failed",
        "push:web": "skipped",
        "snapshot:web": "skipped",
    }
    assert str(results.outcomes["build:web"].error) == "error: no daemon"
    assert results.outcomes["push:web"].because == ("build:web",)
    assert results.outcomes["snapshot:web"].because == ("build:web",)
    assert results.interrupted is None
    assert sys.stdout is before


def detach(_: Results) -> Any:
    raise Left("it goes on", template_id="t", build_id="b")


def queue(_: Results) -> Any:
    raise Left("no room", in_time=False)


def test_what_was_left_is_no_failure_and_what_needs_it_waits() -> None:
    left: Job[None] = Job("snapshot:api", detach)
    tag: Job[None] = Job("tag:api", lambda _: None, (left,))
    child: Job[None] = Job("snapshot:child", lambda _: None, (left,))
    last: Job[None] = Job("tag:child", lambda _: None, (child,))
    queued: Job[None] = Job("snapshot:web", queue)
    behind: Job[None] = Job("tag:web", lambda _: None, (queued,))

    results = start(left, tag, child, last, queued, behind)

    assert statuses(results) == {
        "snapshot:api": "detached",
        "tag:api": "waiting",
        "snapshot:child": "waiting",
        "tag:child": "waiting",
        "snapshot:web": "waiting",
        "tag:web": "waiting",
    }
    assert results.outcomes["tag:child"].because == ("snapshot:api",)
    assert results.outcomes["tag:web"].because == ("snapshot:web",)


def test_a_failure_weighs_more_than_what_was_left() -> None:
    left: Job[None] = Job("snapshot:api", detach)
    bad: Job[None] = Job("build:web", fail)
    both: Job[None] = Job("snapshot:web", lambda _: None, (left, bad))
    results = start(left, bad, both)
    assert results.outcomes["snapshot:web"].status == "skipped"
    assert results.outcomes["snapshot:web"].because == ("build:web",)


def test_outcomes_arrive_on_the_callers_thread_and_starts_on_workers() -> None:
    settled: set[str] = set()
    started: dict[str, str] = {}
    start(
        Job("build:a", lambda _: None),
        Job("build:b", fail),
        settled=lambda _: settled.add(threading.current_thread().name),
        started=lambda job: started.update({job: threading.current_thread().name}),
    )
    assert settled == {threading.current_thread().name}
    assert set(started) == {"build:a", "build:b"}
    assert threading.current_thread().name not in started.values()


def test_workers_end_with_the_run() -> None:
    before = threading.active_count()
    start(*(Job(f"build:{number}", lambda _: None) for number in range(20)))
    assert threading.active_count() == before


def test_no_jobs_is_a_run_too() -> None:
    assert start().outcomes == {}


def test_a_result_that_is_none_is_a_result() -> None:
    job: Job[None] = Job("build:a", lambda _: None)
    results = start(job)
    assert results[job] is None


def test_what_began_before_the_run_comes_first_and_lasted_as_long_as_it_says() -> None:
    order: list[str] = []
    span = schedule.Span(began=2.0, ended=5.0)
    long: Job[None] = Job("build:long", lambda _: None)
    after: Job[None] = Job("push:long", lambda _: None, (long,))
    generated: Job[None] = Job("generate:begun", lambda _: None)
    begun: Job[None] = Job("build:begun", lambda _: None, (generated,), lambda: span)
    results = start(long, after, generated, begun, workers=1, started=order.append)
    assert order == ["generate:begun", "build:begun", "build:long", "push:long"]
    outcome = results.outcomes["build:begun"]
    assert (outcome.span, outcome.seconds, outcome.waited) == (span, 3.0, 0.0)


def test_the_longest_chain_starts_first() -> None:
    order: list[str] = []
    short: Job[None] = Job("build:short", lambda _: None)
    first: Job[None] = Job("build:long", lambda _: None)
    second: Job[None] = Job("push:long", lambda _: None, (first,))
    start(short, second, first, workers=1, started=order.append)
    assert order == ["build:long", "push:long", "build:short"]


def test_whatever_a_job_raises_is_its_failure() -> None:
    def leave(_: Results) -> None:
        raise SystemExit(3)

    results = start(Job("build:a", leave), Job("build:b", lambda _: 1))
    assert statuses(results) == {"build:a": "failed", "build:b": "done"}
    assert isinstance(results.outcomes["build:a"].error, SystemExit)


def test_a_loop_is_an_error() -> None:
    one: Job[None] = Job("build:one", lambda _: None)
    two: Job[None] = Job("build:two", lambda _: None, (one,))
    object.__setattr__(one, "needs", (two,))
    with pytest.raises(ValueError, match="wait for each other: build:one -> build:two"):
        start(one, two)


def test_a_need_outside_the_graph_is_an_error() -> None:
    stranger: Job[None] = Job("build:stranger", lambda _: None)
    with pytest.raises(ValueError, match="not in the graph"):
        start(Job("build:one", lambda _: None, (stranger,)))


def test_two_jobs_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two jobs have one name"):
        start(Job("build:a", lambda _: None), Job("build:a", lambda _: None))


# --- limits ----------------------------------------------------------------------------------


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def visit(self, _: Results) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(0.01)
        with self._lock:
            self._inside -= 1


def test_each_kind_has_its_own_limit() -> None:
    builds, snapshots = Crowd(), Crowd()
    jobs = [Job(f"build:{number}", builds.visit) for number in range(12)]
    jobs += [Job(f"snapshot:{number}", snapshots.visit) for number in range(12)]
    start(*jobs, workers=None, limits={"build": 2, "snapshot": 4})
    assert builds.most <= 2
    assert snapshots.most <= 4


def test_who_waits_for_a_place_gets_it_by_the_time_of_the_chain() -> None:
    order: list[str] = []
    jobs = [Job(f"build:{number}", lambda _: None) for number in range(9)]
    jobs.append(Job("push:3", lambda _: None, (jobs[3],)))
    took = {**{f"build:{number}": float(number) for number in range(9)}, "push:3": 100.0}
    start(*jobs, workers=9, limits={"build": 1}, seconds=took.__getitem__, started=order.append)
    builds = [name for name in order if name.startswith("build:")]
    assert builds == [f"build:{number}" for number in (3, 8, 7, 6, 5, 4, 2, 1, 0)]


def test_what_a_job_made_ready_may_come_before_what_waits_for_its_thread() -> None:
    order: list[str] = []
    jobs: list[Job[Any]] = [Job(f"build:{number}", lambda _: None) for number in range(3)]
    jobs += [Job(f"push:{number}", lambda _: None, (jobs[number],)) for number in range(3)]
    took = {"build:0": 1.0, "build:1": 6.0, "build:2": 6.0, "push:0": 9.0, "push:1": 2.0}
    seconds = lambda name: took.get(name, 1.0)  # noqa: E731
    start(*jobs, workers=1, started=order.append, seconds=seconds)
    assert order == ["build:0", "push:0", "build:1", "build:2", "push:1", "push:2"]


def test_more_jobs_than_threads_and_a_failure_hold_up_nobody() -> None:
    bad: Job[Any] = Job("build:bad", fail)
    behind = [Job(f"push:{number}", lambda _: None, (bad,)) for number in range(50)]
    others = [Job(f"snapshot:{number}", lambda _: None) for number in range(200)]
    results = start(bad, *behind, *others, workers=None, limits={"build": 1, "snapshot": 3})
    assert set(statuses(results).values()) == {"failed", "skipped", "done"}
    assert [results.outcomes[job.name].status for job in others] == ["done"] * 200
    assert results.outcomes["push:49"].span is None


def test_the_wait_for_a_place_is_told_apart_from_the_work() -> None:
    jobs = [Job(f"build:{number}", lambda _: time.sleep(0.02)) for number in range(2)]
    first, second = start(*jobs, limits={"build": 1}).outcomes.values()
    assert first.span
    assert second.span
    assert first.ready <= first.began <= first.span.ended <= second.began <= second.span.ended
    assert second.waited >= first.seconds


def test_jobs_run_at_once() -> None:
    barrier = threading.Barrier(3, timeout=30)
    jobs = [Job(f"build:{number}", lambda _: barrier.wait()) for number in range(3)]
    assert set(statuses(start(*jobs, workers=3)).values()) == {"done"}


# --- stopping --------------------------------------------------------------------------------


def press(number: int) -> Callable[[Results], None]:
    """Return a job that sends a signal to this process and waits to be stopped."""

    def job(_: Results) -> None:
        os.kill(os.getpid(), number)
        threading.Event().wait(0.2)

    return job


def test_a_signal_whose_handler_takes_long_does_not_end_the_watch() -> None:
    """Python 3.11's SimpleQueue waits for ever when a signal takes it past its time limit."""
    handled, watched = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        time.sleep(0.2)
        handled.set()

    def idle() -> None:
        if handled.is_set():
            watched.set()

    def job(_: Results) -> bool:
        time.sleep(0.2)  # let the main thread come to where it waits
        os.kill(os.getpid(), signal.SIGUSR1)
        return watched.wait(20)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        watch: Job[bool] = Job("build:watch", job)
        results = run([watch], settled=lambda _: None, cancel=Cancel(), idle=idle)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert results.outcomes["build:watch"].status == "done"
    assert results[watch]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_settles_every_job(number: signal.Signals) -> None:
    cancel = Cancel()
    handlers = signal.getsignal(number)
    waiting: Job[None] = Job("build:waiting", lambda _: cancel.wait(30))
    after: Job[None] = Job("push:waiting", lambda _: None, (waiting,))
    pressed: Job[None] = Job("build:pressed", press(number))
    late: Job[None] = Job("push:pressed", lambda _: None, (pressed,))
    results = start(waiting, after, pressed, late, cancel=cancel)
    assert results.interrupted == number
    assert statuses(results) == {
        "build:waiting": "cancelled",
        "push:waiting": "cancelled",
        "build:pressed": "done",
        "push:pressed": "cancelled",
    }
    assert isinstance(results.outcomes["push:waiting"].error, Cancelled)
    assert signal.getsignal(number) is handlers


def test_what_waits_for_a_place_is_cancelled_too() -> None:
    cancel = Cancel()
    jobs: list[Job[Any]] = [Job("build:a", lambda _: cancel.wait(30))]
    jobs += [Job(f"build:{number}", lambda _: None) for number in range(3)]

    def stop(_: Results) -> None:
        time.sleep(0.15)
        cancel.set()

    jobs.append(Job("tag:x", stop))
    results = start(*jobs, cancel=cancel, limits={"build": 1}, workers=8)
    assert statuses(results)["build:a"] == "cancelled"
    assert len(results.outcomes) == 5


def test_what_breaks_after_a_stop_is_no_failure() -> None:
    cancel = Cancel()

    def broken(_: Results) -> None:
        cancel.set()
        raise OSError("connection reset")

    results = start(Job("build:a", broken), cancel=cancel)
    assert statuses(results) == {"build:a": "cancelled"}


def test_workers_that_do_not_stop_are_left_behind() -> None:
    release = threading.Event()

    def stuck(_: Results) -> None:
        release.wait(30)

    pressed: Job[None] = Job("build:pressed", press(signal.SIGINT))
    held: Job[None] = Job("build:stuck", stuck)
    after: Job[None] = Job("push:stuck", lambda _: None, (held,))
    results = start(pressed, held, after, grace_s=0.5)
    release.set()
    assert statuses(results) == {
        "build:pressed": "done",
        "build:stuck": "cancelled",
        "push:stuck": "cancelled",
    }


def test_a_second_signal_ends_at_once() -> None:
    release = threading.Event()

    def twice(_: Results) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(30)

    cancel = Cancel()
    with pytest.raises(KeyboardInterrupt):
        start(Job("build:a", twice), cancel=cancel, grace_s=30)
    release.set()
    assert cancel.is_set


def test_a_second_signal_hits_nobody_who_holds_a_lock_and_a_third_gets_out_of_anywhere() -> None:
    state = _Run(jobs=(), settled=print, started=print, cancel=Cancel(), grace_s=1.0, idle=print)
    state.interrupt(signal.SIGINT, None)
    state.look_up()
    state.interrupt(signal.SIGTERM, None)  # returns: it may come amid anything
    with pytest.raises(KeyboardInterrupt):
        state.look_up()
    with pytest.raises(KeyboardInterrupt):
        state.interrupt(signal.SIGTERM, None)
    assert state.results.interrupted == signal.SIGINT


def test_a_run_on_another_thread_is_stopped_by_its_button() -> None:
    cancel = Cancel()
    ended: list[Results] = []

    def other() -> None:
        jobs = (Job("build:a", lambda _: cancel.wait(30)), Job("tag:a", lambda _: cancel.set()))
        ended.append(start(*jobs, cancel=cancel))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    assert statuses(ended[0]) == {"build:a": "cancelled", "tag:a": "done"}
    assert ended[0].interrupted is None


def test_an_error_in_the_listener_stops_everything() -> None:
    cancel = Cancel()

    def settled(_: Outcome) -> None:
        raise OSError("disk full")

    jobs = (Job("build:a", lambda _: None), Job("build:b", lambda _: cancel.wait(30)))
    with pytest.raises(OSError, match="disk full"):
        start(*jobs, settled=settled, cancel=cancel)
    assert cancel.is_set


def test_a_failed_job_explains_what_was_skipped_even_after_a_stop() -> None:
    cancel = Cancel()
    bad: Job[None] = Job("build:a", fail)
    after: Job[None] = Job("push:a", lambda _: None, (bad,))
    stop: Job[None] = Job("tag:x", lambda _: cancel.set(), ())
    results = start(bad, after, stop, cancel=cancel, workers=1)
    assert results.outcomes["push:a"].because == ("build:a",)


def test_a_signal_is_seen_by_workers_before_the_button_is_pressed() -> None:
    state = _Run(jobs=(), settled=print, started=print, cancel=Cancel(), grace_s=1.0, idle=print)
    job: Job[None] = Job("build:a", lambda _: None)
    state.interrupt(signal.SIGINT, None)
    assert not state.work(job)
    assert state.ended["build:a"].status == "cancelled"


def test_doit_refusing_the_graph_would_be_our_bug() -> None:
    state = _Run(jobs=(), settled=print, started=print, cancel=Cancel(), grace_s=1.0, idle=print)
    with pytest.raises(RuntimeError, match="bad graph"):
        _Reporter(state).runtime_error("bad graph")


def test_doit_keeps_nothing() -> None:
    database = _Forgetful("name")
    database.set("build:a", "deps", 1)
    assert database.get("build:a", "deps") is None
    assert not database.in_("build:a")


def test_doit_reads_no_configuration(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.doit.plugins.command]\nrun = "evil:Run"\n')
    (tmp_path / "doit.cfg").write_text("[COMMAND]\nrun = evil:Run\n")
    monkeypatch.chdir(tmp_path)
    assert set(statuses(start(Job("build:a", lambda _: None))).values()) == {"done"}
    assert {path.name for path in tmp_path.iterdir()} == {"pyproject.toml", "doit.cfg"}
