"""What a run came to: each template's result, the last line, the exit code."""

from collections import Counter
from collections.abc import Iterable, Mapping

from sandboxfile import console, errors
from sandboxfile.errors import Left
from sandboxfile.graph import Outcome, Status

_PAST = {
    "build": "built",
    "snapshot": "snapshot",
    "adopt": "adopted",
    "retag": "retagged",
    "up to date": "up to date",
}
_BAD: tuple[Status, ...] = ("failed", "cancelled", "skipped")
_UNFINISHED: tuple[Status, ...] = (*_BAD, "detached", "waiting")


def template_of(job: str) -> str:
    """Return the template that a job named `<kind>:<template>` works for, else the name itself."""
    return job.partition(":")[2] or job


def tally(actions: Mapping[str, str], outcomes: Iterable[Outcome]) -> Mapping[str, str]:
    """Say of each template what became of it: its action in the past, or how it went wrong."""
    worst: dict[str, Status] = {}
    for outcome in outcomes:
        name = template_of(outcome.name)
        if outcome.status in _UNFINISHED:
            known = worst.get(name, outcome.status)
            worst[name] = min(known, outcome.status, key=_UNFINISHED.index)
    return {name: worst.get(name) or _PAST.get(action, action) for name, action in actions.items()}


def summary(results: Mapping[str, str], seconds: float) -> str:
    """Return the last line of a run: `3 built, 1 snapshot, 96 up to date in 12.3s`."""
    counts = Counter(results.values())
    order = [*_UNFINISHED, *_PAST.values(), *counts]
    said = [f"{counts[word]} {word}" for word in dict.fromkeys(order) if counts[word]]
    return f"{', '.join(said) or 'nothing to do'} in {console.duration(seconds)}"


def exit_code(
    outcomes: Iterable[Outcome], *, keep_going: bool = False, interrupted: bool = False
) -> int:
    """Return the exit code of a run (table in `errors`).

    Failures that share a code give that code, others 1; under `keep_going` it is 7 as soon as a
    template came through. Builds that were left say by their error whether that was in time.
    """
    outcomes = tuple(outcomes)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    codes = {getattr(outcome.error, "exit_code", errors.BUG) for outcome in failed}
    late = {outcome.error.exit_code for outcome in outcomes if isinstance(outcome.error, Left)}
    if interrupted or (not failed and any(o.status == "cancelled" for o in outcomes)):
        return errors.INTERRUPTED
    if not failed:
        return max(late, default=errors.DONE)
    if errors.BUG in codes:
        return errors.BUG
    bad = {template_of(outcome.name) for outcome in outcomes if outcome.status in _BAD}
    if keep_going and {template_of(outcome.name) for outcome in outcomes} - bad:
        return errors.SOME_FAILED
    return codes.pop() if len(codes) == 1 else errors.FAILED
