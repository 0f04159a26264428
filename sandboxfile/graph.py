"""Run jobs in dependency order, several at once. The only module that knows doit.

doit schedules and nothing more: it reads no configuration, keeps no database, and its freshness
check is told the answer. It is imported when there is something to run.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from types import FrameType
from typing import Any, Generic, Literal, TypeVar

from sandboxfile.cancel import Cancel, signals
from sandboxfile.errors import Cancelled, Left

T = TypeVar("T")
Status = Literal["done", "up to date", "failed", "skipped", "cancelled", "detached", "waiting"]

_POLL_S = 0.05


@dataclass(frozen=True, eq=False, slots=True)
class Job(Generic[T]):
    """One unit of work, named `<kind>:<what>`; `needs` run first and their results are at hand."""

    name: str
    run: Callable[["Results"], T]
    needs: tuple["Job[Any]", ...] = ()

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one job ended.

    detached: its effect goes on elsewhere; waiting: it is for a later run. `because` names the
    jobs for which it was skipped, or waits.
    """

    name: str
    status: Status
    error: BaseException | None = None
    because: tuple[str, ...] = ()
    seconds: float = 0.0


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


@dataclass(kw_only=True)
class _Run:
    """The state of one run, shared by the main thread and the workers."""

    jobs: tuple[Job[Any], ...]
    settled: Callable[[Outcome], None]
    started: Callable[[str], None]
    limits: Mapping[str, threading.Semaphore]
    cancel: Cancel
    grace_s: float
    results: Results = field(default_factory=Results)
    ended: dict[str, Outcome] = field(default_factory=dict)
    deadline: float | None = None
    main: int = field(default_factory=threading.get_ident)

    def work(self, job: Job[Any]) -> bool:
        """Run one job, on a worker; true if it succeeded."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            with self._place(job.kind):
                self._check()
                began = time.monotonic()
                self.started(job.name)
                self.results.keep(job, job.run(self.results))
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is this job's failure
            error = caught
        status = self._status(error)
        seconds = time.monotonic() - began
        self.ended[job.name] = Outcome(name=job.name, status=status, error=error, seconds=seconds)
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

    def _check(self) -> None:
        if self.stopped:
            raise Cancelled("stopped")

    @contextmanager
    def _place(self, kind: str) -> Iterator[None]:
        """Wait for one of the places that jobs of this kind share."""
        limit = self.limits.get(kind)
        if limit is None:
            yield
            return
        while not limit.acquire(timeout=_POLL_S):
            self._check()
        try:
            yield
        finally:
            limit.release()

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

        Only a flag is set here. Pressing the button takes locks, and a signal may arrive while
        this very thread holds them.
        """
        if self.results.interrupted is not None:
            raise KeyboardInterrupt
        self.results.interrupted = number


def run(
    jobs: Iterable[Job[Any]],
    *,
    settled: Callable[[Outcome], None],
    cancel: Cancel,
    started: Callable[[str], None] = lambda _: None,
    limits: Mapping[str, int] | None = None,
    workers: int | None = None,
    grace_s: float = 1.5,
) -> Results:
    """Run every job whose needs succeed; a failure stops only what depends on it.

    `settled` hears of each job on this thread, `started` on a worker's. `limits` says how many
    jobs of a kind run at once; `workers`, the number of threads, is by default their sum. On
    SIGINT, SIGTERM or SIGHUP `cancel` is set, and workers have `grace_s` seconds to end; what did
    not run is cancelled. A second signal raises KeyboardInterrupt. Raises ValueError for jobs that
    wait for each other.
    """
    limits = limits or {}
    state = _Run(
        jobs=_longest_first(tuple(jobs)),
        settled=settled,
        started=started,
        limits={kind: threading.Semaphore(count) for kind, count in limits.items()},
        cancel=cancel,
        grace_s=grace_s,
    )
    wanted = workers or sum(limits.values()) or 1
    with signals(state.interrupt):
        _schedule(state, max(1, min(wanted, len(state.jobs))))
    return state.results


def _longest_first(jobs: tuple[Job[Any], ...]) -> tuple[Job[Any], ...]:
    """Sort so that jobs with the longest chain behind them come first, then begun chains."""
    by_name = {job.name: job for job in jobs}
    needs = {job.name: [need.name for need in job.needs] for job in jobs}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise ValueError(f"jobs wait for each other: {' -> '.join(error.args[1])}") from None
    if len(by_name) < len(jobs) or len(order) > len(jobs):
        raise ValueError("two jobs have one name, or a job needs one that is not in the graph")
    before: dict[str, int] = {}
    for name in order:
        before[name] = 1 + max((before[need] for need in needs[name]), default=0)
    behind = dict.fromkeys(order, 0)
    for name in reversed(order):
        for need in needs[name]:
            behind[need] = max(behind[need], behind[name] + 1)
    return tuple(sorted(jobs, key=lambda job: (-behind[job.name], -before[job.name])))


# --- doit ------------------------------------------------------------------------------------


def _schedule(state: _Run, workers: int) -> None:
    from doit.control import TaskControl
    from doit.dependency import Dependency
    from doit.runner import MThreadRunner

    control = TaskControl([_task(state, job) for job in state.jobs])
    control.process(None)
    runner = MThreadRunner(
        Dependency(_Forgetful, ""), _Reporter(state), continue_=True, num_process=workers
    )
    # doit makes two queues, one to its workers and one from them.
    queues = [_Queue(state), _Queue(state)]
    runner.Queue = iter(queues).__next__
    try:
        runner.run_all(control.task_dispatcher())
    except _Abandoned:
        for job in state.jobs:
            state.settle(state.ended.get(job.name) or state.unstarted(job))
    except BaseException:
        state.cancel.set()
        raise
    finally:
        for each in queues:  # workers that still wait for a task end
            for _ in range(workers):
                each.put(None)


def _task(state: _Run, job: Job[Any]) -> Any:
    from doit.exceptions import TaskFailed
    from doit.task import dict_to_task

    def act() -> Any:
        return None if state.work(job) else TaskFailed(job.name, report=False)

    return dict_to_task(
        {
            "name": job.name,
            "actions": [act],
            "task_dep": [need.name for need in job.needs],
            # Capturing would swap sys.stdout for the whole process, under other threads' feet.
            "io": {"capture": False},
            "verbosity": 0,
        }
    )


class _Queue(queue.Queue[Any]):
    """A queue on which the main thread waits with its eyes open."""

    def __init__(self, state: _Run) -> None:
        super().__init__()
        self._state = state

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        if threading.get_ident() != self._state.main:
            return super().get(block, timeout)
        while True:
            self._state.look_up()
            with suppress(queue.Empty):
                return super().get(timeout=_POLL_S)


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
