"""What steps took is remembered by template and step, and nothing that is no measurement."""

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxfile import durations
from sandboxfile.durations import Cost, History, read, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "durations.json"


def cost(seconds: float, sent: int = 0) -> Cost:
    return Cost(seconds=seconds, bytes=sent)


def test_the_last_run_counts_as_much_as_all_before(path: Path) -> None:
    record(path, "prod", {"build:a": cost(8.0, 100), "snapshot:a": cost(2.0)})
    record(path, "prod", {"build:a": cost(4.0, 300)})
    known = read(path)
    assert known.known["build:a"] == cost(6.0, 300)
    assert known.seconds("build:a", "prod") == 6.0
    assert list(known.known) == ["snapshot:a@prod", "build:a"]


def test_the_engine_works_alike_for_all_targets_and_services_do_not(path: Path) -> None:
    record(path, "local", {"build:a": cost(8.0), "snapshot:a": cost(1.0), "snapshot:b": cost(3.0)})
    record(path, "prod", {"snapshot:b": cost(40.0)})
    known = read(path)
    assert known.seconds("build:a", "prod") == 8.0
    assert known.seconds("snapshot:a", "local") == 1.0
    assert known.seconds("snapshot:a", "prod") == 40.0  # the usual there, not this one's elsewhere
    assert known.seconds("snapshot:b", "prod") == 40.0
    assert known.seconds("snapshot:c", "elsewhere") == 3.0  # the usual anywhere


def test_what_never_ran_takes_what_is_usual_for_its_step_or_a_second() -> None:
    known = History({f"build:{n}": cost(s) for n, s in (("a", 1.0), ("b", 9.0), ("c", 3.0))})
    assert known.seconds("build:new", "prod") == 3.0
    assert known.seconds("push:a", "prod") == durations.UNKNOWN_S
    assert known
    assert not History({})


BAD = [
    "",
    "{",
    "[" * 100_000,
    "[]",
    '{"version": 2, "jobs": {"build:a": [1.0, 0]}}',
    '{"version": 1, "jobs": []}',
    '{"version": 1}',
    "x" * (durations.MAX_BYTES + 1),
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_file_that_is_no_history_is_an_empty_one_and_is_replaced(path: Path, text: str) -> None:
    path.write_text(text)
    assert read(path).known == {}
    record(path, "prod", {"build:a": cost(1.0)})
    assert read(path).known == {"build:a": cost(1.0)}


def test_entries_that_nobody_could_have_measured_are_left_out(path: Path) -> None:
    good = {"build:a": [1, 2], "tag:a@prod": [0.5, 0]}
    bad: dict[str, object] = {
        "build:b": [float("nan"), 0], "build:c": [-1.0, 0], "build:d": [1e9, 0],
        "build:e": [1.0, -1], "build:f": [1.0], "build:g": [True, 0], "build:h": [1.0, True],
        "build:i": "x", "build:../x": [1.0, 0], "build:": [1.0, 0], "cook:a@prod": [1.0, 0],
        "build:a@prod": [1.0, 0], "push:a": [1.0, 0], "build:j": [float("inf"), 0], "": [1.0, 0],
        "build:k": [1.0, 1 << 60],
    }  # fmt: skip
    path.write_text(json.dumps({"version": 1, "jobs": {**bad, **good}}))
    assert read(path).known == {"build:a": cost(1, 2), "tag:a@prod": cost(0.5)}


def test_runs_that_end_together_all_count(path: Path) -> None:
    def run(number: int) -> None:
        record(path, "prod", {f"build:t{number}": cost(number)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(40)))
    assert read(path).known.keys() == {f"build:t{number}" for number in range(40)}
    assert [each.name for each in path.parent.iterdir()] == ["durations.json"]


def test_what_was_measured_longest_ago_goes_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "LIMIT", 2)
    for name in ("a", "b", "a", "c"):
        record(path, "prod", {f"build:{name}": cost(1.0)})
    assert list(read(path).known) == ["build:a", "build:c"]


def test_what_cannot_be_written_is_lost_without_a_word(tmp_path: Path) -> None:
    record(tmp_path / "missing/durations.json", "prod", {"build:a": cost(1.0)})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "durations.json").mkdir()
    record(tmp_path / "durations.json", "prod", {"build:a": cost(1.0)})
    assert list(tmp_path.iterdir()) == [tmp_path / "durations.json"]


def test_nothing_measured_writes_nothing(path: Path) -> None:
    record(path, "prod", {})
    assert not path.exists()


def test_neither_a_fifo_nor_a_link_holds_or_leads_us(path: Path) -> None:
    os.mkfifo(path)
    assert read(path).known == {}
    victim = path.with_name("victim")
    victim.write_text("keep")
    path.with_name(f"{path.name}.{os.getpid()}").symlink_to(victim)
    record(path, "prod", {"build:a": cost(1.0)})
    assert (victim.read_text(), read(path).known) == ("keep", {"build:a": cost(1.0)})


def test_a_run_that_holds_its_turn_too_long_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "_LOCK_S", 0.0)
    monkeypatch.setattr(durations, "_POLL_S", 0.0)
    held = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        record(path, "prod", {"build:a": cost(1.0)})
    finally:
        os.close(held)
    assert read(path).known == {"build:a": cost(1.0)}
