"""What a run came to: each template's result, the last line, the exit code."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from sandboxfile import console, counts, errors
from sandboxfile.errors import Left
from sandboxfile.graph import Outcome, Status
from sandboxfile.schedule import kind_of
from sandboxfile.timeline import Figures

_PAST = {
    "build": "built",
    "snapshot": "snapshot",
    "adopt": "adopted",
    "retag": "retagged",
    "up to date": "up to date",
}
_LISTED = 5
_CHAIN = 2  # jobs; one alone is on the screen already
_SHOWN_S, _LONG_S = 0.5, 10.0
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


def figures(found: Figures) -> str:
    """Return what is worth saying of steps and bytes: `2 of 3 steps cached, 1.2 MB sent`."""
    steps = counts.among(found.cached, found.instructions, "step")
    cached = f"{steps} cached" if found.cached else ""
    sent = f"{console.size(found.bytes)} sent" if found.bytes else ""
    return ", ".join(each for each in (cached, sent) if each)


def skipped(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Say which templates were not built because of others, a sentence for each cause."""
    behind: dict[tuple[str, ...], dict[str, None]] = {}
    for outcome in outcomes:
        name = template_of(outcome.name)
        if outcome.status == "skipped" and name not in map(template_of, outcome.because):
            behind.setdefault(outcome.because, {})[name] = None
    for because, names in behind.items():
        first, more = list(names)[:_LISTED], len(names) - _LISTED
        listed = ", ".join(first) + (f" and {more} more" if more > 0 else "")
        failed = (f"the {job.partition(':')[0]} of {template_of(job)}" for job in because)
        yield f"skipped, since {' and '.join(failed)} failed: {listed}"


def chain(outcomes: Iterable[Outcome], critical: tuple[str, ...]) -> str:
    """Say which chain of jobs decided how long a run took, if that was long enough to wonder."""
    took = {outcome.name: outcome.seconds for outcome in outcomes}
    path = [name for name in critical if took.get(name, 0.0) >= _SHOWN_S]
    if len(path) < _CHAIN or sum(took[name] for name in path) < _LONG_S:
        return ""
    longest = sorted(path, key=lambda name: -took[name])[:_LISTED]
    said = [
        f"{kind_of(name)} {template_of(name)} {console.duration(took[name])}"
        for name in path
        if name in longest
    ]
    left = len(path) - len(said)
    return f"longest chain: {', '.join(said)}" + (f" and {left} shorter" if left else "")


def exit_code(
    outcomes: Iterable[Outcome],
    templates: Iterable[str] = (),
    *,
    keep_going: bool = False,
    interrupted: bool = False,
) -> int:
    """Return the exit code of a run (table in `errors`) that was asked for these templates.

    Failures that share a code give that code, others 1; under `keep_going` it is 7 as soon as a
    template came through, or nothing was to be done for one. Builds that were left say by their
    error whether that was in time.
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
    asked = {*templates, *(template_of(outcome.name) for outcome in outcomes)}
    if keep_going and asked - bad:
        return errors.SOME_FAILED
    return codes.pop() if len(codes) == 1 else errors.FAILED
