"""From registered to ready: one build of one template, resumed from wherever it was left.

The journal is the state: each step reads the last record and does what comes next, so a run that
was killed anywhere goes on exactly as one that was not. While IDs are asked for and the build is
triggered, the process has its turn at the template; a second process with the same one waits,
then finds the first one's build in the journal and follows it. While the service has no room for
another build, and while a build is prepared (its files may take an hour to arrive), the turn is
left to others, and the journal is read anew afterwards. Across machines the content tag does the
same: whoever is overtaken (the service cancels builds that share a tag) follows the other's build.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.cancel import Cancel
from sandboxfile.declined import Busy, Failing, Rejected
from sandboxfile.errors import Cancelled, Left, SandboxfileError, Unreachable
from sandboxfile.events import Emit, Notice, StepDone, StepStarted
from sandboxfile.frozen import dataclass, field
from sandboxfile.journal import Journal, JournalFailed, Record, Step
from sandboxfile.service import TemplateService
from sandboxfile.targets import Release, Snapshot, failures
from sandboxfile.targets.follow import RESUME, Following, Gone
from sandboxfile.targets.known import ids_of, is_ready
from sandboxfile.targets.patience import Patience
from sandboxfile.targets.room import Room
from sandboxfile.targets.trigger import Trigger
from sandboxfile.web import AnswerLost

T = TypeVar("T")
MAX_LOST = 3
MAX_RIVALS = 5


class _NoRoom(Exception):  # noqa: N818 - never seen outside
    """The service takes no further build now; `busy` is its answer, None if it was not asked."""

    def __init__(self, busy: Busy | None = None) -> None:
        super().__init__()
        self.busy = busy


class _Unprepared(Exception):  # noqa: N818 - never seen outside
    """A build is registered, and to be prepared before it is triggered."""

    def __init__(self, ids: Registration) -> None:
        super().__init__()
        self.ids = ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """One build of one release, with what differs between the generations of the API.

    `register` asks for IDs; `trigger` starts them; `prepare` is done between the two (v1 pushes
    there); `owner` returns the newest build of this content that the service knows, None where it
    cannot say; `usable` tells whether a build that is ready will do. `steps` are those
    that `trigger` sends. `room` is shared by the builds of a run.
    """

    release: Release
    service: TemplateService
    journal: Journal
    patience: Patience
    room: Room
    job: str
    emit: Emit
    cancel: Cancel
    register: Callable[[], Registration]
    trigger: Callable[[Registration], None]
    prepare: Callable[[Registration], str]
    owner: Callable[[], BuildStatus | None]
    usable: Callable[[Registration], bool] = lambda _: True
    steps: tuple[failures.Asked, ...] = ()
    _begun: dict[Registration, Following] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)  # the builds that are said to go on

    @property
    def _name(self) -> str:
        return self.release.template.name

    def finish(self) -> Snapshot:
        """Bring the build to its end. Raises what a Publisher raises."""
        try:
            done = self._finish()
        except Left:
            raise  # what was left goes on to count at the service
        except Cancelled:
            record = self._pending()
            if record is not None and record.step in {"trigger", "triggered"}:
                self._tell_what_goes_on(record.build_id)
            raise
        except BaseException:
            self.room.leave(self._name)
            raise
        self.room.leave(self._name)
        return done

    def _tell_what_goes_on(self, build_id: str) -> None:
        if build_id in self._told:
            return
        self._told.add(build_id)
        # There is no public call that stops a build.
        rest = f"goes on at the service; {RESUME}"
        if not self.patience.outlived:
            rest = "ends with this run; run the same command again to build it"
        self._notice(f"build {build_id} {rest}")

    def prepared(self) -> str:
        """Register and prepare unless that is done; return what `prepare` returned."""
        record, ids = self._in_turn(self._due)
        if record is not None and (record.image or record.step in {"trigger", "triggered"}):
            return record.image
        return self._prepare(ids)

    def record(self, step: Step, ids: Registration | None = None, image: str = "") -> None:
        """Write to the journal; when that fails, the IDs still reach the screen."""
        record = Record(
            template=self._name,
            content=self.release.content_tag,
            step=step,
            template_id=ids.template_id if ids else "",
            build_id=ids.build_id if ids else "",
            image=image,
        )
        try:
            self.journal.write(record)
        except JournalFailed:
            if ids is not None:
                known = {"template": record.template, **_named(ids)}
                self._notice(json.dumps(known))
            raise

    # --- up to a running build ---------------------------------------------------------------

    def _finish(self) -> Snapshot:
        failed = 0
        while True:
            ids = self._running()
            result = self._followed(ids)
            if isinstance(result, Snapshot):
                return result
            if result is not None:
                failed += 1
                if failed > self.patience.new_builds:
                    raise result
                self._notice(f"{result.message}; trying with a new build")

    def _followed(self, ids: Registration) -> Snapshot | SandboxfileError | None:
        """Follow a build: the result, why another is needed, or None to turn to another's."""
        self.room.stay(self._name)
        following = self._following(ids)
        step = f"build {ids.build_id}"
        self.emit(StepStarted(job=self.job, step=step))
        try:
            # Told at once: a run that is stopped does not wait for what a slow disk holds up here.
            with self.cancel.on_cancel(partial(self._tell_what_goes_on, ids.build_id)):
                page = following.to_end()
        except Gone as error:
            self.record("closed", ids)
            return error
        if page.state == "ready":
            self.record("ready", ids)
            self.emit(StepDone(job=self.job, step=step))
            return Snapshot(template_id=ids.template_id, build_id=ids.build_id)
        kind = failures.kind(page)
        if kind == "superseded" and self._follow_other(ids):
            return None
        self.record("closed", ids)
        template = self.release.template
        reason = failures.explain(page, template, tail=following.tail, steps=self.steps)
        if kind == "user":
            raise reason
        return reason

    def _running(self) -> Registration:
        """Return a build that was started, by us or by somebody with the same content."""
        for _ in range(self.patience.new_builds + 1):
            ids = self._prepared_and_started()
            if ids is not None:
                return ids
        raise Unreachable(
            f"the service takes builds of `{self._name}` and never begins them",
            hint="look at the service's status page; the same command may be run again later",
        )

    def _prepared_and_started(self) -> Registration | None:
        """Take the journal's steps up to a running build; None when another is needed."""
        prepared: Registration | None = None
        while True:
            try:
                return self._in_turn(partial(self._started, prepared))
            except _Unprepared as due:
                prepared = due.ids
            self._prepare(prepared)

    def _started(self, prepared: Registration | None) -> Registration | None:
        """Take the journal's next step; None when the build is void and another is needed.

        Raises _Unprepared for a build that is not yet, and is not the one that was just prepared.
        """
        record = self._pending()
        try:
            if record is not None and record.step == "triggered":
                return ids_of(record)
            if record is not None and record.step == "trigger":
                return self._trigger(ids_of(record), is_doubtful=True)
            if record is None and (ours := self._made_here()):
                return self._adopted(ours)
            # While it was prepared, a run of other content may have put its own record there.
            ids = prepared if record is None and prepared else self._registered(record)
            if ids != prepared:
                if not self._is_waiting(ids):
                    return self._adopted(ids)
                if record is None or record.step != "pushed":
                    raise _Unprepared(ids)
            return self._trigger(ids, is_doubtful=False)
        except Gone:
            self.record("closed")
            return None

    def _in_turn(self, act: Callable[[], T]) -> T:
        """Act with other processes kept out; wait without while there is no room for a build."""
        asked = self.patience.clock()
        while True:
            try:
                with self.journal.turn(self._name):
                    return act()
            except _NoRoom as full:
                if full.busy is not None:
                    self.room.tell(full.busy, self.emit)
                    if self.room.is_stuck(asked):
                        raise full.busy from None
            self.emit(StepStarted(job=self.job, step="waiting for room at the service"))
            self.room.wait(self.cancel)
            if self.patience.is_over:
                raise Left(f"`{self._name}` still waits for room at the service", in_time=False)
            self._take_over()

    def _take_over(self) -> None:
        """Follow what another process has finished while this one waited, not build it again."""
        with self.journal.turn(self._name):
            record = self.journal.pending(self._name)
            if record and record.content == self.release.content_tag and record.step == "ready":
                self._adopted(ids_of(record))

    def _due(self) -> tuple[Record | None, Registration]:
        """Return the IDs of the build to push to, and what the journal had of it."""
        record = self._pending()
        if record is None and (ours := self._made_here()):
            self._adopted(ours)
            record = self._pending()
        if record is not None and record.step in {"trigger", "triggered"}:
            return record, ids_of(record)
        record = self._still_waiting(record)
        return record, self._registered(record)

    def _still_waiting(self, record: Record | None) -> Record | None:
        """Return the record unless its build can no longer be pushed to."""
        if record is None or record.step == "register":
            return record
        with suppress(Gone):
            if self._is_waiting(ids_of(record)):
                return record
        self.record("closed", ids_of(record))
        return None

    def _registered(self, record: Record | None) -> Registration:
        if record is not None and record.step in {"registered", "pushed"}:
            return ids_of(record)
        if record is not None and record.step == "register":
            other = self._other("waiting", "building", "ready")
            if other is not None:
                self.record("registered", other)
                return other
        self.record("register")
        # Looked for last of all: between two runs that both found nothing, the later trigger
        # would end the earlier build.
        if record is None and (other := self._made_elsewhere()):
            return other
        ids = self._ask()
        self.record("registered", ids)
        return ids

    def _ask(self) -> Registration:
        """Ask for IDs if there is room for another build."""
        if not self.room.enter(self._name):
            raise _NoRoom
        try:
            ids = self._asked()
        except Busy as error:
            self.room.refused(self._name)
            raise _NoRoom(error) from None
        except BaseException:
            self.room.leave(self._name)
            raise
        self.room.accepted()
        return ids

    def _asked(self) -> Registration:
        """Ask for IDs until an answer comes; a repeat supersedes what a lost answer made."""
        lost = 0
        while True:
            try:
                return self.register()
            except (AnswerLost, Failing):
                lost += 1
                other = self._other("waiting", "building")
                if other is not None:
                    return other
                if lost >= MAX_LOST:
                    raise
            except Rejected as error:
                self.record("closed")
                key = "resources" if error.says("cpu", "memory") else "name"
                error.at = self.release.template.place(key)
                raise
            self.patience.pause(self.cancel, self.patience.poll_most)

    def _prepare(self, ids: Registration) -> str:
        image = self.prepare(ids)
        if image:
            self.record("pushed", ids, image)
        return image

    def _trigger(self, ids: Registration, *, is_doubtful: bool) -> Registration | None:
        def fire() -> None:
            self.record("trigger", ids)
            self.trigger(ids)

        trigger = Trigger(self._following(ids), self.patience, fire)
        try:
            has_begun = trigger.start(doubtful=is_doubtful)
        except Rejected:
            self.record("closed", ids)
            raise
        if not has_begun:
            self.record("closed", ids)
            return None
        return self._adopted(ids)

    def _adopted(self, ids: Registration) -> Registration:
        self.record("triggered", ids)
        return ids

    # --- what the service has ----------------------------------------------------------------

    def _pending(self) -> Record | None:
        """Return where an earlier run of this very content stopped short, if one did."""
        record = self.journal.pending(self._name)
        if record is None or record.content != self.release.content_tag or record.step == "ready":
            return None
        return record

    def _is_waiting(self, ids: Registration) -> bool:
        return self._following(ids).poll().state == "waiting"

    def _made_here(self) -> Registration | None:
        """Return the ready build that our journal names, ended since this was planned."""
        if self.release.fresh:
            return None
        found = is_ready(self.service, self.journal, self.release)
        if found is None:
            return None
        ids = Registration(template_id=found.template_id, build_id=found.build_id)
        return ids if self.usable(ids) else None

    def _made_elsewhere(self) -> Registration | None:
        """Return a build of this content that others began, or ended since this was planned.

        One that only waits is about to be triggered, or was left by a run that died: ours would
        be in its way in the first case, so it is given a moment.
        """
        for _ in range(MAX_RIVALS):
            page = self._looked_up()
            if page is None:
                return None
            ids = _of(page)
            has_waited = page.state == "waiting"
            if has_waited:
                page = self._awaited(ids)
            if page.state == "building":
                return ids
            if page.state == "ready":
                return ids if not self.release.fresh and self.usable(ids) else None
            if not (has_waited and page.state == "error"):
                return None
            # Superseded meanwhile, by a third run: its build is the one to look at.
        return None

    def _awaited(self, ids: Registration) -> BuildStatus:
        following, pause = self._following(ids), self.patience.poll_first
        deadline = self.patience.clock() + self.patience.others
        while (page := following.poll()).state == "waiting":
            if self.patience.clock() >= deadline:
                break
            following.sleep(pause)
        return page

    def _other(self, *states: str) -> Registration | None:
        page = self._looked_up()
        return _of(page) if page is not None and page.state in states else None

    def _looked_up(self) -> BuildStatus | None:
        """Ask for the owner of our content; who does not know it would make another build."""
        pause = self.patience.poll_first
        for _ in range(MAX_LOST):
            with suppress(Busy, Failing, AnswerLost):
                return self.owner()
            self.patience.pause(self.cancel, pause)
            pause = self.patience.poll_most
        return self.owner()

    def _follow_other(self, ids: Registration) -> bool:
        """Turn to the build that overtook ours, when it is of the same content."""
        other = self._other("waiting", "building", "ready")
        if other is None or other.build_id == ids.build_id:
            return False
        self._notice(f"another run builds the same content; following build {other.build_id}")
        self._adopted(other)
        return True

    def _following(self, ids: Registration) -> Following:
        """Return what follows a build: one for each, since it knows how far the log was read."""
        return self._begun.setdefault(
            ids,
            Following(
                self.service,
                ids,
                job=self.job,
                patience=self.patience,
                emit=self.emit,
                cancel=self.cancel,
            ),
        )

    def _notice(self, text: str) -> None:
        self.emit(Notice(job=self.job, text=text, level="warning"))


def _of(page: BuildStatus) -> Registration:
    return Registration(template_id=page.template_id, build_id=page.build_id)


def _named(ids: Registration) -> dict[str, str]:
    return {"template_id": ids.template_id, "build_id": ids.build_id}
