"""A plan split over several machines: chains stay whole, and everybody splits alike. Pure.

Each machine computes the split for itself, so it may depend on nothing but what all of them have:
the files of the checkout, the lock, and the command line. What one machine measured or asked a
registry would have two of them build a template, or none.
"""

import math
from collections.abc import Iterable, Mapping

from sandboxfile.frozen import dataclass
from sandboxfile.model import Copy, Env, Install, InstallProject, Instruction, Run, Template
from sandboxfile.patterns import regex
from sandboxfile.plan import Decision
from sandboxfile.surveyed import Survey

MOST = 256  # jobs that GitHub makes of one matrix ("Running variations of jobs in a workflow")
USUAL_MOST = 20  # jobs that GitHub runs at once for everybody ("Usage limits")
WORTH_S = 300  # seconds of work for which one more machine is worth its start

# Seconds that steps are taken to last: only how they compare matters.
_RETAG_S, _SNAPSHOT_S, _BUILD_S, _DOCKERFILE_S = 1, 10, 20, 30
_INSTRUCTION_S: Mapping[type[Instruction], int] = {
    Install: 15,
    InstallProject: 20,
    Run: 10,
    Copy: 1,
    Env: 0,
}
_FORM = regex(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The `number`th of `of` parts, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse(text: str) -> Shard:
    """Read `I/N`. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError(f"`{text}` is no shard: write `1/4` to `4/4`")
    return Shard(number=int(found[1]), of=int(found[2]))


def nothing_in(shard: Shard) -> str:
    """Return what is said of a shard that got no work, newline and all."""
    return f"shard {shard}: nothing to do in this shard\n"


def weights(decisions: Iterable[Decision], survey: Survey) -> Mapping[str, int]:
    """Return how much work each template is that is not up to date, judged by its steps alone."""
    return {
        each.template: _weight(each, survey[each.template].template)
        + (_DOCKERFILE_S if each.action == "build" and survey[each.template].dockerfile else 0)
        for each in decisions
        if each.stale
    }


def _weight(decision: Decision, template: Template) -> int:
    if decision.action != "build":
        return _RETAG_S if decision.action == "retag" else _SNAPSHOT_S
    made = sum(_INSTRUCTION_S.get(type(each), 0) for each in template.instructions)
    return _SNAPSHOT_S + _BUILD_S + made


def chains(names: Iterable[str], survey: Survey) -> tuple[tuple[str, ...], ...]:
    """Group templates of which one is built on another, each group and all of them sorted."""
    names = sorted(names)
    group = {name: name for name in names}

    def head(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for name in names:
        parent = survey[name].parent
        if parent in group:
            first, second = sorted((head(name), head(parent)))
            group[second] = first
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(head(name), []).append(name)
    return tuple(tuple(members) for _, members in sorted(found.items()))


def split(weights: Mapping[str, int], survey: Survey, count: int) -> tuple[tuple[str, ...], ...]:
    """Deal chains out to `count` shards, the heaviest first, each to who has least so far.

    That is at most 4/3 of the best there is (Graham, 1969). Shards may come out empty.
    """
    load = [0] * count
    shards: list[list[str]] = [[] for _ in range(count)]
    weighed = [(sum(weights[name] for name in chain), chain) for chain in chains(weights, survey)]
    for weight, chain in sorted(weighed, key=lambda each: (-each[0], each[1])):
        least = load.index(min(load))
        load[least] += weight
        shards[least] += chain
    return tuple(tuple(sorted(shard)) for shard in shards)


def count(seconds: Mapping[str, float], survey: Survey, asked: int | None = None) -> int:
    """Return how many shards are worth while, or as many of those asked for as have work."""
    there = len(chains(seconds, survey))
    worth = max(1, math.ceil(sum(seconds.values()) / WORTH_S))
    return min(there, asked or min(USUAL_MOST, worth), MOST)
