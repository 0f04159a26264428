"""How long to wait for what at a service, and with which clock."""

import math
import time
from collections.abc import Callable
from random import SystemRandom

from sandboxfile.cancel import Cancel
from sandboxfile.frozen import dataclass, field

JITTER = 0.2  # of a pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds; `clock` and `sleep` so that tests need not.

    `poll_first`, `poll_most`: between polls; `failed_polls`: how long every poll may fail;
    `answer`: until a trigger without an answer is looked after by polls; `answer_most`: until we
    hang up (a service of the cloud ends requests after 70 s, others answer when the build is
    done); `waiting`, `overall`: until a triggered build leaves `waiting`, and ends (the service's
    own limits are 40 and 60 minutes); `others`: for another run to trigger what it has
    registered; `settle`: after a trigger without an answer; `resettle`: after each repeat;
    `confirm`: before a failure is believed; `no_builder`: repeating a trigger that was turned
    away; `queue_first`, `queue_most`: between trials when too many builds run at once; `queue`:
    until that is given up, with nothing moving. `new_builds` is how many further builds replace
    one that the service itself lost, `drain_pages` how many pages are asked for of what is left of
    a log when its build has ended, `drain_failures` how often the service may fail in that,
    `outlived` whether it goes on with a build when we leave. At `leave_at`, of the clock, builds
    are left to themselves; with `detach`, as soon as they run.
    """

    poll_first: float = 0.5
    poll_most: float = 5.0
    failed_polls: float = 300.0
    answer: float = 10.0
    answer_most: float = 90.0
    waiting: float = 600.0
    overall: float = 3900.0
    others: float = 5.0
    settle: float = 20.0
    resettle: float = 60.0
    confirm: float = 3.0
    no_builder: float = 120.0
    queue_first: float = 10.0
    queue_most: float = 60.0
    queue: float = 900.0
    new_builds: int = 2
    drain_pages: int = 50
    drain_failures: int = 5
    outlived: bool = True
    detach: bool = False
    leave_at: float = math.inf
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[Cancel, float], None] = field(default=Cancel.wait)
    random: Callable[[], float] = field(default=SystemRandom().random)

    def pause(self, cancel: Cancel, seconds: float) -> None:
        """Wait between two requests, up to a fifth less than this. Raises Cancelled.

        Many runs that begin together do not go on asking together.
        """
        self.sleep(cancel, seconds * (1 - JITTER * (1 - self.random())))

    def queue_pause(self, refusals: int) -> float:
        """Return the seconds until the next trial: jittered, so that runs do not ask together."""
        most: float = min(self.queue_most, self.queue_first * 2**refusals)
        return self.queue_first + self.random() * (most - self.queue_first)

    @property
    def is_over(self) -> bool:
        """Whether the time to wait in line, and to follow builds, is over (`--timeout`)."""
        return self.clock() >= self.leave_at

    @property
    def leaves(self) -> bool:
        """Whether a build that runs is left now."""
        return self.detach or self.is_over
