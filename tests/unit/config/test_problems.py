"""Problems point at the exact token, one for each place, and near misses are offered."""

import pytest

from sandboxfile.config.document import Node
from sandboxfile.config.parser import parse
from sandboxfile.config.problems import MOST, Fault, Problems, near
from sandboxfile.errors import ConfigError

TEXT = 'a: "say ${x.y}"\nb: |\n  one\n    two three\nc:\nd: [e]\n'


def collected(problems: Problems) -> list[tuple[int, int, int]]:
    with pytest.raises(ConfigError) as caught:
        problems.end()
    return [(p.at.line, p.at.column, p.width) for p in caught.value.problems]


@pytest.fixture
def problems() -> Problems:
    return Problems({"f": TEXT})


def node(key: str) -> Node:
    return parse(TEXT, "f").find([key])


@pytest.mark.parametrize(
    ("key", "token", "place"),
    [
        ("a", "", (1, 4, 12)),
        ("a", "${x.y}", (1, 9, 6)),
        ("a", "not there", (1, 4, 12)),
        ("b", "", (2, 4, 1)),
        ("b", "one", (3, 3, 3)),
        ("b", "two", (4, 5, 3)),
        ("b", "one\n    two", (3, 3, 3)),
        ("c", "", (5, 1, 1)),
        ("d", "", (6, 4, 1)),
    ],
)
def test_the_token_is_underlined_where_it_is(
    problems: Problems, key: str, token: str, place: tuple[int, int, int]
) -> None:
    problems.add(node(key), "wrong", token=token)
    assert collected(problems) == [place]


def test_a_key_is_underlined_as_written(problems: Problems) -> None:
    problems.add_key(node("a"), "wrong")
    assert collected(problems) == [(1, 1, 1)]


def test_the_root_has_no_key_and_is_underlined_at_its_start(problems: Problems) -> None:
    problems.add_key(parse(TEXT, "f"), "wrong")
    assert collected(problems) == [(1, 1, 1)]


def test_the_first_problem_of_a_place_is_kept(problems: Problems) -> None:
    problems.add(node("a"), "first")
    problems.add(node("a"), "second")
    with pytest.raises(ConfigError) as caught:
        problems.end()
    assert [p.message for p in caught.value.problems] == ["first"]


def test_faults_are_complained_of_and_told(problems: Problems) -> None:
    assert not problems.fault(node("a"), None)
    assert not problems.key_fault(node("a"), None)
    assert not problems
    problems.end()
    assert problems.fault(node("a"), Fault("wrong", "hint", "say"))
    assert problems.key_fault(node("b"), Fault("wrong"))
    assert problems
    assert collected(problems) == [(1, 5, 3), (2, 1, 1)]


def test_more_than_a_screenful_is_counted_instead_of_shown() -> None:
    text = "".join(f"k{i}: v\n" for i in range(MOST + 7))
    problems = Problems({"f": text})
    for each in parse(text, "f").entries.values():
        problems.add(each, "wrong")
    with pytest.raises(ConfigError) as caught:
        problems.end()
    assert len(caught.value.problems) == MOST + 1
    assert caught.value.problems[-1].message == "and 7 more problems"


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("comands", ["run", "commands"], "did you mean `commands`?"),
        ("pyhton", ["python", "node"], "did you mean `python`?"),
        ("Start", ["start", "user"], "did you mean `start`?"),
        ("pre-boot", ["pre_boot"], "did you mean `pre_boot`?"),
        ("apt", ["pip", "apt-get"], "known: pip, apt-get"),
        ("api", ["apt", "pip"], "did you mean `apt`?"),
        ("environment", ["env", "files"], "did you mean `env`?"),
        ("enviroment", ["env", "files"], "did you mean `env`?"),
        ("image", ["base", "env"], "did you mean `base`?"),
        ("image", ["image", "base"], "did you mean `image`?"),
        ("ab", ["x", "y"], "known: x, y"),
        ("anything", [], ""),
    ],
)
def test_a_near_miss_is_offered(word: str, known: list[str], hint: str) -> None:
    assert near(word, known) == hint


def test_words_far_apart_are_told_from_near_ones_without_counting_all_slips() -> None:
    known = [f"template-{number:04}" for number in range(300)]
    assert near("template-0007x", known) == "did you mean `template-0007`?"
    assert near("something-else", known).startswith("known: template-0000, ")
    assert near("abcdefgh", ["hgfedcba"]) == "known: hgfedcba"
