"""What a run did is shown in four forms, logged whole, and summed up in one line and one code."""

import io
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile.console import Screen as Kind
from sandboxfile.errors import (
    BuildFailed,
    ConfigError,
    Left,
    SandboxfileError,
)
from sandboxfile.events import Log, Notice, Sent, StepDone, StepStarted
from sandboxfile.graph import Outcome, Status
from sandboxfile.livetable import Tty
from sandboxfile.places import Position, Problem
from sandboxfile.redact import Redactor
from sandboxfile.report import Reporter, screen
from sandboxfile.screens import Plain

SECRET = "hunter2-hunter3"


class Clock:
    """A clock that moves by a second at every look."""

    def __init__(self) -> None:
        self.time = -1.0

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


def reporter(kind: Kind, **values: object) -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    clock = Clock()
    shown = screen(kind, stream, now=clock)
    defaults: dict[str, object] = {"redactor": Redactor([SECRET]), "now": clock}
    return Reporter(screen=shown, **{**defaults, **values}), stream  # type: ignore[arg-type]


def outcome(name: str, status: Status = "done", error: BaseException | None = None) -> Outcome:
    because = ("build:web",) if status == "skipped" else ()
    return Outcome(name=name, status=status, error=error, because=because, seconds=1.5)


FAILED = BuildFailed("`run` failed", status=3, hint="look")
ACTIONS = {"api": "build", "web": "build", "old": "up to date"}


def play(run: Reporter) -> int:
    """Let two templates be built, of which one fails, and one be up to date."""
    run.emit(Notice(job="", text="the registry is slow", level="warning"))
    run.started("build:api")
    run.emit(StepStarted(job="build:api", step="[1/2] RUN make"))
    run.emit(Log(job="build:api", text=f"password {SECRET}"))
    run.emit(StepDone(job="build:api", step="[1/2] RUN make", seconds=2.0))
    run.emit(StepDone(job="build:api", step="[2/2] RUN x", cached=True))
    run.settled(outcome("build:api"))
    run.emit(Notice(job="push:api", text="trying\nagain"))
    run.started("build:web")
    run.emit(Log(job="build:web", text="\x1b[31m::error::no\x07"))
    error = BuildFailed("`run` failed", status=3, hint="look")
    run.settled(outcome("build:web", "failed", error))
    run.settled(outcome("push:web", "skipped"))
    return run.finish(ACTIONS)


# --- screens ---------------------------------------------------------------------------------

PLAIN = """\
         warning: the registry is slow
   1.0s  api: build started
   2.0s  api: build done in 1.5s (1 of 2 steps cached)
         api: trying again
   3.0s  web: build started
   4.0s  web: build failed in 1.5s

web: build failed
error: `run` failed
exit status: 3
last line of the log:
  | ::error::no^G
hint: look
1 failed, 1 built, 1 up to date in 6.0s; 1 of 2 steps cached
"""
QUIET = """\
warning: the registry is slow

web: build failed
error: `run` failed
exit status: 3
last line of the log:
  | ::error::no^G
hint: look
"""


@pytest.mark.parametrize(("kind", "expected"), [("plain", PLAIN), ("quiet", QUIET)])
def test_lines_tell_what_happened(kind: Kind, expected: str) -> None:
    run, stream = reporter(kind)
    assert play(run) == 1
    assert stream.getvalue() == expected


def test_log_lines_are_shown_when_asked_for() -> None:
    run, stream = reporter("plain", verbose=True)
    play(run)
    assert "         api: password ***\n" in stream.getvalue()
    assert "         web: ::error::no^G\n" in stream.getvalue()


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_tell_the_same() -> None:
    run, stream = reporter("json")
    play(run)
    assert [event["event"] for event in events(stream)] == [
        "notice", "started", "step", "done", "notice", "started", "failed", "skipped", "error",
        "summary",
    ]  # fmt: skip
    told = {str(event["event"]): event for event in events(stream)}
    assert told["done"] == {
        "event": "done", "job": "build:api", "template": "api", "seconds": 1.5
    }  # fmt: skip
    assert told["step"]["text"] == "[1/2] RUN make"
    assert told["skipped"]["because"] == ["build:web"]
    assert told["error"]["hint"] == "look"
    assert told["error"]["exit_code"] == 1
    assert told["summary"] == {
        "event": "summary",
        "text": "1 failed, 1 built, 1 up to date in 6.0s; 1 of 2 steps cached",
        "seconds": 6.0,
        "counts": {"built": 1, "failed": 1, "up to date": 1},
    }


def test_json_has_log_lines_when_asked_for() -> None:
    run, stream = reporter("json", verbose=True)
    play(run)
    assert [event["text"] for event in events(stream) if event["event"] == "log"] == [
        "password ***",
        "::error::no^G",
    ]


def test_a_terminal_has_a_live_table_and_ends_in_order() -> None:
    run, stream = reporter("tty", verbose=True)
    run.emit(Log(job="build:other", text="not running"))
    play(run)
    shown = stream.getvalue()
    for text in (
        "  warning: the registry is slow",
        "  api: password ***",
        "✓ api: build done in 1.5s",
        "  api: trying again",
        "✗ web: build failed in 1.5s",
        "1 failed, 1 built, 1 up to date in",
    ):
        assert text in shown
    assert SECRET not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    run.close()


def test_the_live_table_shows_what_runs_and_how_many_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    tty = Tty(stream, colour=False, now=lambda: 0.0)
    run = Reporter(screen=tty, now=lambda: 0.0)
    for number in range(5):
        run.started(f"build:t{number}")
    run.emit(StepStarted(job="build:t0", step="[1/2] " + "x" * 100))
    tty._console.print(tty._table())
    run.close()
    lines = stream.getvalue().split("\n")
    assert any("t0  build  0.0s  [1/2] xxx" in line and line.endswith("…") for line in lines)
    assert any(line.startswith("and 2 more") for line in lines)


def test_the_live_table_shows_what_is_done_before_there_are_jobs() -> None:
    stream = io.StringIO()
    tty = Tty(stream, colour=False, now=lambda: 0.0)
    run = Reporter(screen=tty, now=lambda: 0.0)
    run.emit(StepStarted(job="bootstrap", step="mmdebstrap bookworm"))
    run.emit(Log(job="bootstrap", text="I: installing packages"))
    assert [(row.template, row.text) for row in tty._running.values()] == [
        ("bootstrap", "I: installing packages")
    ]
    run.started("build:a")
    assert list(tty._running) == ["build:a"]
    run.close()


def test_lines_for_a_reader_leave_out_what_takes_no_time_and_what_never_ran() -> None:
    run, stream = reporter("plain")
    for step, seconds in (("generate", 0.1), ("push", 0.9), ("push", 1.0), ("tag", 12.0)):
        run.started(f"{step}:a")
        run.settled(replace(outcome(f"{step}:a"), seconds=seconds))
    run.settled(replace(outcome("build:b", "cancelled"), seconds=0.0))
    run.settled(outcome("snapshot:b", "cancelled"))
    lines = [line.split("s  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines == [
        "a: push done in 1.0s",
        "a: tag done in 12.0s",
        "b: snapshot cancelled in 1.5s",
    ]


def test_a_long_silence_is_broken_by_what_goes_on() -> None:
    now = [0.0]
    stream = io.StringIO()
    run = Reporter(screen=Plain(stream, lambda: now[0]), now=lambda: now[0])
    for at in (1.0, 16.0, 17.0, 40.0):
        now[0] = at
        run.emit(Log(job="bootstrap", text=f"line at {at} " + "x" * 200))
        run.emit(StepStarted(job="build:a", step="[1/2] RUN make"))
    assert [line[:36] for line in stream.getvalue().splitlines()] == [
        "  16.0s  bootstrap: … line at 16.0 x",
        "  40.0s  bootstrap: … line at 40.0 x",
    ]
    assert max(map(len, stream.getvalue().splitlines())) < 150


@pytest.fixture
def silent() -> tuple[Reporter, io.StringIO, list[float]]:
    """A run shown in plain lines, what it has said, and its clock."""
    now = [0.0]
    stream = io.StringIO()
    return Reporter(screen=Plain(stream, lambda: now[0]), now=lambda: now[0]), stream, now


Silent = tuple[Reporter, io.StringIO, list[float]]


def pass_time(silent: Silent, until: float) -> list[str]:
    """Let time pass, as a run does while nothing ends; the lines that were said meanwhile."""
    run, stream, now = silent
    said = len(stream.getvalue().splitlines())
    while now[0] < until:
        now[0] += 0.5
        run.idle()
    return stream.getvalue().splitlines()[said:]


def test_a_silent_command_is_told_of_ever_more_rarely(silent: Silent) -> None:
    run, _, now = silent
    run.started("build:web")
    run.emit(StepStarted(job="build:web", step="[2/3] RUN apt-get install " + "x" * 200))
    lines = pass_time(silent, 1500.0)
    assert [line.split("s  ")[0].strip() for line in lines] == [
        "15.0", "45.0", "1m45", "3m45", "7m45", "12m45", "17m45", "22m45",
    ]  # fmt: skip
    assert lines[1].startswith("  45.0s  web: … [2/3] RUN apt-get install ")
    assert lines[1].endswith("xxx (silent for 45.0s)")
    assert max(map(len, lines)) < 170

    run.emit(Log(job="build:web", text="Setting up git"))
    run.emit(Log(job="build:web", text="Setting up ripgrep"))
    assert pass_time(silent, now[0] + 20) == [
        " 25m15s  web: … Setting up ripgrep (silent for 15.0s)"
    ]


def test_of_several_jobs_the_one_silent_for_longest_is_named(silent: Silent) -> None:
    run, _, now = silent
    run.started("push:a")
    now[0] = 5.0
    run.started("build:b")
    assert pass_time(silent, 20.0) == ["  20.0s  a: … push (silent for 20.0s, 2 jobs run)"]
    run.settled(outcome("push:a"))
    assert pass_time(silent, 36.0)[0] == "  35.0s  b: … build (silent for 30.0s)"


def test_nothing_is_told_of_silence_once_nothing_runs(silent: Silent) -> None:
    run, _, _ = silent
    run.started("build:a")
    run.settled(outcome("build:a"))
    assert pass_time(silent, 100.0) == []


@pytest.mark.parametrize("kind", ["quiet", "json", "tty"])
def test_other_screens_have_no_lines_about_silence(kind: Kind) -> None:
    run, stream = reporter(kind)
    run.started("build:a")
    before = stream.getvalue()
    for _ in range(100):  # seconds of its clock
        run.idle()
    run.close()
    assert "silent" not in stream.getvalue().removeprefix(before)


def test_whoever_was_skipped_is_told_once_at_the_end() -> None:
    run, stream = reporter("plain")
    run.settled(bad(FAILED))
    for name in [f"t{number}" for number in range(8)]:
        run.settled(outcome(f"build:{name}", "skipped"))
        run.settled(outcome(f"push:{name}", "skipped"))
    run.finish({"web": "build", **{f"t{number}": "build" for number in range(8)}})
    told = [line.strip() for line in stream.getvalue().splitlines() if "skipped" in line]
    assert told[0] == "skipped, since the build of web failed: t0, t1, t2, t3, t4 and 3 more"
    assert told[1].startswith("1 failed, 8 skipped in")


def test_a_long_run_says_which_chain_decided_it() -> None:
    run, stream = reporter("plain")
    for name, seconds in (("build:a", 8.0), ("snapshot:a", 4.0), ("tag:a", 0.1)):
        run.settled(replace(outcome(name), seconds=seconds))
    run.emit(Sent(job="build:a", bytes=1_200_000))
    run.finish({"a": "build"}, critical=("build:a", "snapshot:a", "tag:a"))
    assert "longest chain: build a 8.0s, snapshot a 4.0s\n" in stream.getvalue()
    assert stream.getvalue().endswith("s; 1.2 MB sent\n")


@pytest.mark.parametrize("colour", [True, False])
def test_colours_are_used_on_request(*, colour: bool) -> None:
    stream = io.StringIO()
    run = Reporter(screen=screen("tty", stream, colour=colour), now=Clock())
    run.started("build:a")
    run.settled(outcome("build:a"))
    run.close()
    assert ("\x1b[32m" in stream.getvalue()) is colour


def test_github_reads_no_commands_and_folds_the_log(tmp_path: Path) -> None:
    run, stream = reporter("plain", github=True, logs=tmp_path, verbose=True)
    play(run)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line.startswith("::")] == [
        "::group::log of build web",
        "::endgroup::",
    ]
    assert lines[lines.index("::group::log of build web") + 1] == "│ ::error::no^G"
    assert "         web: │ ::error::no^G" in lines


def test_github_folds_nothing_for_programs(tmp_path: Path) -> None:
    run, stream = reporter("json", github=True, logs=tmp_path)
    play(run)
    assert [event["event"] for event in events(stream)].count("error") == 1


@pytest.mark.parametrize(
    ("error", "at", "code"),
    [
        (SandboxfileError("x", at=Position("a", 1, 2)), "a:1:2", 1),
        (ConfigError([Problem(Position("b", 3, 4), "x")]), "b:3:4", 3),
        (ConfigError([]), None, 3),
        (ValueError("x"), None, 70),
    ],
)
def test_json_says_where_and_with_which_code(
    error: BaseException, at: str | None, code: int
) -> None:
    run, stream = reporter("json")
    run.settled(outcome("build:a", "failed", error))
    assert run.finish({"a": "build"}) == code
    told = events(stream)[1]
    assert (told["at"], told["exit_code"]) == (at, code)


# --- logs ------------------------------------------------------------------------------------


def test_whole_logs_are_kept_redacted_for_the_user_alone(tmp_path: Path) -> None:
    run, stream = reporter("plain", logs=tmp_path / "logs")
    play(run)
    path = tmp_path / "logs/api/build.log"
    assert path.read_text() == (
        "=> [1/2] RUN make\npassword ***\n=> [1/2] RUN make (2.0s)\n=> [2/2] RUN x (cached)\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert f"whole log: {tmp_path}/logs/web/build.log" in stream.getvalue()
    assert not (tmp_path / "logs/api/push.log").exists()


def test_what_the_engine_knows_of_a_failure_is_not_overwritten(tmp_path: Path) -> None:
    error = BuildFailed("x", tail=("its own",), log=tmp_path / "own.log")
    run, _ = reporter("quiet", logs=tmp_path)
    run.emit(Log(job="build:a", text="ours"))
    run.settled(outcome("build:a", "failed", error))
    run.finish({"a": "build"})
    assert (error.tail, error.log) == (("its own",), tmp_path / "own.log")


def test_a_job_that_failed_before_it_wrote_has_no_log(tmp_path: Path) -> None:
    run, _ = reporter("quiet", logs=tmp_path)
    run.settled(outcome("generate:api", "failed", FAILED))
    play(run)

    assert run.has_log("build:web")
    assert not run.has_log("generate:api")
    assert not run.has_log("build:api")  # it did not fail


def test_the_end_of_the_log_is_twenty_lines() -> None:
    error = BuildFailed("x")
    run, _ = reporter("quiet")
    for number in range(30):
        run.emit(Log(job="build:a", text=f"line {number}"))
    run.settled(outcome("build:a", "failed", error))
    run.finish({"a": "build"})
    assert error.tail == tuple(f"line {number}" for number in range(10, 30))


@pytest.mark.parametrize("kind", ["tty", "plain", "json"])
def test_what_goes_on_without_us_is_told_with_the_way_back(kind: Kind) -> None:
    run, stream = reporter(kind)
    left = Left("build b-1 goes on at the service", template_id="t", build_id="b-1")
    queued = Left("`late` still waits for room at the service", in_time=False)
    run.settled(outcome("snapshot:api", "detached", left))
    run.settled(replace(outcome("tag:api", "waiting"), because=("snapshot:api",)))
    run.settled(replace(outcome("snapshot:child", "waiting"), because=("snapshot:api",)))
    run.settled(replace(outcome("tag:child", "waiting"), because=("snapshot:api",)))
    run.settled(outcome("snapshot:late", "waiting", queued))
    actions = {"api": "build", "child": "build", "late": "build"}

    assert run.finish(actions) == 6

    said = " ".join(stream.getvalue().split())
    assert "build b-1 goes on at the service; `sandboxfile build api` goes on with it" in said
    assert "`sandboxfile logs api --follow` shows it" in said
    assert said.count("waits for `api`; `sandboxfile build child` goes on with it") == 1
    assert "`late` still waits for room at the service; `sandboxfile build late`" in said
    assert "1 detached, 2 waiting" in said


def test_the_way_back_leads_to_the_target_that_was_told() -> None:
    run, stream = reporter("plain", target="box")
    left = Left("build b-1 goes on at the service", template_id="t", build_id="b-1")
    run.settled(outcome("snapshot:api", "detached", left))
    assert run.finish({"api": "build"}) == 0

    said = " ".join(stream.getvalue().split())
    assert "`sandboxfile build api --target box` goes on with it" in said
    assert "`sandboxfile logs api --target box --follow` shows it" in said


def bad(error: BaseException, name: str = "build:web") -> Outcome:
    return outcome(name, "failed", error)


def test_templates_with_nothing_to_do_came_through() -> None:
    run, _ = reporter("quiet")
    run.settled(bad(FAILED))
    assert run.finish({"web": "build", "old": "up to date"}, keep_going=True) == 7


@pytest.mark.parametrize("kind", ["tty", "plain", "json", "quiet"])
def test_a_screen_may_be_closed_twice(kind: Kind) -> None:
    run, _ = reporter(kind)
    for _ in range(2):
        run.close()
