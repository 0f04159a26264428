"""The stop button is pressed once and seen by everyone."""

import threading

import pytest

from sandboxfile.cancel import Cancel
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
