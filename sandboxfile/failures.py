"""Why the last build of a template failed on this machine, until one comes through.

It is there for people and scripts to be told, and decides nothing: a file that cannot be read or
written is no failure. A file each, so that runs at the same time do not disturb one another.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sandboxfile import reading, writing
from sandboxfile.frozen import dataclass

DIRECTORY = "failed"  # in the state directory; below it one for each target
_MOST = 64 << 10  # bytes of a file
_TEXT = 500  # characters of a message


class Stale(Protocol):
    """What is known of a template; `plan.Decision` is it."""

    @property
    def template(self) -> str: ...

    @property
    def stale(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The step (`build`, `push`, ...) that failed, and the first line of its error.

    `logged` says that it wrote a log.
    """

    step: str
    message: str
    logged: bool = False

    @property
    def as_json(self) -> dict[str, str]:
        """The failure as data for `--json`."""
        return {"step": self.step, "message": self.message}

    def told(self, template: str) -> str:
        """Return the line that people are told."""
        why = f"the last build failed at `{self.step}`: {self.message}"
        return f"{why} (`sandboxfile logs {template}`)" if self.logged else why


def keep(state: Path, target: str, template: str, failure: Failure) -> None:
    """Remember a failure; where that cannot be, it is lost."""
    path = _path(state, target, template)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {**failure.as_json, "logged": failure.logged}
        writing.whole(path, json.dumps(kept).encode())


def forget(state: Path, target: str, template: str) -> None:
    """Forget what a template failed with before."""
    with suppress(OSError):
        _path(state, target, template).unlink()


def read(state: Path, target: str, template: str) -> Failure | None:
    """Return why the last build failed, None when it did not, or nobody knows."""
    try:
        data = reading.regular(_path(state, target, template))
        document = json.loads(data) if len(data) <= _MOST else None
    except (OSError, ValueError, RecursionError):
        return None
    match document:
        case {"step": str(step), "message": str(message), **others}:
            logged = others.get("logged") is True
            return Failure(step=_line(step), message=_line(message), logged=logged)
        case _:
            return None


def of(state: Path, target: str, decisions: Iterable[Stale]) -> Mapping[str, Failure]:
    """Return the failures of what is still to be built."""
    names = [decision.template for decision in decisions if decision.stale]
    found = ((name, read(state, target, name)) for name in names)
    return {name: failure for name, failure in found if failure is not None}


def _path(state: Path, target: str, template: str) -> Path:
    return state / DIRECTORY / target / f"{template}.json"


def _line(text: str) -> str:
    """Return the first line of a text, as harmless as that of a log."""
    first = next(iter(text.splitlines()), "")[:_TEXT]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in first)
