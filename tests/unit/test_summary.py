"""A run is summed up in one line and one exit code."""

from collections.abc import Mapping

import pytest

from sandboxfile.errors import BuildFailed, Cancelled, Left, NotAllowed, Unreachable
from sandboxfile.graph import Outcome, Status
from sandboxfile.summary import chain, exit_code, figures, skipped, summary, tally
from sandboxfile.timeline import Figures

FAILED = BuildFailed("`run` failed", status=3, hint="look")
ACTIONS = {"api": "build", "web": "build", "old": "up to date"}


def outcome(name: str, status: Status = "done", error: BaseException | None = None) -> Outcome:
    because = ("build:web",) if status == "skipped" else ()
    return Outcome(name=name, status=status, error=error, because=because, seconds=1.5)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], {"api": "built", "web": "built", "old": "up to date"}),
        ([outcome("build:api"), outcome("build:web", "failed"), outcome("push:web", "skipped")],
         {"api": "built", "web": "failed", "old": "up to date"}),
        ([outcome("build:api", "skipped"), outcome("tag:web", "cancelled"),
          outcome("push:web", "skipped")],
         {"api": "skipped", "web": "cancelled", "old": "up to date"}),
        ([outcome("snapshot:api", "detached"), outcome("tag:api", "waiting"),
          outcome("snapshot:web", "waiting")],
         {"api": "detached", "web": "waiting", "old": "up to date"}),
    ],
)  # fmt: skip
def test_each_template_has_one_result(outcomes: list[Outcome], expected: Mapping[str, str]) -> None:
    assert tally(ACTIONS, outcomes) == expected


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({}, "nothing to do in 12.3s"),
        ({str(n): "up to date" for n in range(96)} | {"a": "built", "b": "snapshot"},
         "1 built, 1 snapshot, 96 up to date in 12.3s"),
        ({"a": "failed", "b": "skipped", "c": "cancelled", "d": "adopted", "e": "retagged"},
         "1 failed, 1 cancelled, 1 skipped, 1 adopted, 1 retagged in 12.3s"),
        ({"a": "detached", "b": "waiting", "c": "built"},
         "1 detached, 1 waiting, 1 built in 12.3s"),
        ({"a": "something new"}, "1 something new in 12.3s"),
    ],
)  # fmt: skip
def test_the_summary_counts_what_there_is(results: Mapping[str, str], text: str) -> None:
    assert summary(results, 12.34) == text


def bad(error: BaseException, name: str = "build:web") -> Outcome:
    return outcome(name, "failed", error)


DONE = outcome("build:api")
AWAY = outcome("snapshot:x", "detached", Left("on", template_id="t", build_id="b"))
LATE = outcome("snapshot:y", "detached", Left("on", template_id="t", build_id="b", in_time=False))
STOPPED = outcome("build:x", "cancelled", Cancelled("stopped"))


def test_a_template_that_was_up_to_date_came_through() -> None:
    failed, asked = [bad(FAILED)], ["web", "api"]
    assert exit_code(failed, asked, keep_going=True) == 7
    assert exit_code(failed, ["web"], keep_going=True) == 1
    assert exit_code(failed, asked) == 1


@pytest.mark.parametrize(
    ("outcomes", "keep_going", "interrupted", "code"),
    [
        ([], False, False, 0),
        ([DONE], True, False, 0),
        ([DONE, bad(FAILED)], False, False, 1),
        ([DONE, bad(FAILED)], True, False, 7),
        ([bad(FAILED)], True, False, 1),
        ([outcome("generate:web"), bad(FAILED)], True, False, 1),
        ([bad(Unreachable("x")), bad(Unreachable("y"), "build:b")], False, False, 6),
        ([bad(NotAllowed("x")), outcome("push:web", "skipped")], False, False, 5),
        ([bad(NotAllowed("x")), bad(Unreachable("y"), "build:b")], False, False, 1),
        ([bad(NotAllowed("x")), bad(FAILED, "build:b")], False, False, 1),
        ([DONE, bad(ValueError("x"))], True, False, 70),
        ([DONE, STOPPED], True, False, 130),
        ([DONE, STOPPED, bad(FAILED)], False, True, 130),
        ([DONE], False, True, 130),
        ([DONE, AWAY], False, False, 0),
        ([DONE, AWAY, LATE], False, False, 6),
        ([AWAY, bad(FAILED)], True, False, 7),
        ([AWAY, LATE, bad(FAILED)], False, False, 1),
        ([AWAY, STOPPED], False, True, 130),
    ],
)
def test_the_exit_code_sums_up_the_failures(
    *, outcomes: list[Outcome], keep_going: bool, interrupted: bool, code: int
) -> None:
    assert exit_code(outcomes, keep_going=keep_going, interrupted=interrupted) == code


def test_steps_and_bytes_are_told_where_there_are_any() -> None:
    assert figures(Figures()) == ""
    assert figures(Figures(instructions=3)) == ""
    found = Figures(instructions=3, cached=2, bytes=1_200)
    assert figures(found) == "2 of 3 steps cached, 1.2 kB sent"


def test_templates_behind_a_failure_are_told_together_but_for_the_failing_one() -> None:
    outcomes = [bad(FAILED), outcome("push:web", "skipped")]
    assert list(skipped(outcomes)) == []
    outcomes += [outcome("build:a", "skipped"), outcome("push:a", "skipped")]
    assert list(skipped(outcomes)) == ["skipped, since the build of web failed: a"]


def test_a_short_run_or_a_single_job_has_no_chain_to_tell_of() -> None:
    outcomes = [outcome(f"build:{number}") for number in range(9)]
    names = tuple(each.name for each in outcomes)
    assert chain(outcomes, names[:1]) == ""
    assert chain(outcomes, names[:5]) == ""
    assert chain(outcomes, names).endswith("build 4 1.5s and 4 shorter")
