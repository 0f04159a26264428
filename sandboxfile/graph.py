"""Run jobs in dependency order, several at once. The only module that knows doit.

doit schedules and nothing more: it reads no configuration, keeps no database, and its freshness
check is told the answer. It is imported when there is something to run.
"""

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Generic, Literal, TypeVar

from sandboxfile import schedule
from sandboxfile.cancel import Cancel, signals
from sandboxfile.errors import Cancelled, Left
from sandboxfile.frozen import dataclass, field

T = TypeVar("T")
Status = Literal["done", "up to date", "failed", "skipped", "cancelled", "detached", "waiting"]

_POLL_S = 0.05


@dataclass(frozen=True, eq=False, slots=True)
class Job(Generic[T]):
    """One unit of work, named `<kind>:<what>`; `needs` run first and their results are at hand.

    `span` tells of a job whose work began before the run, and may have ended by then, when it
    worked. Such jobs come first: what they use is in use already.
    """

    name: str
    run: Callable[["Results"], T]
    needs: tuple["Job[Any]", ...] = ()
    span: Callable[[], schedule.Span] | None = None

    @property
    def kind(self) -> str:
        return schedule.kind_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one job ended.

    detached: its effect goes on elsewhere; waiting: it is for a later run. `because` names the
    jobs for which it was skipped, or waits. It was `ready` to run and `began` at these times of the
    monotonic clock, in seconds; both are 0 for a job that never ran.
    """

    name: str
    status: Status
    error: BaseException | None = None
    because: tuple[str, ...] = ()
    seconds: float = 0.0
    ready: float = 0.0
    began: float = 0.0

    @property
    def waited(self) -> float:
        """Seconds between being ready and having a place."""
        return self.began - self.ready

    @property
    def span(self) -> schedule.Span | None:
        """When it ran, None if it never did."""
        if not self.began:
            return None
        return schedule.Span(began=self.began, ended=self.began + self.seconds)


class Results:
    """What finished jobs returned, typed by the job asked for, and how every job ended.

    `interrupted` is the number of the signal that stopped the run, None if none did.
    """

    def __init__(self) -> None:
        self._values: dict[Job[Any], Any] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.interrupted: int | None = None

    def __getitem__(self, job: Job[T]) -> T:
        value: T = self._values[job]
        return value

    def keep(self, job: Job[T], value: T) -> None:
        self._values[job] = value


def _causes(needs: Iterable[Outcome], *, root: Status, behind: Status) -> tuple[str, ...]:
    """Name the jobs that ended as `root`, or for which a need ended as `behind`."""
    because: list[str] = []
    for need in needs:
        if need.status == root:
            because.append(need.name)
        elif need.status == behind:
            because.extend(need.because or (need.name,))
    return tuple(dict.fromkeys(because))


class _Abandoned(Exception):  # noqa: N818 - never seen outside
    """Workers did not stop in time after the run was cancelled."""


class _Places:
    """What is ready to run, handed to workers in the order of the graph as places allow.

    `limits` says how many jobs of a kind run at once. A place is free again when the main thread
    says so, which is after it put in what the ended job made ready: that may come first.
    """

    def __init__(self, jobs: tuple[Job[Any], ...], limits: Mapping[str, int], workers: int) -> None:
        self._rank = {job: number for number, job in enumerate(jobs)}
        self._free = {job.kind: limits.get(job.kind, len(jobs)) for job in jobs}
        self._ready: dict[str, list[tuple[int, float, Job[Any]]]] = {job.kind: [] for job in jobs}
        self._workers = workers
        self._changed = threading.Condition()
        self._is_stopped = self._is_closed = False

    def put(self, job: Job[Any]) -> None:
        with self._changed:
            heapq.heappush(self._ready[job.kind], (self._rank[job], time.monotonic(), job))
            self._changed.notify()

    def take(self) -> tuple[Job[Any], float] | None:
        """Wait for a job that may run, and since when it could have; None when there is no more."""
        with self._changed:
            while not self._is_closed:
                heaps = [
                    waiting
                    for kind, waiting in self._ready.items()
                    if waiting and (self._is_stopped or (self._free[kind] and self._workers))
                ]
                if heaps:
                    _, since, job = heapq.heappop(min(heaps))
                    self._free[job.kind] -= 1
                    self._workers -= 1
                    return job, since
                self._changed.wait()
            return None

    def free(self, kind: str) -> None:
        with self._changed:
            self._free[kind] += 1
            self._workers += 1
            self._changed.notify()

    def stop(self) -> None:
        """Let through whatever waits, to be cancelled."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Send the workers home."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


@dataclass(slots=True, kw_only=True)
class _Run:
    """The state of one run, shared by the main thread and the workers."""

    jobs: tuple[Job[Any], ...]
    settled: Callable[[Outcome], None]
    started: Callable[[str], None]
    cancel: Cancel
    grace_s: float
    idle: Callable[[], None]
    results: Results = field(default_factory=Results)
    ended: dict[str, Outcome] = field(default_factory=dict)
    deadline: float | None = None
    signals: int = 0  # that came

    def work(self, job: Job[Any], ready: float = 0.0) -> bool:
        """Run one job, on a worker; true if it succeeded."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            if self.stopped:
                raise Cancelled("stopped")  # noqa: TRY301
            self.started(job.name)
            self.results.keep(job, job.run(self.results))
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is this job's failure
            error = caught
        span = job.span() if job.span else schedule.Span(began=began, ended=time.monotonic())
        self.ended[job.name] = Outcome(
            name=job.name,
            status=self._status(error),
            error=error,
            seconds=span.ended - span.began,
            ready=min(ready or began, span.began),
            began=span.began,
        )
        return error is None

    def _status(self, error: BaseException | None) -> Status:
        if error is None:
            return "done"
        if isinstance(error, Left):
            return "detached" if error.build_id else "waiting"
        # Once the run is stopped, connections break under workers in many ways.
        stopped = self.stopped or isinstance(error, Cancelled)
        return "cancelled" if stopped else "failed"

    @property
    def stopped(self) -> bool:
        """Whether the run was stopped, even if the main thread has not seen it yet."""
        return self.cancel.is_set or self.results.interrupted is not None

    def settle(self, outcome: Outcome) -> None:
        """Tell of the end of a job, on the main thread, once."""
        if outcome.name not in self.results.outcomes:
            self.results.outcomes[outcome.name] = outcome
            self.settled(outcome)

    def unstarted(self, job: Job[Any]) -> Outcome:
        """Return the outcome of a job that never ran."""
        needs = [self.results.outcomes[need.name] for need in job.needs]
        failed = _causes(needs, root="failed", behind="skipped")
        left = _causes(needs, root="detached", behind="waiting")
        if failed:
            return Outcome(name=job.name, status="skipped", because=failed)
        if left and not self.stopped:
            return Outcome(name=job.name, status="waiting", because=left)
        return Outcome(name=job.name, status="cancelled", error=Cancelled("stopped"))

    def look_up(self) -> None:
        """See, on the main thread, whether the run was stopped; raise when time is up."""
        if self.signals > 1:
            raise KeyboardInterrupt
        if self.results.interrupted is not None and not self.cancel.is_set:
            self.cancel.set()
        if not self.cancel.is_set:
            return
        if self.deadline is None:
            self.deadline = time.monotonic() + self.grace_s
        elif time.monotonic() > self.deadline:
            raise _Abandoned

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first stops the run, the second ends it at once.

        Only flags are set here. Pressing the button takes locks, and so does the end of a run: a
        signal may arrive while this very thread holds them. If nothing looks at the flags, because
        this thread is held elsewhere, the third one gets it out.
        """
        self.signals += 1
        if self.results.interrupted is None:
            self.results.interrupted = number
        elif self.signals > 2:  # noqa: PLR2004 - the third
            raise KeyboardInterrupt


def run(
    jobs: Iterable[Job[Any]],
    *,
    settled: Callable[[Outcome], None],
    cancel: Cancel,
    started: Callable[[str], None] = lambda _: None,
    limits: Mapping[str, int] | None = None,
    workers: int | None = None,
    seconds: Callable[[str], float] = lambda _: 1.0,
    idle: Callable[[], None] = lambda: None,
    grace_s: float = 1.5,
) -> Results:
    """Run every job whose needs succeed; a failure stops only what depends on it.

    `settled` hears of each job on this thread, `started` on a worker's; `idle` is called on this
    thread, some times a second, while nothing ends. `limits` says how many jobs of a kind run at
    once; `workers`, the number of threads, is by default their sum, so that none waits for a place.
    The longest chain comes first by the `seconds` that a job of a name is expected to take. On
    SIGINT, SIGTERM or SIGHUP `cancel` is set, and workers have `grace_s` seconds to end; what did
    not run is cancelled. A second signal raises KeyboardInterrupt. Raises ValueError for jobs that
    wait for each other.
    """
    limits = limits or {}
    ordered = _longest_first(tuple(jobs), seconds)
    state = _Run(
        jobs=ordered,
        settled=settled,
        started=started,
        cancel=cancel,
        grace_s=grace_s,
        idle=idle,
    )
    wanted = workers or sum(limits.values()) or 1
    with signals(state.interrupt):
        _schedule(state, limits, max(1, min(wanted, len(ordered))))
    return state.results


def _longest_first(
    jobs: tuple[Job[Any], ...], seconds: Callable[[str], float]
) -> tuple[Job[Any], ...]:
    by_name = {job.name: job for job in jobs}
    if len(by_name) < len(jobs):
        raise ValueError("two jobs have one name")
    needs = {job.name: tuple(need.name for need in job.needs) for job in jobs}
    ordered = [by_name[name] for name in schedule.longest_first(needs, seconds)]
    begun = {each for job in ordered if job.span for each in (job, *job.needs)}
    return tuple(sorted(ordered, key=lambda job: job not in begun))


# --- doit ------------------------------------------------------------------------------------


def _schedule(state: _Run, limits: Mapping[str, int], workers: int) -> None:
    from doit.control import TaskControl
    from doit.dependency import Dependency
    from doit.runner import Runner

    control = TaskControl([_task(job) for job in state.jobs])
    control.process(None)
    runner = Runner(Dependency(_Forgetful, ""), _Reporter(state), continue_=True)
    places = _Places(state.jobs, limits, workers)
    runner.run_tasks = lambda dispatcher: _run_tasks(runner, dispatcher, state, places, workers)
    try:
        runner.run_all(control.task_dispatcher())
    except _Abandoned:
        for job in state.jobs:
            state.settle(state.ended.get(job.name) or state.unstarted(job))
    except BaseException:
        state.cancel.set()
        raise
    finally:
        places.close()


def _run_tasks(runner: Any, dispatcher: Any, state: _Run, places: _Places, workers: int) -> None:
    """Stand in for doit's own runners, which hand tasks out before there is a place for them."""
    from doit.exceptions import TaskFailed

    # No SimpleQueue: when a signal takes that past its time limit, it waits for ever (Python 3.11).
    done: queue.Queue[Job[Any]] = queue.Queue()
    threads = [
        threading.Thread(target=_worker, args=(state, places, done), daemon=True)
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    jobs = {job.name: job for job in state.jobs}
    running = 0
    node = None
    while True:
        for name in _ready(runner, dispatcher, node):
            places.put(jobs[name])
            running += 1
        if node is not None:
            places.free(schedule.kind_of(node.task.name))
        if not running:
            break
        job = _next(state, places, done)
        running -= 1
        node = dispatcher.nodes[job.name]
        succeeded = state.ended[job.name].status == "done"
        failure = None if succeeded else TaskFailed(job.name, report=False)
        runner.process_task_result(node, failure)
    places.close()
    for thread in threads:
        thread.join()


def _worker(state: _Run, places: _Places, done: "queue.Queue[Job[Any]]") -> None:
    while (taken := places.take()) is not None:
        job, ready = taken
        state.work(job, ready)
        done.put(job)


def _ready(runner: Any, dispatcher: Any, node: Any) -> Iterator[str]:
    """Yield the names of all tasks that can run now; `node` has just ended, if any has."""
    while True:
        try:
            node = dispatcher.generator.send(node)
        except StopIteration:
            return
        if node == "hold on":  # what is left waits for what runs
            return
        if runner.select_task(node, dispatcher.tasks):
            yield node.task.name
            node = None


def _next(state: _Run, places: _Places, done: "queue.Queue[Job[Any]]") -> Job[Any]:
    """Wait for a job to end, with eyes open for what stops the run."""
    while True:
        state.look_up()
        if state.cancel.is_set:
            places.stop()
        try:
            return done.get(timeout=_POLL_S)
        except queue.Empty:
            state.idle()


def _task(job: Job[Any]) -> Any:
    """Return a task that only stands for the job: the worker runs that, not doit."""
    from doit.task import dict_to_task

    return dict_to_task(
        {"name": job.name, "actions": None, "task_dep": [need.name for need in job.needs]}
    )


class _Reporter:
    """Turns doit's callbacks into outcomes; these arrive on the main thread."""

    def __init__(self, state: _Run) -> None:
        self._state = state
        self._jobs = {job.name: job for job in state.jobs}

    def add_success(self, task: Any) -> None:
        self._state.settle(self._state.ended[task.name])

    def add_failure(self, task: Any, _fail: Any) -> None:
        ended = self._state.ended.get(task.name)
        self._state.settle(ended or self._state.unstarted(self._jobs[task.name]))

    def runtime_error(self, message: str) -> None:
        raise RuntimeError(message)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None


class _Forgetful:
    """The database that doit wants: it remembers nothing, the plan has decided everything."""

    def __init__(self, name: str, **_options: Any) -> None:
        self.name = name

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Forget a value."""

    def get(self, _task_id: str, _dependency: str) -> Any:
        return None

    def in_(self, _task_id: str) -> bool:
        return False

    def remove(self, task_id: str) -> None:
        """Forget a task."""

    def remove_all(self) -> None:
        """Forget everything."""

    def dump(self) -> None:
        """Write nothing."""
