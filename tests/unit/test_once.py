import threading

import pytest

from sandboxfile.once import Once


def test_threads_that_ask_the_same_get_one_answer() -> None:
    once, begun, go_on = Once(), threading.Event(), threading.Event()
    asked: list[str] = []
    answers: list[str] = []

    def ask() -> str:
        asked.append("x")
        begun.set()
        assert go_on.wait(30)
        return "yes"

    threads = [threading.Thread(target=lambda: answers.append(once.of("x", ask))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    assert once.of("y", lambda: "at once") == "at once"
    go_on.set()
    for thread in threads:
        thread.join()
    assert (asked, answers) == (["x"], ["yes"] * 5)


def test_a_failure_is_not_an_answer() -> None:
    once = Once()

    def fail() -> str:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        once.of("x", fail)
    assert once.of("x", lambda: "yes") == "yes"
    assert once.of("x", fail) == "yes"


def test_what_does_not_last_is_asked_for_again() -> None:
    once, answers = Once(), iter([None, "there", "never"])
    found = [once.of("q", lambda: next(answers), lasts=bool) for _ in range(3)]
    assert found == [None, "there", "there"]
