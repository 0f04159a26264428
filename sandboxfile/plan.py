"""What is to be done to each template, and why. Pure: keys and lock in, decisions out."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal, Protocol, get_args

from sandboxfile.contents import shown
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.lockfile import Entry, base_name
from sandboxfile.model import (
    Builder,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    Template,
    TemplateBase,
)
from sandboxfile.places import Position

Action = Literal["up to date", "retag", "adopt", "snapshot", "build"]
Step = Literal["generate", "build", "push", "snapshot", "tag"]

_STEPS: Mapping[Action, tuple[Step, ...]] = {
    "up to date": (),
    "retag": ("tag",),
    "adopt": ("snapshot", "tag"),  # the snapshot is found, and the lock written
    "snapshot": ("snapshot", "tag"),
    "build": ("generate", "build", "push", "snapshot", "tag"),
}
# What is built at the service needs no image; files are sent to it on the way to the snapshot.
_ELSEWHERE = frozenset({"build", "push"})
# The parts of the keys, in the order in which reasons are given, as people call them.
_PARTS = {
    "base": "base",
    "packages": "packages",
    "env": "environment",
    "files": "files",
    "run": "`run` commands",
    "steps": "steps",
    "start": "start command",
    "ready": "ready check",
    "resources": "resources",
    "user": "user",
    "workdir": "working directory",
    "pre_boot": "pre-boot script",
    "inherit": "what it inherits",
}
_MANY = 3


class Keys(Protocol):
    """The fingerprints of a template as they are now."""

    @property
    def image_key(self) -> str: ...

    @property
    def template_key(self) -> str: ...

    @property
    def parts(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One cause of a decision, and the place in the configuration that it is about."""

    text: str
    at: Position | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.at})" if self.at else self.text

    @property
    def plain(self) -> dict[str, str | None]:
        """The reason as data for `--json`."""
        return {"text": self.text, "at": str(self.at) if self.at else None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one template before anyone is asked.

    `keys` is None while something is not resolved, which `unresolved` names. `entry` is what the
    lock has for this target, `tags` what is wanted. `base` is the digest that the base has now;
    `changed` names, by part, what in it differs (files by path); None where this machine has no
    record of the files of that build.
    `untagged` says that an earlier run ended before its tags were moved.
    """

    template: Template
    keys: Keys | None
    entry: Entry | None
    tags: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    base: str = ""
    changed: Mapping[str, tuple[str, ...]] | None = field(default_factory=dict)
    untagged: bool = False
    builder: Builder = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What registry and service answered: the image, and template and build ID of the snapshot.

    `lost` says that the registry no longer has the image that the lock names; `tags` are those
    that the snapshot has, as far as they were told. `asked` is when, in seconds of the monotonic
    clock.
    """

    image: str | None = None
    lost: bool = False
    template_id: str | None = None
    build_id: str | None = None
    tags: frozenset[str] = frozenset()
    asked: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What will be done to one template at one target.

    `found` is what registry or service have of it.
    """

    template: str
    target: str
    action: Action
    reasons: tuple[Reason, ...]
    keys: Keys | None
    entry: Entry | None
    tags: tuple[str, ...]
    forced: bool = False
    image: str | None = None
    builder: Builder = "docker"
    found: Found | None = None

    @property
    def stale(self) -> bool:
        return self.action != "up to date"


def steps(decision: Decision) -> tuple[Step, ...]:
    """Return the steps that carry out a decision, in order."""
    made = _STEPS[decision.action]
    if decision.builder == "remote":
        return tuple(step for step in made if step not in _ELSEWHERE)
    return made


# --- deciding --------------------------------------------------------------------------------


def make(
    known: Iterable[Known], *, target: str, force: Collection[str] = ()
) -> tuple[Decision, ...]:
    """Decide for every template, parents first, from keys and lock alone."""
    made: list[Decision] = []
    rebuilt: set[str] = set()
    for each in known:
        name = each.template.name
        decision = decide(each, target=target, force=name in force, rebuilt=rebuilt)
        made.append(decision)
        if decision.action == "build":
            rebuilt.add(name)
    return tuple(made)


def decide(
    known: Known, *, target: str, force: bool = False, rebuilt: Collection[str] = ()
) -> Decision:
    """Decide for one template; `rebuilt` names templates that this plan builds."""
    action, reasons = _judge(known, target, force=force, rebuilt=rebuilt)
    same_image = known.keys and known.entry and known.entry.image_key == known.keys.image_key
    return Decision(
        template=known.template.name,
        target=target,
        action=action,
        reasons=tuple(reasons),
        keys=known.keys,
        entry=known.entry,
        tags=tuple(sorted(set(known.tags))),
        forced=force,
        image=(known.entry.image or None) if known.entry and same_image else None,
        builder=known.builder,
    )


def _judge(
    known: Known, target: str, *, force: bool, rebuilt: Collection[str]
) -> tuple[Action, list[Reason]]:
    template, keys, entry = known.template, known.keys, known.entry
    if force:
        return "build", [Reason(text="`--force` is given", at=template.at)]
    if keys is None:
        names = _listed(tuple(base_name(each) for each in known.unresolved)) or f"`{template.name}`"
        text = f"the digest of its base is not known yet: {names}"
        return "build", [Reason(text=text, at=template.base.at)]
    if entry is None:
        text = f"the lock has no `{template.name}` for target `{target}`"
        return "build", [Reason(text=text, at=template.at)]
    if entry.template_key != keys.template_key:
        same_image = entry.image_key == keys.image_key
        reasons = list(_differences(known, keys.parts, entry.parts, rebuilt))
        return "snapshot" if same_image else "build", reasons
    if reasons := list(_tag_differences(known, entry)):
        return "retag", reasons
    return "up to date", list(_settled(keys.template_key, entry))


def _settled(key: str, entry: Entry) -> Iterator[Reason]:
    """Say what stands out first: where there is room for one reason, it is that."""
    for build in sorted({*entry.moved.values()}):
        tags = sorted(tag for tag, other in entry.moved.items() if other == build)
        yield Reason(text=f"kept on build {build} until the template changes: {_listed(tags)}")
    yield Reason(text=f"the lock has key {_short(key)}")


def _differences(
    known: Known, now: Mapping[str, str], then: Mapping[str, str], rebuilt: Collection[str]
) -> Iterator[Reason]:
    """Say which parts of the keys differ from those in the lock."""
    order = [*_PARTS, *sorted({*now, *then} - set(_PARTS))] if then else []
    differing = [part for part in order if now.get(part) != then.get(part)]
    for part in differing:
        at = known.template.place(part)
        if part == "base":
            yield Reason(text=_base(known, rebuilt), at=known.template.base.at)
            continue
        verb = "changed" if part in now and part in then else "added" if part in now else "removed"
        is_told = known.changed is not None or (part, verb) == ("files", "changed")
        which = _which(known, part) if is_told else ""
        yield Reason(text=f"{_PARTS.get(part, f'`{part}`')} {verb}{which}", at=at)
    if not differing:
        text = "this version of sandboxfile makes it differently"
        yield Reason(text=text, at=known.template.at)


def _base(known: Known, rebuilt: Collection[str]) -> str:
    base = known.template.base
    now = f": it is now {known.base[:19]}" if known.base else ""
    match base:
        case ImageBase(image=image):
            return f"base image `{image}` changed{now}"
        case TemplateBase(template=parent):
            verb = "is rebuilt" if parent in rebuilt else "was rebuilt since"
            return f"base template `{parent}` {verb}"
        case RemoteBase(remote=remote):
            return f"base template `{remote}` at the target changed"
        case DockerfileBase(dockerfile=path):
            return f"`{path.name}` or what it is built from changed{_which(known, 'base')}"
        case _:
            return f"base {base.distribution} {base.suite} changed{now}"


def _which(known: Known, part: str) -> str:
    """Name the files of a part that differ, or say why they cannot be named."""
    if known.changed is None:
        return ", unknown which: this machine has no record of the earlier ones"
    what = _listed(known.changed.get(part, ()))
    return f": {what}" if what else ""


def _tag_differences(known: Known, entry: Entry) -> Iterator[Reason]:
    wanted, had = set(known.tags) - set(entry.moved), set(entry.tags or ())
    if wanted == had and not known.untagged:
        return
    at = known.template.place("tags")
    if wanted - had:
        yield Reason(text=f"tags added: {_listed(sorted(wanted - had))}", at=at)
    if had - wanted:
        yield Reason(text=f"tags removed: {_listed(sorted(had - wanted))}", at=at)
    if known.untagged and wanted == had:
        yield Reason(text="an earlier run ended before its tags were moved", at=at)


def _listed(names: Collection[str]) -> str:
    """Return up to three names in backticks, and how many more there are."""
    first = ", ".join(f"`{shown(name)}`" for name in list(names)[:_MANY])
    more = len(names) - _MANY
    return f"{first} and {more} more" if more > 0 else first


def _short(key: str) -> str:
    scheme, _, digest = key.partition(":")
    return f"{scheme}:{digest[:8]}…"


# --- refining --------------------------------------------------------------------------------


def refine(decision: Decision, found: Found) -> Decision:
    """Make a decision smaller, or whole again, by what registry and service have.

    A forced decision stays as it is.
    """
    if decision.forced or decision.action not in {"build", "snapshot"}:
        return decision
    if found.template_id and found.build_id:
        text = f"the same key is already built there: build {found.build_id}"
        adopted = _because(decision, "adopt", text, image=found.image or decision.image)
        return replace(adopted, found=found)
    if found.image:
        text = f"the image is already at the registry: {found.image}"
        return replace(_because(decision, "snapshot", text, image=found.image), found=found)
    if found.lost and decision.action == "snapshot":
        lost = _because(decision, "build", "the registry no longer has the image", image=None)
        return replace(lost, found=found)
    return replace(decision, found=found)


def _because(decision: Decision, action: Action, text: str, *, image: str | None) -> Decision:
    reasons = decision.reasons
    if (action, image) != (decision.action, decision.image):
        reasons = (*reasons, Reason(text=text))
    return replace(decision, action=action, image=image, reasons=reasons)


# --- showing ---------------------------------------------------------------------------------


def as_json(decisions: Iterable[Decision]) -> dict[str, object]:
    """Return a plan as data for `--json`."""
    decisions = tuple(decisions)
    counts = Counter(decision.action for decision in decisions)
    return {
        "templates": [_decision_json(decision) for decision in decisions],
        "summary": {action: counts[action] for action in get_args(Action)},
    }


def _decision_json(decision: Decision) -> dict[str, object]:
    keys, entry = decision.keys, decision.entry
    kept = entry if decision.action in {"up to date", "retag"} else None
    return {
        "name": decision.template,
        "target": decision.target,
        "action": decision.action,
        "reasons": [reason.plain for reason in decision.reasons],
        "builder": decision.builder,
        "steps": list(steps(decision)),
        "template_id": kept.template_id if kept else None,
        "build_id": kept.build_id if kept else None,
        "image": decision.image,
        "image_key": keys.image_key if keys else None,
        "template_key": keys.template_key if keys else None,
        "tags": list(decision.tags),
    }


def table(decisions: Iterable[Decision]) -> str:
    """Return a plan as lines: name, action, first reason; then how many of each action."""
    decisions = tuple(decisions)
    name = max((len(decision.template) for decision in decisions), default=0)
    action = max((len(decision.action) for decision in decisions), default=0)
    lines = []
    for decision in decisions:
        first, *rest = decision.reasons
        more = f" (and {len(rest)} more)" if rest else ""
        line = f"{decision.template:<{name}}  {decision.action:<{action}}  {first}{more}"
        line += "; the service builds" if _is_elsewhere(decision) else ""
        lines.append(line)
    return "".join(f"{line}\n" for line in [*lines, summary(decisions)])


def _is_elsewhere(decision: Decision) -> bool:
    """Tell whether the service will run the steps of a template."""
    return decision.builder == "remote" and decision.action in {"build", "snapshot"}


def summary(decisions: Iterable[Decision]) -> str:
    """Return how many templates there are of each action, in one line."""
    counts = Counter(decision.action for decision in decisions)
    said = [
        f"{counts[action]} {action if action == 'up to date' else f'to {action}'}"
        for action in reversed(get_args(Action))
        if counts[action]
    ]
    return ", ".join(said) or "no templates"


def why(decision: Decision) -> str:
    """Return everything there is to say about one decision."""
    lines = [f"{decision.template}: {decision.action} (target {decision.target})"]
    lines += [f"  - {reason}" for reason in decision.reasons]
    if decision.stale:
        where = ", the service builds" if _is_elsewhere(decision) else ""
        lines.append(f"  steps: {', '.join(steps(decision))}{where}")
    for name in ("image_key", "template_key"):
        now = getattr(decision.keys, name) if decision.keys else "not known yet"
        then = getattr(decision.entry, name) if decision.entry else None
        label = f"  {name.replace('_', ' ')}: {now}"
        lines.append(label if then in {None, now} else f"{label}, in the lock {then}")
    return "".join(f"{line}\n" for line in lines)
