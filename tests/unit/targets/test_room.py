import threading

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.declined import Busy
from sandboxfile.errors import Cancelled
from sandboxfile.targets.room import Room
from tests.fakes.publishing import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(clock: Clock) -> Room:
    return Room(clock.patience())


def fill(room: Room, *names: str) -> None:
    for name in names:
        assert room.enter(name)
        room.accepted()


def refuse(room: Room, name: str) -> None:
    assert room.enter(name)
    room.refused(name)


def test_as_many_may_ask_as_want_to_until_the_service_refuses(room: Room) -> None:
    fill(room, *"abcdefghij")
    refuse(room, "k")
    assert not room.enter("k")
    assert room.enter("a")  # counted already


def test_the_next_goes_when_one_of_ours_ends(room: Room, clock: Clock) -> None:
    fill(room, "a", "b")
    refuse(room, "c")
    room.leave("a")
    room.wait(Cancel())
    assert clock.slept == []
    assert room.enter("c")


def test_only_one_asks_on_trial_and_later_after_each_refusal(room: Room, clock: Clock) -> None:
    refuse(room, "a")
    for pause in (10, 20, 40, 60, 60):
        before = clock.now
        assert not room.enter("a")
        room.wait(Cancel())
        assert clock.now - before == pause
        assert room.enter("a")
        assert not room.enter("b")
        room.refused("a")


def test_after_a_trial_that_came_through_the_next_may_try_at_once(room: Room, clock: Clock) -> None:
    refuse(room, "a")
    room.wait(Cancel())
    fill(room, "a", "b", "c")  # others' builds have ended
    assert clock.now == 1010


def test_a_build_that_was_there_before_counts(room: Room) -> None:
    room.stay("old")
    refuse(room, "a")
    room.leave("old")
    assert room.enter("a")


def test_a_line_is_stuck_when_nothing_moves(room: Room, clock: Clock) -> None:
    since = clock.now
    refuse(room, "a")
    clock.now += 899
    assert not room.is_stuck(since)
    clock.now += 2
    assert room.is_stuck(since)
    fill(room, "b")
    assert not room.is_stuck(since)


def test_waiting_ends_when_the_run_is_stopped(room: Room) -> None:
    cancel = Cancel()
    cancel.set()
    refuse(room, "a")
    with pytest.raises(Cancelled):
        room.wait(cancel)


def test_what_is_waited_for_is_told_once(room: Room) -> None:
    events: list[object] = []
    threads = [
        threading.Thread(target=room.tell, args=(Busy("it is full"), events.append))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events) == 1


def test_jitter_keeps_within_its_bounds(clock: Clock) -> None:
    early, late = clock.patience(random=lambda: 0.0), clock.patience(random=lambda: 1.0)
    assert [early.queue_pause(n) for n in range(5)] == [10.0] * 5
    assert [late.queue_pause(n) for n in range(5)] == [10.0, 20.0, 40.0, 60.0, 60.0]
