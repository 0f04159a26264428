"""Answers that are asked for once, however many threads want them."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Answers by question; whoever asks what is being asked waits. A failure is not kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[Hashable, threading.Lock] = {}
        self._answers: dict[Hashable, Any] = {}

    def of(
        self,
        question: Hashable,
        ask: Callable[[], T],
        *,
        lasts: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return the answer to a question, from `ask` the first time. Raises what `ask` does.

        One that does not last is asked for again by whoever wants it next.
        """
        with self._lock:
            asking = self._asking.setdefault(question, threading.Lock())
        with asking:
            if question in self._answers:
                known: T = self._answers[question]
                return known
            answer = ask()
            if lasts(answer):
                self._answers[question] = answer
            return answer
