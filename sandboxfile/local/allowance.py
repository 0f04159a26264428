"""How much the log of one build may hold."""

from threading import Lock


class Allowance:
    """How much more may be said, in characters; any thread may speak."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._said = 0

    def cut(self, message: str) -> str | None:
        """Return the message; in place of the first that is too much, a word of that; then None."""
        with self._lock:
            before, self._said = self._said, self._said + len(message) + 1
        if self._said <= self._limit:
            return message
        return f"(the log is cut at {self._limit >> 20} MiB)" if before <= self._limit else None
