"""What happens in a run, as values; deep code emits them and never knows a screen."""

from collections.abc import Callable
from typing import Literal

from sandboxfile.frozen import dataclass

Stream = Literal["stdout", "stderr", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A build step (an instruction, a base, a phase at the service) began.

    `at` is when, by the monotonic clock in seconds, where it is told of later than that.
    """

    job: str
    step: str
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A build step ended; `cached` when its result was there already, `at` as for its begin."""

    job: str
    step: str
    cached: bool = False
    seconds: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One line of output, without its newline; not sanitised, not redacted: sinks do both."""

    job: str
    text: str
    stream: Stream = "stdout"
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One sentence the user should see, whatever the verbosity: a retry, a fallback, a choice."""

    job: str
    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Bytes that left for an engine, a registry or a store; those of one job add up."""

    job: str
    bytes: int


Event = StepStarted | StepDone | Log | Notice | Sent
Emit = Callable[[Event], None]
