"""Builds that run at the service, as the journal has them, and what the service says of them."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

from sandboxfile import journal, several, tags
from sandboxfile.app import Session
from sandboxfile.buildstatus import Registration
from sandboxfile.declined import Rejected
from sandboxfile.frozen import dataclass, replace
from sandboxfile.journal import Record
from sandboxfile.plan import Decision
from sandboxfile.service import TemplateService

State = Literal["asked for", "registered", "building", "ready", "failed", "gone"]

AT_ONCE = 8
_OF_STEP: Mapping[str, State] = {
    "register": "asked for",
    "registered": "registered",
    "pushed": "registered",
    "trigger": "building",
    "triggered": "building",
    "ready": "ready",
}
_OF_SERVICE: Mapping[str, State] = {
    "waiting": "registered",
    "building": "building",
    "ready": "ready",
    "error": "failed",
}
_SAID: Mapping[State, str] = {
    "asked for": "asked for by a run that did not learn its ID",
    "registered": "registered at the service, not begun",
    "building": "building at the service",
    "ready": "ready at the service, not in the lock",
    "failed": "failed at the service",
    "gone": "no longer known to the service",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A build that a run on this machine began and no run has ended.

    `is_current` tells whether it is of the template as it is now. `asked` tells whether the
    state is the service's, else it is what was so when the last run left. `reason` is why it
    failed.
    """

    state: State
    template_id: str
    build_id: str
    is_current: bool
    asked: bool = False
    reason: str = ""

    def __str__(self) -> str:
        build = f", build {self.build_id}" if self.build_id else ""
        since = ", since this machine triggered it" if self._is_memory else ""
        other = "" if self.is_current else "; the template has changed since"
        reason = f": {self.reason}" if self.reason else ""
        return f"{_SAID[self.state]}{build}{since}{reason}{other}"

    @property
    def _is_memory(self) -> bool:
        return self.state == "building" and not self.asked

    @property
    def as_json(self) -> dict[str, object]:
        """The build as data for `--json`."""
        return {
            "state": self.state,
            "template_id": self.template_id or None,
            "build_id": self.build_id or None,
            "current": self.is_current,
            "from_service": self.asked,
            "reason": self.reason or None,
        }


def running(session: Session, decisions: Iterable[Decision]) -> Mapping[str, Running]:
    """Return the build of each template that has one, without asking anybody.

    Builds of the local service end with the run that began them.
    """
    if session.target.provider == "local":
        return {}
    last = journal.peek(session.journal_path)
    found = {
        decision.template: _of(last[decision.template], decision)
        for decision in decisions
        if decision.template in last
    }
    return {name: each for name, each in found.items() if each is not None}


def _of(record: Record, decision: Decision) -> Running | None:
    entry = decision.entry
    if entry is not None and entry.build_id == record.build_id:
        return None  # the run ended after its lock was written
    keys = decision.keys
    is_current = keys is not None and record.content == tags.content(keys.template_key)
    if record.step == "ready" and not is_current:
        return None
    return Running(
        state=_OF_STEP[record.step],
        template_id=record.template_id,
        build_id=record.build_id,
        is_current=is_current,
    )


def refreshed(session: Session, found: Mapping[str, Running]) -> Mapping[str, Running]:
    """Ask the service for the state of these builds. Raises NotAllowed, Unreachable."""
    known = {name: each for name, each in found.items() if each.build_id}
    if not known:
        return found
    from sandboxfile.parts import Parts

    service = Parts(session).service()
    asked = several.each(partial(_asked, service), known.values(), AT_ONCE)
    return {**found, **dict(zip(known, asked, strict=True))}


def _asked(service: TemplateService, build: Running) -> Running:
    ids = Registration(template_id=build.template_id, build_id=build.build_id)
    try:
        page = service.status(ids)
    except Rejected as error:
        if error.is_missing or not error.is_gone:
            raise
        return replace(build, asked=True, state="gone")
    return replace(build, asked=True, state=_OF_SERVICE[page.state], reason=page.reason)
