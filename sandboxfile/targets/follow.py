"""Follow a build at a service to its end, whatever the network does."""

import re
from collections import deque

from sandboxfile.buildstatus import BuildStatus, LogEntry, Registration
from sandboxfile.cancel import Cancel
from sandboxfile.declined import Busy, Failing, Rejected
from sandboxfile.errors import Left, SandboxfileError, Unreachable, Unsupported
from sandboxfile.events import Emit, Log, Notice
from sandboxfile.patterns import regex
from sandboxfile.service import PAGE, TemplateService
from sandboxfile.targets.patience import Patience

TAIL = 20
# What a shell says of a program that is not there, or may not be run (POSIX, sh 2.8.2).
_CANNOT_RUN = regex(r"not ready: exit status (12[67])\b\s*(.*)", re.IGNORECASE)
_SAID = 200  # characters of it
_TRIES = 2  # the start command may be about to install it
RESUME = "run the same command again to pick it up where it is"


class Gone(SandboxfileError):  # noqa: N818 - named for what it says
    """The service does not know this build any more: deleted, or never really made."""


class Following:
    """One build being followed: how far its log was read, and the end of it.

    `is_held` tells whether the service still holds back its answer to our trigger.
    """

    def __init__(
        self,
        service: TemplateService,
        ids: Registration,
        *,
        job: str,
        patience: Patience,
        emit: Emit,
        cancel: Cancel,
    ) -> None:
        self.ids = ids
        self._service = service
        self._job = job
        self._patience = patience
        self._emit = emit
        self._cancel = cancel
        self._offset = 0
        self._has_moved = False
        self._may_leave = False
        self._is_told = False
        self._unable = 0
        self.is_held = _never
        self._seen: deque[LogEntry] = deque(maxlen=5 * PAGE)
        self.tail: deque[str] = deque(maxlen=TAIL)

    def to_end(self) -> BuildStatus:
        """Poll until the build is ready or failed, emit its log, read the log to its end.

        Raises Gone, NotAllowed, Unreachable (no answers, or too slow), Left (the time to follow
        is over), Cancelled.
        """
        self._may_leave = True
        started, pause = self._now(), self._patience.poll_first
        while True:
            is_held = self.is_held()  # before the poll: what was held then may be done by now
            page = self.poll()
            if page.state == "error":
                # One lost call inside the service looks so.
                self._patience.sleep(self._cancel, self._patience.confirm)
                page = self.poll()
            if page.state in {"ready", "error"}:
                if page.count:  # else this was the empty page that ends the log
                    self.drain()
                return page
            self._check_leaving(is_held=is_held)
            self._check_time(started)
            if page.count < PAGE:
                self.sleep(pause)
            pause = self._patience.poll_first if page.count else self.longer(pause)

    def poll(self) -> BuildStatus:
        """Return the status and emit what is new in the log; single failures are survived."""
        failing_since: float | None = None
        pause = self._patience.poll_first
        while True:
            try:
                return self._noted(self._service.status(self.ids, offset=self._offset))
            except Rejected as error:
                raise self.no_status(error) from None
            except (Busy, Unreachable) as error:
                if isinstance(error, Failing) and error.is_missing:
                    raise self.no_status(error) from None
                self._check_leaving(is_held=self.is_held())
                failing_since = self._now() if failing_since is None else failing_since
                if self._now() - failing_since > self._patience.failed_polls:
                    raise
            self.sleep(pause)
            pause = self.longer(pause)

    def drain(self) -> None:
        """Read what is left of the log: the last status can come with pages to follow.

        Failures are survived for a while; what is missing then is not worth the run.
        """
        failures, pause = 0, self._patience.poll_first
        for _ in range(self._patience.drain_pages):
            try:
                if self._noted(self._service.status(self.ids, offset=self._offset)).count == 0:
                    return
            except Rejected:
                return
            except (Unreachable, Busy):
                failures += 1
                if failures >= self._patience.drain_failures:
                    return
                self.sleep(pause)
                pause = self.longer(pause)

    def sleep(self, seconds: float) -> None:
        """Wait between polls. Raises Cancelled."""
        self._patience.pause(self._cancel, seconds)

    def longer(self, pause: float) -> float:
        """Return the next pause between polls."""
        return min(self._patience.poll_most, pause * 1.5)

    def gone(self) -> Gone:
        """Return the error that says that the service does not know the build any more."""
        return Gone(
            f"the service no longer knows build {self.ids.build_id} "
            f"of template {self.ids.template_id}",
            hint="somebody deleted it; run the command again to make a new one",
        )

    def no_status(self, error: Rejected | Failing) -> SandboxfileError:
        """Return what it means that the status is refused."""
        if error.is_missing:
            return Unsupported(
                f"this service does not tell how builds are: {error.message}",
                hint="is the target's `api` the right one?",
            )
        return self.gone() if isinstance(error, Rejected) and error.is_gone else error

    def _noted(self, page: BuildStatus) -> BuildStatus:
        # The status is cached at the service and may step back; once moved, it is not waiting.
        self._has_moved = self._has_moved or page.state != "waiting"
        self._offset += page.count
        fresh = [entry for entry in page.entries if not entry.timestamp or entry not in self._seen]
        self._seen.extend(page.entries)
        for entry in fresh:
            for line in entry.message.split("\n"):
                self.tail.append(line)
                self._emit(Log(job=self._job, text=line, step=entry.step))
                self._look_at(line)
        return page

    def _look_at(self, line: str) -> None:
        """Say at once, not after ten minutes, that the ready command cannot be run."""
        found = _CANNOT_RUN.search(line)
        if found is None:
            return
        self._unable += 1
        if self._unable == _TRIES:
            said = f": {found[2][:_SAID]}" if found[2] else ""
            text = f"the ready command cannot be run (exit status {found[1]}{said})"
            remedy = "put its program into the image, or use one of `port`, `file`, `process`"
            self._emit(Notice(job=self._job, text=f"{text}; {remedy}", level="warning"))

    def _check_leaving(self, *, is_held: bool) -> None:
        if not self._may_leave or not self._patience.leaves:
            return
        if is_held and not self._patience.is_over:
            self._tell_held()
            return
        raise left(self.ids, self._patience)

    def _tell_held(self) -> None:
        if not self._is_told:
            self._is_told = True
            text = "the service answers when the build is done, and may stop it when we hang up"
            self._emit(Notice(job=self._job, text=f"{text}: following it to its end"))

    def _check_time(self, started: float) -> None:
        spent = self._now() - started
        if spent > self._patience.overall or (
            not self._has_moved and spent > self._patience.waiting
        ):
            what = "not finished" if self._has_moved else "not begun"
            raise Unreachable(
                f"build {self.ids.build_id} has {what} after {spent / 60:.0f} minutes",
                hint=f"it may still end well: {RESUME}",
            )

    def _now(self) -> float:
        return self._patience.clock()


def _never() -> bool:
    return False


def left(ids: Registration, patience: Patience) -> Left:
    """Return how a run ends that leaves a build to itself."""
    goes = "goes on at the service" if patience.outlived else "ends with this run"
    return Left(
        f"build {ids.build_id} {goes}",
        template_id=ids.template_id,
        build_id=ids.build_id,
        in_time=patience.detach,
    )
