"""The collector rests inside the block and works again after it, or from `resume` on."""

import gc

import pytest

from sandboxfile import collector


def fails() -> None:
    with collector.paused():
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError("x")


def test_the_collector_rests_inside_the_block_whatever_happens() -> None:
    with pytest.raises(ValueError, match="x"):
        fails()
    assert gc.isenabled()


def test_a_run_that_may_take_long_has_its_collector_back() -> None:
    frozen, usual = gc.get_freeze_count(), gc.get_threshold()
    collector.resume()  # it works: nothing to do
    assert gc.get_freeze_count() == frozen
    with collector.paused():
        collector.resume()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold()[0] > usual[0], "it walks the modules again and again"
    gc.unfreeze()
    assert gc.isenabled()
    assert gc.get_threshold() == usual


def test_what_a_run_has_read_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_left", ())
    assert not collector.is_left()
    try:
        collector.leave([], {})
        assert collector.is_left()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
