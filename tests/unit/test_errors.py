"""Each kind of error has its exit code, and says place, message, hint."""

from pathlib import Path

import pytest

from sandboxfile import errors
from sandboxfile.errors import (
    BuildFailed,
    Cancelled,
    ConfigError,
    LockStale,
    NotAllowed,
    SandboxfileError,
    Unreachable,
    Unsupported,
    UsageError,
)
from sandboxfile.places import Position, Problem

AT = Position("novita.yaml", 3, 5)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SandboxfileError("x"), 1),
        (BuildFailed("x"), 1),
        (Unsupported("x"), 1),
        (ConfigError([]), 3),
        (LockStale("x"), 4),
        (NotAllowed("x"), 5),
        (Unreachable("x"), 6),
        (UsageError("x"), 64),
        (Cancelled("x"), 130),
    ],
)
def test_every_error_has_its_exit_code(error: SandboxfileError, code: int) -> None:
    assert error.exit_code == code


def test_exit_codes_are_distinct_and_stay_as_they_are() -> None:
    codes = {name: value for name, value in vars(errors).items() if type(value) is int}
    assert sorted(codes.values()) == [0, 1, 2, 3, 4, 5, 6, 7, 64, 70, 130]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SandboxfileError("no daemon"), "error: no daemon"),
        (SandboxfileError("no daemon", hint="start it"), "error: no daemon\nhint: start it"),
        (BuildFailed("it failed", at=AT), "novita.yaml:3:5: error: it failed"),
    ],
)
def test_an_error_reads_place_message_hint(error: SandboxfileError, text: str) -> None:
    assert str(error) == text


def test_problems_are_sorted_and_told_once() -> None:
    late = Problem(Position("b.yaml", 1, 1), "late")
    early = Problem(AT, "early")
    first = Problem(Position("a.yaml", 9, 1), "first")
    error = ConfigError(problem for problem in [late, early, first, early])
    assert error.problems == (first, late, early)
    assert str(error) == "\n".join(str(problem) for problem in (first, late, early))


def test_a_failed_build_carries_its_evidence() -> None:
    error = BuildFailed("it failed", step="RUN x", status=3, tail=("a", "b"), log=Path("x.log"))
    assert (error.step, error.status, error.tail) == ("RUN x", 3, ("a", "b"))
    assert error.log == Path("x.log")


def test_what_the_machine_does_not_give_is_told_from_bugs() -> None:
    assert "memory" in str(errors.shortage(MemoryError()))
    assert "threads" in str(errors.shortage(RuntimeError("can't start new thread")))
    assert errors.shortage(RuntimeError("dictionary changed size")) is None
    assert errors.shortage(OSError()) is None
