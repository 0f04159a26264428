"""A second process that does from the end what this one does from the beginning, until they meet.

Its answers come through a pipe, each as bytes, and are taken when they are there. It only saves
time: what it does not answer, because it failed, was killed or was not fast enough, is done here.
Threads would wait for each other: most of the time of reading many small files is Python's.
"""

import os
import signal
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress

_LENGTH = struct.Struct("<Q")
_PART = 1 << 16  # bytes that most pipes hold


def is_possible() -> bool:
    """Say whether a second process would have a core, and may be forked: no other thread runs.

    On macOS what the system's own libraries do in the background makes forking unsafe.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return cores > 1 and sys.platform != "darwin" and threading.active_count() == 1


class Ahead:
    """The second process and what it has answered; `answers` is gone through in that one alone.

    Raises OSError if there can be none.
    """

    def __init__(self, answers: Iterable[bytes]) -> None:
        self._end, other = os.pipe()
        self._rest = b""
        try:
            self._child = os.fork()
        except OSError:
            os.close(self._end)
            os.close(other)
            raise
        if self._child == 0:
            _answer(answers, other, self._end)
        os.close(other)
        os.set_blocking(self._end, False)

    def answered(self) -> Iterator[bytes]:
        """Yield what it has answered since the last time, without waiting."""
        parts = [self._rest]
        with suppress(BlockingIOError):
            while part := os.read(self._end, _PART):
                parts.append(part)
        whole, at = b"".join(parts), 0
        while len(whole) >= at + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(whole, at)
            end = at + _LENGTH.size + length
            if len(whole) < end:
                break
            yield whole[at + _LENGTH.size : end]
            at = end
        self._rest = whole[at:]

    def close(self) -> None:
        """End the process: what it has not answered by now is done here."""
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        os.close(self._end)


def _answer(answers: Iterable[bytes], end: int, other: int) -> None:
    """Be the second process. Says nothing, and nothing of the first one is closed or flushed."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(other)
        for answer in answers:
            _write(end, _LENGTH.pack(len(answer)) + answer)
    finally:
        os._exit(0)


def _write(end: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(end, view) :]
