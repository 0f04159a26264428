"""A second process that does from the end what this one does from the beginning, until they meet.

Its answers come through a file without a name, each as bytes, and are taken when they are there;
nobody waits for the other, and who is forked later may read them too. It only saves time: what it
does not answer, because it failed, was killed or was not fast enough, is done here. Threads would
wait for each other: most of the time of reading many small files is Python's.
"""

import os
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NoReturn

_LENGTH = struct.Struct("<Q")
PATIENCE_MS = 10_000  # with work that takes a tenth of a second for a thousand templates


def is_possible() -> bool:
    """Say whether a second process would have a core, and may be forked: no other thread runs.

    On macOS what the system's own libraries do in the background makes forking unsafe.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    can = hasattr(os, "memfd_create") and sys.platform != "darwin"
    return can and cores > 1 and threading.active_count() == 1


class Beside:
    """A second process that does one thing to its end, while this one goes on.

    Raises OSError if there can be none.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._end, other = os.pipe()  # which has an end when the process has one
        try:
            self._child = _forked(work)
        except BaseException:
            os.close(self._end)
            raise
        finally:
            os.close(other)

    def close(self) -> None:
        """Wait until it has ended, not for ever. May be called again."""
        if self._child:
            child, self._child = self._child, 0
            ending = select.poll()
            ending.register(self._end, 0)
            if not ending.poll(PATIENCE_MS):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(self._end)


class Ahead:
    """The second process and what it has answered; `answers` is gone through in that one alone.

    Raises OSError if there can be none.
    """

    def __init__(self, answers: Iterable[bytes]) -> None:
        self._file = os.memfd_create("sandboxfile", os.MFD_CLOEXEC)
        self._at = 0
        try:
            self._child = _forked(partial(_answer, answers, self._file, os.getpid()))
        except BaseException:
            os.close(self._file)
            raise

    def answered(self) -> Iterator[bytes]:
        """Yield what it has answered since the last time, without waiting."""
        left = os.fstat(self._file).st_size - self._at  # mostly none, or little
        new, at = os.pread(self._file, left, self._at) if left else b"", 0
        while len(new) >= at + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(new, at)
            end = at + _LENGTH.size + length
            if len(new) < end:
                break
            yield new[at + _LENGTH.size : end]
            at = end
        self._at += at

    def close(self) -> None:
        """End the process: what it has not answered by now is done here. May be called again."""
        if self._child:
            child, self._child = self._child, 0
            _end(child)
            os.close(self._file)


def _forked(work: Callable[[], None]) -> int:
    """Do something in a new process; return its number. Raises OSError.

    A handler of a signal that raises has to find the second process where that ends it, and the
    first where it knows what to end.
    """
    child = 0
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = os.fork()
        if child == 0:
            _be_second(work, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException:
        if child:
            _end(child)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    return child


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _be_second(work: Callable[[], None], mask: Iterable[int]) -> NoReturn:
    """Be the second process. Says nothing, and nothing of the first one is closed or flushed."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one ends it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        work()
    finally:
        os._exit(0)


def _answer(answers: Iterable[bytes], file: int, first: int) -> None:
    """Write answers until the first process has ended."""
    for answer in answers:
        if os.getppid() != first:
            break
        _write(file, _LENGTH.pack(len(answer)) + answer)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
