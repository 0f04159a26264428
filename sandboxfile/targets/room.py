"""How many builds a service takes at once: learned from its refusals, shared by a run's workers."""

import math
import threading

from sandboxfile.cancel import Cancel
from sandboxfile.declined import Busy
from sandboxfile.events import Emit, Notice
from sandboxfile.targets.patience import Patience

TICK_S = 0.5  # how often somebody in the line looks whether it is their turn


class Room:
    """The builds of this run that count at the service, and who may ask for another.

    The service says neither how many it takes nor when there is room (429 without Retry-After,
    docs/protocol.md, 5.2), and builds of others count too. So as many are asked for as came
    through before; when one of ours ends, the next goes; and now and then, since others' builds
    end as well, one asks on trial. After each refusal that is 10 to 60 s later.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._inside: set[str] = set()
        self._limit = math.inf
        self._refusals = 0
        self._trial = 0.0
        self._moved = -math.inf
        self._is_told = False

    def enter(self, who: str) -> bool:
        """Tell whether `who` may ask for a build now; if so, it counts from here on."""
        with self._lock:
            if who in self._inside:
                return True
            if len(self._inside) >= self._limit:
                if self._now() < self._trial:
                    return False
                self._trial = self._now() + self._patience.queue_most  # one trial at a time
            self._inside.add(who)
            return True

    def stay(self, who: str) -> None:
        """Count a build that was there before."""
        with self._lock:
            self._inside.add(who)

    def accepted(self) -> None:
        """Take note that a build was taken: there may be room for more."""
        with self._lock:
            self._limit = max(self._limit, len(self._inside))
            self._refusals = 0
            self._trial = self._moved = self._now()

    def refused(self, who: str) -> None:
        """Take note that there is no room for this one."""
        with self._lock:
            self._inside.discard(who)
            self._limit = len(self._inside)
            self._trial = self._now() + self._patience.queue_pause(self._refusals)
            self._refusals += 1

    def leave(self, who: str) -> None:
        """Take note that a build has ended, or was never asked for."""
        with self._lock:
            if who in self._inside:
                self._inside.discard(who)
                self._moved = self._now()

    def wait(self, cancel: Cancel) -> None:
        """Sleep until it is worth asking again. Raises Cancelled."""
        while (rest := self._rest()) > 0:
            self._patience.sleep(cancel, min(TICK_S, rest))

    def is_stuck(self, since: float) -> bool:
        """Tell whether nothing has moved for too long, for somebody in the line since then."""
        with self._lock:
            return self._now() - max(since, self._moved) > self._patience.queue

    def tell(self, busy: Busy, emit: Emit) -> None:
        """Say once in a run what templates wait for."""
        with self._lock:
            if self._is_told:
                return
            self._is_told = True
        text = f"{busy.message}; templates wait in line until it has"
        emit(Notice(job="", text=text, level="warning"))

    def _rest(self) -> float:
        with self._lock:
            if len(self._inside) < self._limit:
                return 0.0
            return self._trial - self._now()

    def _now(self) -> float:
        return self._patience.clock()
