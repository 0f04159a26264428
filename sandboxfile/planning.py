"""From a workspace and a lock to a plan: survey, resolve what is unknown, decide, ask around."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sandboxfile import app, lockfile, plan, tags
from sandboxfile.app import Session
from sandboxfile.errors import LockStale, NotAllowed, Unreachable
from sandboxfile.events import Notice
from sandboxfile.manifests import Manifests
from sandboxfile.model import BootstrapBase, ImageBase
from sandboxfile.pipeline import Pipeline, manifest_name
from sandboxfile.plan import Decision, Found, Known
from sandboxfile.resolve import JOB, Resolver
from sandboxfile.survey import ENGINE_PREFIX, Survey, Surveyed, pin_name, pinned, survey
from sandboxfile.targets import Publisher

ASKED_AT_ONCE = 8  # more gains nothing against a registry (docs/benchmarks, registry HEADs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done, and all that it was decided from; `pins` are new to the lock."""

    survey: Survey
    decisions: tuple[Decision, ...]
    resolved: Mapping[str, str]
    pins: Mapping[str, str]

    @property
    def stale(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if decision.stale)


def make(
    session: Session,
    names: Iterable[str],
    *,
    force: bool = False,
    resolve: bool = True,
    building: bool = False,
) -> Planned:
    """Plan the named templates and what they are based on.

    Without `resolve` nothing but files is read. `building` makes sure that the bases can be had
    as planned, and takes silence of the service as an error, where a mere plan says less.
    """
    names = tuple(names)
    lock, resolved = session.locks()
    pins: dict[str, str] = {}
    surveyed = _survey(session, names, resolved)
    if resolve and surveyed.unresolved:
        pins |= resolver(session).pins(surveyed)
        surveyed = _survey(session, names, {**resolved, **pins})
    decisions = _decide(session, surveyed, lock, {**resolved, **pins}, names, force=force)
    if resolve and any(decision.stale for decision in decisions):
        decisions = _ask(session, surveyed, decisions, strict=building)
    if building:
        moved = _moved(session, surveyed, decisions, {**resolved, **pins})
        if moved:
            pins |= moved
            surveyed = _survey(session, names, {**resolved, **pins})
            decisions = _decide(session, surveyed, lock, {**resolved, **pins}, names, force=force)
            decisions = _ask(session, surveyed, decisions, strict=True)
    session.digests().save()
    return Planned(survey=surveyed, decisions=decisions, resolved={**resolved, **pins}, pins=pins)


def check_locked(session: Session, planned: Planned) -> None:
    """Raise LockStale if a build would change the lock (`--locked`)."""
    if not planned.stale and not planned.pins:
        return
    lines = [f"{d.template}: {d.action}: {d.reasons[0]}" for d in planned.stale]
    lines += [f"`{name}` is not in the lock" for name in planned.pins]
    raise LockStale(
        f"the lock of target `{session.target.name}` is not up to date\n  " + "\n  ".join(lines),
        hint="run `sandboxfile build` without `--locked` and commit the lock",
    )


def frozen(session: Session, names: Iterable[str]) -> Mapping[str, lockfile.Entry]:
    """Return the lock's entries as they are, nothing computed (`--frozen`)."""
    entries = session.entries()
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
            lockfile.update(path, lambda lock, found=found: lock.with_resolved(found))


def resolver(session: Session) -> Resolver:
    """Return what finds the digests of bases for this session."""
    environ = session.args.environ
    return Resolver(
        engine=session.engine,
        registry=session.registry,
        logins=session.login,
        bootstrap_cache=app.cache(environ, session.args.home) / "bootstrap",
        mirror=environ.get("SANDBOXFILE_MIRROR") or None,
        offline=session.args.offline,
        emit=session.emit,
        cancel=session.cancel,
    )


def manifests(session: Session) -> Manifests:
    """Return what is remembered of the files of earlier builds."""
    return Manifests(session.state / "manifests")


def pipeline(session: Session, planned: Planned, *, no_cache: bool = False) -> Pipeline:
    """Return what turns the plan into jobs."""
    return Pipeline(
        workspace=session.workspace,
        survey=planned.survey,
        resolved=planned.resolved,
        target=session.target.name,
        lock=session.lock_path,
        known=session.entries(),
        generated=session.state / "generated",
        manifests=manifests(session),
        engine=session.engine,
        publisher=session.publisher,
        resolver=resolver(session),
        digests=session.digests(),
        secrets=session.secret,
        no_cache=no_cache,
        emit=session.emit,
        cancel=session.cancel,
    )


# --- steps of planning -----------------------------------------------------------------------


def _survey(session: Session, names: tuple[str, ...], resolved: Mapping[str, str]) -> Survey:
    return survey(session.workspace, names, resolved=resolved, digests=session.digests())


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
    is_pinned = isinstance(base, ImageBase | BootstrapBase)
    return Known(
        template=template,
        keys=surveyed.keys,
        entry=entry,
        tags=expanded,
        unresolved=surveyed.unresolved,
        base=(pinned(pin_name(base), resolved) or "") if is_pinned else "",
        changed=_changed(session, surveyed, entry),
        untagged=entry is not None and entry.tags is None,
    )


def _changed(
    session: Session, surveyed: Surveyed, entry: lockfile.Entry | None
) -> Mapping[str, tuple[str, ...]]:
    """Name the files that differ from those of the build in the lock, by part."""
    if entry is None or surveyed.keys is None or entry.image_key == surveyed.keys.image_key:
        return {}
    name = manifest_name(session.target.name, surveyed.template.name)
    files: dict[str, tuple[str, ...]] = {}
    for change in manifests(session).changes(name, entry.image_key, surveyed.contents):
        files[change.part] = (*files.get(change.part, ()), change.path)
    return files


def _ask(
    session: Session, surveyed: Survey, decisions: tuple[Decision, ...], *, strict: bool
) -> tuple[Decision, ...]:
    """Ask registry and service for what the lock does not have, several at a time."""
    if session.args.offline and session.target.provider != "local":
        return decisions
    stale = [d for d in decisions if d.action in {"build", "snapshot"} and not d.forced and d.keys]
    if not stale:
        return decisions
    try:
        publisher = session.publisher()
        releases = pipeline(
            session, Planned(survey=surveyed, decisions=decisions, resolved={}, pins={})
        )
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            found = pool.map(lambda d: _found(session, publisher, releases, d), stale)
            refined = {d.template: plan.refine(d, f) for d, f in zip(stale, found, strict=True)}
    except (NotAllowed, Unreachable) as error:
        if strict:
            raise
        text = f"the plan is made without asking registry and service: {error.message}"
        session.emit(Notice(job=JOB, text=text, level="warning"))
        return decisions
    return tuple(refined.get(d.template, d) for d in decisions)


def _found(session: Session, publisher: Publisher, releases: Pipeline, decision: Decision) -> Found:
    release = releases.release(decision)
    image = publisher.find_image(release)
    there = publisher.find_snapshot(release)
    return Found(
        image=image,
        # The legacy line has a new name for the image at each build: absence says nothing.
        lost=image is None and release.image is not None and session.target.api != "v1",
        template_id=there.template_id if there else None,
        build_id=there.build_id if there else None,
    )


def _moved(
    session: Session,
    surveyed: Survey,
    decisions: tuple[Decision, ...],
    resolved: Mapping[str, str],
) -> Mapping[str, str]:
    """Return new pins for bases of templates to be built that are not to be had as pinned."""
    bases = resolver(session)
    moved: dict[str, str] = {}
    for decision in decisions:
        if decision.action == "build":
            moved |= bases.moved(surveyed[decision.template], resolved)
    return moved
