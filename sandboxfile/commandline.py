"""What the command line understands: the commands, the options of all, and a parser of each."""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any, NoReturn, Protocol

from sandboxfile import __version__, errors
from sandboxfile.errors import UsageError
from sandboxfile.patterns import regex

_DURATION = regex(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
COMMANDS: Mapping[str, str] = {
    "init": "write a first novita.yaml for this directory",
    "import": "write the novita.yaml of templates that another tool builds",
    "validate": "check novita.yaml and say everything that is wrong with it",
    "show": "print an intermediate result: config, steps, dockerfile, files, plan",
    "plan": "say what `build` would do to each template, and why",
    "why": "give the reasons for one template in full",
    "build": "bring templates up to date and write the lock",
    "outdated": "say which bases have moved since the lock pinned them",
    "lock": "take bases that moved, join locks, solve a conflict in one, or check it",
    "status": "compare templates with the lock, and say which builds run",
    "list": "list the templates of the workspace",
    "graph": "draw which template is built on which",
    "logs": "print the log of a template's build",
    "tag": "give tags to a build, take them away, or show builds and their tags",
    "promote": "give the build that has one tag another tag too",
    "rollback": "put tags back on the build before",
    "delete": "delete templates at the service",
    "prune": "delete templates at the service that nothing names any more",
    "env": "print template IDs for applications",
    "run": "run a command in a local template",
    "shell": "open a shell in a local template",
    "serve": "run the local template service on loopback",
    "doctor": "say what was found here: engine, target, credentials",
    "schema": "print the JSON Schema of novita.yaml or of the lock",
    "completion": "print what completes commands in bash, zsh or fish",
    "clean": "remove caches and logs of this workspace",
}

_USUAL, _MARGIN = 80, 2  # columns of a screen of unknown width, and those that argparse leaves free

# What argparse says, which differs by version of Python, and how it is said here.
_SAID: Mapping[str, str] = {
    r"the following arguments are required: (.+)": r"`\1` is missing",
    r"argument (?:\S+/)?(\S+): invalid choice: '(.*)' \(choose from (.+)\)": (
        r"`\1`: `\2` is none of \3"
    ),
    r"argument (?:\S+/)?(\S+): invalid (?:int|float) value: '(.*)'": r"`\1`: `\2` is no number",
    r"argument (?:\S+/)?(\S+): expected one argument": r"`\1` needs a value",
    r"argument (?:\S+/)?(\S+): (.*)": r"`\1`: \2",
}


class Command(Protocol):
    """What a module in `commands/` offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


@cache
def _width() -> int:
    """Return how wide a text may be, as argparse does it with `shutil`, which loads compressors."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns) - _MARGIN
    screen = 0
    with suppress(ValueError, OSError):  # closed, or no terminal
        screen = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0
    return (screen or _USUAL) - _MARGIN


class Parser(argparse.ArgumentParser):
    """An argument parser whose options can also come as SANDBOXFILE_<OPTION>.

    argparse exits 2 on its own, which means `differences` here (docs/reference.md, Exit codes).
    """

    environ: Mapping[str, str] = {}

    def __init__(
        self, *, formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter, **options: Any
    ) -> None:
        self.repeatable: set[str] = set()  # the `dest` of options that may be given several times
        # Made for every argument: on its own, each asks for the width again.
        super().__init__(formatter_class=partial(formatter, width=_width()), **options)

    @property
    def options(self) -> Mapping[str, argparse.Action]:
        """What begins with a hyphen, by each of its names."""
        return self._option_string_actions

    @property
    def places(self) -> tuple[argparse.Action, ...]:
        """What does not, in its order."""
        return tuple(each for each in self._actions if not each.option_strings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; for an option that is not known, with the one that may be meant."""
        hint = f"see `{self.prog} --help`"
        _, is_unknown, rest = message.partition("unrecognized arguments: ")
        if is_unknown:
            word = rest.partition(" ")[0].partition("=")[0]
            is_option = word.startswith("-")
            message = f"unknown option `{word}`" if is_option else f"`{word}` is one too many"
            near = self._near(word)
            hint = f"did you mean `{near}`? {hint}" if near else hint
        raise UsageError(_in_words(message), hint=hint)

    def _near(self, word: str) -> str | None:
        import difflib

        names = [each[2:] for each in self.options if each.startswith("--")]
        name = word.lstrip("-")
        begun = [each for each in names if name and each.startswith(name)]
        near = begun or difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        return f"--{near[0]}" if near and word.startswith("-") else None

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        if options.get("action") in {"append", "count"}:
            self.repeatable.add(action.dest)
        long = next((name for name in names if name.startswith("--")), None)
        # `--target` alone has its own place among the defaults (docs/reference.md, Environment).
        if long and long != "--target" and action.default is not argparse.SUPPRESS:
            variable = "SANDBOXFILE_" + long[2:].replace("-", "_").upper()
            if self.environ.get(variable):
                action.default = self._default(action, variable, self.environ[variable])
                if action.type is not None and action.default == self.environ[variable]:
                    action.type = self._blaming(variable, action.default, action.type)
        return action

    def _blaming(self, variable: str, said: str, read: Any) -> Callable[[str], Any]:
        """Return what reads a value, and names the variable where that is what says it.

        argparse reads it only where the option is not given, and names the option.
        """

        def typed(text: str) -> Any:
            try:
                return read(text)
            except (argparse.ArgumentTypeError, ValueError) as error:
                if text != said:
                    raise
                told = isinstance(error, argparse.ArgumentTypeError)
                self.error(f"`{variable}`: {error if told else f'`{text}` is no number'}")

        typed.__name__ = getattr(read, "__name__", "")  # by which argparse says what is wanted
        return typed

    def _assignment(self, line: str) -> tuple[str, str]:
        try:
            return _assignment(line)
        except argparse.ArgumentTypeError as error:
            self.error(f"`SANDBOXFILE_VAR`: {error}")

    def parse_command(self, argv: list[str], args: argparse.Namespace) -> argparse.Namespace:
        """Read a command's arguments, options between them too, unless the rest is not ours."""
        rest = next((each for each in self.places if each.nargs == argparse.REMAINDER), None)
        if rest is None:
            return self.parse_intermixed_args(argv, args)
        # Options behind the name are ours up to the `--` that begins what is not.
        end = argv.index("--") if "--" in argv else len(argv)
        found = self.parse_args(argv[:end], argparse.Namespace(**vars(args)))
        own: list[str] = getattr(found, rest.dest)
        if own and own[0].startswith("-"):
            if end == len(argv) and not self._are_options(own):
                self.error("what is to be run begins behind `--`")
            argv = [*own, *argv[: end - len(own)], *argv[end:]]
        return self.parse_args(argv, args)

    def _are_options(self, words: list[str]) -> bool:
        """Say whether there is nothing but options of ours with their values."""
        rest = iter(words)
        for word in rest:
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            action = self.options.get(name)
            if action is None:
                return False
            if action.nargs != 0 and name == word and next(rest, None) is None:
                return False
        return True

    def _default(self, action: argparse.Action, variable: str, value: str) -> object:
        if action.nargs == 0:
            if value.lower() not in {"0", "1", "true", "false"}:
                self.error(f"`{variable}` is `{value}`: use 1 or 0")
            return value.lower() in {"1", "true"}
        if variable == "SANDBOXFILE_VAR":  # repeatable: one a line
            return [self._assignment(line) for line in value.splitlines() if line]
        if action.choices is not None and value not in action.choices:
            self.error(f"`{variable}` is `{value}`: choose from {', '.join(action.choices)}")
        return value.split(",") if isinstance(action.default, list) else value


def _in_words(message: str) -> str:
    """Say in our words what argparse complains of."""
    import re

    for pattern, words in _SAID.items():
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found is not None:
            said = found.expand(words)
            return said.replace("'", "") if "invalid choice" in message else said
    return message


def _assignment(text: str) -> tuple[str, str]:
    """Take `NAME=VALUE` apart; what is wrong with it is no secret, so it may be shown."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"`{name}` is no NAME=VALUE")
    return name, value


def _add_globals(parser: argparse.ArgumentParser, *, again: bool) -> None:
    """Add the global options; a second time for the command, where absent must not overwrite."""
    default: dict[str, Any] = {"default": argparse.SUPPRESS} if again else {}
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", help="the novita.yaml to read", **default)
    add("-C", "--directory", metavar="DIR", help="run as if started there", **default)
    add("-t", "--target", metavar="TARGET", help="where to publish", **default)
    add(
        "--var",
        action="append",
        type=_assignment,
        metavar="NAME=VALUE",
        help="the value of a variable; repeatable",
        **default,
    )
    add("--json", action="store_true", help="one JSON document on stdout", **default)
    add(
        "--progress",
        choices=["auto", "tty", "plain", "json", "quiet"],
        help="how a build is shown (default: auto)",
        **(default or {"default": "auto"}),
    )
    add("-q", "--quiet", action="store_true", help="only errors", **default)
    add("-v", "--verbose", action="count", help="show build output too", **default)
    levels = ["debug", "info", "warning", "error"]
    add("--log-level", choices=levels, help="diagnostics on stderr", **default)
    add(
        "--log-format",
        choices=["console", "json"],
        help="form of the diagnostics",
        **(default or {"default": "console"}),
    )
    add("--offline", action="store_true", help="no network; the engine may be used", **default)


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())


def parser() -> Parser:
    """Return the parser of what comes before a command; the command's own words are its `rest`."""
    made = Parser(
        prog="sandboxfile",
        usage="sandboxfile [options] COMMAND ...",
        description="Make for Novita Agent Sandbox templates.",
        epilog=f"commands:\n{_overview()}\n\n`sandboxfile COMMAND --help` says more.",
        formatter=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"sandboxfile {__version__}")
    _add_globals(made, again=False)
    made.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS, nargs="?")
    made.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return made


def parser_of(name: str) -> tuple[Command, Parser]:
    """Import the module of one command; return it with the parser of its words."""
    command: Any = importlib.import_module(f"sandboxfile.commands.{name}")
    made = Parser(
        prog=f"sandboxfile {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        allow_abbrev=False,
    )
    command.add_arguments(made)
    _add_globals(made, again=True)
    return command, made


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Read the command line; only the named command's module is imported. Raises UsageError."""
    outer = parser()
    args = outer.parse_args(argv)
    if args.command is None:
        outer.print_help()
        raise SystemExit(errors.DONE)
    if args.command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(args.command, COMMANDS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"commands: {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command `{args.command}`", hint=hint)
    command, inner = parser_of(args.command)
    rest = vars(args).pop("rest")
    return command, inner.parse_command(rest, args)


def duration(text: str) -> float:
    """Read a time with its units (`90s`, `30m`, `1h30m`) as seconds. Raises ArgumentTypeError."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration: write `90s`, `30m` or `1h`")
    hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(3600 * hours + 60 * minutes + seconds)
