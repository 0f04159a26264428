"""What the figures have to be: each goal is the most that a figure may be."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Any]
ALL_AT_ONCE = 1 / 150  # of what asking the engine takes
OURS = ("sandboxfile", "second_stage", "fresh_clone", "fresh_clone_reading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure, where it is found, and the most that it may be."""

    what: str
    of: Callable[[Found], float]
    most: float


def _started(found: Found, size: str) -> float:
    return float(found["noop"][size]["runs"]["sandboxfile"]["median_ms"])


GOALS = (
    Goal(
        what="nothing to do, 1,000 templates: to `git status`",
        of=lambda found: found["noop"]["1000"]["vs_git_status"],
        most=1.2,
    ),
    Goal(
        what="the same in a fresh clone: to the SDK's hashing",
        of=lambda found: found["noop"]["1000"]["fresh_clone_vs_sdk"],
        most=0.3,
    ),
    Goal(
        what="the same in a fresh clone: to `git hash-object`",
        of=lambda found: found["noop"]["1000"]["fresh_clone_vs_git_hash_object"],
        most=0.8,
    ),
    Goal(
        what="nothing to do, one template: to `python -c pass`",
        of=lambda found: found["noop"]["1"]["vs_python_pass"],
        most=3,
    ),
    Goal(
        what="nothing to do, ten templates: milliseconds more than one",
        of=lambda found: _started(found, "10") - _started(found, "1"),
        most=5,
    ),
    Goal(
        what="nothing to do, 100 templates: to Docker Compose",
        of=lambda found: found["noop"]["100"]["vs_compose"],
        most=ALL_AT_ONCE,
    ),
    Goal(
        what="nothing to do, 100 templates: to the best parallel `docker build`",
        of=lambda found: found["noop"]["100"]["vs_docker_build_best_parallel"],
        most=ALL_AT_ONCE,
    ),
    Goal(
        what="one change in 1,000, less 60 ms for doit: to `git status` and the raw build",
        of=lambda found: found["change"]["1000"]["less_60_ms_vs_status_and_build"],
        most=1.3,
    ),
    Goal(
        what="cold build of 20: to the best parallel `docker build`",
        of=lambda found: found["cold"]["vs_best_parallel"],
        most=1.05,
    ),
    Goal(
        what="cold build of 20: to the docker SDK in series",
        of=lambda found: found["cold"]["vs_docker_sdk"],
        most=0.55,
    ),
    Goal(
        what="asking for an unchanged image: to `docker push`",
        of=lambda found: found["cold"]["push"]["vs_docker_push"],
        most=0.2,
    ),
    Goal(
        what="peak memory at 1,000 templates, MiB",
        of=lambda found: max(found["memory"]["1000"][name] for name in OURS),
        most=150,
    ),
    Goal(
        what="what a context of 500 MB adds to it, MiB",
        of=lambda found: found["memory"]["context_500_mb"]["above_small"],
        most=64,
    ),
)


def checked(found: Found) -> Iterator[tuple[Goal, float]]:
    """Yield every goal whose figure was measured, and the figure."""
    for goal in GOALS:
        with suppress(KeyError):
            yield goal, goal.of(found)
