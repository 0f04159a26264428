"""Carries out build steps in a guest, with the meaning and the texts of docs/protocol.md, 3.6."""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from sandboxfile.engines import Executed
from sandboxfile.frozen import dataclass, replace
from sandboxfile.local import copying
from sandboxfile.local import guest as guests
from sandboxfile.local.copying import Copy
from sandboxfile.local.guest import Guest, Tell
from sandboxfile.local.records import Failed, Setting, Step

ENV_PLAIN = 32 << 10  # characters of an environment that every kernel takes
COPY_ARGS = range(2, 5)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where steps are carried out; `files` finds the archive uploaded under a hash."""

    guest: Guest
    files: Callable[[str], Path | None]

    def perform(self, step: Step, setting: Setting, *, tell: Tell) -> Setting:
        """Carry out a step; the setting of those after it. Raises Failed."""
        match step.type, step.args:
            case "RUN", (command, *rest):
                self._run(_as(setting, rest), command, tell)
                return setting
            case "ENV" | "ARG", args if args and len(args) % 2 == 0:
                return self._env(setting, tuple(zip(args[::2], args[1::2], strict=True)))
            case "WORKDIR", (path,):
                return self._workdir(setting, path)
            case "USER", (name, *rest):
                return self._user(setting, name, sudo=rest == ["true"])
            case "COPY" | "ADD", args if len(args) in COPY_ARGS:
                self._copy(setting, step)
                return setting
            case "RUN" | "ENV" | "ARG" | "WORKDIR" | "USER" | "COPY" | "ADD", args:
                raise Failed(f"{step.type} cannot have {len(args)} arguments")
            case _:
                raise Failed(f"command type {step.type} is not implemented")

    def _run(self, setting: Setting, command: str, tell: Tell) -> None:
        done = self.guest.command(command, setting, tell=tell)
        if done.status != 0:
            raise Failed(f"failed to run command '{command}': exit status {done.status}")

    def _env(self, setting: Setting, pairs: tuple[tuple[str, str], ...]) -> Setting:
        try:
            added = self.guest.expand(pairs, setting.env)
        except ValueError as error:
            raise Failed(str(error)) from None
        there = replace(setting, env={**setting.env, **added})
        # The kernel takes only so much for one program (execve(2): 128 KiB each, a share of the
        # stack in all); with more, no command would run any longer.
        size = sum(len(name) + len(value) for name, value in there.env.items())
        if size > ENV_PLAIN and self.guest.try_out(there).status != 0:
            raise Failed("the environment is too large: no command would run in it")
        return there

    def _workdir(self, setting: Setting, path: str) -> Setting:
        there = guests.moved(setting, path, home=self._home(setting, path))
        done = self.guest.make_directory(there.workdir or "/", setting.user)
        expect(done, f"failed to create directory '{there.workdir}': exit status")
        return there

    def _user(self, setting: Setting, name: str, *, sudo: bool) -> Setting:
        if not _USER.fullmatch(name):
            raise Failed(f"'{name}' cannot be the name of a user")
        account = name.partition(":")[0]
        if not account.isdigit():
            done = self.guest.add_user(account, sudo=sudo)
            expect(done, f"failed to create user '{account}': exit status")
        there = replace(setting, user=name)
        expect(self.guest.try_out(there), f"failed to switch to user '{name}': exit status")
        return there

    def _copy(self, setting: Setting, step: Step) -> None:
        archive = self.files(step.files_hash) if step.files_hash else None
        if archive is None:
            raise Failed(f"files for hash '{step.files_hash or ''}' were not uploaded")
        try:
            copy = Copy.of(step.args)
            home = self._home(setting, copy.destination)
            path = posixpath.join(setting.workdir or home, copy.destination)
            place = self.guest.survey(_normal(path), copy.owner or setting.user)
            self.guest.box.put(copying.packed(archive, copy, place), place.there)
        except ValueError as error:
            raise Failed(str(error)) from None

    def _home(self, setting: Setting, path: str) -> str:
        """Return the user's home where a path is relative to it, else nothing."""
        is_free = setting.workdir or path.startswith("/")
        return "" if is_free else self.guest.home(setting.user)


def expect(done: Executed, message: str) -> None:
    """Raise Failed, the message with the exit status behind it, unless it went well."""
    if done.status != 0:
        raise Failed(f"{message} {done.status}", tuple(done.output.splitlines()))


def _as(setting: Setting, rest: list[str]) -> Setting:
    return replace(setting, user=rest[0]) if rest and rest[0] else setting


def _normal(path: str) -> str:
    """Return an absolute path without detours; POSIX lets two slashes stand at the start."""
    return "/" + posixpath.normpath(path).lstrip("/")
