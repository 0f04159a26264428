"""What a second process answers comes as it was, or not at all."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxfile import ahead
from sandboxfile.ahead import Ahead, Beside, is_possible
from tests.fakes.shell import User


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
    def long() -> Iterator[bytes]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(600)
        yield b"never"

    (tmp_path / "pid").touch()
    second = Ahead(long())
    until = time.monotonic() + 10
    while not (tmp_path / "pid").read_text() and time.monotonic() < until:
        time.sleep(0.001)
    second.close()

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    second.close()  # once more is nothing


def test_each_who_listens_hears_all() -> None:
    """Who is forked later listens for itself."""
    second = Ahead([b"one", b"two"])
    until = time.monotonic() + 10
    while os.fstat(second._file).st_size < 2 * (8 + 3) and time.monotonic() < until:
        time.sleep(0.001)

    def relayed() -> Iterator[bytes]:
        yield from second.answered()

    assert heard(Ahead(relayed()), lambda found: len(found) == 2) == [b"one", b"two"]
    assert heard(second, lambda found: len(found) == 2) == [b"one", b"two"]


def test_an_interruption_of_both_is_for_the_first() -> None:
    def interrupted() -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        yield b"still here"

    assert heard(Ahead(interrupted()), bool) == [b"still here"]


SIGNALLED = """
import os, signal, sys
from sandboxfile.ahead import Ahead

def handle(*_):
    raise RuntimeError

def hit():
    os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
os.register_at_fork(**{sys.argv[1]: hit})
first, said = os.getpid(), "no error"
try:
    second = Ahead(iter([b"one"]))
    second.close()
except RuntimeError:
    said = "an error"
who = "first" if os.getpid() == first else "second"
try:
    os.waitpid(-1, os.WNOHANG)
    said += ", and a child"
except ChildProcessError:
    pass
os.write(1, f"{who}: {said}".encode())
os._exit(0)
"""


@pytest.mark.parametrize(
    ("where", "said"),
    [("after_in_child", "first: no error"), ("after_in_parent", "first: an error")],
)
def test_a_signal_at_the_fork_leaves_no_second_process_that_goes_on(
    user: User, where: str, said: str
) -> None:
    """Its handler may raise, as that of Ctrl-C does, as soon as there are two processes."""
    ran = user.command(where, python=("-c", SIGNALLED), is_measured=False)

    assert (ran.out, ran.err) == (said, "")


ORPHANED = """
import os, sys, time
from sandboxfile.ahead import Ahead

def answers():
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    while True:
        time.sleep(0.01)
        yield b"more"

second = Ahead(answers())
while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):
    time.sleep(0.01)
os._exit(0)
"""


def test_it_ends_when_the_first_one_was_killed(user: User) -> None:
    """Nobody will read its answers."""
    user.command("pid", python=("-c", ORPHANED), is_measured=False)

    second = int((user.root / "pid").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{second}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{second}").exists()


def test_who_works_beside_ends_its_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        time.sleep(0.05)
        (tmp_path / "pid").write_text(str(os.getpid()))
        raise ValueError

    other = Beside(work)
    other.close()
    other.close()

    assert int((tmp_path / "pid").read_text()) != os.getpid()
    assert capfd.readouterr() == ("", ""), "without a word"


def test_who_hangs_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PATIENCE_MS", 50)
    other = Beside(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    child = other._child

    other.close()

    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


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
    with pytest.raises(BlockingIOError):
        Beside(lambda: None)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
