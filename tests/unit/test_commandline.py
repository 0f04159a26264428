"""What is asked for: commands, their options, and the environment."""

import re
from pathlib import Path

import pytest

from sandboxfile import __version__, commandline
from sandboxfile.errors import UsageError
from tests.fakes.shell import User


def test_the_version_goes_to_standard_output(user: User) -> None:
    ran = user.run("--version")

    assert (ran.code, ran.out, ran.err) == (0, f"sandboxfile {__version__}\n", "")


@pytest.mark.parametrize("argv", [[], ["-v"], ["--json"], ["--help"]])
def test_without_a_command_the_help_lists_all_of_them(user: User, argv: list[str]) -> None:
    ran = user.run(*argv)

    assert (ran.code, ran.err) == (0, "")
    for name, text in commandline.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", ran.out, re.MULTILINE)


@pytest.mark.parametrize("command", commandline.COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(user: User, command: str, flag: str) -> None:
    ran = user.run(command, flag)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: sandboxfile {command} ")
    text = commandline.COMMANDS[command]
    assert text[1:] in " ".join(ran.out.split())
    assert "--target TARGET" in ran.out


@pytest.mark.parametrize("module", sorted(commandline.COMMANDS))
def test_every_command_is_a_module(module: str) -> None:
    directory = Path(commandline.__file__).with_name("commands")
    there = {path.stem for path in directory.glob("*.py")} - {"__init__"}

    assert there == set(commandline.COMMANDS)
    assert module in there


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["buidl"], "unknown command `buidl`", "did you mean `build`?"),
        (["frobnicate"], "unknown command `frobnicate`", "commands: init, import, validate, "),
        (["--frob", "build"], "unknown option `--frob`", "see `sandboxfile --help`"),
        (["build", "--frob"], "unknown option `--frob`", "see `sandboxfile build --help`"),
        (["build", "--forc"], "unknown option `--forc`", "did you mean `--force`? see `sandboxf"),
        (["outdated", "--exit"], "unknown option `--exit`", "did you mean `--exit-code`? see "),
        (["list", "--sinse=x", "y"], "unknown option `--sinse`", "did you mean `--since`? see "),
        (["build", "-z"], "unknown option `-z`", "see `sandboxfile build --help`"),
        (["doctor", "x", "y"], "`x` is one too many", "see `sandboxfile doctor --help`"),
        (["doctor", ""], "`` is one too many", "see `sandboxfile doctor --help`"),
        (
            ["--progress", "x"],
            "`--progress`: `x` is none of auto, tty, plain, json, quiet\n",
            "see ",
        ),
        (["build", "-j", "x"], "`--jobs`: `x` is no number\n", "see `sandboxfile build --help`"),
        (
            ["build", "-j", "0"],
            "`--jobs`: `0` is too few: at least one image is built at a time",
            "see `sandboxfile build --help`",
        ),
        (["show"], "`RESULT` is missing\n", "see `sandboxfile show --help`"),
        (
            ["show", "it"],
            "`RESULT`: `it` is none of config, steps, dock",
            "see `sandboxfile show --help`",
        ),
        (["why"], "`TEMPLATE` is missing\n", "see `sandboxfile why --help`"),
        (["-t"], "`--target` needs a value\n", "see `sandboxfile --help`"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_64(
    user: User, argv: list[str], message: str, hint: str
) -> None:
    ran = user.run(*argv)

    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith(f"error: {message}")
    if hint:
        assert ran.err.splitlines()[1].startswith(f"hint: {hint}")


@pytest.mark.parametrize(
    "argv",
    [
        ["-t", "box", "--json", "-v", "build", "a", "b"],
        ["build", "-t", "box", "--json", "-v", "a", "b"],
        ["-t", "other", "-v", "build", "a", "--target", "box", "b", "--json"],
        ["--target=box", "build", "--json", "--verbose", "a", "b"],
    ],
)
def test_global_options_stand_before_or_after_the_command(argv: list[str]) -> None:
    commandline.Parser.environ = {}
    _, args = commandline.parse(argv)

    assert (args.command, args.target, args.json) == ("build", "box", True)
    assert args.templates == ["a", "b"]
    assert args.verbose >= 1
    assert (args.progress, args.offline, args.file) == ("auto", False, None)


def test_an_option_after_the_command_wins() -> None:
    commandline.Parser.environ = {"SANDBOXFILE_PROGRESS": "quiet"}

    def progress(*argv: str) -> object:
        return commandline.parse(argv)[1].progress

    assert progress("build") == "quiet"
    assert progress("--progress", "tty", "build") == "tty"
    assert progress("--progress", "tty", "build", "--progress", "json") == "json"


def test_what_follows_a_name_belongs_to_the_command_that_is_run() -> None:
    commandline.Parser.environ = {}
    _, args = commandline.parse(["run", "-t", "local", "web", "--", "ls", "--json", "--", "-t"])

    assert args.argv in (["--", "ls", "--json", "--", "-t"], ["ls", "--json", "--", "-t"])
    assert (args.template, args.target, args.json) == ("web", "local", False)


def test_options_may_follow_the_name_of_what_is_run() -> None:
    commandline.Parser.environ = {}
    _, args = commandline.parse(["run", "web", "-t", "local", "--", "ls", "-t", "x"])
    assert args.argv[-3:] == ["ls", "-t", "x"]
    assert (args.template, args.target) == ("web", "local")

    _, args = commandline.parse(["run", "web", "ls", "-t", "--", "x"])
    assert (args.template, args.target, args.argv) == ("web", None, ["ls", "-t", "--", "x"])

    with pytest.raises(UsageError, match="what is to be run begins behind `--`"):
        commandline.parse(["run", "web", "-t", "local", "ls"])


@pytest.mark.parametrize(
    "options",
    [["--json"], ["-q"], ["-f", "x"], ["-fx"], ["--file", "x"], ["--file=x", "-q"], ["-q", "-v"]],
)
def test_options_may_stand_behind_where_nothing_need_follow(options: list[str]) -> None:
    commandline.Parser.environ = {}
    behind = commandline.parse(["completion", "bash", *options])[1]
    assert behind == commandline.parse([*options, "completion", "bash"])[1]
    assert commandline.parse(["run", "web", *options])[1].argv == []
    with pytest.raises(UsageError, match="what is to be run begins behind `--`"):
        commandline.parse(["completion", "bash", *options, "build"])


def test_an_option_without_its_value_takes_no_other_word() -> None:
    commandline.Parser.environ = {}
    with pytest.raises(UsageError, match="what is to be run begins behind `--`"):
        commandline.parse(["completion", "bash", "--target"])


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SHARD", "9/2", "`SANDBOXFILE_SHARD`: `9/2` is no shard: write `1/4` to `4/4`"),
        ("JOBS", "0", "`SANDBOXFILE_JOBS`: `0` is too few: at least one image is built at a time"),
        ("JOBS", "x", "`SANDBOXFILE_JOBS`: `x` is no number"),
        ("SHARDS", "x", "`SANDBOXFILE_SHARDS`: `x` is no number"),
    ],
)
def test_a_wrong_value_of_the_environment_is_told_of_its_variable(
    variable: str, value: str, said: str
) -> None:
    commandline.Parser.environ = {f"SANDBOXFILE_{variable}": value}
    with pytest.raises(UsageError) as caught:
        commandline.parse(["plan"])
    assert caught.value.message == said

    option = f"--{variable.lower()}"
    given = {"SHARD": "1/2"}.get(variable, "2")
    assert vars(commandline.parse(["plan", option, given])[1])[option[2:]] is not None
    with pytest.raises(UsageError, match=f"error: `{option}`: `y` is no "):
        commandline.parse(["plan", option, "y"])


def test_parse_raises_what_the_boundary_shows() -> None:
    commandline.Parser.environ = {}
    with pytest.raises(UsageError) as caught:
        commandline.parse(["nothing"])

    assert caught.value.exit_code == 64


# --- SANDBOXFILE_<OPTION> --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SANDBOXFILE_TARGET", "box", None),  # comes after `default_target`: see app.target
        ("SANDBOXFILE_FILE", "other.yaml", "other.yaml"),
        ("SANDBOXFILE_DIRECTORY", "/tmp", "/tmp"),
        ("SANDBOXFILE_JSON", "1", True),
        ("SANDBOXFILE_JSON", "True", True),
        ("SANDBOXFILE_JSON", "0", False),
        ("SANDBOXFILE_JSON", "false", False),
        ("SANDBOXFILE_JSON", "", False),
        ("SANDBOXFILE_PROGRESS", "plain", "plain"),
        ("SANDBOXFILE_PROGRESS", "", "auto"),
        ("SANDBOXFILE_LOG_LEVEL", "debug", "debug"),
        ("SANDBOXFILE_LOG_FORMAT", "json", "json"),
        ("SANDBOXFILE_OFFLINE", "1", True),
        ("SANDBOXFILE_JOBS", "3", 3),
        ("SANDBOXFILE_KEEP_GOING", "1", True),
        ("SANDBOXFILE_DRY_RUN", "true", True),
    ],
)
def test_every_option_can_come_from_the_environment(
    variable: str, value: str, expected: object
) -> None:
    commandline.Parser.environ = {variable: value}
    _, args = commandline.parse(["build"])

    assert vars(args)[variable.removeprefix("SANDBOXFILE_").lower()] == expected


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SANDBOXFILE_JSON", "yes", "`SANDBOXFILE_JSON` is `yes`: use 1 or 0"),
        ("SANDBOXFILE_VERBOSE", "2", "`SANDBOXFILE_VERBOSE` is `2`: use 1 or 0"),
        (
            "SANDBOXFILE_PROGRESS",
            "fast",
            "`SANDBOXFILE_PROGRESS` is `fast`: choose from auto, tty, plain, json, quiet",
        ),
        ("SANDBOXFILE_LOG_LEVEL", "x", "`SANDBOXFILE_LOG_LEVEL` is `x`: choose from debug, "),
        ("SANDBOXFILE_LOCKED", "x", "`SANDBOXFILE_LOCKED` is `x`: use 1 or 0"),
        ("SANDBOXFILE_JOBS", "many", "`SANDBOXFILE_JOBS`: `many` is no number"),
    ],
)
def test_a_bad_value_in_the_environment_is_named(
    user: User, variable: str, value: str, message: str
) -> None:
    ran = user.having(**{variable: value}).run("build")

    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith(f"error: {message}")


def test_the_environment_of_one_option_of_a_command_is_not_that_of_another(user: User) -> None:
    assert user.having(SANDBOXFILE_LOCKED="x").run("schema").code == 0
