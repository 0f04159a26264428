"""Carry out a plan: the jobs of the stale templates on the graph, and how they ended."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from sandboxfile import app, console, durations, failures, graph, schedule
from sandboxfile.app import Session
from sandboxfile.durations import Cost
from sandboxfile.errors import Left, SandboxfileError
from sandboxfile.failures import Failure
from sandboxfile.frozen import dataclass
from sandboxfile.graph import Outcome
from sandboxfile.parts import Parts
from sandboxfile.planning import Planned
from sandboxfile.redact import Redactor
from sandboxfile.results import Ending, Result
from sandboxfile.show import Reports
from sandboxfile.summary import template_of
from sandboxfile.timeline import Timeline

_FIRST: Mapping[str, int] = {"failed": 0, "detached": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended; `critical` are the jobs that decided how long it took."""

    outcomes: Mapping[str, tuple[Outcome, ...]]
    code: int
    redactor: Redactor
    timeline: Timeline
    critical: tuple[str, ...] = ()

    def of(self, template: str) -> Ending:
        """Return how the jobs of a template ended, the first failure first."""
        mine = self.outcomes.get(template, ())
        bad = [each for each in mine if each.status not in {"done", "up to date"}]
        bad.sort(key=lambda each: _FIRST.get(each.status, len(_FIRST)))
        seconds = sum(each.seconds for each in mine)
        steps = tuple(_step(each, self.timeline) for each in mine if each.began)
        if not bad:
            return Ending(seconds=seconds, steps=steps)
        error = bad[0].error
        if isinstance(error, Left):
            return Ending(
                status=bad[0].status,
                seconds=seconds,
                template_id=error.template_id,
                build_id=error.build_id,
                steps=steps,
            )
        text = self.redactor.lines(str(error)) if error else None
        return Ending(status=bad[0].status, error=text, seconds=seconds, steps=steps)


def _step(outcome: Outcome, timeline: Timeline) -> Result:
    figures = timeline.figures(outcome.name)
    return {
        "kind": schedule.kind_of(outcome.name),
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "waited": round(outcome.waited, 3),
        "bytes": figures.bytes,
        "instructions": figures.instructions,
        "cached": figures.cached,
    }


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
    parts, state = Parts(session), session.state  # without a place for it nothing is begun
    if session.target.builder == "docker" and any(d.action == "build" for d in planned.stale):
        parts.check_builder()
    pipeline = parts.pipeline(planned.survey, planned.resolved, no_cache=no_cache)
    jobs = pipeline.jobs(planned.stale)
    target, history = session.target.name, session.history()
    results = graph.run(
        jobs,
        settled=reports.settled,
        started=reports.started,
        idle=reports.idle,
        cancel=session.cancel,
        limits=app.at_once(builds),
        seconds=lambda job: history.seconds(job, target),
    )
    outcomes = tuple(results.outcomes.values())
    needs = {job.name: tuple(need.name for need in job.needs) for job in jobs}
    spans = {each.name: each.span for each in outcomes if each.span is not None}
    critical = schedule.critical(spans, needs)
    costs = dict(_costs(outcomes, reports.timeline))
    durations.record(state / durations.FILE, target, costs)
    code = reports.finish(
        planned.actions,
        critical=critical,
        keep_going=keep_going,
        interrupted=results.interrupted is not None,
    )
    for outcome in outcomes:
        if outcome.status == "failed" and not isinstance(outcome.error, SandboxfileError):
            assert outcome.error is not None
            raise outcome.error  # our own bug: `main` writes its traceback
    of = _by_template(outcomes)
    _remember(session, of, reports)
    return Ended(
        outcomes=of,
        code=code,
        redactor=session.redactor,
        timeline=reports.timeline,
        critical=critical,
    )


def _costs(outcomes: Iterable[Outcome], timeline: Timeline) -> Iterator[tuple[str, Cost]]:
    """Yield what jobs took, those left out that say nothing on what the next build takes.

    These are builds that found the image, or every instruction of it.
    """
    for outcome in outcomes:
        figures = timeline.figures(outcome.name)
        is_build = schedule.kind_of(outcome.name) == "build"
        is_cached = is_build and figures.cached == figures.instructions
        if outcome.status == "done" and not is_cached:
            yield outcome.name, Cost(seconds=outcome.seconds, bytes=figures.bytes)


def _remember(session: Session, of: Mapping[str, tuple[Outcome, ...]], reports: Reports) -> None:
    """Keep why templates failed, for `status` and `plan`; forget it of those that came through."""
    for template, mine in of.items():
        failed = next((each for each in mine if each.status == "failed"), None)
        if failed is not None:
            logged = reports.has_log(failed.name)
            failure = _failure(failed, session.redactor, logged=logged)
            failures.keep(session.state, session.target.name, template, failure)
        elif all(each.status in {"done", "up to date"} for each in mine):
            failures.forget(session.state, session.target.name, template)


def _failure(outcome: Outcome, redactor: Redactor, *, logged: bool) -> Failure:
    error = outcome.error
    text = str(error)
    if isinstance(error, SandboxfileError):
        text = console.message(error, redactor)
    kind = schedule.kind_of(outcome.name)
    return Failure(step=kind, message=redactor.lines(text), logged=logged)


def _by_template(outcomes: Iterable[Outcome]) -> Mapping[str, tuple[Outcome, ...]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[template_of(outcome.name)].append(outcome)
    return {name: tuple(each) for name, each in found.items()}
