"""Image builds that begin while a plan is still made, so that the engine does not wait for it.

Asking registry and service takes as long as all that comes before it. A build is certain once both
have said that they have nothing of its key; the others are asked about meanwhile. It is all but
certain before anybody was asked where this checkout has had an image of the template, which has
changed since, or where it is forced. A fresh clone has had nothing: there whatever exists is found
before anything is begun. To an engine that gets small contexts together (`packs`) those of builds
that become certain go when all the first ones were asked about: one archive is worth that wait.
"""

import threading
from collections.abc import Iterable, Mapping
from functools import partial

from sandboxfile import app, estimate, imagetags, resolve, schedule
from sandboxfile.app import Session
from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError
from sandboxfile.events import Emit
from sandboxfile.headstart import Begun
from sandboxfile.images import Images
from sandboxfile.model import BuildCache, DockerfileBase, ImageBase
from sandboxfile.parts import Parts
from sandboxfile.pipeline import manifest_name
from sandboxfile.plan import Decision
from sandboxfile.surveyed import Survey, Surveyed

SENDING_S = 0.05  # what is to be imported next would only hold up a build that is being sent


class Beginning:
    """The builds of one plan that may begin before it is whole.

    They are those that the run would start with: as many as have a place, the longest chains first
    by what earlier runs took. What goes wrong with one is told by whoever takes it over; one that
    the plan turns out not to need is given up.
    """

    def __init__(
        self,
        session: Session,
        survey: Survey,
        decisions: Iterable[Decision],
        resolved: Mapping[str, str],
    ) -> None:
        self._session, self._survey = session, survey
        self._parts = parts = Parts(session)
        self._begun = parts.begun()
        self._begun.keep(())  # of a plan that was not to be
        no_cache = getattr(session.args, "no_cache", False)
        self._images = parts.images(survey, resolved, no_cache=no_cache)
        self._lock = threading.Lock()
        self._may: bool | None = None
        self._order = self._ordered(tuple(decisions))
        self.first = self._first()
        self._unknown, self._absent = {*self.first}, set[str]()

    def sure(self) -> None:
        """Begin what is all but certain. Raises Changed."""
        likely = [each for each in self.first.values() if self._is_all_but_certain(each)]
        sure = [each for each in likely if self._may_begin(each)]
        self._images.packs.expect(each.template for each in sure)
        self._unknown -= {each.template for each in sure}
        for decision in sure:
            self._begin(decision).wait_sent(SENDING_S)

    def answered(self, decision: Decision, *, is_absent: bool) -> None:
        """Begin what nobody has; safe to be told from several threads. Raises Changed.

        What is sent together waits until all of it is known, which the plan waits for anyway.
        """
        name = decision.template
        if name not in self.first:
            return
        with self._lock:
            self._unknown.discard(name)
            if is_absent and self._begun.get(self._tag(decision)) is None:
                self._absent.add(name)
            if not self._can_be_stopped() or (self._unknown and self._go_together()):
                return
            known = [each for each in self.first.values() if each.template in self._absent]
            self._absent.clear()
            certain = [each for each in known if self._may_begin(each)]
            self._images.packs.expect(each.template for each in certain)
            for each in certain:
                self._begin(each)

    def keep(self, decisions: Iterable[Decision]) -> None:
        """Give up what is not to be built after all; what is may be sent together."""
        built = {d.template: d for d in decisions if d.action == "build" and d.keys is not None}
        self._begun.keep({self._tag(built[name]) for name in self.first if name in built})
        self._images.packs.expect(name for name in self._order if name in built)

    def _ordered(self, decisions: tuple[Decision, ...]) -> Mapping[str, Decision]:
        """Return what is to be built in the order in which the run will start it."""
        if self._session.target.builder != "docker":
            return {}
        named = {f"build:{d.template}": d for d in decisions if d.action == "build" and d.keys}
        history, target = self._session.history(), self._session.target.name
        order = schedule.longest_first(
            estimate.chains(named.values(), self._survey), lambda job: history.seconds(job, target)
        )
        return {each.template: each for job in order if (each := named.get(job))}

    def _first(self) -> Mapping[str, Decision]:
        plain = (each for each in self._order.values() if self._is_plain(each))
        at_once = getattr(self._session.args, "jobs", None) or app.builds_at_once()
        return {each.template: each for each, _ in zip(plain, range(at_once), strict=False)}

    def _is_all_but_certain(self, decision: Decision) -> bool:
        if decision.forced:
            return True
        name = manifest_name(self._session.target.name, decision.template)
        had = self._parts.manifests().key(name)
        return had is not None and decision.keys is not None and had != decision.keys.image_key

    def _is_plain(self, decision: Decision) -> bool:
        """Tell whether an engine builds it by itself, and nothing else before it.

        A program that were started for it would be left running by an interrupt.
        """
        surveyed = self._survey[decision.template]
        template, dockerfile = surveyed.template, surveyed.dockerfile
        has_secrets = template.secrets or (dockerfile is not None and dockerfile.secrets)
        return isinstance(template.base, ImageBase | DockerfileBase) and not has_secrets

    def _may_begin(self, decision: Decision) -> bool:
        """Tell whether it can be ended, and what it is based on is here as its key says.

        Under the name of a base made by hand the engine may have another by now; what has to be
        pulled may take a program that logs in, and much for a build that is given up.
        """
        if not self._can_be_stopped():
            return False
        surveyed, made_by = self._survey[decision.template], self._images
        try:
            if made_by.resolver.moved(surveyed, made_by.resolved):
                return False
            bases = [made_by.pinned(image) for image, _ in resolve.images(surveyed)]
            return all(made_by.configs.inspected(base) is not None for base in bases)
        except SandboxfileError:  # whoever builds it for certain will say so
            return False

    def _go_together(self) -> bool:
        """Tell whether the engine takes contexts of several templates in one archive."""
        return self._parts.engine().info().starts_to_unpack and not self._images.no_cache

    def _can_be_stopped(self) -> bool:
        if self._may is None:
            try:
                info = self._parts.engine().info()
            except SandboxfileError:  # whoever needs the engine for certain will say so
                return False
            is_own = not info.elsewhere and self._parts.cache == BuildCache()
            self._may = is_own and "cancel" in info.alone
        return self._may

    def _begin(self, decision: Decision) -> Begun:
        self._begun.vacate()  # of a plan that was not to be
        surveyed = self._survey[decision.template]
        if surveyed.recalled:
            surveyed.take()
        work = partial(_build, self._images, surveyed, decision.forced)
        return self._begun.begin(self._tag(decision), work, cancel=self._session.cancel)

    def _tag(self, decision: Decision) -> str:
        return imagetags.tag_of(self._survey[decision.template])


def _build(made_by: Images, surveyed: Surveyed, fresh: bool, emit: Emit, cancel: Cancel) -> str:  # noqa: FBT001 - of `partial`
    return made_by.heard_by(emit, cancel).image(surveyed, fresh=fresh, absent=True)
