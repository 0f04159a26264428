"""Which tags were moved from this machine, by whom: one JSON object a line, for people.

A service tells only where a tag is now. What it was on before is here, so that a rollback goes
back to what really was in use. It may be lost: nothing else depends on it.

A move is written as begun before the service is asked, and once more when it is done, or refused:
so a run that is killed in between leaves what the tag was on. Begun alone, it counts while the tag
is there, and until the next move of that tag is written: what was begun before and had been carried
out is written as done by then.
"""

import getpass
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal, get_args

from sandboxfile import reading
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass

# Keys of lines that are no moves that were made: whoever does not know one leaves its line out.
Mark = Literal["begun", "refused"]
_MARKS: tuple[Mark, ...] = get_args(Mark)


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


_Line = tuple[Move, Mark | None]


def made(*, by: str, template: str, tag: str, old: str, new: str) -> Move:
    """Return a move that was made just now by who runs this."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user that has no name, as in some containers
        who = str(os.getuid())
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Move(at=at, who=who, by=by, template=template, tag=tag, old=old, new=new)


def write(path: Path, moves: Iterable[Move], mark: Mark | None = None) -> None:
    """Append moves, as done without a mark, all in one write: processes do not mix theirs.

    Raises SandboxfileError.
    """
    more = {mark: True} if mark else {}
    text = "".join(json.dumps({**asdict(move), **more}) + "\n" for move in moves)
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


def read(path: Path, template: str, now: Mapping[str, str]) -> tuple[Move, ...]:
    """Return the moves of a template's tags, the newest last; lines that are none are left out.

    `now` is where tags are, which decides about moves that were only begun.
    """
    lines = _lines(path, template)
    carried_out = {*_unfinished(lines, now)}
    return tuple(
        move for move, mark in lines if mark is None or (mark == "begun" and move in carried_out)
    )


def unfinished(path: Path, template: str, now: Mapping[str, str]) -> tuple[Move, ...]:
    """Return the moves that a killed run has made and not written as done."""
    return tuple(_unfinished(_lines(path, template), now))


def _unfinished(lines: Iterable[_Line], now: Mapping[str, str]) -> Iterable[Move]:
    open_: dict[str, Move] = {}
    for move, mark in lines:
        open_.pop(move.tag, None)
        if mark == "begun":
            open_[move.tag] = move
    return (move for move in open_.values() if now.get(move.tag, "") == move.new)


def _lines(path: Path, template: str) -> list[_Line]:
    """Return the moves of a template as they are written, and the marks of their lines."""
    try:
        lines = reading.regular(path).decode(errors="replace").splitlines()
    except OSError:
        return []
    found = (_move(line) for line in lines)
    return [each for each in found if each is not None and each[0].template == template]


def _move(line: str) -> _Line | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):  # torn, or nothing of ours
        return None
    if not isinstance(plain, dict):
        return None
    marks = [mark for mark in _MARKS if plain.pop(mark, False) is True]
    if plain.keys() != {each.name for each in fields(Move)}:
        return None
    is_text = all(isinstance(value, str) and value.isprintable() for value in plain.values())
    mark = marks[0] if marks else None
    return (Move(**plain), mark) if is_text else None  # else it would command a terminal
