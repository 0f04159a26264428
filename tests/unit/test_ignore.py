"""Patterns are compared with what Docker itself left out; see `tests/golden/dockerignore.json`."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.errors import ConfigError
from sandboxfile.ignore import Ignore, matcher
from sandboxfile.places import Position

MEASURED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "dockerignore.json").read_text()
)
CASES: dict[str, Any] = MEASURED["cases"]
FILES: list[str] = MEASURED["files"]
TEXTS = {name for name in FILES if name.endswith(".txt")}

# Docker 23 changed two things since the engine that was asked: `**` in front of a name matches
# the end of any path, and an exception with wildcards is looked for in every directory.
NEWER: dict[str, set[str]] = {
    "neg-dstar": {"build/out.o"},
    "random-018": TEXTS,
    "random-068": TEXTS,
}
AT = Position(".dockerignore", 1, 1)


def ignore(patterns: str) -> Ignore:
    return Ignore.parse(patterns, ".dockerignore")


def left_out(patterns: Ignore) -> set[str]:
    return {name for name in FILES if patterns.excludes(name)}


ACCEPTED = [
    pytest.param(case["patterns"], case["left_out"], id=name)
    for name, case in CASES.items()
    if case["left_out"] is not None and name not in NEWER
]
REFUSED = [
    pytest.param(case["patterns"], id=name)
    for name, case in CASES.items()
    if case["left_out"] is None
]


@pytest.mark.parametrize(("patterns", "expected"), ACCEPTED)
def test_the_same_files_are_left_out_as_by_docker(patterns: str, expected: list[str]) -> None:
    assert left_out(ignore(patterns)) == {name for name in expected if not name.endswith("/")}


@pytest.mark.parametrize("patterns", REFUSED)
def test_what_docker_refuses_is_refused(patterns: str) -> None:
    with pytest.raises(ConfigError, match="is no pattern"):
        ignore(patterns)


@pytest.mark.parametrize(("name", "expected"), NEWER.items())
def test_newer_rules_of_docker_win_over_what_was_measured(name: str, expected: set[str]) -> None:
    assert left_out(ignore(CASES[name]["patterns"])) == expected
    assert expected != {each for each in CASES[name]["left_out"] if not each.endswith("/")}


def test_the_table_is_the_one_that_was_measured() -> None:
    assert (len(ACCEPTED), len(REFUSED), len(NEWER)) == (285, 12, 3)


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ("", "a", False),
        ("# a\n\n  \na", "a", True),
        ("a\n!a", "a", False),
        ("!a\na", "a", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("./a/", "a", True),
        ("//a", "a", True),
        ("./!a", "!a", False),
        ("b*\n./!b1", "b1", False),
        ("\u3000a\u00a0", "a", True),
        ("\x1fa", "a", False),
        ("a^b", "a^b", True),
        ("a^b**", "a^bc/d", True),
        ("^*", "a", True),
        ("x^*", "xa", False),
        ("**", "a/b", True),
        ("***", "a", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "ab", False),
        ("**/a**", "x/ab/c", True),
        ("**.py", "x/a.py", True),
        ("**/a", "xa", False),
        ("a$(){}|+", "a$(){}|+", True),
        ("*$(){}|+.", "x$(){}|+.", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("[^a]", "b", True),
        ("[^a]", "a", False),
        ("[*]", "[/]", True),
        ("[*]", "x", False),
        ("[?]", "[]", True),
        ("[!-/]x", "-x", True),
        ("[\\]]", "]", True),
        ("[é-ü]*", "ö", True),
        ("?", "é", True),
        ("?", "\udcff", True),
        ("*", "a\nb", True),
    ],
)
def test_a_pattern_means_what_it_means_to_docker(
    patterns: str, path: str, *, excluded: bool
) -> None:
    assert ignore(patterns).excludes(path) is excluded


@pytest.mark.parametrize(
    "pattern",
    [
        "[a-c-]",
        "[a-\\]]",
        "[z-a]",
        "a[",
        "[]",
        "[^]",
        "[-a]",
        "a\\",
        "!",
        "! ",
        "!/",
        "build\\debug",
        "[\\d]",
        "\\é",
        "[[:alpha:]]",
        "[?[]",  # its `?` becomes a class, in which the next one is open
    ],
)
def test_a_pattern_without_a_meaning_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is no pattern"):
        ignore(pattern)


def test_an_exception_above_does_not_hold_below_when_it_was_idle() -> None:
    """`!a` has nothing to take back at `a`, and so is not inherited by what is in it."""
    patterns = ignore("a/b\n!a")
    assert not patterns.excludes("a")
    assert patterns.excludes("a/b")


def test_the_rule_that_decided_can_be_named() -> None:
    rule = ignore("*.log\n!keep.log\ntmp").rule("tmp/x/y")
    assert rule is not None
    assert (rule.text, str(rule.at)) == ("tmp", ".dockerignore:3:1")
    assert ignore("*.log\n!keep.log").rule("keep.log") is None


@pytest.mark.parametrize(
    ("patterns", "directory", "may"),
    [
        ("a", "a", False),
        ("a\n!b", "a", False),
        ("a\n!a/b", "a", True),
        ("a\n!a/b", "a/b", True),
        ("a\n!a/b", "a/c", False),
        ("a\n!a/**", "a", True),
        ("a\n!a/*", "a", True),
        ("a\n!**/b", "a", True),
        ("a\n!ab", "a", False),
    ],
)
def test_directories_are_entered_only_for_exceptions_in_them(
    patterns: str, directory: str, *, may: bool
) -> None:
    assert ignore(patterns).keeps_below(directory) is may


def test_patterns_of_one_place_share_it() -> None:
    patterns = Ignore.of(["*.pyc", "", "!a.pyc"], AT)
    assert [rule.at for rule in patterns.rules] == [AT, AT]
    assert patterns.excludes("x.pyc")
    assert not patterns.excludes("a.pyc")


def test_all_bad_lines_are_shown_with_their_text() -> None:
    with pytest.raises(ConfigError) as caught:
        ignore("ok\na[\n[z-a]")
    shown = str(caught.value)
    assert shown.startswith(".dockerignore:2:1: error: `a[` is no pattern: a `[` is not closed")
    assert "\n    1 | ok\n    2 | a[\n      | ^^\n" in shown
    assert "`[z-a]` is no pattern: the range `z-a` runs backwards" in shown


@given(st.text("ab*?[]^-!\\/.é :", max_size=12), st.text("ab*/[.é", min_size=1, max_size=9))
def test_any_pattern_is_either_refused_or_answers(pattern: str, path: str) -> None:
    try:
        test = matcher(pattern)
    except ValueError:
        return
    assert bool(test(path)) in {True, False}
