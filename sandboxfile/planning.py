"""From a workspace and a lock to a plan: survey, resolve what is unknown, decide, ask around."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from sandboxfile import app, estimate, lockfile, plan, sharding, tags, writing
from sandboxfile.app import Session
from sandboxfile.committed import Committed
from sandboxfile.errors import ConfigError, LockStale, SandboxfileError
from sandboxfile.estimate import Estimate
from sandboxfile.events import Notice
from sandboxfile.fidelity import Finding
from sandboxfile.frozen import dataclass, field
from sandboxfile.keys import Keys
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.model import BootstrapBase, ImageBase
from sandboxfile.pins import pin_name, pinned
from sandboxfile.places import Problem
from sandboxfile.plan import Action, Decision, Known
from sandboxfile.settled import Settled
from sandboxfile.sharding import Shard
from sandboxfile.survey import Changed, drawn, ordered, survey
from sandboxfile.surveyed import Survey, Surveyed

_FEW = 8  # templates to be looked at, for which what is kept of all files need not be read
_MANY = 100  # templates, from which on keeping them is worth the start of a process


def _none() -> tuple[Decision, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done, and all that it was decided from; `pins` are new to the lock.

    `decisions` are about the templates that were looked at. Where an earlier run has `settled` the
    others, `rest` decides about these as they were then.
    """

    survey: Survey
    decisions: tuple[Decision, ...]
    resolved: Mapping[str, str]
    pins: Mapping[str, str]
    lock: lockfile.Lock = field(default_factory=lockfile.Lock)
    settled: Settled | None = None
    rest: Callable[[], tuple[Decision, ...]] = _none

    @property
    def names(self) -> tuple[str, ...]:
        """The templates that the plan is about, parents first."""
        return self.settled.order if self.settled else tuple(d.template for d in self.decisions)

    @property
    def listed(self) -> tuple[Decision, ...]:
        """All decisions, in the order of `names`."""
        found = {decision.template: decision for decision in (*self.rest(), *self.decisions)}
        return tuple(found[name] for name in self.names)

    @property
    def actions(self) -> Mapping[str, Action]:
        """What is to be done to each of `names`."""
        found: dict[str, Action] = dict.fromkeys(self.names, "up to date")
        return found | {decision.template: decision.action for decision in self.decisions}

    @property
    def stale(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if decision.stale)


def make(
    session: Session,
    names: Iterable[str],
    *,
    force: bool = False,
    resolve: bool = True,
    ask: bool = True,
    building: bool = False,
    settled: Settled | None = None,
) -> Planned:
    """Plan the named templates and what they are based on, but for what is `settled`.

    Without `resolve` nothing but files is read; without `ask` only digests of bases are asked for,
    not what registry and service have of the templates. `building` makes sure that the bases can
    be had as planned, and takes silence of the service as an error, where a mere plan says less.
    """
    plan_once = partial(
        _made, session, tuple(names), force=force, resolve=resolve, ask=ask, building=building
    )
    try:
        return plan_once(settled=settled)
    except Changed:  # what was kept of it is dropped by now
        return plan_once(settled=None)


def _made(
    session: Session,
    asked: tuple[str, ...],
    *,
    force: bool,
    resolve: bool,
    ask: bool,
    building: bool,
    settled: Settled | None,
) -> Planned:
    lock, resolved = session.locks(settled.locks if settled else ())
    names = settled.among(asked) if settled else asked
    committed = None if force else Committed(lock.entries(session.target.name), session.blobs)
    look = partial(_survey, session, names, committed=committed, recalling=settled is None)
    surveyed = look(resolved)
    pins: dict[str, str] = {}
    if resolve and surveyed.unresolved:
        from sandboxfile import asking

        pins |= asking.pins(session, surveyed)
        surveyed = look({**resolved, **pins})
    decisions = _decide(session, surveyed, lock, {**resolved, **pins}, names, force=force)
    save = partial(_save, session, recalling=settled is None)
    if not _leaves_nothing(session, surveyed, decisions):
        save(surveyed, {**resolved, **pins})  # others may do it while this one goes on
    if resolve:
        _check_sent(session, surveyed, decisions)
    if resolve and ask and any(decision.stale for decision in decisions):
        from sandboxfile import asking

        begin = None
        if building:
            _check_lock(session)
            begin = asking.beginning(session, surveyed, decisions, {**resolved, **pins})
            _tell_secrets(session, surveyed, decisions)  # in time: an engine is at work
        decisions = asking.refined(session, surveyed, decisions, begin)
        new = asking.moved(session, surveyed, decisions, {**resolved, **pins}) if building else {}
        if new and settled:  # others may be based on the same
            return make(session, asked, force=force, building=building)
        if new:
            pins |= new
            surveyed = look({**resolved, **pins})
            save(surveyed, {**resolved, **pins})
            decisions = _decide(session, surveyed, lock, {**resolved, **pins}, names, force=force)
            begin = asking.beginning(session, surveyed, decisions, {**resolved, **pins})
            decisions = asking.refined(session, surveyed, decisions, begin)
    if building:
        _check_recalled(surveyed, decisions)
    resolved = {**resolved, **pins}
    return Planned(
        survey=surveyed,
        decisions=decisions,
        resolved=resolved,
        pins=pins,
        lock=lock,
        settled=settled,
        rest=partial(_rest, session, settled, decisions, lock, resolved) if settled else _none,
    )


def left_over(session: Session, planned: Planned, lock: lockfile.Lock) -> frozenset[str]:
    """Return which of the templates that were stale are not up to date by this lock either."""
    known = [
        _known(
            session, planned.survey[name], lock.entry(session.target.name, name), planned.resolved
        )
        for name in (decision.template for decision in planned.stale)
    ]
    made = plan.make(known, target=session.target.name)
    return frozenset(decision.template for decision in made if decision.stale)


def in_shard(
    session: Session, names: Iterable[str], shard: Shard, *, force: bool = False
) -> tuple[str, ...]:
    """Return which of the named templates, and of what they are based on, a shard has to build.

    Files and lock decide, nobody is asked: what one shard has pushed must not change the others.
    """
    names = tuple(names)
    planned = make(session, names, force=force, resolve=False)
    weights = sharding.weights(planned.stale, planned.survey)
    mine = sharding.split(weights, planned.survey, shard.of)[shard.number - 1]
    # What is forced is what was named; what it is based on comes along where it is stale.
    return tuple(name for name in mine if name in names) if force else mine


def findings(session: Session, planned: Planned) -> Mapping[str, tuple[Finding, ...]]:
    """Return what templates about to be built lose at the service; asks about their bases.

    Those that stay as they are were told of when they were built.
    """
    names = [d.template for d in planned.stale if d.action in {"build", "snapshot"}]
    if not names:
        return {}
    from sandboxfile import asking

    return asking.findings(session, planned.survey, planned.resolved, names)


def estimated(session: Session, planned: Planned, builds: int) -> Estimate | None:
    """Return what a run is expected to take, None where no earlier run says anything."""
    known = session.history()
    if not known or not planned.stale:
        return None
    return Estimate(
        seconds=estimate.of_run(planned.stale, planned.survey, known, app.at_once(builds)),
        jobs=builds,
        templates=estimate.of_templates(planned.stale, planned.survey, known),
    )


def check_possible(
    found: Mapping[str, tuple[Finding, ...]], session: Session, *, allowed: bool
) -> None:
    """Tell what is lost, and raise ConfigError for what cannot go well unless that is `allowed`."""
    errors = []
    for each in dict.fromkeys(finding for told in found.values() for finding in told):
        if each.level == "error" and not allowed:
            errors.append(Problem(each.at, each.text, each.remedy))
        elif each.level != "note":
            text = f"{each.at}: {each.text}" + (f" ({each.remedy})" if each.remedy else "")
            session.emit(Notice(job="", text=text, level="warning"))
    if errors:
        raise ConfigError(drawn(errors, session.workspace))


def check_locked(session: Session, planned: Planned) -> None:
    """Raise LockStale if a build would change the lock (`--locked`)."""
    if not planned.stale and not planned.pins:
        return
    lines = [f"{d.template}: {d.action}: {d.reasons[0]}" for d in planned.stale]
    lines += [f"base `{lockfile.base_name(name)}` is not in the lock" for name in planned.pins]
    raise LockStale(
        f"the lock of target `{session.target.name}` is not up to date\n  " + "\n  ".join(lines),
        hint="run `sandboxfile build` without `--locked` and commit the lock",
    )


def frozen(session: Session, names: Iterable[str]) -> Mapping[str, lockfile.Entry]:
    """Return the lock's entries as they are (`--frozen`), of what the named are based on, too."""
    entries = session.entries()
    names = ordered(session.workspace, names)
    missing = [name for name in names if name not in entries]
    if missing:
        raise LockStale(
            f"the lock has no `{missing[0]}` for target `{session.target.name}`",
            hint="run `sandboxfile build` without `--frozen`",
        )
    return {name: entries[name] for name in names}


def record_pins(session: Session, pins: Mapping[str, str]) -> None:
    """Write new base digests to the lock: the shared one, or this machine's for its own images."""
    own = {name: value for name, value in pins.items() if name.startswith(ENGINE_PREFIX)}
    shared = {name: value for name, value in pins.items() if name not in own}
    for name, found in ((app.LOCK, shared), (app.LOCAL_LOCK, own)):
        if found:
            path = session.workspace.root / name
            lockfile.update(path, partial(_with_resolved, found))


def _with_resolved(found: Mapping[str, str], lock: lockfile.Lock) -> lockfile.Lock:
    return lock.with_resolved(found)


# --- steps of planning -----------------------------------------------------------------------


def _check_lock(session: Session) -> None:
    """Raise SandboxfileError where the lock cannot be written, before anything is built for it."""
    path = session.lock_path
    if not writing.is_possible(path.parent):
        raise SandboxfileError(
            f"`{path.name}` cannot be written: nothing can be made in `{path.parent}`",
            hint="the lock keeps what is built, beside novita.yaml: look at who may write there",
        )


def _check_recalled(found: Survey, decisions: Iterable[Decision]) -> None:
    """Look at what is about to be built. Raises Changed if it is not what is known of it."""
    for each in decisions:
        if each.action in {"build", "snapshot"} and found[each.template].recalled:
            found[each.template].take()


def _survey(
    session: Session,
    names: tuple[str, ...],
    resolved: Mapping[str, str],
    *,
    committed: Committed | None,
    recalling: bool,
) -> Survey:
    """Survey templates; what is settled says of more of them that they are as they were."""
    return survey(
        session.workspace,
        names,
        resolved=resolved,
        digests=session.digests(sparing=not recalling and len(names) <= _FEW),
        builder=session.target.builder,
        recall=session.recall(resolved) if recalling else None,
        copies=session.copies,
        committed=committed,
    )


def _leaves_nothing(session: Session, surveyed: Survey, decisions: Iterable[Decision]) -> bool:
    """Say whether a first run keeps nothing for later ones: git and the lock told it all.

    On a CI machine, where nearly all first runs are, none comes. Elsewhere the second one keeps
    what it finds, whatever it is for.
    """
    if not session.is_first or any(decision.stale for decision in decisions):
        return False
    return all(each.is_committed for each in surveyed.templates.values())


def _save(
    session: Session, surveyed: Survey, resolved: Mapping[str, str], *, recalling: bool
) -> None:
    """Keep for later runs what this one has read; much of it while the run goes on."""
    found = surveyed.templates.values()
    is_all = surveyed.templates.keys() == session.workspace.templates.keys()
    is_new = is_all and not any(each.recalled for each in found)
    read_all = is_new and not any(each.is_committed for each in found)
    keep = partial(_keep, session, resolved, whole=read_all, recalling=recalling)
    if is_new and len(found) >= _MANY:
        session.beside(keep)
    else:
        keep()


def _keep(session: Session, resolved: Mapping[str, str], *, whole: bool, recalling: bool) -> None:
    session.digests().save(whole=whole)
    session.keep_workspace()
    if recalling and (found := session.recall(resolved)):
        found.save()


def _decide(
    session: Session,
    surveyed: Survey,
    lock: lockfile.Lock,
    resolved: Mapping[str, str],
    names: tuple[str, ...],
    *,
    force: bool,
) -> tuple[Decision, ...]:
    known = [
        _known(session, each, lock.entry(session.target.name, name), resolved)
        for name, each in surveyed.templates.items()
    ]
    return plan.make(known, target=session.target.name, force=names if force else ())


def _rest(
    session: Session,
    settled: Settled,
    decisions: tuple[Decision, ...],
    lock: lockfile.Lock,
    resolved: Mapping[str, str],
) -> tuple[Decision, ...]:
    """Decide about what was not looked at: it has the keys that the lock has."""
    made = {decision.template for decision in decisions}
    known = []
    for name in settled.order:
        entry = None if name in made else lock.entry(session.target.name, name)
        if entry is not None:
            keys = Keys(
                image_key=entry.image_key, template_key=entry.template_key, parts=entry.parts
            )
            surveyed = Surveyed(template=session.workspace.templates[name], keys=keys)
            known.append(_known(session, surveyed, entry, resolved))
    return plan.make(known, target=session.target.name)


def _check_sent(session: Session, surveyed: Survey, decisions: tuple[Decision, ...]) -> None:
    """Refuse to send what looks like a secret to a service that builds.

    Raises ConfigError with all such files of the templates that are to be built.
    """
    if session.target.builder == "remote":
        problems = _secrets(surveyed, decisions, {"build", "snapshot"})
        if problems:
            raise ConfigError(drawn(problems, session.workspace))


def _tell_secrets(session: Session, surveyed: Survey, decisions: tuple[Decision, ...]) -> None:
    """Say what looks like a secret in images that are about to be built and pushed."""
    if session.target.builder == "remote" or session.target.provider == "local":
        return
    for problem in _secrets(surveyed, decisions, {"build"}):
        text = f"{problem.at}: {problem.message}, and will be in the image"
        session.emit(Notice(job="", text=f"{text}: {problem.hint}", level="warning"))


def _secrets(
    surveyed: Survey, decisions: tuple[Decision, ...], actions: Collection[Action]
) -> tuple[Problem, ...]:
    from sandboxfile import secretfiles

    made = [d.template for d in decisions if d.action in actions]
    return secretfiles.each(copy for name in made for copy in surveyed[name].sent.values())


def _known(
    session: Session,
    surveyed: Surveyed,
    entry: lockfile.Entry | None,
    resolved: Mapping[str, str],
) -> Known:
    template = surveyed.template
    wanted = (*template.tags, *session.target.tags)
    expanded: tuple[str, ...] = ()
    if surveyed.keys is not None:
        sha = session.git_sha() if tags.uses_git(wanted) else None
        key = surveyed.keys.template_key
        expanded = tags.expand(wanted, key=key, git_sha=sha, at=template.place("tags"))
    base = template.base
    pin = pin_name(base) if isinstance(base, ImageBase | BootstrapBase) else None
    return Known(
        template=template,
        keys=surveyed.keys,
        entry=entry,
        tags=expanded,
        unresolved=surveyed.unresolved,
        base=(pinned(pin, resolved) or "") if pin else "",
        changed=_changed(session, surveyed, entry),
        untagged=entry is not None and entry.tags is None,
        builder=session.target.builder,
    )


def _changed(
    session: Session, surveyed: Surveyed, entry: lockfile.Entry | None
) -> Mapping[str, tuple[str, ...]] | None:
    if entry is None or surveyed.keys is None or entry.image_key == surveyed.keys.image_key:
        return {}
    from sandboxfile import asking

    return asking.changed(session, surveyed, entry)
