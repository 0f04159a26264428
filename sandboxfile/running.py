"""Carry out a plan: the jobs of the stale templates on the graph, and how they ended."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandboxfile import graph
from sandboxfile.app import Session
from sandboxfile.errors import Left, SandboxfileError
from sandboxfile.graph import Outcome
from sandboxfile.parts import Parts
from sandboxfile.planning import Planned
from sandboxfile.redact import Redactor
from sandboxfile.results import Ending
from sandboxfile.show import Reports

SNAPSHOTS_AT_ONCE = 32  # the service does the work; how many it takes is learned (`Room`)
_FIRST: Mapping[str, int] = {"failed": 0, "detached": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended."""

    outcomes: tuple[Outcome, ...]
    code: int
    redactor: Redactor

    def of(self, template: str) -> Ending:
        """Return how the jobs of a template ended, the first failure first."""
        mine = [each for each in self.outcomes if each.name.partition(":")[2] == template]
        bad = [each for each in mine if each.status not in {"done", "up to date"}]
        bad.sort(key=lambda each: _FIRST.get(each.status, len(_FIRST)))
        seconds = sum(each.seconds for each in mine)
        if not bad:
            return Ending(seconds=seconds)
        error = bad[0].error
        if isinstance(error, Left):
            return Ending(
                status=bad[0].status,
                seconds=seconds,
                template_id=error.template_id,
                build_id=error.build_id,
            )
        text = self.redactor.lines(str(error)) if error else None
        return Ending(status=bad[0].status, error=text, seconds=seconds)


def run(
    session: Session,
    reports: Reports,
    planned: Planned,
    *,
    builds: int,
    no_cache: bool,
    keep_going: bool,
) -> Ended:
    """Run what the plan says; `builds` images at once."""
    pipeline = Parts(session).pipeline(planned.survey, planned.resolved, no_cache=no_cache)
    jobs = pipeline.jobs(planned.stale)
    results = graph.run(
        jobs,
        settled=reports.settled,
        started=reports.started,
        cancel=session.cancel,
        limits={
            "generate": builds,
            "build": builds,
            "push": builds,
            "snapshot": SNAPSHOTS_AT_ONCE,
            "tag": builds,
        },
    )
    actions = {decision.template: decision.action for decision in planned.decisions}
    code = reports.finish(
        actions, keep_going=keep_going, interrupted=results.interrupted is not None
    )
    for outcome in results.outcomes.values():
        if outcome.status == "failed" and not isinstance(outcome.error, SandboxfileError):
            assert outcome.error is not None
            raise outcome.error  # our own bug: `main` writes its traceback
    outcomes = tuple(results.outcomes.values())
    return Ended(outcomes=outcomes, code=code, redactor=session.redactor)
