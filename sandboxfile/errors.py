"""Errors that end a run, or one template of it; exit codes in one place.

SandboxfileError              1  a template failed, or anything the user can act on
  UsageError                 64  the command line (sysexits.h, EX_USAGE)
  ConfigError                 3  problems in novita.yaml or a lock, each with its place
  LockStale                   4  --locked, and the lock is missing or would change
  NotAllowed                  5  authentication, permission, quota
  Unreachable                 6  the engine, the registry or the service is not there
  BuildFailed                 1  a step of a template failed; carries place, exit status, log
  Cancelled                 130  stopped by the user
  Left                        0  not an error: the service goes on without us (6 after --timeout)
(anything else)              70  our own bug (EX_SOFTWARE)

2 is for differences (`plan --detailed-exitcode`), 7 for some templates failed under --keep-going.
"""

from collections.abc import Iterable
from pathlib import Path

from sandboxfile.places import Position, Problem

DONE = 0
FAILED = 1
DIFFERENCES = 2
INVALID = 3
STALE = 4
NOT_ALLOWED = 5
UNREACHABLE = 6
SOME_FAILED = 7
USAGE = 64
BUG = 70
INTERRUPTED = 130


class SandboxfileError(Exception):
    """A failure the user can act on: a message, the remedy as `hint`, its place if any."""

    exit_code = FAILED

    def __init__(self, message: str, *, hint: str = "", at: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at = at

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        return f"{place}error: {self.message}" + (f"\nhint: {self.hint}" if self.hint else "")


def shortage(error: BaseException) -> SandboxfileError | None:
    """Return what to say where there was no memory or no thread to be had, None for all else.

    The limits are those of the machine, of its containers, or of setrlimit(2).
    """
    if isinstance(error, MemoryError):
        return SandboxfileError(
            "there is not enough memory", hint="free some, or raise the limit (`ulimit -v`)"
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return SandboxfileError(
            "no more threads can be started",
            hint="raise the limits (`ulimit -u`, `ulimit -v`), or build less at once (`-j`)",
        )
    return None


class UsageError(SandboxfileError):
    """The command line asks for something that makes no sense."""

    exit_code = USAGE


class ConfigError(SandboxfileError):
    """A file the user wrote is wrong; all its problems at once, sorted by place."""

    exit_code = INVALID

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        return self.message


class LockStale(SandboxfileError):  # noqa: N818 - named for what it says
    """`--locked` was given and the lock is missing or would change."""

    exit_code = STALE


class NotAllowed(SandboxfileError):  # noqa: N818
    """A registry or the service refused us: credentials, permission or quota."""

    exit_code = NOT_ALLOWED


class Unreachable(SandboxfileError):  # noqa: N818
    """The engine, a registry or the service cannot be reached or does not answer sensibly."""

    exit_code = UNREACHABLE


class Unsupported(SandboxfileError):  # noqa: N818
    """This engine or service cannot do what the template asks; the hint names what can."""


class BuildFailed(SandboxfileError):  # noqa: N818
    """A step of a template failed; `tail` is the end of its log, `log` the whole of it."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        at: Position | None = None,
        step: str = "",
        status: int | None = None,
        tail: tuple[str, ...] = (),
        log: Path | None = None,
    ) -> None:
        super().__init__(message, hint=hint, at=at)
        self.step = step
        self.status = status
        self.tail = tail
        self.log = log


class Cancelled(SandboxfileError):  # noqa: N818
    """The user stopped the run."""

    exit_code = INTERRUPTED


class Left(SandboxfileError):  # noqa: N818
    """A template is left as it is, to be finished by another run; no failure of the template.

    The IDs are those of a build that goes on at the service, empty when none was begun.
    """

    def __init__(
        self, message: str, *, template_id: str = "", build_id: str = "", in_time: bool = True
    ) -> None:
        """Leave a build, or its place in the line; not `in_time` after `--timeout`."""
        super().__init__(message)
        self.template_id = template_id
        self.build_id = build_id
        self.exit_code = DONE if in_time else UNREACHABLE
