"""The part of planning that asks others: base digests, images at the registry, builds there."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from sandboxfile import fidelity, plan, several
from sandboxfile.app import Session
from sandboxfile.beginning import Beginning
from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.events import Notice
from sandboxfile.fidelity import Finding, Subject
from sandboxfile.frozen import replace
from sandboxfile.inherit import NOTHING, Inherited, inherited
from sandboxfile.lockfile import Entry
from sandboxfile.model import DockerfileBase, ImageBase, ImageConfig
from sandboxfile.parts import Parts
from sandboxfile.pipeline import Pipeline, manifest_name
from sandboxfile.plan import Decision, Found
from sandboxfile.registry import WrongPlatform
from sandboxfile.resolve import JOB
from sandboxfile.surveyed import Survey, Surveyed
from sandboxfile.targets import Publisher

T = TypeVar("T")
GRACE_S = 1.5  # for what was begun to end, after an interrupt
AT_ONCE = 8  # against one registry more gains nothing


def pins(session: Session, survey: Survey) -> Mapping[str, str]:
    """Return the digests of bases that the lock does not have. Raises as `Resolver.pins`."""
    resolver = Parts(session).resolver()
    return _aside(lambda: resolver.pins(survey))


def changed(
    session: Session, surveyed: Surveyed, entry: Entry
) -> Mapping[str, tuple[str, ...]] | None:
    """Name the files that differ from those of the build in the lock, by part; None if unknown."""
    name = manifest_name(session.target.name, surveyed.template.name)
    files: dict[str, tuple[str, ...]] = {}
    changes = Parts(session).manifests().changes(name, entry.image_key, surveyed.contents)
    if changes is None:
        return None
    for change in changes:
        files[change.part] = (*files.get(change.part, ()), change.path)
    return files


def beginning(
    session: Session,
    survey: Survey,
    decisions: tuple[Decision, ...],
    resolved: Mapping[str, str],
) -> Beginning:
    """Begin the builds that are all but certain, before anybody is asked. Raises Changed."""
    begin = Beginning(session, survey, decisions, resolved)
    begin.sure()
    return begin


def refined(
    session: Session,
    survey: Survey,
    decisions: tuple[Decision, ...],
    begin: Beginning | None,
) -> tuple[Decision, ...]:
    """Ask registry and service for what the lock does not have, several at a time.

    To build it, `begin` is told at once of what has been answered, and in the end of what there is;
    when they cannot be asked that raises NotAllowed or Unreachable. A mere plan gives a notice
    then.
    """
    made = _refined(session, survey, decisions, begin)
    if begin is not None:
        begin.keep(made)
    return made


def _refined(
    session: Session, survey: Survey, decisions: tuple[Decision, ...], begin: Beginning | None
) -> tuple[Decision, ...]:
    if session.args.offline and session.target.provider != "local":
        return decisions
    stale = [d for d in decisions if d.action in {"build", "snapshot"} and not d.forced and d.keys]
    if not stale:
        return decisions
    if begin is not None:
        stale.sort(key=lambda decision: decision.template not in begin.first)
    parts = Parts(session)
    try:
        publisher = parts.publisher()
        publisher.expect(len(stale))
        releases = parts.pipeline(survey, {})
        find = partial(_found, session, publisher, releases, begin)
        found = several.each(find, stale, AT_ONCE)
        smaller = {d.template: plan.refine(d, f) for d, f in zip(stale, found, strict=True)}
    except (NotAllowed, Unreachable) as error:
        if begin is not None:
            raise
        text = f"the plan is made without asking registry and service: {error.message}"
        session.emit(Notice(job=JOB, text=text, level="warning"))
        return decisions
    return tuple(smaller.get(d.template, d) for d in decisions)


def _found(
    session: Session,
    publisher: Publisher,
    releases: Pipeline,
    begin: Beginning | None,
    decision: Decision,
) -> Found:
    release, asked = releases.release(decision), time.monotonic()
    image = publisher.find_image(release)
    there = publisher.find_snapshot(release)
    if begin is not None:
        begin.answered(decision, is_absent=image is None and there is None)
    return Found(
        image=image,
        # The legacy line has a new name for the image at each build: absence says nothing.
        lost=image is None and release.image is not None and session.target.api != "v1",
        template_id=there.template_id if there else None,
        build_id=there.build_id if there else None,
        tags=there.tags if there else frozenset(),
        asked=asked,
    )


def findings(
    session: Session, survey: Survey, resolved: Mapping[str, str], names: Iterable[str]
) -> Mapping[str, tuple[Finding, ...]]:
    """Return what these templates lose on their way to the service, with what images say asked.

    Never raises for what cannot be asked: that becomes a finding of its own.
    """
    names = tuple(names)
    bases = _Bases(session, survey, resolved)
    return dict(zip(names, several.each(bases.findings, names, AT_ONCE), strict=True))


def look(
    session: Session, survey: Survey, resolved: Mapping[str, str], name: str
) -> tuple[tuple[Finding, ...], Inherited]:
    """Return the findings of a template, and what it takes over as far as its base was asked."""
    bases = _Bases(session, survey, resolved)
    found = bases.findings(name)
    config = bases.known.get(name)
    return found, inherited(survey[name].template, config) if config else NOTHING


class _Bases:
    """Asks about the bases of templates; whom, `Configs` decides."""

    def __init__(self, session: Session, survey: Survey, resolved: Mapping[str, str]) -> None:
        self._survey = survey
        parts = Parts(session)
        self._images = parts.images(survey, resolved)
        self._configs = parts.configs()
        self._of_image = partial(self._configs.of, quick=True)
        self._target = session.target
        self._is_local = session.target.provider == "local"
        self.known: dict[str, ImageConfig] = {}  # what was said of each template's base

    def findings(self, name: str) -> tuple[Finding, ...]:
        surveyed = self._survey[name]
        template, base = surveyed.template, surveyed.template.base
        parsed = surveyed.dockerfile
        image = base.image if isinstance(base, ImageBase) else parsed.base if parsed else ""
        subject = Subject(template=template, target=self._target, image=image, dockerfile=parsed)
        if surveyed.keys is None:
            return fidelity.findings(subject)
        try:
            subject = self._asked(subject, surveyed)
        except WrongPlatform as error:
            wrong = fidelity.wrong_platform(template, error.message, error.hint)
            return (wrong, *fidelity.findings(subject))
        except SandboxfileError as error:
            told = fidelity.findings(subject)
            return told if self._is_local else (*told, fidelity.unknown(template, error.message))
        return fidelity.findings(subject)

    def _asked(self, subject: Subject, surveyed: Surveyed) -> Subject:
        config = self._images.base_config(surveyed, self._of_image)
        if config is not None:
            self.known[surveyed.template.name] = config
        parsed = surveyed.dockerfile
        origin = None
        if config is None and parsed is not None and parsed.base:
            origin = self._of_image(self._images.pinned(parsed.base))
        return replace(subject, config=config, origin=origin, os_release=self._os_release(surveyed))

    def _os_release(self, surveyed: Surveyed) -> str:
        """Read what an image that the engine alone has says of its distribution.

        An own Dockerfile may not have been built yet: then it is as what it is built from.
        """
        base, parsed = surveyed.template.base, surveyed.dockerfile
        images = []
        if isinstance(base, DockerfileBase) and self._target.builder == "docker":
            images.append(self._images.dockerfile_tag(surveyed))
            if parsed is not None and parsed.base:
                images.append(self._images.pinned(parsed.base))
        elif isinstance(base, ImageBase):
            images.append(self._images.pinned(base.image))
        if self._is_local:
            return ""
        own = (each for each in images if "@sha256:" not in each)
        return next(filter(None, map(self._configs.os_release, own)), "")


def moved(
    session: Session,
    survey: Survey,
    decisions: tuple[Decision, ...],
    resolved: Mapping[str, str],
) -> Mapping[str, str]:
    """Return new pins for bases of templates to be built that are not to be had as pinned."""
    bases = Parts(session).resolver()
    built = [survey[decision.template] for decision in decisions if decision.action == "build"]

    def look() -> Mapping[str, str]:
        found = (bases.moved(surveyed, resolved) for surveyed in built)
        return {name: pin for pins in found for name, pin in pins.items()}

    return _aside(look) if built else {}


def _aside(work: Callable[[], T]) -> T:
    """Do work that starts programs on another thread, so that an interrupt finds us waiting.

    Raised in the middle of starting a program, it would leave that running.
    """
    ended = threading.Event()

    def run(_: None) -> T:
        try:
            return work()
        finally:
            ended.set()

    try:
        return several.each(run, [None], 1)[0]
    except KeyboardInterrupt:
        ended.wait(GRACE_S)
        raise
