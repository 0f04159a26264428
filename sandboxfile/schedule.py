"""In which order jobs start, how long a run of them takes, and which chain decided that. Pure.

Jobs are names here, `<kind>:<what>`; kinds share places, and a job needs others to end first.
"""

import heapq
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter

from sandboxfile.frozen import dataclass

Needs = Mapping[str, tuple[str, ...]]
Seconds = Callable[[str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When a job ran, in seconds of any clock."""

    began: float
    ended: float


def kind_of(job: str) -> str:
    return job.partition(":")[0]


def longest_first(needs: Needs, seconds: Seconds = lambda _: 1.0) -> tuple[str, ...]:
    """Sort jobs by the time of the longest chain that begins with them, then begun chains first.

    This is the list scheduling by upward rank of HEFT (Topcuoglu, 2002) for equal machines.
    Raises ValueError for jobs that wait for each other or for strangers.
    """
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise ValueError(f"jobs wait for each other: {' -> '.join(error.args[1])}") from None
    if len(order) > len(needs):
        raise ValueError("a job needs one that is not in the graph")
    before: dict[str, int] = {}
    for name in order:
        before[name] = 1 + max((before[need] for need in needs[name]), default=0)
    chain = {name: max(0.0, seconds(name)) for name in order}
    for name in reversed(order):
        for need in needs[name]:
            chain[need] = max(chain[need], max(0.0, seconds(need)) + chain[name])
    # Chains of jobs that take no time are told apart by their length.
    behind = dict.fromkeys(order, 0)
    for name in reversed(order):
        for need in needs[name]:
            behind[need] = max(behind[need], behind[name] + 1)
    return tuple(sorted(needs, key=lambda name: (-chain[name], -behind[name], -before[name])))


def simulate(needs: Needs, seconds: Seconds, limits: Mapping[str, int]) -> Mapping[str, Span]:
    """Return when each job would run: started in order, as soon as its needs and a place allow.

    A kind without a limit has places for all. Raises ValueError as `longest_first` does.
    """
    order = longest_first(needs, seconds)
    left = {name: len(set(needs[name])) for name in order}
    dependants: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for need in set(needs[name]):
            dependants[need].append(name)
    rank = {name: number for number, name in enumerate(order)}
    free = {kind_of(name): limits.get(kind_of(name), len(order)) for name in order}
    ready: dict[str, list[int]] = {kind: [] for kind in free}
    running: list[tuple[float, int]] = []
    spans: dict[str, Span] = {}
    now = 0.0
    for name in order:
        if not left[name]:
            heapq.heappush(ready[kind_of(name)], rank[name])
    while len(spans) < len(order) or running:
        for kind, waiting in ready.items():
            while waiting and free[kind]:
                free[kind] -= 1
                number = heapq.heappop(waiting)
                ends = now + max(0.0, seconds(order[number]))
                spans[order[number]] = Span(began=now, ended=ends)
                heapq.heappush(running, (ends, number))
        now, number = heapq.heappop(running)
        free[kind_of(order[number])] += 1
        for name in dependants[order[number]]:
            left[name] -= 1
            if not left[name]:
                heapq.heappush(ready[kind_of(name)], rank[name])
    return spans


def length(spans: Mapping[str, Span]) -> float:
    """Return the seconds from the first start to the last end."""
    if not spans:
        return 0.0
    began = min(span.began for span in spans.values())
    return max(span.ended for span in spans.values()) - began


def critical(spans: Mapping[str, Span], needs: Needs) -> tuple[str, ...]:
    """Return the jobs that decided how long a run took, in order: each held up the next.

    What held a job up is what ended last before it began: one that it needs, or one of its kind
    whose place it got.
    """
    if not spans:
        return ()
    path = [max(spans, key=lambda name: (spans[name].ended, name))]
    while (earlier := _held_up_by(path[-1], spans, needs)) is not None:
        path.append(earlier)
    return tuple(reversed(path))


def _held_up_by(job: str, spans: Mapping[str, Span], needs: Needs) -> str | None:
    began = spans[job].began
    needed = [name for name in needs.get(job, ()) if name in spans]
    ready = max((spans[name].ended for name in needed), default=None)
    rivals = [
        name
        for name, span in spans.items()
        if name != job
        and kind_of(name) == kind_of(job)
        and span.began < began
        and span.ended <= began
        and (ready is None or span.ended > ready)
    ]
    return max([*needed, *rivals], key=lambda name: spans[name].ended, default=None)
