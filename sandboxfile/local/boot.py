"""Starts a template in a box: the start command in the background, then the ready command."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import chain, repeat
from threading import Thread
from typing import Protocol

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Executed
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass
from sandboxfile.local.guest import Guest
from sandboxfile.local.limits import duration
from sandboxfile.local.records import Level, Setting

DEFAULT_READY = "sleep 0"
CANNOT_RUN = frozenset({126, 127})  # of a shell: no permission, no such program (POSIX, sh 2.8.2)
TRIES = 2  # the start command may be about to install it
SAID = 2048  # characters that are told of what a ready command said
DEFAULT_READY_AFTER_START = "sleep 20"  # docs/protocol.md, 5.5


class NotReady(SandboxfileError):  # noqa: N818 - named for what it says
    """The start command failed, or the ready command never succeeded; worded as the service."""


class Say(Protocol):
    """Takes a line for the log of what is being started."""

    def __call__(self, message: str, *, level: Level = "info") -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds between two attempts of the ready command, and until it is given up."""

    interval_s: float = 2.0
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is to be started, and in what."""

    start: str
    ready: str
    setting: Setting

    @property
    def check(self) -> str:
        """The ready command, or the one that stands for none."""
        return self.ready or (DEFAULT_READY_AFTER_START if self.start else DEFAULT_READY)


def boot(guest: Guest, what: Boot, *, patience: Patience, cancel: Cancel, say: Say) -> None:
    """Start the template and return when it is ready; the start command runs on.

    Raises NotReady, Cancelled, and what the engine raises.
    """
    stopped: Future[Executed] = Future()

    def stop() -> None:
        stopped.set_result(Executed(status=0, output=""))

    with cancel.on_cancel(stop):
        watched = {stopped}
        if what.start:
            say(f"Running start command: {what.start}")
            watched.add(_background(lambda: _started(guest, what, say)))
        say(f"Waiting for template to be ready: {what.check}")
        _poll(guest, what, watched, patience, cancel, say)
    say("Template is ready")


def _started(guest: Guest, what: Boot, say: Say) -> Executed:
    def tell(stream: str, text: str) -> None:
        say(f"[start] [{stream}]: {text}")

    return guest.command(what.start, what.setting, tell=tell)


def _poll(  # noqa: PLR0917
    guest: Guest,
    what: Boot,
    watched: set[Future[Executed]],
    patience: Patience,
    cancel: Cancel,
    say: Say,
) -> None:
    deadline = time.monotonic() + patience.timeout_s
    unable = 0  # attempts in a row in which the program could not be run
    for is_first in chain([True], repeat(False)):
        attempt = _background(lambda: guest.command(what.check, what.setting))
        while not attempt.done():
            _wait({attempt, *watched}, deadline - time.monotonic(), patience)
            _check(watched, cancel)
        _check(watched, cancel)
        done = attempt.result()
        if done.status == 0:
            return
        if is_first and guest.try_out(what.setting).status != 0:  # nothing will ever run there
            raise NotReady(f"ready command failed: exit status {_outcome(done)}")
        say(f"Template is not ready: exit status {_outcome(done)}", level="debug")
        unable = unable + 1 if done.status in CANNOT_RUN else 0
        if unable == TRIES:
            say(f"The ready command cannot be run: exit status {_outcome(done)}", level="warn")
        again = time.monotonic() + patience.interval_s
        while (rest := again - time.monotonic()) > 0:
            _wait(set(watched), min(rest, deadline - time.monotonic()), patience)
            _check(watched, cancel)


def _outcome(done: Executed) -> str:
    """Return the status with the end of the output, which comes again with each attempt."""
    return f"{done.status} {done.output[-SAID:].strip()}".rstrip()


def _wait(futures: set[Future[Executed]], seconds: float, patience: Patience) -> None:
    if seconds <= 0:
        limit = duration(patience.timeout_s)
        raise NotReady(f"ready command failed: ready command timed out after {limit}")
    wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)


def _check(watched: set[Future[Executed]], cancel: Cancel) -> None:
    """Raise when the start command failed; one that ended well need not be watched."""
    cancel.check()
    for future in [each for each in watched if each.done()]:
        status = future.result().status
        if status != 0:
            text = "start command failed: error running start command: exit status"
            raise NotReady(f"{text} {status}")
        watched.discard(future)


def _background(work: Callable[[], Executed]) -> Future[Executed]:
    """Run `work` on a thread that does not hold up the end of the program."""
    future: Future[Executed] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - carried to whoever asks for the result
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
