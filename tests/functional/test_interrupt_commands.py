"""Ctrl-C at every request of the commands that change what is at a service.

Each says what is done and what is not, and a further run finishes it.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.fakes.program import Program, wait_until
from tests.fakes.quickplace import Place, quick_place
from tests.fakes.tripwire import Moment

CHANGES = ("POST", "DELETE")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with quick_place(tmp_path) as made:
        yield made


def moments(attempt: Callable[[str, Moment, int], bool]) -> int:
    """Make attempts before each request, and after each that changes something; how many."""
    made = 0
    for method, moment in (("", "arrived"), *((each, "carried out") for each in CHANGES)):
        for nth in count(1):
            if not attempt(method, moment, nth):  # type: ignore[arg-type]
                break
            made += 1
    return made


def told(program: Program, word: str) -> set[str]:
    """Return the names after a word of what was said at the end."""
    found = re.search(rf"[;] {word}: ((?:`[^`]+`(?:, )?)+)", program.stderr)
    return set(re.findall("`([^`]+)`", found[1])) if found else set()


def test_delete_says_what_is_gone_and_goes_on_with_the_rest(place: Place) -> None:
    def attempt(method: str, moment: Moment, nth: int) -> bool:
        for name in ("a", "b"):
            place.keep(name, place.ready(name, "default"))
        stopped = place.interrupted(
            "delete", "a", "b", "--yes", method=method, moment=moment, nth=nth
        )
        if stopped is None:
            return False
        gone, rest = told(stopped, "deleted"), told(stopped, "perhaps") | told(stopped, "not")
        if "nothing is deleted" in stopped.stderr:
            rest = {"a", "b"}
        assert gone | rest == {"a", "b"}
        assert not gone & (place.names | place.workspace.entries.keys())
        assert told(stopped, "not") <= place.names & place.workspace.entries.keys()
        place.run("delete", *sorted(rest), "--yes")
        assert (place.names, dict(place.workspace.entries)) == (set(), {})
        return True

    assert moments(attempt) >= 6


def test_promote_says_what_is_moved_and_is_finished_by_the_same_command(place: Place) -> None:
    made = {name: place.ready(name, "default", "blue") for name in ("a", "b")}
    for name, each in made.items():
        place.keep(name, each)
    turn = count(1)

    def attempt(method: str, moment: Moment, nth: int) -> bool:
        argv = ("a", "b", "--from", "blue", "--to", tag := f"green-{next(turn)}")
        stopped = place.interrupted("promote", *argv, method=method, moment=moment, nth=nth)
        if stopped is not None:
            moved, left = told(stopped, "moved"), told(stopped, "not")
            if "no tag is moved" in stopped.stderr:
                left = {"a", "b"}
            assert moved | left | told(stopped, "perhaps") == {"a", "b"}
            assert {place.on(name, tag) for name in left} <= {None}
            assert all(place.on(name, tag) == made[name].build_id for name in moved)
            place.run("promote", *argv)
        assert all(place.on(name, tag) == each.build_id for name, each in made.items())
        return stopped is not None

    assert moments(attempt) >= 8


def test_rollback_is_finished_by_the_command_that_it_names(place: Place) -> None:
    old, new = (place.ready("a", "default", "blue") for _ in range(2))
    place.keep("a", new)

    def attempt(method: str, moment: Moment, nth: int) -> bool:
        place.client.assign_tags(f"a:{new.build_id}", ("default", "blue"))
        stopped = place.interrupted("rollback", "a", method=method, moment=moment, nth=nth)
        if stopped is not None and "no tag is moved" in stopped.stderr:
            assert place.on("a", "blue") == new.build_id
            place.run("rollback", "a")
        elif stopped is not None:
            named = re.search(r"`sandboxfile (rollback [^`]+)` finishes it", stopped.stderr)
            assert named
            place.run(*named[1].split())
        assert place.on("a", "default") == place.on("a", "blue") == old.build_id
        moved = place.workspace.entries["a"].moved
        assert moved == {"default": old.build_id, "blue": old.build_id}
        return stopped is not None

    assert moments(attempt) >= 5


def test_tag_says_what_is_moved_and_is_finished_by_the_same_command(place: Place) -> None:
    made = place.ready("a", "default", "blue")
    place.keep("a", made)
    turn = count(1)

    def attempt(method: str, moment: Moment, nth: int) -> bool:
        number = next(turn)
        given, taken = (f"one-{number}", f"two-{number}"), f"old-{number}"
        place.client.assign_tags(f"a:{made.build_id}", (taken,))
        argv = ("a", *given, "--remove", taken)
        stopped = place.interrupted("tag", *argv, method=method, moment=moment, nth=nth)
        if stopped is not None:
            if "no tag is moved" in stopped.stderr:
                assert [place.on("a", tag) for tag in given] == [None] * 2
                assert place.on("a", taken) == made.build_id
            else:
                assert "run the same command again" in stopped.stderr
            place.run("tag", *argv)
        assert [place.on("a", tag) for tag in given] == [made.build_id] * 2
        assert place.on("a", taken) is None
        return stopped is not None

    assert moments(attempt) >= 5


def test_a_move_of_a_killed_run_is_known_to_the_rollback_after_it(place: Place) -> None:
    first, second, third = (place.ready("a", "default", "blue") for _ in range(3))
    place.keep("a", third)
    place.client.assign_tags(f"a:{first.build_id}", ("blue",))
    trap = place.service.trap("POST", "", "carried out")
    killed = place.workspace.start("a", "blue", command="tag")  # on the build of the lock
    wait_until(lambda: trap.is_sprung, str(trap))
    killed.kill()
    trap.release()
    assert place.on("a", "blue") == third.build_id

    shown = place.run("tag", "a", "--list", "--json").stdout
    (move,) = json.loads(shown)["moves"]
    assert (move["tag"], move["from"], move["to"]) == ("blue", first.build_id, third.build_id)
    said = place.run("rollback", "a", "--tag", "blue").stderr
    assert "where it was before, by the record here" in said
    assert place.on("a", "blue") == first.build_id != second.build_id
    assert len(json.loads(place.run("tag", "a", "--json").stdout)["moves"]) == 2
