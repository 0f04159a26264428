"""What the parsers of the commands have to say about the word after the last one."""

import pytest

from sandboxfile.commandline import COMMANDS, Parser
from sandboxfile.completing import Expected, expected


@pytest.fixture(autouse=True)
def _environ() -> None:
    Parser.environ = {}


def words(line: str) -> list[str]:
    return list(expected(line.split(" ")).words)


def kinds(line: str) -> tuple[str, ...]:
    return expected(line.split(" ")).kinds


def test_a_command_comes_first() -> None:
    assert words("") == list(COMMANDS)
    assert words("pr") == ["promote", "prune"]
    assert expected(["bui"]).words == {"build": COMMANDS["build"]}


def test_options_stand_before_and_after_a_command() -> None:
    assert words("--log") == ["--log-level", "--log-format"]
    assert words("build --log") == ["--log-level", "--log-format"]
    assert words("--lock") == []
    assert words("build --lock") == ["--locked"]
    assert words("--ver") == ["--version", "--verbose"]


def test_options_are_offered_with_what_they_do() -> None:
    found = expected(["build", "--k"]).words
    assert found == {"--keep-going": "exit 7 instead of 1 when some came through"}


def test_what_was_given_is_not_offered_again_unless_it_may_be() -> None:
    assert words("build --force --fo") == []
    assert words("build --target x --ta") == []
    assert words("build -t x --ta") == []
    assert words("build -tx --ta") == []
    assert words("build --var a=1 --var") == ["--var"]
    assert words("build -v --verb") == ["--verbose"]
    assert words("promote --to x --t") == ["--to", "--target"]


def test_options_may_follow_the_name_of_what_is_run() -> None:
    assert words("run api --da") == ["--data"]
    assert kinds("run api -t ") == ("TARGET",)
    assert words("run api -- --da") == []
    assert words("run api ls --da") == []


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("--progress ", ["auto", "tty", "plain", "json", "quiet"]),
        ("build --progress p", ["plain"]),
        ("build --progress=p", ["--progress=plain"]),
        ("schema ", ["novita", "lock"]),
        ("show st", ["steps"]),
        ("env --format ty", ["typescript"]),
        ("schema lock ", []),
        ("build --progress plain p", []),
    ],
)
def test_choices_are_those_of_the_parser(line: str, choices: list[str]) -> None:
    assert words(line) == choices


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-t ", "TARGET"),
        ("--target ", "TARGET"),
        ("--target=pr", "TARGET"),
        ("-tpr", "TARGET"),
        ("-f ", "FILE"),
        ("-C ", "DIR"),
        ("build ", "TEMPLATE"),
        ("build a b", "TEMPLATE"),
        ("build -j 4 --since main ", "TEMPLATE"),
        ("build --since ", "REF"),
        ("build -- --since", "TEMPLATE"),
        ("show steps ", "TEMPLATE"),
        ("tag ", "TEMPLATE"),
        ("tag api ", "TAG"),
        ("tag api stable ", "TAG"),
        ("tag api --from ", "TAG"),
        ("rollback api --tag x --tag ", "TAG"),
        ("shell ", "TEMPLATE"),
        ("run --data d ", "TEMPLATE"),
    ],
)
def test_other_values_are_of_the_kind_that_the_parser_calls_them(line: str, kind: str) -> None:
    assert kinds(line) == (kind,)


def test_a_value_may_be_of_several_kinds() -> None:
    assert kinds("lock --merge ") == ("FILE", "BASE", "TEMPLATE")
    assert kinds("outdated ") == ("BASE", "TEMPLATE")


@pytest.mark.parametrize(
    "line",
    [
        "frob ",
        "frob --",
        "why api ",
        "run api -- ",
        "run api -- ls --",
        "run api ls --da",
        "build --frob=",
        "build --force=",
        "build -j",
    ],
)
def test_where_nothing_is_known_nothing_is_said(line: str) -> None:
    found = expected(line.split(" "))
    assert not found.words
    assert not {"FILE", "DIR", "TEMPLATE", "TAG"} & {*found.kinds}


def test_it_is_known_whether_one_value_is_wanted_or_several() -> None:
    assert not expected(["why", ""]).several
    assert expected(["build", ""]).several


def test_a_value_is_parted_from_its_option_and_from_what_was_there_before() -> None:
    found = expected(["-C", "x", "tag", "--target=prod", "api", "-vq", "--from=st"])
    assert (found.before, found.value, found.taken) == ("--from=", "st", ("api",))
    given = [(action.dest, value) for action, value in found.given]
    assert given == [("directory", "x"), ("target", "prod")]


def test_short_options_carry_their_values() -> None:
    found = expected(["-Cx", "build", "-j4", "-tpr"])
    assert (found.before, found.value, found.taken) == ("-t", "pr", ())
    assert [value for _, value in found.given] == ["x", "4"]


def test_an_option_that_is_not_known_takes_no_value() -> None:
    assert kinds("build --frob ") == ("TEMPLATE",)


def test_a_hyphen_alone_is_a_word() -> None:
    assert expected(["schema", "-"]) == Expected(value="-")
