"""Time of many calls, as the figures that are reported."""

import time
from collections.abc import Callable, Mapping

Figures = Mapping[str, float]


def timed(call: Callable[[], object], count: int, *, warm: int = 20) -> Figures:
    """Call `warm` times for nothing, then `count` times; median, 99th percentile, worst, in ms."""
    for _ in range(warm):
        call()
    taken = sorted(_once(call) for _ in range(count))
    return {
        "median_ms": _at(taken, 0.5),
        "p99_ms": _at(taken, 0.99),
        "worst_ms": _at(taken, 1.0),
        "calls": count,
    }


def _once(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _at(taken: list[float], share: float) -> float:
    place = min(len(taken) - 1, int(share * len(taken)))
    return round(taken[place] * 1000, 3)
