"""What a second process answers comes as it was, or not at all."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxfile.ahead import Ahead, is_possible


def heard(second: Ahead, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Listen until it is enough, or for ten seconds."""
    found: list[bytes] = []
    until = time.monotonic() + 10
    while not enough(found) and time.monotonic() < until:
        found += second.answered()
        time.sleep(0.001)
    second.close()
    return found


def test_answers_come_in_their_order_and_of_any_size() -> None:
    answers = [b"", b"one", bytes(3 << 20), b"last"]

    assert heard(Ahead(answers), lambda found: len(found) == len(answers)) == answers


def test_they_are_made_in_the_other_process() -> None:
    def named() -> Iterator[bytes]:
        yield str(os.getpid()).encode()

    (name,) = heard(Ahead(named()), bool)

    assert int(name) != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(name), 0)


@pytest.mark.parametrize("ending", ["exception", "signal"])
def test_what_ends_it_ends_the_answers(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing() -> Iterator[bytes]:
        yield b"one"
        (tmp_path / "ends").touch()
        if ending == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError

    ended = tmp_path / "ends"

    assert heard(Ahead(failing()), lambda found: bool(found) and ended.exists()) == [b"one"]
    assert capfd.readouterr() == ("", ""), "without a word"


def test_it_ends_in_the_midst_of_an_answer(tmp_path: Path) -> None:
    """It waits for somebody to read, since a pipe does not hold as much."""

    def long() -> Iterator[bytes]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        yield bytes(30 << 20)

    (tmp_path / "pid").touch()
    second = Ahead(long())
    until = time.monotonic() + 10
    while not (tmp_path / "pid").read_text() and time.monotonic() < until:
        time.sleep(0.001)
    second.close()

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_interruption_of_both_is_for_the_first() -> None:
    def interrupted() -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        yield b"still here"

    assert heard(Ahead(interrupted()), bool) == [b"still here"]


def test_none_is_started_beside_a_thread_or_without_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert is_possible()

    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not is_possible()

    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    assert not is_possible()


def test_none_can_be_had_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(BlockingIOError):
        Ahead([])

    assert len(list(Path("/proc/self/fd").iterdir())) == before
