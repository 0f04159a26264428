"""How long what a plan says will take, from what earlier runs took (`durations`).

`of_templates` is the seconds of each template by itself, all its steps together. `of_run` is the
whole run on one machine, its limits and chains considered.
"""

from collections.abc import Iterable, Mapping

from sandboxfile import plan, schedule
from sandboxfile.durations import History
from sandboxfile.frozen import dataclass
from sandboxfile.model import RemoteBase
from sandboxfile.plan import Decision, Step
from sandboxfile.surveyed import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run is expected to take with so many builds at once, and each template by itself."""

    seconds: float
    jobs: int
    templates: Mapping[str, float]

    @property
    def plain(self) -> dict[str, object]:
        """The estimate as data for `--json`; seconds."""
        each = {name: round(seconds, 1) for name, seconds in self.templates.items()}
        return {"seconds": round(self.seconds, 1), "jobs": self.jobs, "templates": each}


def steps(decision: Decision, survey: Survey) -> tuple[Step, ...]:
    """Return the steps that carry out a decision; on a template of the service no image is made."""
    made = plan.steps(decision)
    base = survey[decision.template].template.base
    if decision.builder == "docker" and isinstance(base, RemoteBase):
        return tuple(step for step in made if step in {"snapshot", "tag"})
    return made


def chains(decisions: Iterable[Decision], survey: Survey) -> Mapping[str, tuple[str, ...]]:
    """Return the jobs that carry out the decisions, by name, and which of them each one needs.

    A template's steps follow each other; what it is based on has its image first, or, where the
    service builds, its snapshot.
    """
    needs: dict[str, tuple[str, ...]] = {}
    for decision in decisions:
        base_step = "snapshot" if decision.builder == "remote" else "build"
        last: tuple[str, ...] = ()
        for step in steps(decision, survey):
            parent = f"{base_step}:{survey[decision.template].parent}"
            job = f"{step}:{decision.template}"
            needs[job] = (*last, parent) if step == base_step and parent in needs else last
            last = (job,)
    return needs


def of_templates(
    decisions: Iterable[Decision], survey: Survey, history: History
) -> Mapping[str, float]:
    """Return the seconds that each template is expected to take by itself, 0 if up to date."""
    return {
        each.template: sum(
            history.seconds(f"{step}:{each.template}", each.target) for step in steps(each, survey)
        )
        for each in decisions
    }


def of_run(
    decisions: Iterable[Decision], survey: Survey, history: History, limits: Mapping[str, int]
) -> float:
    """Return the seconds that a run is expected to take; `limits` are jobs at once, by step."""
    decisions = tuple(decisions)
    target = decisions[0].target if decisions else ""
    needs = chains(decisions, survey)
    spans = schedule.simulate(needs, lambda job: history.seconds(job, target), limits)
    return schedule.length(spans)
