"""A run's stop button: pressed once, seen by every worker."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from sandboxfile.errors import Cancelled

STOPPED = "stopped; what is finished is kept: run the same command again to go on"

HEELS_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cancel:
    """Set by Ctrl-C; blocking code waits on it, or registers how it is to be unblocked."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._hooks: dict[int, Callable[[], None]] = {}
        self._next = 0

    def set(self) -> None:
        """Press the button: every registered hook runs once, errors in hooks are dropped."""
        self._event.set()
        with self._lock:
            hooks = list(self._hooks.values())
            self._hooks.clear()
        for hook in hooks:
            with suppress(Exception):
                hook()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled when the button was pressed."""
        if self._event.is_set():
            raise Cancelled("stopped")

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the button allows; raise Cancelled when it is pressed."""
        if self._event.wait(seconds):
            raise Cancelled("stopped")

    @contextmanager
    def on_cancel(self, hook: Callable[[], None]) -> Iterator[None]:
        """Run `hook` (from another thread) if the button is pressed inside the block."""
        with self._lock:
            self._next += 1
            ticket = self._next
            self._hooks[ticket] = hook
        if self._event.is_set():
            self.set()
        try:
            yield
        finally:
            with self._lock:
                self._hooks.pop(ticket, None)


@contextmanager
def signals(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Take the signals that end a run, if we are on the thread that may.

    A hang-up that was ignored when we were started (`nohup`) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    old = {number: signal.signal(number, handle) for number in _SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def interrupting(cancel: Cancel) -> Iterator[None]:
    """Raise KeyboardInterrupt at every signal that ends a run, with the button pressed.

    Whatever this thread waits for in others then ends, too. The button is pressed from a thread of
    its own: that takes locks, and a signal may arrive while this very thread holds them. For the
    same reason one that comes at the heels of another does not raise again: it would hit those who
    tidy up, in the midst of a lock.
    """
    last = -math.inf

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        threading.Thread(target=cancel.set, daemon=True).start()
        if time.monotonic() - last > HEELS_S:
            last = time.monotonic()
            raise KeyboardInterrupt

    with signals(handle):
        yield
