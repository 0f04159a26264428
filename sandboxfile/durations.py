"""How long each step of each template took, and how many bytes it sent, in earlier runs.

It decides nothing but the order and what is said to take how long: an unreadable, forged or
missing file is an empty history. Runs that end at the same time both count: the file is read anew
under a lock before it is replaced. Keys are `<step>:<template>`, of steps at a target with
`@<target>` behind: the engine works alike for all targets, services do not.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sandboxfile import flock, reading, writing
from sandboxfile.frozen import dataclass, field
from sandboxfile.model import NAME

FILE = "durations.json"  # in the state directory
VERSION = 1
LIMIT = 20_000  # entries; those that were measured longest ago are dropped
MAX_BYTES = 4 << 20  # of the file
UNKNOWN_S = 1.0

_HERE = frozenset({"generate", "build"})  # the engine's steps; the others are a target's
_KINDS = _HERE | {"push", "snapshot", "tag"}
_MOST_S = 7 * 24 * 3600.0
_MOST_BYTES = 1 << 50
_LOCK_S, _POLL_S = 2.0, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a step took: seconds of the clock, and bytes that were sent."""

    seconds: float
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """What is known of earlier runs; keys as in the file."""

    known: Mapping[str, Cost]
    _medians: dict[tuple[str, str], float] = field(default_factory=dict, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.known)

    def seconds(self, job: str, target: str) -> float:
        """Return what a job (`<step>:<template>`) is expected to take.

        For one that never ran it is the median of those of its step, at this target if any ran
        there; without any it is a second.
        """
        found = self.known.get(_key(job, target))
        if found is not None:
            return found.seconds
        kind = job.partition(":")[0], _key(job, target).partition("@")[2]
        if kind not in self._medians:
            self._medians[kind] = self._usual(*kind)
        return self._medians[kind]

    def _usual(self, step: str, place: str) -> float:
        alike = {k: c.seconds for k, c in self.known.items() if k.partition(":")[0] == step}
        there = [seconds for key, seconds in alike.items() if key.partition("@")[2] == place]
        if not alike:
            return UNKNOWN_S
        from statistics import median  # with fractions and decimals

        return median(there or alike.values())


def _key(job: str, target: str) -> str:
    return job if job.partition(":")[0] in _HERE else f"{job}@{target}"


def read(path: Path) -> History:
    """Return the history, without whatever in it nobody could have measured."""
    try:
        data = reading.regular(path)
        document = json.loads(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return History({})
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return History({})
    jobs = document.get("jobs")
    entries = jobs.items() if isinstance(jobs, dict) else ()
    costs = {key: cost for key, value in entries if (cost := _cost(key, value)) is not None}
    return History(costs)


def _cost(key: str, value: object) -> Cost | None:
    """Return an entry of the file if it is one that we could have written."""
    job, _, place = key.partition("@")
    step, _, template = job.partition(":")
    if step not in _KINDS or not NAME.fullmatch(template) or (step in _HERE) != (place == ""):
        return None
    match value:
        case [float() | int() as seconds, int() as sent]:
            is_sane = 0 <= seconds <= _MOST_S and 0 <= sent <= _MOST_BYTES
            is_bool = isinstance(seconds, bool) or isinstance(sent, bool)
            return Cost(seconds=seconds, bytes=sent) if is_sane and not is_bool else None
        case _:
            return None


def record(path: Path, target: str, costs: Mapping[str, Cost]) -> None:
    """Add what jobs (`<step>:<template>`) took at a target; where that cannot be, it is lost.

    A new measurement counts as much as all before it: the history follows a template that
    changes, and one odd run does not decide.
    """
    if not costs:
        return
    with suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _wait_for_turn(directory)
            _write(path, _merged(read(path).known, target, costs))
        finally:
            os.close(directory)  # which gives the lock back


def _merged(
    known: Mapping[str, Cost], target: str, costs: Mapping[str, Cost]
) -> Mapping[str, Cost]:
    merged = dict(known)
    for job, new in costs.items():
        key = _key(job, target)
        old = merged.pop(key, new)
        seconds = round((old.seconds + new.seconds) / 2, 3)
        merged[key] = Cost(seconds=seconds, bytes=new.bytes)
    return dict(list(merged.items())[-LIMIT:])


def _wait_for_turn(directory: int) -> None:
    """Wait for other runs to write, a moment only: what is lost at worst is a measurement."""
    deadline = time.monotonic() + _LOCK_S
    while not flock.attempt(directory) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _write(path: Path, known: Mapping[str, Cost]) -> None:
    jobs = {key: [cost.seconds, cost.bytes] for key, cost in known.items()}
    text = json.dumps({"version": VERSION, "jobs": jobs}, separators=(",", ":"))
    writing.whole(path, text.encode())
