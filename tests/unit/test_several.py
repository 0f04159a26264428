"""Several at once, in order, and nobody waits for what hangs."""

import os
import signal
import threading

import pytest

from sandboxfile import several


def test_results_have_the_order_of_things() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(60)
        if number == 1:
            second_is_done.set()
        return number * 10

    assert several.each(work, range(20), 2) == tuple(range(0, 200, 10))
    assert several.each(work, (), 4) == ()


def test_no_more_are_at_work_than_asked_for() -> None:
    lock, at_work, most = threading.Lock(), 0, 0
    together = threading.Barrier(3, timeout=60)

    def work(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        together.wait()
        with lock:
            at_work -= 1

    several.each(work, range(6), 3)
    assert most == 3


def test_after_a_failure_nothing_is_begun_and_what_is_at_work_is_waited_for() -> None:
    begun: list[int] = []
    has_failed = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            has_failed.set()
            raise ValueError(number)
        assert has_failed.wait(60)
        if number == 0:
            raise OSError("the first in order")

    with pytest.raises(OSError, match="the first in order"):
        several.each(work, range(50), 2)
    assert sorted(begun)[:2] == [0, 1]
    assert len(begun) < 50


def test_an_interrupt_waits_for_nothing() -> None:
    never, both = threading.Event(), threading.Barrier(3, timeout=60)

    def work(_: int) -> None:
        both.wait()
        never.wait()

    def interrupt() -> None:
        both.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        several.each(work, range(2), 2)
    assert not never.is_set()
    never.set()
