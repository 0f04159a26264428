"""Several things at once, in threads that an interrupted run does not wait for.

The pools of the standard library are waited for, in the end by the interpreter: with an engine or a
service that has gone silent an interrupt would take as long as their patience.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_POLL_S = 0.2


def each(work: Callable[[S], T], things: Iterable[S], at_once: int) -> tuple[T, ...]:
    """Return what `work` makes of each thing, in their order, of at most so many at once.

    When one fails no other is begun, and its error is raised once what is at work has ended; of
    several the first in the order of things. An interrupt waits for nothing.
    """
    waiting = deque(enumerate(things))
    made: dict[int, T] = {}
    failed: dict[int, BaseException] = {}
    ended: queue.Queue[None] = queue.Queue()

    def run() -> None:
        while not failed:
            try:
                number, thing = waiting.popleft()
            except IndexError:
                break
            try:
                made[number] = work(thing)
            except BaseException as error:  # noqa: BLE001 - carried over to who waits
                failed[number] = error
        ended.put(None)

    threads = min(at_once, len(waiting))
    for _ in range(threads):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(threads):
        _wait(ended)
    if failed:
        raise failed[min(failed)]
    return tuple(made[number] for number in sorted(made))


def _wait(ended: "queue.Queue[None]") -> None:
    """Wait for one thread; awake now and then, as not every signal ends a wait."""
    while True:
        with suppress(queue.Empty):
            return ended.get(timeout=_POLL_S)
