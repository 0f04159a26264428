"""Which tags were moved from this machine, by whom: one JSON object a line, for people.

A service tells only where a tag is now. What it was on before is here, so that a rollback goes
back to what really was in use. It may be lost: nothing else depends on it.
"""

import getpass
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from sandboxfile import reading
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A tag put from one build on another; an empty `old` or `new` is no build at all.

    `by` is the command and `who` the account on this machine; `at` is UTC (RFC 3339).
    """

    at: str
    who: str
    by: str
    template: str
    tag: str
    old: str
    new: str


def made(*, by: str, template: str, tag: str, old: str, new: str) -> Move:
    """Return a move that was made just now by who runs this."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user that has no name, as in some containers
        who = str(os.getuid())
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Move(at=at, who=who, by=by, template=template, tag=tag, old=old, new=new)


def write(path: Path, moves: Iterable[Move]) -> None:
    """Append moves; each line is one write, so that processes do not mix theirs."""
    text = "".join(json.dumps(asdict(move)) + "\n" for move in moves)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o600)
        try:
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SandboxfileError(
            f"the record of moved tags `{path}` cannot be written: {error.strerror}",
            hint="the tags are moved; only `rollback` knows less of where they were",
        ) from None


def read(path: Path, template: str) -> tuple[Move, ...]:
    """Return the moves of a template's tags, the newest last; lines that are none are left out."""
    try:
        lines = reading.regular(path).decode(errors="replace").splitlines()
    except OSError:
        return ()
    found = (_move(line) for line in lines)
    return tuple(move for move in found if move is not None and move.template == template)


def _move(line: str) -> Move | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):  # torn, or nothing of ours
        return None
    names = {each.name for each in fields(Move)}
    if not isinstance(plain, dict) or plain.keys() != names:
        return None
    is_text = all(isinstance(value, str) and value.isprintable() for value in plain.values())
    return Move(**plain) if is_text else None  # else it would be a command to a terminal
