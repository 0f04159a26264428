"""Errors read: place, message, excerpt, evidence, hint; and nothing in them steers a terminal."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sandboxfile import console
from sandboxfile.console import Progress, Screen, duration, error_text, has_colour, in_github
from sandboxfile.errors import BuildFailed, ConfigError, NotAllowed, SandboxfileError
from sandboxfile.places import Position, Problem
from sandboxfile.redact import Redactor

YAML = "version: 1\nname: api\nrun:\n  - exit 3  \n"
AT = Position("novita.yaml", 4, 5)


def read(file: str) -> str | None:
    return YAML if file == "novita.yaml" else None


@pytest.mark.parametrize(
    ("progress", "is_tty", "environ", "expected"),
    [
        ("auto", True, {}, "tty"),
        ("auto", False, {}, "plain"),
        ("auto", True, {"CI": "true"}, "plain"),
        ("auto", True, {"CI": "false"}, "tty"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("tty", False, {"CI": "1"}, "tty"),
        ("plain", True, {}, "plain"),
        ("json", True, {}, "json"),
        ("quiet", True, {}, "quiet"),
    ],
)
def test_the_screen_follows_option_terminal_and_ci(
    *, progress: Progress, is_tty: bool, environ: Mapping[str, str], expected: Screen
) -> None:
    assert console.screen(progress, is_tty=is_tty, environ=environ) == expected


@pytest.mark.parametrize(
    ("is_tty", "environ", "expected"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_terminals_whose_user_wants_them(
    *, is_tty: bool, environ: Mapping[str, str], expected: bool
) -> None:
    assert has_colour(is_tty=is_tty, environ=environ) is expected


def test_github_is_known_by_its_variable() -> None:
    assert in_github({"GITHUB_ACTIONS": "true"})
    assert not in_github({"CI": "true"})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.44, "0.4s"),
        (12.34, "12.3s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (245.4, "4m05s"),
        (3599.6, "1h00m"),
        (3725, "1h02m"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def failed(**values: object) -> BuildFailed:
    return BuildFailed("`run` failed", **values)  # type: ignore[arg-type]


DRAWN = """\
novita.yaml:4:5: error: `run` failed
    3 | run:
    4 |   - exit 3
      |     ^^^^^^
hint: look"""
EVIDENCE = """\
error: `run` failed
step: RUN exit 3
exit status: 3
last 2 lines of the log:
  | one
  | two
whole log: /b.log"""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SandboxfileError("no daemon"), "error: no daemon"),
        (NotAllowed("refused", hint="log in"), "error: refused\nhint: log in"),
        (ConfigError([Problem(AT, "wrong", "do")]), "novita.yaml:4:5: error: wrong\nhint: do"),
        (failed(at=AT, hint="look"), DRAWN),
        (failed(at=Position("gone.yaml", 4, 5)), "gone.yaml:4:5: error: `run` failed"),
        (failed(at=Position("novita.yaml", 40, 5)), "novita.yaml:40:5: error: `run` failed"),
        (failed(step="RUN exit 3", status=3, tail=("one", "two"), log=Path("/b.log")), EVIDENCE),
        (failed(tail=("only",)), "error: `run` failed\nlast line of the log:\n  | only"),
        (
            BuildFailed("step `RUN x` ended with exit status 3", step="RUN x", status=3),
            "error: step `RUN x` ended with exit status 3",
        ),
        (ValueError("x"), "error: this is a bug in sandboxfile: ValueError('x')"),
    ],
)  # fmt: skip
def test_errors_say_level_place_text_and_hint(error: BaseException, text: str) -> None:
    assert error_text(error, read=read) == text


def test_a_long_line_is_underlined_in_part() -> None:
    error = SandboxfileError("wrong", at=Position("f", 1, 1))
    assert error_text(error, read=lambda _: "x" * 500).split("\n")[-1] == "      | " + "^" * 60


def test_a_column_behind_the_line_still_has_a_caret() -> None:
    error = SandboxfileError("wrong", at=Position("f", 1, 9))
    assert error_text(error, read=lambda _: "ab").split("\n")[-1] == "      |   ^"


LONG = "make " + " ".join(f"part-{number}" for number in range(40))


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("[2/4] RUN exit 3", "[2/4] RUN exit 3"),
        ("[2/4] RUN --mount=type=cache,target=/a --network=none make", "[2/4] RUN make"),
        (f"[2/4] RUN {LONG}", f"[2/4] RUN {LONG[:90]} …"),
        (f"Step 2/4 : RUN {LONG}", f"Step 2/4 : RUN {LONG[:85].rstrip()} …"),
        (f"[2/4] COPY --chown=1 {LONG[:70]}", f"[2/4] COPY --chown=1 {LONG[:70]}"),
    ],
)
def test_of_a_long_step_the_log_has_the_whole(step: str, shown: str) -> None:
    error = BuildFailed(f"the build failed at `{step}`: exit status 3", step=step, status=3)
    assert error_text(error) == f"error: the build failed at `{shown}`: exit status 3"


def test_a_secret_at_the_end_of_what_is_shown_of_a_step_is_none_in_part() -> None:
    secret = "hunter2-hunter3"
    for length in range(70, 110):
        step = f"[2/2] RUN {'x' * length} {secret} and more"
        error = BuildFailed(f"the build failed at `{step}`: exit status 3", step=step, status=3)
        assert "hunter" not in error_text(error, redactor=Redactor([secret]))
        assert "hunter" not in console.message(error, Redactor([secret]))


def test_what_others_wrote_is_defused_and_redacted() -> None:
    error = BuildFailed("\x1b[31msaid hunter2-hunter3", tail=("::set-env::x", "\x07"))
    redactor = Redactor(["hunter2-hunter3"])
    assert error_text(error, redactor=redactor, ci=True).split("\n") == [
        "│ error: said ***",
        "│ last 2 lines of the log:",
        "│   | ::set-env::x",
        "│   | ^G",
    ]


@pytest.mark.parametrize("ci", [False, True])
def test_no_line_of_others_begins_a_line_of_ours(*, ci: bool) -> None:
    theirs = "no\n::error::foo\n##[group]x\nhint: run this\n  own"
    error = BuildFailed(theirs, hint=theirs, step=theirs.replace("no", "RUN"), tail=(theirs,))
    for each in (error, SandboxfileError(theirs, at=AT)):
        lines = error_text(each, read=read, ci=ci).split("\n")
        if ci:
            assert all(line.startswith("│ ") for line in lines)
            continue
        first = [line for line in lines if not line.startswith(" ")]
        ours = ("error: no", "step: RUN", "last line", "hint: no", "novita.yaml:4:5: error: no")
        assert all(line.startswith(ours) for line in first), first
        assert "  ::error::foo" in lines


def test_the_path_of_a_log_is_short_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = failed(log=tmp_path / "logs/build.log")
    assert error_text(error).endswith("whole log: logs/build.log")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b"a\xff"), "a\ufffd"),
        (Path.mkdir, None),
        (Path.exists, None),
    ],
)
def test_the_source_of_an_excerpt_is_read_if_it_can_be(
    make: Callable[[Path], object], text: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "novita.yaml"
    make(path)
    assert console.source(str(path)) == text
