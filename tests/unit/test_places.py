"""Problems are drawn with their line and a caret under the right column."""

import pytest

from sandboxfile.places import Position, Problem, excerpt

AT = Position("novita.yaml", 3, 5)
TEXT = "version: 1\ntemplates:\n    api: {}\n    web: {}\n"


def test_a_position_reads_as_editors_understand() -> None:
    assert str(AT) == "novita.yaml:3:5"


def test_positions_sort_by_file_line_and_column() -> None:
    places = [Position("b", 1, 1), Position("a", 10, 1), Position("a", 2, 9), Position("a", 2, 1)]
    assert [str(place) for place in sorted(places)] == ["a:2:1", "a:2:9", "a:10:1", "b:1:1"]


def test_a_problem_is_drawn_with_caret_and_hint() -> None:
    problem = Problem(AT, "unknown key `api`", "did you mean `app`?", 3, excerpt(TEXT, 3))
    assert str(problem) == (
        "novita.yaml:3:5: error: unknown key `api`\n"
        "    2 | templates:\n"
        "    3 |     api: {}\n"
        "      |     ^^^ did you mean `app`?"
    )


def test_without_a_hint_the_line_ends_with_the_caret() -> None:
    assert str(Problem(AT, "wrong", excerpt=excerpt(TEXT, 3))).endswith("|     ^")


@pytest.mark.parametrize(("hint", "lines"), [("", []), ("look", ["hint: look"])])
def test_without_an_excerpt_the_hint_has_its_own_line(hint: str, lines: list[str]) -> None:
    assert str(Problem(AT, "wrong", hint)).split("\n") == ["novita.yaml:3:5: error: wrong", *lines]


def test_tabs_before_the_place_stay_tabs() -> None:
    problem = Problem(Position("f", 1, 3), "wrong", width=2, excerpt=((1, "\t\tx: 1"),))
    assert str(problem).split("\n")[-1] == "      | \t\t^^"


def test_the_margin_grows_with_the_line_number() -> None:
    problem = Problem(Position("f", 123456, 1), "wrong", width=0, excerpt=((123456, "x"),))
    assert str(problem).split("\n")[1:] == ["123456 | x", "       | ^"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (1, [(1, "version: 1")]),
        (3, [(2, "templates:"), (3, "    api: {}")]),
        (99, []),
    ],
)
def test_an_excerpt_has_the_line_and_the_one_above(
    line: int, expected: list[tuple[int, str]]
) -> None:
    assert list(excerpt(TEXT, line)) == expected


def test_an_excerpt_has_no_carriage_returns() -> None:
    assert excerpt("a\r\nb\r\n", 2) == ((1, "a"), (2, "b"))
