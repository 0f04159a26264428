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

    def of(self, question: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer to a question, from `ask` the first time. Raises what `ask` does."""
        with self._lock:
            asking = self._asking.setdefault(question, threading.Lock())
        with asking:
            if question not in self._answers:
                self._answers[question] = ask()
            answer: T = self._answers[question]
            return answer
