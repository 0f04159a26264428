"""Start a build at a service at most once, and follow it to its end whatever the network does."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Emit, Log
from sandboxfile.service import (
    PAGE,
    BuildStatus,
    Busy,
    Failing,
    LogEntry,
    Registration,
    Rejected,
    TemplateService,
)
from sandboxfile.web import AnswerLost

TAIL = 20
RESUME = "run the same command again to pick it up where it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds; `clock` and `sleep` so that tests need not.

    `poll_first`, `poll_most`: between polls; `failed_polls`: how long every poll may fail;
    `waiting`, `overall`: until a triggered build leaves `waiting`, and ends (the service's own
    limits are 40 and 60 minutes); `settle`: after a trigger without an answer; `resettle`: after
    the one repeat; `confirm`: before a failure is believed; `no_builder`: repeating a trigger
    that was turned away; `queue_first`, `queue_most`, `queue`: when too many builds run at once.
    `new_builds` is how many further builds replace one that the service itself lost, `outlived`
    whether the service goes on with a build when we leave.
    """

    poll_first: float = 0.5
    poll_most: float = 5.0
    failed_polls: float = 300.0
    waiting: float = 600.0
    overall: float = 3900.0
    settle: float = 20.0
    resettle: float = 60.0
    confirm: float = 3.0
    no_builder: float = 120.0
    queue_first: float = 10.0
    queue_most: float = 60.0
    queue: float = 900.0
    new_builds: int = 2
    drain_pages: int = 50
    outlived: bool = True
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[Cancel, float], None] = field(default=Cancel.wait)


class Gone(SandboxfileError):  # noqa: N818 - named for what it says
    """The service does not know this build any more: deleted, or never really made."""


class Following:
    """One build being followed: how far its log was read, and the end of it."""

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
        self._service = service
        self._ids = ids
        self._job = job
        self._patience = patience
        self._emit = emit
        self._cancel = cancel
        self._offset = 0
        self._has_moved = False
        self._seen: deque[LogEntry] = deque(maxlen=5 * PAGE)
        self.tail: deque[str] = deque(maxlen=TAIL)

    def start(self, fire: Callable[[], None], *, doubtful: bool) -> bool:
        """Call `fire` (the trigger) until the build runs; False when it waits for ever.

        A second trigger can destroy a healthy build (docs/protocol.md, 5.3), so after one whose
        outcome is not known (`doubtful`: an earlier run's) the status decides, and only a build
        that is still waiting after a while is triggered once more. Raises Gone, Rejected,
        Unreachable.
        """
        if not doubtful and self._fire(fire):
            return True
        if self._leaves_waiting(self._patience.settle):
            return True
        self._fire(fire)
        return self._leaves_waiting(self._patience.resettle)

    def to_end(self) -> BuildStatus:
        """Poll until the build is ready or failed, emit its log, read the log to its end.

        Raises Gone, NotAllowed, Unreachable (no answers, or too slow), Cancelled.
        """
        started, pause = self._now(), self._patience.poll_first
        while True:
            page = self.poll()
            if page.state == "error":
                self._sleep(self._patience.confirm)  # one lost call inside the service looks so
                page = self.poll()
            if page.state in {"ready", "error"}:
                self._drain()
                return page
            self._check_time(started)
            if page.count < PAGE:
                self._sleep(pause)
            pause = self._patience.poll_first if page.count else self._longer(pause)

    def poll(self) -> BuildStatus:
        """Return the status and emit what is new in the log; single failures are survived."""
        failing_since: float | None = None
        pause = self._patience.poll_first
        while True:
            try:
                return self._noted(self._service.status(self._ids, offset=self._offset))
            except Rejected as error:
                raise _gone(self._ids) if is_gone(error) else error from None
            except (Busy, Unreachable):
                failing_since = self._now() if failing_since is None else failing_since
                if self._now() - failing_since > self._patience.failed_polls:
                    raise
            self._sleep(pause)
            pause = self._longer(pause)

    def _fire(self, fire: Callable[[], None]) -> bool:
        """Send the trigger; True when it was accepted, False when nobody can know."""
        deadline, pause = self._now() + self._patience.no_builder, self._patience.poll_first
        while True:
            try:
                fire()
            except AnswerLost:
                return False
            except (Busy, Failing) as error:
                if error.status not in {429, 503}:
                    return False
                if self._now() > deadline:
                    raise
            except Rejected as error:
                if error.says("not in waiting state"):
                    return True
                raise _gone(self._ids) if is_gone(error) else error from None
            else:
                return True
            self._sleep(pause)
            pause = self._longer(pause)
            if self.poll().state != "waiting":
                return True

    def _leaves_waiting(self, seconds: float) -> bool:
        deadline, pause = self._now() + seconds, self._patience.poll_first
        while self.poll().state == "waiting":
            if self._now() >= deadline:
                return False
            self._sleep(pause)
            pause = self._longer(pause)
        return True

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
        return page

    def _drain(self) -> None:
        """Read what is left of the log: the last status can come with pages to follow."""
        with suppress(Unreachable, Busy, Rejected):
            for _ in range(self._patience.drain_pages):
                if self._noted(self._service.status(self._ids, offset=self._offset)).count == 0:
                    return

    def _check_time(self, started: float) -> None:
        spent = self._now() - started
        if spent > self._patience.overall or (
            not self._has_moved and spent > self._patience.waiting
        ):
            what = "not finished" if self._has_moved else "not begun"
            raise Unreachable(
                f"build {self._ids.build_id} has {what} after {spent / 60:.0f} minutes",
                hint=f"it may still end well: {RESUME}",
            )

    def _longer(self, pause: float) -> float:
        return min(self._patience.poll_most, pause * 1.5)

    def _now(self) -> float:
        return self._patience.clock()

    def _sleep(self, seconds: float) -> None:
        self._patience.sleep(self._cancel, seconds)


def is_gone(error: Rejected) -> bool:
    """Tell whether the service says that a build is not there (400 "not found", or 404)."""
    return error.status == 404 or (error.status == 400 and error.says("not found"))  # noqa: PLR2004


def _gone(ids: Registration) -> Gone:
    return Gone(
        f"the service no longer knows build {ids.build_id} of template {ids.template_id}",
        hint="somebody deleted it; run the command again to make a new one",
    )
