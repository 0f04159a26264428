"""How long the phases of a build may take, and what stops one that takes longer.

The limits and the first two texts are the service's (docs/protocol.md, 5.1, 5.4 and 5.7).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Literal

from sandboxfile.cancel import Cancel
from sandboxfile.frozen import dataclass

WAITED_TOO_LONG = "build is in waiting state for too long"
BUILT_TOO_LONG = "build status polling timed out. Maximum build time is {}."
PHASE_TOO_LONG = "build timed out: {} took longer than {}"

Phase = Literal["base", "provisioning", "step", "configuration", "finalize"]
_WORDS: dict[Phase, str] = {
    "base": "getting the base image",
    "provisioning": "provisioning",
    "step": "the step",
    "configuration": "the configuration script",
    "finalize": "finalizing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds: until a build is triggered, for all of it, and for each of its phases."""

    waiting: float = 40 * 60.0
    build: float = 60 * 60.0
    base: float = 10 * 60.0
    provisioning: float = 5 * 60.0
    step: float = 60 * 60.0
    configuration: float = 5 * 60.0
    ready: float = 10 * 60.0
    finalize: float = 20 * 60.0

    @property
    def built_too_long(self) -> str:
        return BUILT_TOO_LONG.format(duration(self.build))


LIMITS = Limits()


class Timekeeper:
    """Presses a build's stop button when one of its phases takes too long."""

    def __init__(self, limits: Limits, cancel: Cancel) -> None:
        self._limits = limits
        self._cancel = cancel
        self.verdict = ""  # why the build is stopped, once it is for that

    @contextmanager
    def within(self, phase: Phase) -> Iterator[None]:
        """Give what is done inside the time of that phase; phases may nest."""
        seconds: float = getattr(self._limits, phase)
        timer = Timer(seconds, self._stop, (_WORDS[phase], seconds))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _stop(self, what: str, seconds: float) -> None:
        if not self._cancel.is_set:
            self.verdict = PHASE_TOO_LONG.format(what, duration(seconds))
            self._cancel.set()


def duration(seconds: float) -> str:
    """Write a duration as the service does: `1h0m0s`, `10m0s`, `2.5s`."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{rest}s"
