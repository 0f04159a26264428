"""The stop button is pressed once and seen by everyone."""

import signal
import threading
import time

import pytest

from sandboxfile.cancel import HEELS_S, Cancel, interrupting
from sandboxfile.errors import Cancelled


def test_it_is_not_pressed_at_first() -> None:
    cancel = Cancel()
    assert not cancel.is_set
    cancel.check()
    cancel.wait(0)


def test_after_it_is_pressed_nobody_goes_on() -> None:
    cancel = Cancel()
    cancel.set()
    assert cancel.is_set
    with pytest.raises(Cancelled):
        cancel.check()
    with pytest.raises(Cancelled):
        cancel.wait(60)


def test_a_sleeper_is_woken() -> None:
    cancel = Cancel()
    threading.Timer(0.01, cancel.set).start()
    with pytest.raises(Cancelled):
        cancel.wait(60)


def test_hooks_run_once_when_it_is_pressed() -> None:
    cancel = Cancel()
    calls: list[str] = []
    with cancel.on_cancel(lambda: calls.append("one")), cancel.on_cancel(lambda: calls.append("b")):
        cancel.set()
        cancel.set()
    assert sorted(calls) == ["b", "one"]


def test_a_hook_is_forgotten_after_its_block() -> None:
    cancel = Cancel()
    calls: list[str] = []
    with cancel.on_cancel(lambda: calls.append("one")):
        pass
    cancel.set()
    assert calls == []


def test_a_hook_that_comes_too_late_runs_at_once() -> None:
    cancel = Cancel()
    cancel.set()
    calls: list[str] = []
    with cancel.on_cancel(lambda: calls.append("late")):
        assert calls == ["late"]


def test_a_broken_hook_does_not_keep_the_others_from_running() -> None:
    cancel = Cancel()
    calls: list[str] = []

    def broken() -> None:
        raise OSError("already closed")

    with cancel.on_cancel(broken), cancel.on_cancel(lambda: calls.append("fine")):
        cancel.set()
    assert calls == ["fine"]


def test_a_signal_presses_the_button_and_interrupts() -> None:
    cancel = Cancel()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupting(cancel):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Cancelled):
        cancel.wait(10)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_at_the_heels_of_another_does_not_interrupt_who_tidies_up() -> None:
    with interrupting(Cancel()):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(HEELS_S)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    cancel = Cancel()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting(cancel):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not cancel.is_set


def test_signals_are_left_alone_on_other_threads() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with interrupting(Cancel()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
