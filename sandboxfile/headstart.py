"""Work that begins before it is certain to be wanted: it is taken over later, or given up.

What it tells is kept until somebody takes it over, so that nobody hears of what was given up.
"""

import threading
import time
from collections.abc import Callable, Collection, Hashable

from sandboxfile.cancel import Cancel
from sandboxfile.events import Emit, Event, Sent, StepDone, StepStarted
from sandboxfile.frozen import replace
from sandboxfile.schedule import Span

ENDING_S = 0.5

Work = Callable[[Emit, Cancel], str]


class Begun:
    """One piece of work in a thread of its own, which nobody waits for when a run is interrupted.

    It is cancelled when `parent` is.
    """

    def __init__(self, work: Work, parent: Cancel) -> None:
        self._heard = _Kept(self._hear)
        self._cancel = Cancel()
        self._sent, self._ended = threading.Event(), threading.Event()
        self._result = ""
        self._error: BaseException | None = None
        self._began = time.monotonic()
        self._until = 0.0
        threading.Thread(target=self._run, args=(work, parent), daemon=True).start()

    @property
    def span(self) -> Span:
        """When it worked, or has until now."""
        return Span(began=self._began, ended=self._until or time.monotonic())

    def wait_sent(self, seconds: float) -> None:
        """Wait until all was handed to who works for it, or it ended, but no longer than that."""
        self._sent.wait(seconds)

    def wait_ended(self, seconds: float) -> None:
        """Wait until it has ended, but no longer than that."""
        self._ended.wait(max(0.0, seconds))

    def result(self, emit: Emit) -> str:
        """Tell what was told so far, and the rest as it comes; wait, and return what came of it.

        Raises what the work raises, Cancelled if it was given up.
        """
        self._heard.tell(emit)
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def give_up(self) -> None:
        """Stop it, without waiting for its end."""
        self._cancel.set()

    def _run(self, work: Work, parent: Cancel) -> None:
        try:
            with parent.on_cancel(self._cancel.set):
                self._cancel.check()
                self._result = work(self._heard.take, self._cancel)
        except BaseException as error:  # noqa: BLE001 - carried over to who takes it over
            self._error = error
        finally:
            self._until = time.monotonic()
            self._ended.set()
            self._sent.set()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Sent):
            self._sent.set()


class _Kept:
    """Events with their times, until somebody wants them; then they go there at once."""

    def __init__(self, hear: Callable[[Event], None]) -> None:
        self._hear = hear
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._emit: Emit | None = None

    def take(self, event: Event) -> None:
        self._hear(event)
        with self._lock:
            if self._emit is not None:
                self._emit(event)
                return
            if isinstance(event, StepStarted | StepDone):
                event = replace(event, at=time.monotonic())
            self._events.append(event)

    def tell(self, emit: Emit) -> None:
        with self._lock:
            for event in self._events:
                emit(event)
            self._events.clear()
            self._emit = emit


class HeadStart:
    """What has begun in a run, by what it makes. Closing gives up whatever nobody has taken over.

    It belongs to the thread that plans, and to the workers after that.
    """

    def __init__(self) -> None:
        self._begun: dict[Hashable, Begun] = {}
        self._given_up: list[Begun] = []

    def begin(self, what: Hashable, work: Work, *, cancel: Cancel) -> Begun:
        """Begin some work, which stops when `cancel` is pressed."""
        self._begun[what] = begun = Begun(work, cancel)
        return begun

    def get(self, what: Hashable) -> Begun | None:
        """Return what has begun to make this."""
        return self._begun.get(what)

    def keep(self, wanted: Collection[Hashable]) -> None:
        """Give up all that makes nothing of what is wanted."""
        for what in self._begun.keys() - {*wanted}:
            begun = self._begun.pop(what)
            begun.give_up()
            self._given_up.append(begun)

    def vacate(self) -> None:
        """Let what was given up come to its end, but wait for no silent engine."""
        until = time.monotonic() + ENDING_S
        given_up, self._given_up = self._given_up, []
        for begun in given_up:
            begun.wait_ended(until - time.monotonic())

    def close(self) -> None:
        """Give up what is left, and let it come to its end."""
        self.keep(())
        self.vacate()
