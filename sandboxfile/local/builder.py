"""Carries out triggered builds on worker threads, stops them, and cleans up behind them."""

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.local.assembly import INTERNAL, OWNER, REPOSITORY, Assembly, Workshop
from sandboxfile.local.layers import discard
from sandboxfile.local.records import Build, Reason, Recipe
from sandboxfile.local.store import CANCELLED

PARALLEL = 8
KEPT_LAYERS = 300  # in all; the least lately used go first
LAYER_LIFE_S = 14 * 24 * 3600.0  # since a build last went on from one
LOOK_S = 1.0  # how late a build notices that another process has ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A triggered build and its stop button."""

    build: Build
    recipe: Recipe
    cancel: Cancel = field(default_factory=Cancel)


class Builder:
    """Builds in the order of triggers, `parallel` at a time; the rest wait in line."""

    def __init__(self, workshop: Workshop, *, parallel: int = PARALLEL) -> None:
        self._workshop = workshop
        self._parallel = parallel
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._jobs: dict[str, _Job] = {}
        self._unended: dict[str, Reason] = {}  # by a build's ID: the store did not take its end
        self._workers = 0
        self._is_watched = False
        self._lock = Lock()
        self._look = Event()
        self._stopped = False

    def start(self, build: Build, recipe: Recipe) -> None:
        """Take on a build that the store has let begin; returns at once."""
        job = _Job(build=build, recipe=recipe)
        with self._lock:
            self._jobs[build.id] = job
            if not self._is_watched:
                self._is_watched = True
                Thread(target=self._watch, daemon=True).start()
            if self._workers < self._parallel:
                self._workers += 1
                Thread(target=self._work, daemon=True).start()
        self._queue.put(job)

    def outcome(self, build: Build) -> Build:
        """Return a build as it is, also where the store could not take its end."""
        reason = self._unended.get(build.id)
        return replace(build, status="error", reason=reason) if reason else build

    def look(self) -> None:
        """Stop builds that the store has ended meanwhile: cancelled, deleted, too slow."""
        self._look.set()

    def settle(self) -> None:
        """End what dead processes left behind in the store, and soon after their containers."""
        if self._workshop.store.settle():
            Thread(target=self.sweep, daemon=True).start()

    def sweep(self) -> None:
        """Remove the containers of dead processes, as far as the engine lets us."""
        presence = self._workshop.store.presence
        with suppress(SandboxfileError, OSError):
            for owner in presence.dead():
                self._workshop.engine.remove_boxes(labels={OWNER: owner})
                for build in self._workshop.store.unfinished(owner):  # killed at the very end
                    self._workshop.engine.untag(f"{REPOSITORY}:{build}")
                presence.bury(owner)
        with suppress(Exception):  # a store that is closed while we stop
            self.tidy()

    def discard(self, images: list[str], layers: list[str]) -> None:
        """Take away images of a deleted template, as far as the engine lets us."""
        for image in images:
            with suppress(SandboxfileError):
                self._workshop.engine.untag(image)
        discard(self._workshop.store, self._workshop.engine, layers)

    def tidy(self) -> None:
        """Take away layers that are too old or too many, and what was pushed for ended builds."""
        store = self._workshop.store
        spare = store.layers.spare(keep=KEPT_LAYERS, unused_s=LAYER_LIFE_S)
        discard(store, self._workshop.engine, spare)
        if self._workshop.pushes is not None:
            self._workshop.pushes.sweep(untag=self._workshop.engine.untag)

    def stop(self, *, timeout_s: float = 2.0) -> None:
        """Cancel what runs and remove its containers, waiting `timeout_s` seconds at most."""
        with self._lock:
            self._stopped = True
            jobs = list(self._jobs.values())
            self._drop_queued()
            for _ in range(self._workers):
                self._queue.put(None)
        for job in jobs:
            self._workshop.store.fail(job.build.id, Reason(message=CANCELLED))
        removals = [Thread(target=job.cancel.set, daemon=True) for job in jobs]
        deadline = time.monotonic() + timeout_s
        for thread in removals:
            thread.start()
        self._look.set()
        for thread in removals:
            thread.join(max(0.0, deadline - time.monotonic()))
        while self._jobs and time.monotonic() < deadline:
            time.sleep(0.01)

    def _drop_queued(self) -> None:
        with suppress(Empty):
            while job := self._queue.get_nowait():
                self._jobs.pop(job.build.id, None)

    def _watch(self) -> None:
        while not self._stopped:
            self._look.wait(LOOK_S if self._jobs or self._unended else None)
            self._look.clear()
            with suppress(Exception):  # a store that is full, or closed while we stop
                self._end_unended()
                self.settle()
                self._cancel_ended()

    def _cancel_ended(self) -> None:
        for job in list(self._jobs.values()):
            if not job.cancel.is_set and not self._workshop.store.is_building(job.build.id):
                Thread(target=job.cancel.set, daemon=True).start()

    def _end_unended(self) -> None:
        for build, reason in list(self._unended.items()):
            self._workshop.store.fail(build, reason)
            del self._unended[build]

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._look.set()
            try:
                if not self._stopped and self._workshop.store.begin(job.build.id):
                    Assembly(self._workshop, job.build, job.recipe, job.cancel).carry_out()
                    self.tidy()
            except Exception as error:  # noqa: BLE001 - this thread has others to build
                text = error.message if isinstance(error, SandboxfileError) else INTERNAL
                if not self._stopped:  # then the store is closed, and the build long ended
                    self._unended[job.build.id] = Reason(message=text)
            finally:
                self._jobs.pop(job.build.id, None)
