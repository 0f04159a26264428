"""A record says what has moved and whose it is, and takes over what a run did not look at."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import fresh, looks, records, settled
from sandboxfile.frozen import replace
from sandboxfile.records import Part

ARGV = ["build"]
SAID = ("3 up to date\n", "")
PARENTS = {"base": "", "child": "base", "other": ""}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    with chdir(tmp_path):
        Path(fresh.DIRECTORY).parent.mkdir()
        Path("novita.yaml").write_text("version: 1\n")
        Path("novita.lock").write_text("version: 1\n")
        for name in (*PARENTS, "shared"):
            Path(name).mkdir()
            Path(name, "file").write_text(name)
        yield


def whole(path: str | Path) -> str:
    return str(Path(path).absolute())


def part(name: str, *more: str, is_open: bool = False) -> Part:
    """What was looked at for a template: its directory, and all that is there."""
    files = [*Path(name).iterdir(), *map(Path, more)]
    seen = {whole(path): fresh.mark(path.lstat()) for path in files}
    looked = looks.anywhere(seen.items(), [whole(name), whole(f"{name}/.dockerignore")])
    return Part(parent=PARENTS[name], looked=looked, open=is_open)


def remember(parts: Mapping[str, Part] | None = None, **other: Any) -> None:
    usual: dict[str, Any] = {
        "here": str(Path.cwd()),
        "config": whole("novita.yaml"),
        "since": time.time_ns(),
        "paths": [whole("novita.lock")],
        "told": SAID[0],
    }
    parts = {name: part(name) for name in PARENTS} if parts is None else parts
    if contents := other.get("contents"):
        parts = {n: replace(each, contents=lambda: contents) for n, each in parts.items()}
    records.remember("1", ARGV, {}, **{**usual, "parts": parts, **other})


def look() -> fresh.Look:
    return fresh.look("1", ARGV, {})


def opened() -> set[str] | None:
    """The templates that have to be looked at, None for all."""
    found = settled.of(look())
    return None if found is None else {*found.open}


@pytest.fixture
def remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    remember()
    assert look().said == SAID


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize(
    ("moved", "names"),
    [
        ("base/file", {"base", "child"}),
        ("child/file", {"child"}),
        ("other/new", {"other"}),
        ("other/.dockerignore", {"other"}),
        ("novita.lock", None),
        ("novita.yaml", None),
    ],
)
def test_what_has_moved_says_which_templates_are_to_be_looked_at(
    moved: str, names: set[str] | None
) -> None:
    Path(moved).write_text("another")

    assert look().said is None
    assert opened() == names


@pytest.mark.usefixtures("remembered")
def test_what_is_gone_has_moved() -> None:
    Path("other/file").unlink()

    assert opened() == {"other"}


def test_what_several_look_at_is_everybodys(grown_old: Callable[[], None]) -> None:
    grown_old()
    parts = {name: part(name, "shared/file") for name in ("child", "other")}
    remember({"base": part("base"), **parts})
    Path("shared/file").write_text("another")

    assert opened() == {"child", "other"}


def test_too_much_that_has_moved_is_everything(
    grown_old: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old()
    remember()
    monkeypatch.setattr(fresh, "_MOST", 1)
    Path("base/file").write_text("another")
    assert opened() == {"base", "child"}
    Path("other/file").write_text("another")

    assert opened() is None


# --- the run after ---------------------------------------------------------------------------


@pytest.mark.usefixtures("remembered")
def test_what_a_run_did_not_look_at_stays_as_it_was(grown_old: Callable[[], None]) -> None:
    Path("child/file").write_text("another")
    Path("child/file").rename("child/renamed")
    grown_old()
    remember({name: part(name) for name in ("base", "child")}, earlier=look())

    assert look().said == SAID
    Path("other/file").write_text("another")
    assert opened() == {"other"}
    Path("child/renamed").write_text("once more")
    assert opened() == {"child", "other"}


@pytest.mark.usefixtures("remembered")
def test_what_moved_of_those_not_looked_at_is_still_moved(grown_old: Callable[[], None]) -> None:
    Path("child/file").write_text("another")
    looked = look()
    Path("other/file").write_text("while the run was on")
    grown_old()
    remember({name: part(name) for name in ("base", "child")}, earlier=looked)

    assert opened() == {"other"}


def test_shared_files_that_moved_meanwhile_are_looked_at_again(
    grown_old: Callable[[], None],
) -> None:
    grown_old()
    both = {name: part(name, "shared/file") for name in ("child", "other")}
    remember({"base": part("base"), **both})
    Path("child/file").write_text("another")
    looked = look()
    Path("shared/file").write_text("while the run was on")
    grown_old()
    remember({"base": part("base"), "child": part("child", "shared/file")}, earlier=looked)

    assert opened() == {"child", "other"}


@pytest.mark.parametrize("later", ["child", "other"])
def test_of_what_changed_between_the_looks_of_two_templates_both_are_looked_at_again(
    grown_old: Callable[[], None], later: str
) -> None:
    """Several processes look, so the first one of a record may have looked last."""
    before = {name: part(name, "shared/file") for name in ("child", "other")}
    Path("shared/file").write_text("while the run was on")
    grown_old()
    parts = {**before, later: part(later, "shared/file")}
    remember({"base": part("base"), **parts})

    assert opened() == {"child", "other"}


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("more", [(), ("base/file",), ("base/file", "base", "shared/file")])
def test_a_path_is_in_a_record_once_whichever_template_came_to_it_later(
    grown_old: Callable[[], None], more: tuple[str, ...]
) -> None:
    grown_old()
    remember()
    Path("other/new").write_text("new")
    Path("other/file").unlink()
    looked = look()
    grown_old()
    remember({"other": part("other", *more)}, earlier=looked)

    found = look()
    assert found.said == SAID
    assert found.record is not None
    ways = settled.paths(found.record.ways)
    owned = [path for path in settled.paths(found.record.paths) if path != "novita.yaml"]
    assert len({*owned, *ways}) == len(owned) + len(ways)
    assert {"other/new", *more} <= {*owned}
    assert "other/file" not in owned
    for path in ("other/new", *more):
        os.utime(path)
        assert "other" in (opened() or ()), path


def test_a_template_can_be_left_open(grown_old: Callable[[], None]) -> None:
    Path("other/file").write_text("another")
    grown_old()
    remember({"other": part("other", is_open=True)}, earlier=look())
    assert look().said is None
    assert opened() == {"other"}

    remember({"child": part("child")}, earlier=look())
    assert opened() == {"other"}
    remember({"other": part("other")}, earlier=look())

    assert look().said == SAID


# --- what is young ---------------------------------------------------------------------------


def digest(name: str) -> dict[str, str]:
    return {whole(name): sha256(Path(name).read_bytes()).hexdigest()}


def test_a_young_file_of_a_template_is_known_by_its_content(grown_old: Callable[[], None]) -> None:
    since = time.time_ns() + 5_000_000_000
    future = since + 10  # the only one that is young
    os.utime("other/file", ns=(future, future))
    remember(since=since)
    assert opened() == {"other"}

    remember(since=since, contents=digest("other/file"))
    assert look().said == SAID

    remember(since=since, contents={whole("other/file"): "0" * 64})
    assert opened() == {"other"}

    grown_old()
    remember({"other": part("other")}, earlier=look())  # it is old by now
    assert look().said == SAID


def young_for_two(one: Mapping[str, str], other: Mapping[str, str]) -> None:
    """Have two templates look at a young file, of which each knows the content that is said."""
    since = time.time_ns() + 5_000_000_000
    os.utime("shared/file", ns=(since + 10, since + 10))
    parts = {
        "child": replace(part("child", "shared/file"), contents=lambda: one),
        "other": replace(part("other", "shared/file"), contents=lambda: other),
    }
    remember({"base": part("base"), **parts}, since=since)


def test_a_young_file_of_two_templates_is_known_if_one_knows_its_content() -> None:
    young_for_two(digest("shared/file"), {})
    assert b"shared/file" in contents()
    assert opened() == {"other"}


def test_a_young_file_that_two_templates_found_different_is_looked_at_by_both() -> None:
    young_for_two(digest("shared/file"), {whole("shared/file"): "0" * 64})
    assert opened() == {"child", "other"}
    young_for_two({whole("shared/file"): "0" * 64}, digest("shared/file"))
    assert opened() == {"child", "other"}


def test_a_young_lock_is_known_by_its_content() -> None:
    since = time.time_ns() + 5_000_000_000
    os.utime("novita.lock", ns=(since + 10, since + 10))
    remember(since=since)
    assert look().record is None

    remember(since=since, contents={whole("novita.lock"): "0" * 64})
    assert look().record is None

    remember(since=since, contents=digest("novita.lock"))
    assert look().said == SAID


@pytest.mark.usefixtures("remembered")
def test_an_earlier_runs_young_file_is_compared_until_it_is_old(
    grown_old: Callable[[], None],
) -> None:
    since = time.time_ns()
    os.utime("child/file", ns=(since - 10, since - 10))
    remember({"child": part("child")}, earlier=look(), since=since, contents=digest("child/file"))
    assert b"child/file" in contents()
    remember({"other": part("other")}, earlier=look(), since=since)
    assert b"child/file" in contents()
    grown_old()
    remember({"other": part("other")}, earlier=look())
    assert contents() == b""


@pytest.mark.usefixtures("remembered")
def test_a_file_that_was_young_and_changed_is_known_by_its_times_then() -> None:
    future = time.time_ns() + 20_000_000_000
    os.utime("child/file", ns=(future, future))
    remember(since=future, contents=digest("child/file"))
    Path("child/file").write_text("another")
    os.utime("child/file", ns=(future, future))
    assert opened() == {"child"}
    remember({"child": part("child")}, earlier=look(), since=future + 3_000_000_000)

    assert look().said == SAID


def contents() -> bytes:
    record = look().record
    assert record is not None
    return record.contents
