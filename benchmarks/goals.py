"""What the figures have to be: each goal is the most that a figure may be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Any]
ALL_AT_ONCE = 1 / 150  # of what asking the engine takes
OURS = ("sandboxfile", "second_stage", "fresh_clone", "fresh_clone_reading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure, where a subject has it, and the most that it may be."""

    what: str
    subject: str
    of: Callable[[Found], float]
    most: float


def _started(found: Found) -> float:
    return float(found["runs"]["sandboxfile"]["median_ms"])


GOALS = (
    Goal(
        what="nothing to do, 1,000 templates: to `git status`",
        subject="noop",
        of=lambda found: found["1000"]["vs_git_status"],
        most=1.2,
    ),
    Goal(
        what="the same in a fresh clone: to the SDK's hashing",
        subject="noop",
        of=lambda found: found["1000"]["fresh_clone_vs_sdk"],
        most=0.3,
    ),
    Goal(
        what="the same in a fresh clone: to `git hash-object`",
        subject="noop",
        of=lambda found: found["1000"]["fresh_clone_vs_git_hash_object"],
        most=0.8,
    ),
    Goal(
        what="nothing to do, one template: to `python -c pass`",
        subject="noop",
        of=lambda found: found["1"]["vs_python_pass"],
        most=3,
    ),
    Goal(
        what="nothing to do, ten templates: milliseconds more than one",
        subject="noop",
        of=lambda found: _started(found["10"]) - _started(found["1"]),
        most=5,
    ),
    Goal(
        what="nothing to do, 100 templates: to Docker Compose",
        subject="noop",
        of=lambda found: found["100"]["vs_compose"],
        most=ALL_AT_ONCE,
    ),
    Goal(
        what="nothing to do, 100 templates: to the best parallel `docker build`",
        subject="noop",
        of=lambda found: found["100"]["vs_docker_build_best_parallel"],
        most=ALL_AT_ONCE,
    ),
    Goal(
        what="one change in 1,000, less 60 ms for doit: to `git status` and the raw build",
        subject="change",
        of=lambda found: found["1000"]["less_60_ms_vs_status_and_build"],
        most=1.3,
    ),
    Goal(
        what="cold build of 20: to the best parallel `docker build`",
        subject="cold",
        of=lambda found: found["vs_best_parallel"],
        most=1.05,
    ),
    Goal(
        what="cold build of 20: to the docker SDK in series",
        subject="cold",
        of=lambda found: found["vs_docker_sdk"],
        most=0.55,
    ),
    Goal(
        what="asking for an unchanged image: to `docker push`",
        subject="cold",
        of=lambda found: found["push"]["vs_docker_push"],
        most=0.2,
    ),
    Goal(
        what="peak memory at 1,000 templates, MiB",
        subject="memory",
        of=lambda found: max(found["1000"][name] for name in OURS),
        most=150,
    ),
    Goal(
        what="what a context of 500 MB adds to it, MiB",
        subject="memory",
        of=lambda found: found["context_500_mb"]["above_small"],
        most=64,
    ),
)


def checked(found: Found) -> Iterator[tuple[Goal, float | None]]:
    """Yield every goal of the subjects that were asked for, and the figure; None for lack of one.

    It is lacking without what it compares with, and for numbers of templates that were left out.
    """
    for goal in GOALS:
        if goal.subject in found:
            yield goal, _figure(goal, found[goal.subject])


def _figure(goal: Goal, found: Found) -> float | None:
    try:
        return goal.of(found)
    except KeyError:
        return None
