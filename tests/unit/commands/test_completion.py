"""What a shell is told when it asks how a word may go on."""

import subprocess
from collections.abc import Iterator

import pytest

from sandboxfile.commandline import COMMANDS, Parser, parser, parser_of
from sandboxfile.commands import completion
from sandboxfile.commands.completion import SCRIPTS
from tests.fakes.shell import User

ROOT = """\
version: 1
members: ["services/*/novita.yaml"]
targets:
  box: {provider: novita, api_url: "http://127.0.0.1:1", tags: [nightly]}
  laptop: {provider: local}
default_target: box
templates:
  python: {base: "debian:12", tags: [stable, "${git.sha}"]}
  plain: {base: {debian: bookworm}, tags: [edge]}
groups: {all: [python]}
"""
MEMBER = """\
version: 1
templates:
  api: {base: {template: python}, matrix: {v: [x, y]}}
"""
LOCK = """\
version: 1
targets:
  box:
    python:
      build_id: 3c52915f-59fc-4890-beeb-f249c4ae906c
      image_key: sf1:ZERO
      moved: {live: 9c52915f-59fc-4890-beeb-f249c4ae906c}
      parts: {}
      tags: [old, sf-0123456789abcdef]
      template_id: wu9ol3m99x5h2d9y63rc
      template_key: sf1:ZERO
""".replace("ZERO", "0" * 64)


@pytest.fixture
def mono(user: User) -> User:
    user.write("novita.yaml", ROOT)
    user.write("services/a/novita.yaml", MEMBER)
    return user


def asked(user: User, *words: str, shell: str = "bash") -> tuple[str, list[str]]:
    ran = user.run("completion", shell, "--", *words)
    assert (ran.code, ran.err) == (0, "")
    kind, *lines = ran.out.splitlines()
    return kind, lines


def test_commands_and_options_need_no_workspace(user: User) -> None:
    assert asked(user, "pr") == (":words", ["promote", "prune"])
    assert asked(user, "build", "--keep") == (":words", ["--keep-going"])


def test_templates_are_named_as_commands_take_them(mono: User) -> None:
    every = ["python", "plain", "api-x", "api-y"]
    assert asked(mono, "build", "") == (":words", [*every, "api", "all"])
    assert asked(mono, "why", "") == (":words", every)
    assert asked(mono, "build", "a") == (":words", ["api-x", "api-y", "api", "all"])
    assert asked(mono, "build", "api-x", "api-") == (":words", ["api-y"])
    assert asked(mono, "build", ":") == (":words", [":python", ":plain"])
    assert asked(mono, "why", "services/a:") == (
        ":words",
        ["services/a:api-x", "services/a:api-y"],
    )


def test_a_path_may_be_that_of_a_directory_or_of_a_template(mono: User) -> None:
    assert asked(mono, "build", "serv") == (":words", [])
    assert asked(mono, "build", "services/") == (":directories", ["services/a:api"])
    assert asked(mono, "why", "services/")[0] == ":words"


def test_targets_bases_and_tags_come_from_the_configuration_and_the_lock(mono: User) -> None:
    mono.write("novita.lock", LOCK)

    assert asked(mono, "-t", "") == (":words", ["box", "laptop", "local"])
    assert asked(mono, "--target=b") == (":words", ["--target=box"])
    assert asked(mono, "outdated", "debian") == (":words", ["debian:12", "debian:bookworm"])
    tags = ["default", "nightly", "stable", "old", "live"]
    assert asked(mono, "tag", "python", "") == (":words", tags)
    assert asked(mono, "promote", "--from", "") == (":words", [*tags, "edge"])
    assert asked(mono, "promote", "-t", "laptop", "--to", "") == (
        ":words",
        ["default", "stable", "edge"],
    )


def test_variables_are_those_declared_with_the_values_that_they_may_have(mono: User) -> None:
    declared = (
        "variables: {channel: {default: a, enum: [a, b]}, debug: {type: boolean}, free: {},"
        " size: {type: integer, enum: [1, 2, x]}}\n"
    )
    mono.write("novita.yaml", ROOT + declared)  # those without a value complete all the same

    assert asked(mono, "build", "--var", "") == (
        ":words",
        ["channel=a", "channel=b", "debug=true", "debug=false", "free=", "size=1", "size=2"],
    )
    assert asked(mono, "plan", "--var=channel=b") == (":words", ["--var=channel=b"])
    assert asked(mono, "--var", "f") == (":words", ["free="])
    assert asked(mono, "--var", "free=x") == (":words", [])
    assert asked(mono, "--var", "f", shell="fish")[1] == ["free=\tany value"]


def test_refs_are_those_of_git(mono: User) -> None:
    assert asked(mono, "build", "--since", "") == (":words", [])
    lines = ("init -q -b main", "commit -q --allow-empty -m x", "tag v1", "branch $(reboot)")
    for line in lines:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", "-C", str(mono.root), *identity, *line.split(" ")], check=True)
    assert asked(mono, "build", "--since", "") == (":words", ["main", "v1"])


def test_files_are_left_to_the_shell(mono: User) -> None:
    assert asked(mono, "-f", "") == (":files", [])
    assert asked(mono, "-C", "") == (":directories", [])
    assert asked(mono, "lock", "--merge", "py") == (":files", ["python"])


def test_options_on_the_line_say_which_workspace_is_meant(mono: User, user: User) -> None:
    away = user.at(user.root / "elsewhere")
    mono.write("other.yaml", "version: 1\nname: other\nbase: debian:12\n")

    assert asked(away, "-C", "../services/a", "why", "py") == (":words", ["python"])
    assert asked(away, "why", "-C", "..", "-f", "other.yaml", "") == (":words", ["other"])
    assert asked(mono.having(SANDBOXFILE_FILE="other.yaml"), "why", "") == (":words", ["other"])


@pytest.mark.parametrize(
    ("name", "text"), [("novita.yaml", "version: 1\nx"), ("novita.lock", "version: 99\n")]
)
def test_what_cannot_be_read_completes_nothing_and_says_nothing(
    mono: User, name: str, text: str
) -> None:
    mono.write(name, text)

    assert asked(mono, "tag", "python", "") == (":words", [])
    assert asked(mono, "-C", "missing", "build", "") == (":words", [])
    assert asked(mono.having(SANDBOXFILE_LOCKED="x"), "build", "") == (":words", [])


def test_each_shell_is_told_in_its_own_way(mono: User) -> None:
    said = "exit 7 instead of 1 when some came through"
    assert asked(mono, "build", "--keep", shell="zsh")[1] == [f"--keep-going:{said}"]
    assert asked(mono, "build", "--keep", shell="fish")[1] == [f"--keep-going\t{said}"]
    assert asked(mono, "build", "services/a:", shell="zsh")[1] == ["services/a\\:api"]
    assert asked(mono, "build", "services/a:", shell="fish")[1] == ["services/a:api"]
    assert asked(mono, "build", "al", shell="zsh")[1] == ["all:group"]


@pytest.mark.parametrize("word", ["py", '"py', "'py", "p\\y", '"p"y'])
def test_bash_tells_words_as_they_are_typed(mono: User, word: str) -> None:
    assert asked(mono, "why", word)[1] == ["python"]


def test_quotes_of_other_shells_are_gone_before(mono: User) -> None:
    assert asked(mono, "why", '"py', shell="fish")[1] == []


def test_a_word_that_no_quote_closes_is_taken_as_it_is(mono: User) -> None:
    assert asked(mono, "why", '"py\\')[1] == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_knows_nothing_of_the_commands(user: User, shell: str) -> None:
    ran = user.run("completion", shell)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == SCRIPTS[shell]
    assert [name for name in COMMANDS if f" {name} " in ran.out] == ["completion"]


def test_a_shell_has_to_be_named(user: User) -> None:
    ran = user.run("completion")
    assert ran.code == 64
    assert "shell" in ran.err
    ran = user.run("completion", "csh")
    assert ran.code == 64
    assert "`csh` is none of bash, " in ran.err


def _metavars() -> Iterator[str]:
    Parser.environ = {}
    for each in (parser(), *(parser_of(name)[1] for name in COMMANDS)):
        for action in each._actions:
            if isinstance(action.metavar, str) and action.nargs != 0:
                yield from action.metavar.split("|")


def test_every_kind_of_value_is_completed_or_is_typed_by_hand() -> None:
    typed = {
        "COMMAND", "DAYS", "DURATION", "HOST", "HOST/REPOSITORY", "I/N", "ID", "N", "NAME[=COUNT]",
        "PHASE=DURATION", "RESULT", "-- CMD ...", "-- WORD ...",
    }  # fmt: skip
    completed = {*completion._SOURCES, completion.VARIABLE, "FILE", "DIR"}

    assert {*_metavars()} == typed | completed
