"""A build as a template service tells of it: its IDs, its state, a page of its log."""

import re
from collections.abc import Mapping

from sandboxfile import answers, listing
from sandboxfile.frozen import dataclass
from sandboxfile.listing import State
from sandboxfile.web import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The IDs that the service gave to a build."""

    template_id: str
    build_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of a build's log; `timestamp` as the service wrote it."""

    message: str
    timestamp: str = ""
    level: str = "info"
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStatus:
    """A build as the service sees it, with one page of its log.

    `state` is "building" for every status unknown to us. `count` is how far this page moves the
    log's offset. `reason` and `step` are empty unless the build failed.
    """

    template_id: str
    build_id: str
    state: State
    entries: tuple[LogEntry, ...] = ()
    count: int = 0
    reason: str = ""
    step: str = ""


def registration(reply: Reply) -> Registration:
    """Return the IDs that a registration was answered with. Raises Unreachable for nonsense."""
    answer = answers.fields(reply)
    return Registration(
        template_id=answers.template_id(reply, answer), build_id=answers.build_id(reply, answer)
    )


def _entries(reply: Reply, answer: Mapping[str, object]) -> tuple[LogEntry, ...]:
    """Return a page of the log: `logEntries`, else the strings that v1 builds have."""
    rows = answer.get("logEntries")
    if rows:
        return tuple(_entry(answers.mapping(reply, row)) for row in answers.array(reply, rows))
    lines = answers.array(reply, answer.get("logs") or [])
    return tuple(_line(line) for line in lines if isinstance(line, str))


def _entry(row: Mapping[str, object]) -> LogEntry:
    def text(name: str) -> str:
        value = row.get(name)
        return value if isinstance(value, str) else ""

    return LogEntry(
        message=text("message").rstrip("\n"),
        timestamp=text("timestamp"),
        level=text("level") or "info",
        step=text("step"),
    )


def _line(line: str) -> LogEntry:
    found = re.fullmatch(r"\[(\d{4}-\d\d-\d\dT[^\]]*)\] (.*)", line.rstrip("\n"), re.DOTALL)
    if found:
        return LogEntry(timestamp=found[1], message=found[2])
    return LogEntry(message=line.rstrip("\n"))


def read(reply: Reply, ids: Registration) -> BuildStatus:
    """Return the status that was asked for `ids`. Raises Unreachable for nonsense."""
    answer = answers.fields(reply)
    entries = _entries(reply, answer)
    reason = answer.get("reason")
    failed = reason if isinstance(reason, dict) else {}
    if answer.get("buildID", ids.build_id) != ids.build_id:
        raise answers.nonsense(reply, "it is about another build than asked for")
    return BuildStatus(
        template_id=ids.template_id,
        build_id=ids.build_id,
        state=listing.state(answers.text(reply, answer, "status")),
        entries=entries,
        count=len(entries),
        reason=answers.clean(failed.get("message") or (reason if isinstance(reason, str) else "")),
        step=answers.clean(failed.get("step")),
    )
