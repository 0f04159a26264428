"""Locks joined into one: what fits the files here wins, else what one side alone has changed. Pure.

Nothing tells when an entry was made, and the order in which locks are named must not matter: two
machines that merge the same come to the same. Whatever is chosen is sound, since an entry brings
its own keys along: at worst the next build makes a template anew.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from sandboxfile.entries import Entry, Lock
from sandboxfile.frozen import dataclass, field, replace

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a target's templates are now: the key of each, None while bases are not resolved.

    `needs` are the names of bases that a template waits for.
    """

    keys: Mapping[str, str | None] = field(default_factory=dict)
    needs: Mapping[str, Collection[str]] = field(default_factory=dict)


# What templates are with these bases, by target; targets that are not there any more have nothing.
Now = Callable[[Mapping[str, str]], Mapping[str, State]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An entry on which the sides differ, and why it is as it is now; None was taken away."""

    target: str
    template: str
    entry: Entry | None
    fits: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The lock that came out; `choices` where sides differed, `open` are bases nobody decides."""

    lock: Lock
    choices: tuple[Choice, ...] = ()
    open: tuple[str, ...] = ()


def over(base: Lock, side: Lock) -> Lock:
    """Return the lock of another machine with what it lacks taken from `base`.

    That machine may have begun with less than is here by now. Only git can tell that an entry was
    deleted.
    """
    targets = {
        name: {**base.targets.get(name, {}), **side.targets.get(name, {})}
        for name in {**base.targets, **side.targets}
    }
    return Lock(resolved={**base.resolved, **side.resolved}, targets=targets)


def merge(base: Lock, sides: Sequence[Lock], now: Now | None) -> Merged:
    """Merge what each side has made of `base` (an empty lock when that is not known).

    Without `now` the files cannot be asked: what several sides have changed is then `open`.
    """
    settled, disputed = _bases(base.resolved, [side.resolved for side in sides])
    if now is None:
        return _of_one_side(base, sides, settled, disputed)
    found, undecided = _decided(sides, settled, disputed, now)
    resolved = {**settled, **found}
    if undecided:
        return Merged(lock=Lock(), open=undecided)
    states = now(resolved)
    choices = list(_choices(base, sides, states))
    targets: dict[str, dict[str, Entry]] = {}
    for each in choices:
        if each.entry is not None:
            targets.setdefault(each.target, {})[each.template] = each.entry
    lock = Lock(resolved=resolved, targets=targets)
    return Merged(lock=lock, choices=tuple(each for each in choices if each.why))


def _of_one_side(
    base: Lock, sides: Sequence[Lock], settled: Mapping[str, str], disputed: Collection[str]
) -> Merged:
    targets: dict[str, dict[str, Entry]] = {}
    undecided = list(disputed)
    for target, template in _built([base, *sides]):
        old = base.entry(target, template)
        new = _changed(old, [side.entry(target, template) for side in sides])
        there = [each for each in new if each is not None]
        if len({_identity(each) for each in there}) > 1 or 0 < len(there) < len(new):
            undecided.append(f"{target}/{template}")
        elif there:
            targets.setdefault(target, {})[template] = _joined(old, there)
    return Merged(lock=Lock(resolved=settled, targets=targets), open=tuple(undecided))


# --- bases -----------------------------------------------------------------------------------


def _bases(
    base: Mapping[str, str], sides: Sequence[Mapping[str, str]]
) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """Return what bases are resolved to, and those that sides resolved anew to different ends."""
    settled: dict[str, str] = {}
    disputed: dict[str, tuple[str, ...]] = {}
    for name in sorted({*base, *(name for side in sides for name in side)}):
        new = _changed(base.get(name), [side.get(name) for side in sides])
        values = sorted({value for value in new if value is not None})
        if len(values) > 1:
            disputed[name] = tuple(values)
        elif values:
            settled[name] = values[0]
    return settled, disputed


def _changed(old: T, sides: Sequence[T]) -> list[T]:
    """Return what sides made of a value, each once; the old one when all left it alone."""
    found: list[T] = []
    for each in sides:
        if each != old and each not in found:
            found.append(each)
    return found or [old]


def _decided(
    sides: Sequence[Lock],
    settled: Mapping[str, str],
    disputed: Mapping[str, tuple[str, ...]],
    now: Now,
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Choose for each disputed base what most of the entries were built from that fit with it.

    Also returned are those on which templates are built, and none that fits.
    """
    if not disputed:
        return {}, ()
    needs = {target: state.needs for target, state in now(settled).items()}
    votes: dict[str, Counter[str]] = {name: Counter() for name in disputed}
    for chosen in _chosen(sides, disputed):
        states = now({**settled, **chosen})
        for target, template in _built(sides):
            state = states.get(target, State())
            fits = any(_fits(side.entry(target, template), state, template) for side in sides)
            waiting = set(needs.get(target, {}).get(template, ())) if fits else set()
            for name in waiting & chosen.keys():
                votes[name][chosen[name]] += 1
    used = {name for of in needs.values() for waiting in of.values() for name in waiting}
    undecided = tuple(name for name, cast in votes.items() if not cast and name in used)
    # Of as many the first in the alphabet, wherever this is done.
    found = {
        name: min(values, key=lambda value: (-votes[name][value], value))
        for name, values in disputed.items()
    }
    return found, undecided


def _chosen(
    sides: Sequence[Lock], disputed: Mapping[str, tuple[str, ...]]
) -> Iterator[Mapping[str, str]]:
    """Yield each way in which a side has resolved what is disputed, once."""
    seen = []
    for side in sides:
        chosen = {name: side.resolved[name] for name in disputed if name in side.resolved}
        if chosen not in seen:
            seen.append(chosen)
            yield chosen


def _built(locks: Iterable[Lock]) -> list[tuple[str, str]]:
    return sorted(
        {
            (target, template)
            for lock in locks
            for target, templates in lock.targets.items()
            for template in templates
        }
    )


def _fits(entry: Entry | None, state: State, template: str) -> bool:
    return entry is not None and entry.template_key == state.keys.get(template)


# --- entries ---------------------------------------------------------------------------------


def _choices(base: Lock, sides: Sequence[Lock], states: Mapping[str, State]) -> Iterator[Choice]:
    for target, template in _built([base, *sides]):
        old = base.entry(target, template)
        new = _changed(old, [side.entry(target, template) for side in sides])
        state = states.get(target, State())
        entry, why = _choice(old, new, lambda each: _fits(each, state, template))  # noqa: B023
        yield Choice(
            target=target,
            template=template,
            entry=entry,
            fits=_fits(entry, state, template),
            why=why,
        )


def _choice(
    old: Entry | None, new: Sequence[Entry | None], fits: Callable[[Entry | None], bool]
) -> tuple[Entry | None, str]:
    """Choose between what sides have made of an entry, and say why where there was a choice."""
    fitting = [each for each in new if each is not None and fits(each)]
    if len(new) == 1 and (new[0] is None or fitting or not fits(old)):
        return new[0], ""
    if fitting:
        joined = _joined(old, fitting)
        return joined, "its key is that of the files here" if len(new) > 1 else ""
    if old is not None and fits(old):
        return old, "the build before is that of the files here"
    there = [each for each in new if each is not None]
    return _joined(old, there), "no build is of the files here: the next one makes it anew"


def _joined(old: Entry | None, entries: Sequence[Entry]) -> Entry:
    """Return the one of several builds that is preferred, with what its sides say of its tags.

    One whose tags were moved comes first, then the last in the alphabet.
    """
    best = max(entries, key=lambda each: (each.tags is not None, *_identity(each), _rest(each)))
    same = [each for each in entries if _identity(each) == _identity(best)]
    before = old if old is not None and _identity(old) == _identity(best) else None
    tags = [each.tags for each in same if each.tags is not None]
    had = (before.tags if before else None) or ()
    moved = [each.moved for each in same]
    return replace(
        best,
        git_key=max(each.git_key for each in same),
        image=max(each.image for each in same),
        tags=tuple(sorted(_union(had, tags))) if tags else None,
        moved=_maps(before.moved if before else {}, moved),
    )


def _identity(entry: Entry) -> tuple[str, ...]:
    return entry.build_id, entry.template_id, entry.template_key, entry.image_key


def _rest(entry: Entry) -> tuple[str, list[tuple[str, str]]]:
    return entry.parent or "", sorted(entry.parts.items())


def _union(old: Collection[str], sides: Sequence[Collection[str]]) -> set[str]:
    """Return what any side has added, without what any has taken away."""
    removed = {each for each in old for side in sides if each not in side}
    return {each for side in sides for each in side} - removed


def _maps(old: Mapping[str, str], sides: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    found = {}
    for name in sorted({*old, *(name for side in sides for name in side)}):
        values = _changed(old.get(name), [side.get(name) for side in sides])
        there = [value for value in values if value is not None]
        if there:
            found[name] = max(there)
    return found


# --- a text with the marks of a conflict -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The texts that git could not merge; `base` is None where its style does not show it."""

    ours: str
    theirs: str
    base: str | None


def sides_of(text: str) -> Sides | None:
    """Take apart a text in which git left a conflict; None when it left none.

    The forms are those of git-merge(1), "How conflicts are presented". Raises ValueError for
    marks that do not belong together.
    """
    ours: list[str] = []
    theirs: list[str] = []
    base: list[str] = []
    into: dict[str, tuple[list[str], ...]] = {
        "": (ours, base, theirs), "<": (ours,), "|": (base,), "=": (theirs,),
    }  # fmt: skip
    after = {"": "<", "<": "|=", "|": "=", "=": ">"}
    state, marks, shown = "", 0, 0
    for line in text.splitlines(keepends=True):
        mark = _mark(line)
        if not mark or (mark == "=" and not state):
            for each in into[state]:
                each.append(line)
            continue
        if mark not in after[state]:
            raise ValueError(f"a line of `{mark * 7}` is where none is expected")
        state = "" if mark == ">" else mark
        marks, shown = marks + (mark == "<"), shown + (mark == "|")
    if state:
        raise ValueError("the last conflict does not end")
    if not marks:
        return None
    whole = "".join(base) if shown == marks else None
    return Sides(ours="".join(ours), theirs="".join(theirs), base=whole)


def _mark(line: str) -> str:
    """Return the character that a line of marks is made of, nothing for other lines."""
    first, rest = line[:1], line[7:].rstrip("\r\n")
    if first not in {"<", "|", "=", ">"} or line[:7] != first * 7:
        return ""
    return first if not rest or rest.startswith(" ") else ""
