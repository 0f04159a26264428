"""Write the steps with which the service makes a template itself (docs/protocol.md, 3.6).

The same instructions as in a Dockerfile, with the same meaning. Each command runs through
`/bin/sh` as the user and in the directory that the instruction has in an image, whatever the
service's own defaults are: no step changes these before the last ones, which are the template's.
The environment is kept in files from the first step on, because the service hands ENV to build
steps only, expands `$` in it, and resets PATH in every shell (docs/protocol.md, 3.8).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import join, quote
from typing import Literal, assert_never

from sandboxfile import environment, scripts
from sandboxfile.frozen import dataclass, field
from sandboxfile.model import (
    Account,
    Copy,
    Env,
    Install,
    InstallProject,
    Instruction,
    Run,
    Template,
    Workdir,
)
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem

Type = Literal["RUN", "COPY", "USER", "WORKDIR"]

# Where a template without `user` and `workdir` ends (docs/protocol.md, 3.9).
USER, HOME = "user", "/home/user"

_ARGUMENT_LIMIT = 131_071  # bytes of one argument of a program (Linux, MAX_ARG_STRLEN)
_CHUNK = 32 << 10  # characters of values in one step, while there is more than one value
# These are pasted as they are into scripts that run as root (docs/protocol.md, 3.6).
_NAME = regex(r"[a-z_][a-z0-9_-]{0,31}")
_OWNER = regex(rf"(?:{_NAME.pattern}|[0-9]+)(?::(?:{_NAME.pattern}|[0-9]+))?")
_PATH = regex(r"/[A-Za-z0-9._/@+ -]*")
_MODE = regex(r"0?[0-7]{3,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, and the place that asked for it; `copy` numbers what is to be uploaded for it.

    `title` says in a few words what a script of ours does.
    """

    type: Type
    args: tuple[str, ...]
    at: Position
    copy: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a copy reaches the service: the path in its archive, and where that goes."""

    source: str
    to: str
    mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the steps begin with.

    `environment` is that of the base image, None when the base is a template, which has it in
    files. `workdir` is the directory of the first command. `has_user` and `has_workdir` say that
    the base sets one that a template without its own would inherit.
    """

    environment: Mapping[str, str] | None = None
    workdir: str = "/"
    has_user: bool = False
    has_workdir: bool = False


def problems(template: Template) -> tuple[Problem, ...]:
    """Return what the service cannot do for this template, each with its place and remedy."""
    return tuple(_problems(template))


def workdir(instructions: Iterable[Instruction], start: str) -> str:
    """Return the directory in which a command after these instructions would run."""
    paths = [each.path for each in instructions if isinstance(each, Workdir)]
    return paths[-1] if paths else start


def render(template: Template, *, origin: Origin, copies: Mapping[int, Sent]) -> tuple[Step, ...]:
    """Write the steps of `template`; `copies` says how each of its copies is sent, from 1."""
    draft = _Draft(directory=origin.workdir, copies=copies)
    if origin.environment is not None:
        values = {"PATH": environment.PATH, **origin.environment}
        draft.environment(values, template.base.at, is_first=True)
    for instruction in template.instructions:
        draft.instruction(instruction)
    draft.finish(template, origin)
    return tuple(draft.steps)


@dataclass(slots=True, kw_only=True)
class _Draft:
    """The steps as they grow; knows in which directory the next command is to run."""

    directory: str
    copies: Mapping[int, Sent]
    steps: list[Step] = field(default_factory=list)
    copied: int = 0

    def run(self, script: str, at: Position, user: str | None = None, *, title: str = "") -> None:
        """Run a script as `docker build` would: by /bin/sh, in the current directory."""
        command = f"{join(['cd', '--', self.directory])} && exec /bin/sh -c {quote(script)}"
        self._add("RUN", (command, user or "root"), at, title=title)

    def _add(
        self, kind: Type, args: tuple[str, ...], at: Position, *, copy: int = 0, title: str = ""
    ) -> None:
        self.steps.append(Step(type=kind, args=args, at=at, copy=copy, title=title))

    def instruction(self, instruction: Instruction) -> None:
        at = instruction.at
        match instruction:
            case Env(values=values):
                self.environment(values, at, is_first=False)
            case Account(user=user):
                self.run(scripts.account(user), at, title=f"make the user {user}")
            case Install(manager=manager):
                title = f"install {manager} packages"
                self.run(scripts.install(instruction), at, title=title)
            case InstallProject(manager=manager):
                self.copy(instruction.copy)
                title = f"install the project's packages with {manager}"
                self.run(scripts.install_project(instruction), at, title=title)
            case Copy():
                self.copy(instruction)
            case Run(command=command, user=user):
                self.run(command, at, user)
            case Workdir(path=path, owner=owner):
                self.run(scripts.directory(path, owner), at, title=f"make the directory {path}")
                self.directory = path
            case _:
                assert_never(instruction)

    def environment(self, values: Mapping[str, str], at: Position, *, is_first: bool) -> None:
        for chunk in _chunks(values):
            script = scripts.set_environment(chunk, is_first=is_first)
            self._add("RUN", (script, "root"), at, title="keep the environment")
            is_first = False

    def copy(self, copy: Copy) -> None:
        self.copied += 1
        sent = self.copies[self.copied]
        # Without an owner it would be the service's current user, and not root as in an image.
        args = (sent.source, sent.to, copy.owner or "root:root", sent.mode)
        self._add("COPY", args, copy.at, copy=self.copied)

    def finish(self, template: Template, origin: Origin) -> None:
        user = template.user or (USER if origin.has_user else None)
        if user is not None:
            self._add("USER", (user,), template.place("user"))
        path = template.workdir or (HOME if origin.has_workdir else None)
        if path is not None:
            self._add("WORKDIR", (path,), template.place("workdir"))


def _chunks(values: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Split long environments: a step is one argument of a program."""
    chunk: dict[str, str] = {}
    for name, value in values.items():
        if chunk and sum(map(len, chunk.values())) + len(value) > _CHUNK:
            yield chunk
            chunk = {}
        chunk[name] = value
    yield chunk


# --- what is not possible --------------------------------------------------------------------


def _problems(template: Template) -> Iterator[Problem]:
    if template.user is not None:
        yield from _user(template.user, template.place("user"))
    yield from _plain(template.workdir, _PATH, "path", template.place("workdir"))
    for instruction in template.instructions:
        match instruction:
            case Run():
                yield from _run(instruction)
            case Env(values=values):
                for name, value in values.items():
                    yield from _length(scripts.set_environment({name: value}, is_first=False),
                                       f"the value of `{name}`", instruction.at)  # fmt: skip
            case Copy():
                yield from _copy(instruction)
            case InstallProject(copy=copy):
                yield from _copy(copy)
            case Workdir(path=path, owner=owner, at=at):
                yield from _plain(path, _PATH, "path", at)
                yield from _plain(owner, _OWNER, "owner", at)
            case _:
                pass


def _run(run: Run) -> Iterator[Problem]:
    if run.secrets:
        text = f"the service cannot mount the build secret `{run.secrets[0]}`"
        hint = "build here (`builder: docker`, with a registry), or fetch it when a sandbox starts"
        yield Problem(run.at, text, hint)
    if run.user is not None:
        yield from _user(run.user, run.at)
    yield from _length(quote(run.command), "this command", run.at)


def _length(text: str, what: str, at: Position) -> Iterator[Problem]:
    if len(text.encode()) > _ARGUMENT_LIMIT - 512:
        yield Problem(at, f"{what} is too long for a step of the service", "copy a file instead")


def _user(user: str, at: Position) -> Iterator[Problem]:
    if user.isdigit():
        yield Problem(at, f"the service knows users by name, not as `{user}`", "write its name")
    else:
        yield from _plain(user, _NAME, "user", at)


def _copy(copy: Copy) -> Iterator[Problem]:
    yield from _plain(copy.to, _PATH, "path", copy.at)
    yield from _plain(copy.owner, _OWNER, "owner", copy.at)
    yield from _plain(copy.mode, _MODE, "mode", copy.at)


def _plain(
    text: str | None, allowed: re.Pattern[str], what: str, at: Position
) -> Iterator[Problem]:
    if text is not None and not allowed.fullmatch(text):
        yield Problem(at, f"`{text}` is no {what} that the service takes", "write it plainly")
