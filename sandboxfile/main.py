"""The command line: parse, dispatch, and the one place where errors become text and a code."""

import argparse
import errno
import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from sandboxfile import __version__, collector, errors
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.fresh import Look

COMMANDS: Mapping[str, str] = {
    "init": "write a first novita.yaml for this directory",
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
    "clean": "remove caches and logs of this workspace",
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}  # no bug, wherever it happens


class Command(Protocol):
    """What a module in `commands/` offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class Parser(argparse.ArgumentParser):
    """An argument parser whose options can also come as SANDBOXFILE_<OPTION>.

    argparse exits 2 on its own, which means `differences` here (docs/reference.md, Exit codes).
    """

    environ: Mapping[str, str] = {}

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
        raise UsageError(message, hint=hint)

    def _near(self, word: str) -> str | None:
        import difflib

        names = [each[2:] for each in self._option_string_actions if each.startswith("--")]
        name = word.lstrip("-")
        begun = [each for each in names if name and each.startswith(name)]
        near = begun or difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        return f"--{near[0]}" if near and word.startswith("-") else None

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        long = next((name for name in names if name.startswith("--")), None)
        # `--target` alone has its own place among the defaults (docs/reference.md, Environment).
        if long and long != "--target" and action.default is not argparse.SUPPRESS:
            variable = "SANDBOXFILE_" + long[2:].replace("-", "_").upper()
            if self.environ.get(variable):
                action.default = self._default(action, variable, self.environ[variable])
        return action

    def _assignment(self, line: str) -> tuple[str, str]:
        try:
            return _assignment(line)
        except argparse.ArgumentTypeError as error:
            self.error(f"`SANDBOXFILE_VAR`: {error}")

    def parse_command(self, argv: list[str], args: argparse.Namespace) -> argparse.Namespace:
        """Read a command's arguments, options between them too, unless the rest is not ours."""
        if any(action.nargs == argparse.REMAINDER for action in self._actions):
            return self.parse_args(argv, args)
        return self.parse_intermixed_args(argv, args)

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
    add("-t", "--target", metavar="NAME", help="where to publish", **default)
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


def _parser() -> Parser:
    parser = Parser(
        prog="sandboxfile",
        usage="sandboxfile [options] COMMAND ...",
        description="Make for Novita Agent Sandbox templates.",
        epilog=f"commands:\n{_overview()}\n\n`sandboxfile COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sandboxfile {__version__}")
    _add_globals(parser, again=False)
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS, nargs="?")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Read the command line; only the named command's module is imported. Raises UsageError."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        raise SystemExit(errors.DONE)
    if args.command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(args.command, COMMANDS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"commands: {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command `{args.command}`", hint=hint)
    command: Any = importlib.import_module(f"sandboxfile.commands.{args.command}")
    inner = Parser(
        prog=f"sandboxfile {args.command}",
        description=COMMANDS[args.command][0].upper() + COMMANDS[args.command][1:] + ".",
        allow_abbrev=False,
    )
    command.add_arguments(inner)
    _add_globals(inner, again=True)
    rest = vars(args).pop("rest")
    return command, inner.parse_command(rest, args)


def main(argv: Sequence[str], environ: Mapping[str, str], look: Look | None = None) -> int:
    """Run one command; the exit code. Raises nothing but SystemExit from `--help`.

    `look` is what the first stage has found.
    """
    Parser.environ = environ
    try:
        with collector.paused():
            return _run(argv, environ, look or Look())
    except SandboxfileError as error:
        return _fail(error, environ)
    except KeyboardInterrupt:
        _tell("interrupted\n")
        return errors.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell (Python's own documentation,
        # `signal`, note on SIGPIPE).
        _discard(sys.stdout)
        return errors.FAILED
    except OSError as error:
        if error.errno not in _NO_ROOM:
            return _bug(error, environ)
        _discard(sys.stdout)
        return _fail(SandboxfileError(f"no more can be written: {error.strerror}"), environ)
    except Exception as error:  # noqa: BLE001 - the boundary: what is left is our own bug
        short = errors.shortage(error)
        return _bug(error, environ) if short is None else _fail(short, environ)


def _run(argv: Sequence[str], environ: Mapping[str, str], look: Look) -> int:
    since = time.time_ns()
    here = _here()
    try:
        command, args = parse(argv)
        args.environ = environ
        args.given = list(argv)
        args.since = since
        args.look = look
        args.here = here
        args.home = Path(environ.get("HOME") or "/")
        if args.directory:
            _change_directory(args.directory)
        return command.run(args)
    finally:
        # Here, while an error can still be told; not when the interpreter ends.
        sys.stdout.flush()


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd() would say the same in ten times the time
    except FileNotFoundError:
        return ""


def _discard(stream: TextIO) -> None:
    """Let what is still buffered for a stream go nowhere."""
    with suppress(OSError):  # not a real file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _tell(text: str) -> None:
    """Write to standard error; where that cannot be, the exit code has to say it alone."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _change_directory(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise UsageError(f"`-C {directory}`: {error.strerror}") from None


def _fail(error: SandboxfileError, environ: Mapping[str, str]) -> int:
    from sandboxfile.console import error_text, in_github
    from sandboxfile.redact import Redactor, secrets_in

    redactor = Redactor(secrets_in(environ))
    text = error_text(error, redactor=redactor, ci=in_github(environ)) + "\n"
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        text += f"{len(error.problems)} problems\n"
    _tell(text)
    return error.exit_code


def _bug(error: Exception, environ: Mapping[str, str]) -> int:
    """Write the traceback to a file of the user alone; one line on the screen."""
    import tempfile
    import traceback

    from sandboxfile.redact import Redactor, secrets_in

    text = Redactor(secrets_in(environ)).text("".join(traceback.format_exception(error)))
    with tempfile.NamedTemporaryFile(
        "w", prefix="sandboxfile-bug-", suffix=".txt", delete=False
    ) as file:
        file.write(f"sandboxfile {__version__}, Python {sys.version}\n\n{text}")
    _tell(
        f"error: this is a bug in sandboxfile ({type(error).__name__}); "
        f"please report it with {file.name}\n"
    )
    return errors.BUG
