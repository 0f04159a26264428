"""Time of calls and of whole processes, side by side, as the figures that are reported."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Figures = Mapping[str, float]
WORST_TAIL = 2000  # characters of what a failed program said


class UnexpectedError(Exception):
    """A program did not do what was to be measured: its time would mean nothing."""


# --- calls -----------------------------------------------------------------------------------


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


# --- programs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A program to be timed as a whole process.

    `before` makes ready for each run and is not timed. `says` has to be in what the program
    writes, on either stream. The time of the last line that `mark` is true of is kept, too.
    """

    name: str
    command: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    before: Callable[[], object] = lambda: None
    says: str = ""
    mark: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: seconds on the clock, and of processors in the program and what it waited for.

    `marked_s` are seconds until the last marked line, `said` is all that it wrote, if it is marked.
    """

    seconds: float
    cpu_s: float
    marked_s: float = 0.0
    said: str = ""


Samples = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How often to measure: `most` rounds, fewer once `budget_s` is used up, never below `least`.

    `warm` rounds go before that and are not counted.
    """

    least: int
    most: int
    budget_s: float
    warm: int = 1


def interleaved(contenders: Iterable[Contender], rounds: Rounds) -> Samples:
    """Run the contenders in turn, round after round: what disturbs one disturbs all.

    Raises UnexpectedError.
    """
    contenders = tuple(contenders)
    found: dict[str, list[Sample]] = {each.name: [] for each in contenders}
    for _ in range(rounds.warm):
        for each in contenders:
            run(each)
    began = time.monotonic()
    for number in range(rounds.most):
        if number >= rounds.least and time.monotonic() - began > rounds.budget_s:
            break
        for each in contenders:
            found[each.name].append(run(each))
    return found


def run(contender: Contender) -> Sample:
    """Run a program once to its end. Raises UnexpectedError if it fails, or says something else."""
    contender.before()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            contender.command,
            cwd=contender.cwd,
            env=contender.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if contender.mark else said,
            stderr=subprocess.STDOUT,
            text=True,
        )
        marked = _read(process, said, contender.mark) if contender.mark else began
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode != 0 or contender.says not in text:
        raise UnexpectedError(
            f"{contender.name}: `{' '.join(contender.command)[:200]}` ended with"
            f" {process.returncode} and said:\n{text[-WORST_TAIL:]}"
        )
    return Sample(
        seconds=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
        marked_s=marked - began,
        said=text if contender.mark else "",
    )


def _read(process: subprocess.Popen[str], said: IO[str], mark: Callable[[str], bool]) -> float:
    """Read all that a program writes; return when the last marked line came."""
    marked = time.perf_counter()
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if mark(line):
                marked = time.perf_counter()
            said.write(line)
    return marked


# --- figures ---------------------------------------------------------------------------------


def figures(samples: Sequence[Sample]) -> Figures:
    """Return what is reported of the runs of one program."""
    seconds = [each.seconds for each in samples]
    return {
        "median_ms": round(statistics.median(seconds) * 1000, 2),
        "least_ms": round(min(seconds) * 1000, 2),
        "worst_ms": round(max(seconds) * 1000, 2),
        "cpu_ms": round(statistics.median(each.cpu_s for each in samples) * 1000, 2),
        "runs": len(samples),
    }


def ratio(ours: Sequence[Sample], others: Sequence[Sample]) -> float:
    """Return the median of the ratios round by round, which one disturbed round cannot move."""
    return ratio_of_sum(ours, others)


def ratio_of_sum(ours: Sequence[Sample], *others: Sequence[Sample], plus_s: float = 0.0) -> float:
    """Return the median ratio, round by round, to what several programs and `plus_s` take."""
    quotients = [
        mine.seconds / (sum(other.seconds for other in rest) + plus_s)
        for mine, *rest in zip(ours, *others, strict=True)
    ]
    return round(float(statistics.median(quotients)), 4)
