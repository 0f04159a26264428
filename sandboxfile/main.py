"""Run a command: the one place where errors become text and a code."""

import errno
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sandboxfile import __version__, collector, errors
from sandboxfile.commandline import Parser, parse
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.fresh import Look

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}  # no bug, wherever it happens


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
        text = f"no more can be written: {error.strerror}"
        return _fail(SandboxfileError(text, hint="make room, and run it again"), environ)
    except Exception as error:  # noqa: BLE001 - the boundary: what is left is our own bug
        if _is_interrupted(error):
            _tell("interrupted\n")
            return errors.INTERRUPTED
        short = errors.shortage(error)
        return _bug(error, environ) if short is None else _fail(short, environ)


def _is_interrupted(error: BaseException) -> bool:
    """Say whether something went wrong because an interrupt came in the midst of it."""
    context = error.__context__
    return isinstance(context, KeyboardInterrupt) or (
        context is not None and _is_interrupted(context)
    )


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
        if not here:
            args.here = _checked_here()
        return command.run(args)
    finally:
        # Here, while an error can still be told; not when the interpreter ends.
        sys.stdout.flush()


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd() would say the same in ten times the time
    except OSError:
        return ""


def _checked_here() -> str:
    """Return the current directory, where one was removed that `-C` may have led out of."""
    here = _here()
    if not here:
        raise UsageError(
            "the current directory is not there any more",
            hint="change to one that is, or name it with `-C DIR`",
        )
    return here


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
    named = f"this is a bug in sandboxfile ({type(error).__name__})"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sandboxfile-bug-", suffix=".txt", delete=False
        ) as file:
            file.write(f"sandboxfile {__version__}, Python {sys.version}\n\n{text}")
        _tell(f"error: {named}; please report it with {file.name}\n")
    except OSError as failure:  # a full disk
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.name}, line {last.lineno} of {Path(last.filename).name}"
        _tell(f"error: {named}; its report cannot be written ({failure.strerror}): {where}\n")
    return errors.BUG
