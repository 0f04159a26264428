"""Move tags to a build and take them from it; what holds is what the service says afterwards."""

from collections.abc import Callable, Mapping
from contextlib import suppress

from sandboxfile.cancel import Cancel
from sandboxfile.declined import Failing, Rejected
from sandboxfile.errors import Unreachable
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import dataclass
from sandboxfile.service import TemplateService
from sandboxfile.targets import Snapshot
from sandboxfile.web import AnswerLost

ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagging:
    """The tags of one build. A service without tags answers with an error that `is_missing`."""

    service: TemplateService
    name: str
    snapshot: Snapshot
    emit: Emit
    cancel: Cancel

    def settle(
        self, wanted: tuple[str, ...], remove: tuple[str, ...], *, lacking: Callable[[], None]
    ) -> None:
        """Move the wanted tags and take the others away; tell who is `lacking` tags altogether.

        That settles it, too: asking again at every run would change nothing. Raises what a
        Publisher does.
        """
        try:
            self.move(wanted)
            self.remove(remove)
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            lacking()

    def move(self, tags: tuple[str, ...]) -> None:
        """Give the build these tags and see that they are there. Raises what a Publisher does."""
        if not tags:
            return
        missing: set[str] = set()
        for _ in range(ATTEMPTS):
            self.cancel.check()
            with suppress(AnswerLost):  # reading back tells
                self.service.assign_tags(f"{self.name}:{self.snapshot.build_id}", tags)
            builds = self._builds()
            missing = {tag for tag in tags if builds.get(tag) != self.snapshot.build_id}
            if not missing:
                return
        raise Unreachable(
            f"the service did not move the tags {_listed(missing)} of `{self.name}`",
            hint="another run may have moved them just now; run the command again",
        )

    def remove(self, tags: tuple[str, ...]) -> None:
        """Take from the build those of these tags that still name it; others are left, and told."""
        if not tags:
            return
        self.cancel.check()
        builds = self._builds()
        ours = tuple(tag for tag in tags if builds.get(tag) == self.snapshot.build_id)
        moved = {tag for tag in tags if tag in builds} - {*ours}
        if moved:
            self._notice(f"another build has the tags {_listed(moved)} by now; they are left there")
        if not ours:
            return
        try:
            self.service.delete_tags(self.name, ours)
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            self._notice(f"this service cannot take tags away; {_listed({*ours})} are left")

    def _builds(self) -> Mapping[str, str]:
        """Return which build each tag was given to last."""
        entries = self.service.tags(self.snapshot.template_id)
        return {each.tag: each.build_id for each in sorted(entries, key=lambda e: e.created)}

    def _notice(self, text: str) -> None:
        job = f"tag:{self.name}"
        self.emit(Notice(job=job, text=text, level="warning"))


def _listed(tags: set[str]) -> str:
    return ", ".join(f"`{tag}`" for tag in sorted(tags))
